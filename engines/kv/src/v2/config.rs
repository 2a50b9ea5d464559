//! `config`: the defaults of a mount.

use std::sync::Arc;
use std::time::Duration;

use tresor_engine::{Cx, Data, Happened, Nothing};
use tresor_model::Fault;
use tresor_wire::input::{EmptyInput, Input, SignedSeconds};
use tresor_wire::output::Output;

use super::Kv2;
use super::records::Config;

/// What to change; what is not sent stays.
#[derive(Input)]
pub(super) struct Change {
    /// How many versions to keep; 0 takes the default.
    max_versions: Option<u64>,
    /// Demand check-and-set of every write.
    cas_required: Option<bool>,
    /// Demand check-and-set of every change of metadata.
    metadata_cas_required: Option<bool>,
    /// Delete versions after this time; 0 says nothing, and below 0 no version is ever deleted by itself.
    delete_version_after: Option<SignedSeconds>,
}

/// The defaults.
#[derive(Output)]
pub(super) struct Shown {
    /// How many versions are kept; 0 is the default.
    max_versions: u64,
    /// Whether every write must check and set.
    cas_required: bool,
    /// Whether every change of metadata must check and set.
    metadata_cas_required: bool,
    /// The life of versions; `0s` says nothing, `-1s` is for ever whatever a path says.
    delete_version_after: String,
}

pub(super) async fn read(_kv: &Kv2, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Shown>, Fault> {
    let config = Config::load(&mut cx.view)?;
    Ok(Data(Shown {
        max_versions: config.max_versions,
        cas_required: config.cas_required,
        metadata_cas_required: config.metadata_cas_required,
        delete_version_after: if config.never_deletes {
            "-1s".to_owned()
        } else {
            tresor_wire::duration::print_go(config.delete_version_after)
        },
    }))
}

pub(super) async fn write(_kv: &Kv2, mut cx: Cx<'_>, input: Change) -> Result<Nothing, Fault> {
    let mut config = Arc::unwrap_or_clone(Config::load(&mut cx.view)?);
    config.max_versions = input.max_versions.unwrap_or(config.max_versions);
    config.cas_required = input.cas_required.unwrap_or(config.cas_required);
    config.metadata_cas_required = input.metadata_cas_required.unwrap_or(config.metadata_cas_required);
    if let Some(sent) = input.delete_version_after {
        config.never_deletes = sent.0.negative && !sent.0.length.is_zero();
        config.delete_version_after = if sent.0.negative { Duration::ZERO } else { sent.0.length };
    }
    config.store(&mut cx.view)?;
    cx.view.tell(|| Happened::new("kv-v2/config-write", "config").read_at("config"));
    Ok(Nothing)
}
