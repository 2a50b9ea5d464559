//! `sys/audit`: audit devices; `sys/audit-status`, which tells how far behind each is, and why; and `sys/audit-hash`, which
//! shows how a device would show a text.

use std::collections::BTreeMap;

use tresor_core::Audits;
use tresor_engine::{Cx, Data, Mirrored, Nothing, Widened};
use tresor_model::{Body, Fault, Map, map};
use tresor_secret::SecretString;
use tresor_wire::input::EmptyInput;
use tresor_wire::input::Input;
use tresor_wire::output::Output;

use super::Sys;

/// A device by its path.
#[derive(Input)]
pub(super) struct AtPath {
    /// Where it is enabled.
    #[input(path)]
    path: String,
}

/// How to enable a device.
#[derive(Input)]
pub(super) struct Enable {
    /// Where to enable it.
    #[input(path)]
    path: String,
    /// What kind it is.
    #[input(name = "type", default = "")]
    kind: String,
    /// What it is for.
    #[input(default = "")]
    description: String,
    /// Its options.
    options: Option<BTreeMap<String, String>>,
    /// Kept for clients.
    #[input(default = "false")]
    local: bool,
}

/// A text to hash.
#[derive(Input)]
pub(super) struct Hash {
    /// The device.
    #[input(path)]
    path: String,
    /// The text.
    input: SecretString,
}

/// A hashed text.
#[derive(Output)]
pub(super) struct Hashed {
    /// As the device shows it.
    hash: String,
}

fn name(path: &str) -> Result<String, Fault> {
    let path = path.trim_matches('/');
    if path.is_empty() || path.split('/').any(str::is_empty) {
        return Err(Fault::invalid("the path of an audit device must not be empty"));
    }
    Ok(format!("{path}/"))
}

pub(super) async fn list(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Mirrored<Map>, Fault> {
    let devices: Map = sys
        .handles
        .audits
        .devices(cx.view.widen(Widened::assertion()))?
        .iter()
        .map(|device| {
            let options: Map =
                device.options.iter().map(|(name, value)| (name.clone(), Body::from(value.as_str()))).collect();
            let shown = map! {
                "path" => device.path.as_str(),
                "type" => device.kind.as_str(),
                "description" => device.description.as_str(),
                "options" => options,
                "local" => device.local,
            };
            (device.path.clone(), Body::from(shown))
        })
        .collect();
    Ok(Mirrored(devices))
}

pub(super) async fn enable(sys: &Sys, mut cx: Cx<'_>, input: Enable) -> Result<Nothing, Fault> {
    if !sys.handles.settings.audit_by_api {
        // Clients show this text.
        return Err(Fault::invalid(
            "cannot enable audit device via API; use declarative, config-based audit device management instead",
        ));
    }
    let kind = if input.kind.is_empty() { input.path.trim_matches('/').to_owned() } else { input.kind };
    let entropy = cx.entropy;
    let txn = cx.view.widen(Widened::assertion());
    let device =
        Audits::describe(name(&input.path)?, kind, input.description, input.options.unwrap_or_default(), input.local);
    sys.handles.audits.enable(txn, device, entropy).await?;
    Ok(Nothing)
}

pub(super) async fn disable(sys: &Sys, mut cx: Cx<'_>, input: AtPath) -> Result<Nothing, Fault> {
    sys.handles.audits.disable(cx.view.widen(Widened::assertion()), &name(&input.path)?)?;
    Ok(Nothing)
}

pub(super) async fn hash(sys: &Sys, _cx: Cx<'_>, input: Hash) -> Result<Data<Hashed>, Fault> {
    let text = input.input.expose();
    if text.is_empty() {
        return Err(Fault::invalid("the \"input\" parameter is empty"));
    }
    let hashed = sys.handles.audits.hash(&name(&input.path)?, text);
    let hashed = hashed.ok_or_else(|| Fault::invalid(format!("unknown audit backend {:?}", input.path)))?;
    Ok(Data(Hashed { hash: hashed }))
}

/// How audit is doing.
#[derive(Output)]
pub(super) struct AuditStatus {
    /// Whether the local audit log takes records; when it does not, requests are refused.
    accepting: bool,
    /// Why it does not.
    #[output(optional)]
    error: Option<String>,
    /// Bytes of records that wait for the slowest device.
    backlog_bytes: u64,
    /// How many may wait before requests are refused.
    backlog_bytes_max: u64,
    /// Records taken since the node was unsealed.
    records: u64,
    /// Records that a failed disk lost before the node was unsealed.
    lost_records: u64,
    /// Records that no device took, because all have filters and none is a fallback.
    missed_records: u64,
    /// Whether the local audit log had vanished when the node was unsealed.
    log_was_missing: bool,
    /// How each device is doing, by its path.
    devices: Map,
}

pub(super) async fn status(sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Data<AuditStatus>, Fault> {
    let standing = sys.handles.audits.standing();
    let devices = standing.devices.into_iter().map(|device| {
        let shown = map! {
            "type" => device.kind.as_str(),
            "lag_records" => device.lag_records,
            "lag_bytes" => device.lag_bytes,
            "lag_seconds" => device.lag_age.as_secs(),
            "failed_attempts" => device.attempts,
            "cut_lines" => device.cut_lines,
            "last_error" => device.last_error.as_deref().unwrap_or_default(),
            "declared" => device.declared,
        };
        (device.path, Body::from(shown))
    });
    Ok(Data(AuditStatus {
        accepting: standing.log.accepting,
        error: standing.log.last_error,
        backlog_bytes: standing.log.backlog_bytes,
        backlog_bytes_max: standing.log.backlog_bytes_max,
        records: standing.log.records,
        lost_records: standing.log.lost_records,
        missed_records: standing.missed,
        log_was_missing: standing.log.was_missing,
        devices: devices.collect(),
    }))
}
