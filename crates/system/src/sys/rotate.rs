//! `sys/rotate`, `rotate/config` and `key-status`: the terms of the key ring, the oldest of which still open what they sealed.
//!
//! Deliberately absent: the root key and shares ([`rekey`](super::rekey)).

use std::time::Duration;

use tresor_core::keyring::Rotation;
use tresor_engine::{Cx, Data, Mirrored, Nothing, Widened};
use tresor_model::{Body, Fault};
use tresor_wire::duration::print_go;
use tresor_wire::input::{EmptyInput, Input, Seconds};
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use super::Sys;

/// The term that seals.
#[derive(Output)]
pub(super) struct KeyStatus {
    /// Its number.
    term: u64,
    /// When it was made.
    install_time: String,
    /// How many values it sealed.
    encryptions: u64,
}

/// When a new term is made by itself.
#[derive(Output)]
pub(super) struct Shown {
    /// Whether it is.
    enabled: bool,
    /// After how many values.
    max_operations: u64,
    /// After how long; the number 0 when time does not matter.
    interval: Body,
}

/// Changes of that; what is not named stays.
#[derive(Input)]
pub(super) struct Change {
    /// Whether a new term is made by itself.
    enabled: Option<bool>,
    /// After how many values.
    max_operations: Option<i64>,
    /// After how long; 0: whatever the time.
    interval: Option<Seconds>,
}

pub(super) async fn key_status(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Mirrored<KeyStatus>, Fault> {
    let keyring = sys.handles.keyring.of(&cx.mount.namespace);
    let term = keyring.term(cx.view.widen(Widened::assertion()))?;
    let install_time = rfc3339(term.installed);
    Ok(Mirrored(KeyStatus { term: term.number.into(), install_time, encryptions: term.encryptions }))
}

pub(super) async fn rotate(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Nothing, Fault> {
    sys.handles.keyring.of(&cx.mount.namespace).rotate().await.map(|()| Nothing)
}

pub(super) async fn read_config(_sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Shown>, Fault> {
    let Rotation { enabled, max_operations, interval } = Rotation::stored(cx.view.widen(Widened::assertion()))?;
    let interval = if interval == 0 { Body::from(0_u64) } else { print_go(Duration::from_secs(interval)).into() };
    Ok(Data(Shown { enabled, max_operations, interval }))
}

pub(super) async fn write_config(_sys: &Sys, mut cx: Cx<'_>, input: Change) -> Result<Nothing, Fault> {
    let txn = cx.view.widen(Widened::assertion());
    let stored = Rotation::stored(txn)?;
    let changed = Rotation {
        enabled: input.enabled.unwrap_or(stored.enabled),
        // What is negative is out of range.
        max_operations: input.max_operations.map_or(stored.max_operations, |max| u64::try_from(max).unwrap_or(0)),
        interval: input.interval.map_or(stored.interval, |Seconds(length)| length.as_secs()),
    };
    changed.store(txn)?;
    Ok(Nothing)
}
