//! A mount that becomes one of version 2: while its secrets are taken over, nobody reads or writes them.
//!
//! Each secret becomes the first version of itself, in a transaction with the removal of what it was. Deliberately absent:
//! when that is done, which the server decides.

use tresor_engine::{Class, Cx, Descriptor, Engine, Leased, Nothing, Point, Routes, View};
use tresor_model::{Fault, Map};
use tresor_record::Record;
use tresor_wire::input::Input;

use super::records::{self, Config, Metadata};
use crate::v1::Entry;

/// What everybody is told meanwhile, in the words that clients know.
const UNAVAILABLE: &str = "Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief \
    period and will resume service shortly.";

pub(crate) struct Upgrading;

/// Whatever is sent.
#[derive(Input)]
struct Anything {
    /// Where.
    #[input(path)]
    #[expect(dead_code, reason = "it is refused whatever it says")]
    path: String,
    /// Everything that is sent.
    #[input(rest)]
    #[expect(dead_code, reason = "it is refused whatever it says")]
    sent: Map,
}

impl Engine for Upgrading {
    fn descriptor() -> &'static Descriptor {
        &Descriptor { kind: "kv", class: Class::Secret, summary: "Takes secrets over that have no versions yet." }
    }

    fn routes() -> Routes<Self> {
        Routes::new()
            .at("{path...}", "Refuses everything until all secrets have versions.")
            .read(refuse)
            .list(refuse)
            .scan(refuse)
            .write(refuse)
            .patch(refuse)
            .delete(refuse)
            .done()
    }

    fn points(&self, view: &mut View<'_>, record: &str) -> Result<Vec<Point>, Fault> {
        records::points(view, record)
    }

    fn adopt(&self, cx: &mut Cx<'_>, name: &str, value: &[u8]) -> Result<(), Fault> {
        let Entry { data } = Entry::decode(value).map_err(Fault::internal)?;
        let now = cx.now;
        Metadata::fresh(now).add_version(&mut cx.view, name, &Config::default(), data, now)
    }

    async fn revoke<'a>(&'a self, _cx: Cx<'a>, _lease: Leased<'a>) -> Result<(), Fault> {
        Ok(())
    }
}

async fn refuse(_kv: &Upgrading, _cx: Cx<'_>, _input: Anything) -> Result<Nothing, Fault> {
    Err(Fault::invalid(UNAVAILABLE))
}
