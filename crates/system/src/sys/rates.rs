//! `sys/quotas/rate-limit` and `sys/quotas/config`: how many requests each client may make in an interval, of the whole
//! server, a mount, or paths below it.
//!
//! Deliberately absent: quotas on roles, because no auth method tells what role a login is about, and what clients have used
//! (`tresor_core::quotas`).

use std::time::Duration;

use tresor_core::mounts::record::StoredClass;
use tresor_core::quotas::rates::{RateConfig, RateRecord};
use tresor_engine::{Cx, Data, Keys, Nothing, Widened};
use tresor_model::Fault;
use tresor_wire::input::{EmptyInput, Input, Millionths, Seconds};
use tresor_wire::output::Output;

use super::Sys;

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
    /// What it is about: a mount, or a path below one, which may end in a star; without one, the whole server.
    #[input(default = "")]
    path: String,
    /// A role of an auth method; no method tells what role a login is about.
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
    /// Whether child namespaces have it too.
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
    /// Always empty.
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
    /// Paths that no rate limits, with all that begins like them; `!` before one takes it out again.
    rate_limit_exempt_paths: Option<Vec<String>>,
    /// Whether requests that are refused leave an audit record.
    enable_rate_limit_audit_logging: Option<bool>,
    /// Whether answers say what is left.
    enable_rate_limit_response_headers: Option<bool>,
}

/// The same as it is shown.
#[derive(Output)]
pub(super) struct ConfigShown {
    /// Paths that no rate limits.
    rate_limit_exempt_paths: Vec<String>,
    /// Whether requests that are refused leave an audit record.
    enable_rate_limit_audit_logging: bool,
    /// Whether answers say what is left.
    enable_rate_limit_response_headers: bool,
}

/// The quotas whose mounts are still there, shown where these are now.
fn standing(sys: &Sys, cx: &mut Cx<'_>) -> Result<Vec<RateRecord>, Fault> {
    let txn = cx.view.widen(Widened::assertion());
    let stored = sys.handles.rates.stored(txn)?;
    let with_path = |quota: RateRecord| match &quota.mount {
        None => Some(quota),
        Some(mount) => {
            let (space, mount) = sys.handles.spaces.with_mount(mount)?;
            Some(RateRecord { path: format!("{}{}", space.path, mount.record.path), ..quota })
        }
    };
    Ok(stored.into_values().filter_map(with_path).collect())
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
            role: String::new(),
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
    let txn = cx.view.widen(Widened::assertion());
    let asked = format!("{}/", input.path.trim_matches('/'));
    let (path, mount, suffix) = if asked == "/" {
        (String::new(), None, String::new())
    } else {
        let found = sys.mount_behind(&asked);
        let (mount, path, rest) = found.ok_or_else(|| Fault::invalid(format!("invalid mount path {asked:?}")))?;
        let suffix = rest.trim_end_matches('/');
        if !input.role.is_empty() {
            return Err(no_roles(&mount.record.path, mount.record.class, suffix));
        }
        (path, Some(mount.record.id.clone()), suffix.to_owned())
    };
    if !input.role.is_empty() {
        return Err(no_roles("", StoredClass::System, ""));
    }
    let second = Duration::from_secs(1);
    let inheritable = input.inheritable.unwrap_or(mount.is_none());
    sys.handles.rates.write(
        txn,
        &RateRecord {
            name: input.name,
            path,
            mount,
            suffix,
            rate_millionths,
            interval: if input.interval.0 < second { second } else { input.interval.0 },
            block_interval: input.block_interval.0,
            inheritable,
        },
    )?;
    Ok(Nothing)
}

/// Why a quota cannot be about a role there.
fn no_roles(path: &str, class: StoredClass, suffix: &str) -> Fault {
    Fault::invalid(if !suffix.is_empty() {
        "Quotas cannot contain both a path suffix and a role. If a role is provided, path must be a valid auth mount \
         with a concept of roles"
            .to_owned()
    } else if class == StoredClass::Auth {
        format!("Mount path {path:?} does not support use with role-based quotas")
    } else {
        format!(
            "Mount path {path:?} is not a valid auth method and therefore unsuitable for use with role-based quotas"
        )
    })
}

pub(super) async fn delete(sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    sys.handles.rates.delete(cx.view.widen(Widened::assertion()), &input.name)?;
    Ok(Nothing)
}

pub(super) async fn read_config(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Data<ConfigShown>, Fault> {
    let config = sys.handles.rates.config(cx.view.widen(Widened::assertion()))?;
    Ok(Data(ConfigShown {
        rate_limit_exempt_paths: config.exempt_paths,
        enable_rate_limit_audit_logging: config.audits_refusals,
        enable_rate_limit_response_headers: config.shows_rest,
    }))
}

/// What is not sent stays as it is.
pub(super) async fn write_config(sys: &Sys, mut cx: Cx<'_>, input: WriteConfig) -> Result<Nothing, Fault> {
    let txn = cx.view.widen(Widened::assertion());
    let before = sys.handles.rates.config(txn)?;
    sys.handles.rates.write_config(
        txn,
        &RateConfig {
            exempt_paths: input.rate_limit_exempt_paths.unwrap_or(before.exempt_paths),
            audits_refusals: input.enable_rate_limit_audit_logging.unwrap_or(before.audits_refusals),
            shows_rest: input.enable_rate_limit_response_headers.unwrap_or(before.shows_rest),
        },
    )?;
    Ok(Nothing)
}
