//! `kv`: secrets that people write and read, with versions (2) or without (1).
//!
//! The version is an option of the mount. A mount of version 1 may become one of version 2: then each secret becomes the first
//! version of itself (`v2/upgrading.rs`), and there is no way back. Deliberately absent: leases, but for mounts of version 1
//! that say `leased_passthrough`; everywhere else reading advises a duration, nothing more.

mod v1;
mod v2;

use std::collections::BTreeMap;
use std::sync::Arc;

use tresor_engine::{Class, EngineFactory, Kind, MountFacts, Mounted};
use tresor_model::Fault;

/// How to make a `kv` mount.
pub const FACTORY: EngineFactory = EngineFactory { kind: "kv", class: Class::Secret, make, reshapes };

static V1: Kind<v1::Kv1> = Kind::new();
static LEASED: Kind<v1::Leased> = Kind::new();
static UPGRADING: Kind<v2::Upgrading> = Kind::new();
static V2: Kind<v2::Kv2> = Kind::new();

/// The version that options ask for, if there is one like that.
fn version(options: &BTreeMap<String, String>) -> Option<u8> {
    match options.get("version").map_or("1", String::as_str) {
        "" | "0" | "1" => Some(1),
        "2" => Some(2),
        _ => None,
    }
}

fn make(facts: &MountFacts) -> Result<Arc<dyn Mounted>, Fault> {
    match version(&facts.options) {
        Some(1) if facts.options.get("leased_passthrough").is_some_and(|leased| leased == "true") => {
            Ok(LEASED.mount(v1::Leased))
        }
        Some(1) => Ok(V1.mount(v1::Kv1)),
        Some(_) if facts.former_options.is_some() => Ok(UPGRADING.mount(v2::Upgrading)),
        Some(_) => Ok(V2.mount(v2::Kv2)),
        None => Err(Fault::invalid("`version` of a kv mount is 1 or 2")),
    }
}

fn reshapes(before: &MountFacts, after: &MountFacts) -> Result<bool, Fault> {
    let asked = after.options.get("version").map_or("1", String::as_str);
    let to = version(&after.options).ok_or_else(|| Fault::invalid(format!("invalid version provided: {asked}")))?;
    match version(&before.options) {
        Some(from) if from > to => Err(Fault::invalid(format!("cannot downgrade mount from version {from}"))),
        Some(from) => Ok(from < to),
        // It could not be loaded: nothing was stored as that.
        None => Ok(false),
    }
}
