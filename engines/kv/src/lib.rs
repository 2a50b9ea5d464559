//! `kv`: secrets that people write and read, with versions (2) or without (1).
//!
//! The version is an option of the mount and fixed when it is made. Deliberately absent: leases (reading advises a
//! duration, nothing more) and the upgrade of a mount from version 1 to 2.

mod v1;
mod v2;

use std::sync::Arc;

use tresor_engine::{Class, EngineFactory, Kind, MountFacts, Mounted};
use tresor_model::Fault;

/// How to make a `kv` mount.
pub const FACTORY: EngineFactory = EngineFactory { kind: "kv", class: Class::Secret, make };

static V1: Kind<v1::Kv1> = Kind::new();
static V2: Kind<v2::Kv2> = Kind::new();

fn make(facts: &MountFacts) -> Result<Arc<dyn Mounted>, Fault> {
    match facts.options.get("version").map_or("1", String::as_str) {
        "" | "0" | "1" => Ok(V1.mount(v1::Kv1)),
        "2" => Ok(V2.mount(v2::Kv2)),
        _ => Err(Fault::invalid("`version` of a kv mount is 1 or 2")),
    }
}
