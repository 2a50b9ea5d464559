//! Version 2: a path holds versions; old ones can be read, deleted, restored and destroyed.
//!
//! The metadata of a path and the data of each version are records of their own, so listing and metadata never read
//! data. Deliberately absent: leases.

mod config;
mod custom;
mod data;
mod listing;
mod merge;
mod metadata;
mod records;
mod shown;
mod upgrading;
mod versions;

use tresor_engine::{Class, Cx, Descriptor, Engine, Holding, Leased, Point, Routes, View};
use tresor_model::{Fault, Operation};
use tresor_wire::input::PathParameters;

pub(crate) struct Kv2;

pub(crate) use upgrading::Upgrading;

/// What clients are told that address a version 2 mount as if it were version 1, with the verb of the command line.
macro_rules! wrong_path {
    ($verb:literal) => {
        concat!(
            "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to ",
            "use. If using the Vault CLI, use 'vault kv ",
            $verb,
            "' for this operation."
        )
    };
}

impl Engine for Kv2 {
    fn descriptor() -> &'static Descriptor {
        &Descriptor { kind: "kv", class: Class::Secret, summary: "Keeps versions of secrets in the encrypted store." }
    }

    fn routes() -> Routes<Self> {
        Routes::new()
            .at("config", "The defaults of this mount.")
            .read(config::read)
            .write(config::write)
            .at("data/{path...}", "Reads, writes, patches or deletes a secret.")
            .read(data::read)
            .write(data::write)
            .patch(data::patch)
            .delete(data::delete)
            .exists(exists)
            .at("subkeys/{path...}", "The structure of a secret without its values.")
            .read(data::subkeys)
            .at("delete/{path...}", "Deletes versions; they can be restored.")
            .write(versions::delete)
            .at("undelete/{path...}", "Restores deleted versions.")
            .write(versions::undelete)
            .at("destroy/{path...}", "Removes the data of versions for good.")
            .write(versions::destroy)
            .at("metadata/{path...}", "Reads, lists, scans, changes or removes what is known of a secret.")
            .read(metadata::read)
            .list(listing::list)
            .scan(listing::scan)
            .write(metadata::write)
            .patch(metadata::patch)
            .delete(metadata::delete)
            .exists(exists)
            .at("detailed-metadata/{path...}", "Lists or scans secrets with what is known of each.")
            .list(listing::list_detailed)
            .scan(listing::scan_detailed)
            .done()
    }

    fn holds(&self) -> &'static [Holding] {
        &[Holding { name: "secrets", directory: "metadata/", points: Some("versions") }]
    }

    fn points(&self, view: &mut View<'_>, record: &str) -> Result<Vec<Point>, Fault> {
        records::points(view, record)
    }

    async fn revoke<'a>(&'a self, _cx: Cx<'a>, _lease: Leased<'a>) -> Result<(), Fault> {
        // Of a time when the mount had no versions and leased what was read.
        Ok(())
    }

    fn hint(&self, _path: &str, operation: Operation) -> Option<&'static str> {
        Some(match operation {
            Operation::Create | Operation::Update => wrong_path!("put"),
            Operation::Patch => wrong_path!("patch"),
            Operation::Delete => wrong_path!("delete"),
            Operation::List => wrong_path!("list"),
            Operation::Scan => wrong_path!("scan"),
            _ => wrong_path!("get"),
        })
    }
}

/// The hint for who reads where a secret's name is missing.
fn at_root(path: &str) -> Vec<String> {
    let hint = "Non-listing operations on the root of a K/V v2 mount are not supported.";
    if path.is_empty() { vec![hint.to_owned()] } else { Vec::new() }
}

fn exists(_kv: &Kv2, mut cx: Cx<'_>, parameters: &PathParameters) -> Result<bool, Fault> {
    let path = parameters.get("path").map_or("", String::as_str);
    Ok(records::is_name(path) && records::Metadata::is_there(&mut cx.view, path)?)
}
