//! `sys/quotas/rate-limit` and `sys/quotas/config`: how many requests each client may make in an interval, of the whole
//! server, a namespace, a mount, or paths below it.
//!
//! Paths are those of the namespace that is asked; quotas elsewhere are not seen. Deliberately absent: what clients have used
//! (`tresor_core::quotas`).

use std::time::Duration;

use tresor_core::Space;
use tresor_core::quotas::About;
use tresor_core::quotas::rates::{RateConfig, RateRecord};
use tresor_engine::{Cx, Data, Keys, Nothing, Widened};
use tresor_model::Fault;
use tresor_model::ids::NamespaceId;
use tresor_wire::input::{EmptyInput, Input, Millionths, Seconds};
use tresor_wire::output::Output;

use super::Sys;
use super::quota_target::{Target, must_be_ones_own, seen};

/// A quota by name.
#[derive(Input)]
pub(super) struct ByName {
    /// Its name.
    #[input(path)]
    name: String,
}

/// A quota to write.
#[derive(Input)]
pub(super) struct Write {
    /// Its name.
    #[input(path)]
    name: String,
    /// Its kind, which the path says too.
    #[input(name = "type")]
    kind: Option<String>,
    /// What it is about: a namespace, a mount, or a path below one, which may end in a star; without one, the whole server.
    #[input(default = "")]
    path: String,
    /// The role of an auth method whose logins it is about.
    #[input(default = "")]
    role: String,
    /// How many requests a client may make in an interval.
    rate: Option<Millionths>,
    /// How long an interval is; a second, when nothing is said.
    #[input(default = "0")]
    interval: Seconds,
    /// How long a client that made too many is shut out; without it, until the interval ends.
    #[input(default = "0")]
    block_interval: Seconds,
    /// Whether a namespace hands it down to those below it.
    inheritable: Option<bool>,
}

/// A quota as it is shown.
#[derive(Output)]
pub(super) struct Shown {
    /// Its name.
    name: String,
    /// Its kind.
    #[output(name = "type")]
    kind: &'static str,
    /// What it is about.
    path: String,
    /// The role whose logins it is about; empty for none.
    role: String,
    /// How many requests a client may make in an interval.
    rate: Millionths,
    /// How long an interval is.
    interval: Duration,
    /// How long a client that made too many is shut out.
    block_interval: Duration,
    /// Whether child namespaces have it too.
    inheritable: bool,
}

/// What is true of all quotas on rates.
#[derive(Input)]
pub(super) struct WriteConfig {
    /// Paths that no rate limits in any namespace, with all that begins like them; `!` before one takes it out again.
    rate_limit_exempt_paths: Option<Vec<String>>,
    /// The same by their whole path, from the root namespace on; in a namespace, those of it.
    #[input(alias = "global_rate_limit_exempt_paths")]
    absolute_rate_limit_exempt_paths: Option<Vec<String>>,
    /// Whether requests that are refused leave an audit record.
    enable_rate_limit_audit_logging: Option<bool>,
    /// Whether answers say what is left.
    enable_rate_limit_response_headers: Option<bool>,
}

/// The same as it is shown.
#[derive(Output)]
pub(super) struct ConfigShown {
    /// Paths that no rate limits in any namespace.
    rate_limit_exempt_paths: Vec<String>,
    /// The same by their whole path, from the root namespace on; in a namespace, those of it.
    absolute_rate_limit_exempt_paths: Vec<String>,
    /// Whether requests that are refused leave an audit record.
    enable_rate_limit_audit_logging: bool,
    /// Whether answers say what is left.
    enable_rate_limit_response_headers: bool,
}

/// The quotas on what is still there, each with where that is now.
fn standing(sys: &Sys, cx: &mut Cx<'_>) -> Result<Vec<RateRecord>, Fault> {
    let stored = sys.handles.rates.stored(cx.view.widen(Widened::assertion()))?;
    let mut standing = Vec::new();
    for quota in stored.into_values() {
        standing.extend(seen(sys, cx, &quota.about)?.map(|path| RateRecord { path, ..quota }));
    }
    Ok(standing)
}

pub(super) async fn list(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Keys, Fault> {
    Ok(Keys(standing(sys, &mut cx)?.into_iter().map(|quota| quota.name).collect()))
}

pub(super) async fn read(sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Option<Data<Shown>>, Fault> {
    let found = standing(sys, &mut cx)?.into_iter().find(|quota| quota.name == input.name);
    Ok(found.map(|quota| {
        Data(Shown {
            path: format!("{}{}", quota.path, quota.suffix),
            name: quota.name,
            kind: "rate-limit",
            role: quota.role,
            rate: Millionths(quota.rate_millionths),
            interval: quota.interval,
            block_interval: quota.block_interval,
            inheritable: quota.inheritable,
        })
    }))
}

pub(super) async fn write(sys: &Sys, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    let Some(Millionths(rate_millionths)) = input.rate else { return Err(Fault::invalid("'rate' is invalid")) };
    if input.kind.is_some_and(|kind| kind != "rate-limit") {
        return Err(Fault::invalid("'type' must be rate-limit here"));
    }
    let target = Target::find(sys, &cx, &input.path)?;
    if !input.role.is_empty() {
        target.must_have_roles(sys, &mut cx)?;
    }
    must_be_known(sys, &mut cx, &input.name)?;
    let second = Duration::from_secs(1);
    let about = target.about();
    let inheritable = input.inheritable.unwrap_or(about == About::Namespace(NamespaceId::root()));
    sys.handles.rates.write(
        cx.view.widen(Widened::assertion()),
        &RateRecord {
            name: input.name,
            path: target.path(),
            about,
            suffix: target.rest,
            role: input.role,
            rate_millionths,
            interval: if input.interval.0 < second { second } else { input.interval.0 },
            block_interval: input.block_interval.0,
            inheritable,
        },
    )?;
    Ok(Nothing)
}

/// Refuses to change a quota that this namespace does not see.
fn must_be_known(sys: &Sys, cx: &mut Cx<'_>, name: &str) -> Result<(), Fault> {
    let stored = sys.handles.rates.stored(cx.view.widen(Widened::assertion()))?;
    must_be_ones_own(sys, cx, stored.get(name).map(|known| &known.about))
}

pub(super) async fn delete(sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    must_be_known(sys, &mut cx, &input.name)?;
    sys.handles.rates.delete(cx.view.widen(Widened::assertion()), &input.name)?;
    Ok(Nothing)
}

pub(super) async fn read_config(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Data<ConfigShown>, Fault> {
    let config = sys.handles.rates.config(cx.view.widen(Widened::assertion()))?;
    let space = sys.space(&cx)?;
    let own = config.absolute_exempt_paths.into_iter().filter(|entry| is_below(&space, entry));
    Ok(Data(ConfigShown {
        absolute_rate_limit_exempt_paths: own.collect(),
        rate_limit_exempt_paths: config.exempt_paths,
        enable_rate_limit_audit_logging: config.audits_refusals,
        enable_rate_limit_response_headers: config.shows_rest,
    }))
}

/// What is not sent stays as it is.
pub(super) async fn write_config(sys: &Sys, mut cx: Cx<'_>, input: WriteConfig) -> Result<Nothing, Fault> {
    let space = sys.space(&cx)?;
    if input.rate_limit_exempt_paths.is_some() && !space.is_root() {
        return Err(Fault::invalid("exempt paths are those of all namespaces: they are changed in the root namespace"));
    }
    let txn = cx.view.widen(Widened::assertion());
    let before = sys.handles.rates.config(txn)?;
    let mut absolute = before.absolute_exempt_paths;
    if let Some(sent) = input.absolute_rate_limit_exempt_paths {
        if let Some(beyond) = sent.iter().find(|entry| !is_below(&space, entry)) {
            return Err(Fault::invalid(format!(
                "{beyond:?} is not a path of this namespace: it begins with {:?}",
                space.path
            )));
        }
        absolute.retain(|entry| !is_below(&space, entry));
        absolute.extend(sent);
    }
    sys.handles.rates.write_config(
        txn,
        &RateConfig {
            absolute_exempt_paths: absolute,
            exempt_paths: input.rate_limit_exempt_paths.unwrap_or(before.exempt_paths),
            audits_refusals: input.enable_rate_limit_audit_logging.unwrap_or(before.audits_refusals),
            shows_rest: input.enable_rate_limit_response_headers.unwrap_or(before.shows_rest),
        },
    )?;
    Ok(Nothing)
}

/// Whether an entry is about a path of a namespace, or below it.
fn is_below(space: &Space, entry: &str) -> bool {
    entry.strip_prefix('!').unwrap_or(entry).starts_with(space.path.as_str())
}
