//! `sys/leases`: showing, renewing and revoking what engines handed out; and the older spellings below `sys/`.
//!
//! An older spelling is the same route under another path: policies decide on the path of today (NS-03). A token that
//! ends has a lease id too, below the path that made it. Deliberately absent: renewing a token here; `auth/token/` does.

use std::sync::Arc;
use std::time::Duration;

use tresor_core::leases::record::{JobWork, LeaseRecord, LeaseState};
use tresor_core::leases::secrets::Means;
use tresor_core::leases::{abandoned, retried};
use tresor_core::tokens::FoundToken;
use tresor_engine::answer::{Accepted, Renewed, Then};
use tresor_engine::reply::Afterwards;
use tresor_engine::{Cx, Data, Keys, Nothing, Warned, Widened};
use tresor_model::{Body, Fault, Map, map};
use tresor_wire::input::{EmptyInput, Input, Limit, Seconds};
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use super::Sys;
use crate::pages::{Page, listed};

/// How many leases are revoked at most in the request's own transaction; more are revoked by a job, which is waited for.
const SYNC_MAX: usize = 256;
/// How many irrevocable leases are shown when nobody says how many.
const SHOWN: usize = 1000;
/// The most that are shown.
const SHOWN_MAX: usize = 10_000;
/// In how many namespaces leases are counted at once.
const SPACES_MAX: usize = 10_000;

/// A lease.
#[derive(Input)]
pub(super) struct ById {
    /// The lease.
    lease_id: Option<String>,
}

/// A lease to renew.
#[derive(Input)]
pub(super) struct Renew {
    /// The lease.
    lease_id: Option<String>,
    /// The life that is wished for.
    increment: Option<Seconds>,
}

/// A lease in the path to renew.
#[derive(Input)]
pub(super) struct RenewInPath {
    /// The lease.
    #[input(path)]
    url_lease_id: String,
    /// The lease; what the body says is used first.
    lease_id: Option<String>,
    /// The life that is wished for.
    increment: Option<Seconds>,
}

/// A lease to revoke.
#[derive(Input)]
pub(super) struct Revoke {
    /// The lease.
    lease_id: Option<String>,
    /// Wait until it is revoked.
    #[input(default = "false")]
    sync: bool,
}

/// A lease in the path to revoke.
#[derive(Input)]
pub(super) struct RevokeInPath {
    /// The lease.
    #[input(path)]
    url_lease_id: String,
    /// The lease; what the body says is used first.
    lease_id: Option<String>,
    /// Wait until it is revoked.
    #[input(default = "false")]
    sync: bool,
}

/// Leases below a part of their ids.
#[derive(Input)]
pub(super) struct Below {
    /// The first part of the ids.
    #[input(path)]
    prefix: String,
    /// Wait until they are revoked.
    #[input(default = "false")]
    sync: bool,
}

/// A directory of ids.
#[derive(Input)]
pub(super) struct Directory {
    /// The first part of the ids.
    #[input(path)]
    prefix: String,
}

/// A page of a directory of ids.
#[derive(Input)]
pub(super) struct DirectoryPage {
    /// The first part of the ids.
    #[input(path)]
    prefix: String,
    /// List names after this one.
    #[input(query)]
    after: Option<String>,
    /// How many names to list at most.
    #[input(query, default = "0")]
    limit: Limit,
}

/// Which leases are counted or listed.
#[derive(Input)]
pub(super) struct Which {
    /// `irrevocable`, or `damaged` for what could not be read when its time came; for counting also `live`.
    #[input(name = "type", default = "", query)]
    kind: String,
    /// How many are listed at most; `none` means as many as can be.
    #[input(query)]
    limit: Option<String>,
    /// Whether leases of the namespaces below are counted, too.
    #[input(query)]
    include_child_namespaces: Option<bool>,
}

/// A lease as it is shown.
#[derive(Output)]
pub(super) struct LeaseShown {
    /// Its id.
    id: String,
    /// The path that was asked for it.
    path: String,
    /// The namespace of that, where it is not the root namespace.
    #[output(optional)]
    namespace_path: Option<String>,
    /// When it was handed out.
    issue_time: String,
    /// When it ends.
    expire_time: Option<String>,
    /// When it was renewed last.
    last_renewal: Option<String>,
    /// Whether it can be renewed.
    renewable: bool,
    /// What is left of its life.
    ttl: Duration,
    /// Why it could not be revoked.
    #[output(optional)]
    revoke_error: Option<String>,
}

/// Numbers of leases.
#[derive(Output)]
pub(super) struct Counted {
    /// Of all mounts.
    lease_count: u64,
    /// By the accessors of mounts.
    counts: Map,
}

/// Leases that could not be revoked.
#[derive(Output)]
pub(super) struct Irrevocable {
    /// How many are listed.
    lease_count: u64,
    /// Each with its id, the accessor of its mount, and why.
    leases: Vec<Body>,
}

/// What waits to be revoked.
#[derive(Output)]
pub(super) struct Revoking {
    /// How many leases wait for their targets.
    lease_count: u64,
    /// Each target with `mount_path`, `target`, `lease_count`, `waiting_since`, `age` in seconds and `reason`; and while it does not
    /// answer `down_since`, `failed_attempts` and `next_try`.
    targets: Vec<Body>,
    /// Those that their engine refused to take back, and that are tried again: each with `lease_id`, `failed_attempts`,
    /// `reason`, `failing_since`, `age` in seconds since then, and `next_try`.
    leases: Vec<Body>,
}

/// Leases that were forgotten.
#[derive(Output)]
pub(super) struct AbandonedShown {
    /// Each with `lease_id`, `mount_id`, `kind`, `target`, `issue_time`, `abandoned_time` and `reason`.
    leases: Vec<Body>,
}

/// Leases by the path that handed them out.
#[derive(Input)]
pub(super) struct TreePage {
    /// The first part of the paths.
    #[input(path)]
    prefix: String,
    /// Show paths after this one.
    #[input(query)]
    after: Option<String>,
    /// How many paths to show at most.
    #[input(query, default = "0")]
    limit: Limit,
}

/// How many leases there are, and of what.
#[derive(Output)]
pub(super) struct TreeShown {
    /// Of the namespace and those below it; not with a prefix.
    #[output(optional)]
    lease_count: Option<u64>,
    /// Each namespace directly below with its `path` and `lease_count`, those below it included; not with a prefix.
    namespaces: Vec<Body>,
    /// Each mount with its `path`, `type`, `lease_count` and `paths`, each of which has a `path` and a `lease_count`; and, when
    /// there are any, `collecting` (over, and still counted in `paths`), `revoking` and `irrevocable`.
    mounts: Vec<Body>,
    /// Where the next page begins, when there may be more.
    #[output(optional)]
    next: Option<String>,
}

/// How many reports are deleted within one request.
const CLEARED_MAX: usize = 4_096;

fn given(lease_id: Option<String>, in_path: &str) -> Result<String, Fault> {
    let id = lease_id.filter(|id| !id.is_empty()).unwrap_or_else(|| in_path.to_owned());
    if id.is_empty() { Err(Fault::invalid("lease_id must be specified")) } else { Ok(id) }
}

/// Of an id, what stands before its number.
fn asked_path(id: &str) -> String {
    id.rsplit_once('/').map(|(path, _)| path.to_owned()).unwrap_or_default()
}

fn show(record: &LeaseRecord, namespace_path: Option<String>, now: tresor_model::Timestamp) -> Data<LeaseShown> {
    let revoke_error = match &record.state {
        LeaseState::Irrevocable(attempts) => Some(attempts.reason.clone()),
        LeaseState::Live | LeaseState::Revoking(_) | LeaseState::Intended => None,
    };
    Data(LeaseShown {
        path: asked_path(record.id.as_str()),
        namespace_path,
        id: record.id.as_str().to_owned(),
        issue_time: rfc3339(record.issued),
        expire_time: Some(rfc3339(record.expires)),
        last_renewal: record.renewed.map(rfc3339),
        renewable: record.renewable && record.state == LeaseState::Live,
        ttl: record.remaining(now),
        revoke_error,
    })
}

pub(super) async fn lookup(sys: &Sys, mut cx: Cx<'_>, input: ById) -> Result<Data<LeaseShown>, Fault> {
    let id = given(input.lease_id, "")?;
    let (now, namespace) = (cx.now, &cx.mount.namespace);
    let path = Some(sys.handles.spaces.of(namespace)?.path.clone()).filter(|path| !path.is_empty());
    let txn = cx.view.widen(Widened::assertion());
    if let Some(found) = sys.handles.tokens.find_lease_id(txn, namespace, &id, now)? {
        return Ok(show_token(&found, id, path, now));
    }
    let found = sys.handles.leases.find(txn, namespace, &id, now)?;
    Ok(show(&found.ok_or_else(|| Fault::invalid("invalid lease"))?, path, now))
}

fn show_token(
    found: &FoundToken,
    id: String,
    namespace_path: Option<String>,
    now: tresor_model::Timestamp,
) -> Data<LeaseShown> {
    let record = &found.record;
    Data(LeaseShown {
        path: asked_path(&id),
        namespace_path,
        id,
        issue_time: rfc3339(record.created),
        expire_time: record.expires.map(rfc3339),
        last_renewal: record.renewed.map(rfc3339),
        renewable: record.renewable,
        ttl: record.remaining(now).unwrap_or_default(),
        revoke_error: None,
    })
}

pub(super) async fn list_all(sys: &Sys, cx: Cx<'_>, page: Page) -> Result<Keys, Fault> {
    names(sys, cx, "", page).await
}

pub(super) async fn list(sys: &Sys, cx: Cx<'_>, input: DirectoryPage) -> Result<Keys, Fault> {
    let DirectoryPage { prefix, after, limit } = input;
    names(sys, cx, prefix.trim_matches('/'), Page { after, limit }).await
}

async fn names(sys: &Sys, cx: Cx<'_>, prefix: &str, page: Page) -> Result<Keys, Fault> {
    let directory = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let (now, leases, namespace) = (cx.now, &sys.handles.leases, cx.mount.namespace.clone());
    listed(cx, page, |txn, after, at_most| leases.names(txn, &namespace, &directory, after, at_most, now)).await
}

pub(super) async fn renew(sys: &Sys, cx: Cx<'_>, input: Renew) -> Result<Warned<Renewed>, Fault> {
    renew_one(sys, cx, &given(input.lease_id, "")?, input.increment).await
}

pub(super) async fn renew_in_path(sys: &Sys, cx: Cx<'_>, input: RenewInPath) -> Result<Warned<Renewed>, Fault> {
    renew_one(sys, cx, &given(input.lease_id, &input.url_lease_id)?, input.increment).await
}

async fn renew_one(sys: &Sys, mut cx: Cx<'_>, id: &str, wish: Option<Seconds>) -> Result<Warned<Renewed>, Fault> {
    let wish = wish.map(|wish| wish.0).filter(|wish| !wish.is_zero());
    let (now, namespace) = (cx.now, &cx.mount.namespace);
    if sys.handles.tokens.find_lease_id(cx.view.widen(Widened::assertion()), namespace, id, now)?.is_some() {
        return Err(Fault::invalid("tokens cannot be renewed through this endpoint"));
    }
    let (terms, warnings) = sys.handles.leases.renew(means(&mut cx), namespace, id, wish).await?;
    Ok(Warned(Renewed::new(terms, Widened::assertion()), warnings))
}

/// What asking an engine takes.
pub(super) fn means<'a>(cx: &'a mut Cx<'_>) -> Means<'a> {
    let (now, entropy, workers, ways) = (cx.now, cx.entropy, cx.workers, cx.ways());
    Means { txn: cx.view.widen(Widened::assertion()), now, entropy, workers, ways }
}

pub(super) async fn revoke(sys: &Sys, cx: Cx<'_>, input: Revoke) -> Result<Then<Nothing>, Fault> {
    revoke_one(sys, cx, &given(input.lease_id, "")?, input.sync).await
}

pub(super) async fn revoke_in_path(sys: &Sys, cx: Cx<'_>, input: RevokeInPath) -> Result<Then<Nothing>, Fault> {
    revoke_one(sys, cx, &given(input.lease_id, &input.url_lease_id)?, input.sync).await
}

async fn revoke_one(sys: &Sys, mut cx: Cx<'_>, id: &str, sync: bool) -> Result<Then<Nothing>, Fault> {
    let (now, namespace) = (cx.now, &cx.mount.namespace);
    let txn = cx.view.widen(Widened::assertion());
    // Alive or not: what was revoked must not come back when a later process tells an earlier time.
    if let Some(found) = sys.handles.tokens.stored_by_lease_id(txn, namespace, id)? {
        sys.handles.tokens.revoke(txn, &found, now)?;
    } else if !sync {
        sys.handles.leases.retire(txn, namespace, id, false, now)?;
    } else if sys.handles.leases.order_at_once(txn, namespace, id, now)? {
        return Ok(Then::new(Nothing, Afterwards::TakeBack(vec![id.to_owned()]), Widened::assertion()));
    }
    Ok(Then::no_more(Nothing))
}

pub(super) async fn revoke_prefix(sys: &Sys, mut cx: Cx<'_>, input: Below) -> Result<Then<Nothing>, Fault> {
    if !input.sync {
        return order(sys, cx, JobWork::Revoke, &input.prefix).map(Then::no_more);
    }
    let namespace = &cx.mount.namespace;
    let txn = cx.view.widen(Widened::assertion());
    let ids = sys.handles.leases.ids_below(txn, namespace, &input.prefix, SYNC_MAX + 1)?;
    if ids.len() > SYNC_MAX {
        let ordered = order(sys, cx, JobWork::Revoke, &input.prefix)?;
        return Ok(Then::new(ordered, Afterwards::AwaitRevoked(input.prefix), Widened::assertion()));
    }
    let (now, mut ordered) = (cx.now, Vec::new());
    let txn = cx.view.widen(Widened::assertion());
    for id in ids {
        match sys.handles.tokens.stored_by_lease_id(txn, namespace, &id)? {
            Some(found) => sys.handles.tokens.revoke(txn, &found, now)?,
            None if sys.handles.leases.order_at_once(txn, namespace, &id, now)? => ordered.push(id),
            None => {}
        }
    }
    if ordered.is_empty() {
        return Ok(Then::no_more(Nothing));
    }
    Ok(Then::new(Nothing, Afterwards::TakeBack(ordered), Widened::assertion()))
}

pub(super) async fn revoke_force(sys: &Sys, cx: Cx<'_>, input: Directory) -> Result<Nothing, Fault> {
    order(sys, cx, JobWork::Force, &input.prefix)
}

pub(super) async fn revoking(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Revoking>, Fault> {
    let (now, space) = (cx.now, sys.space(&cx)?);
    let waiting = sys.handles.leases.waiting(cx.view.widen(Widened::assertion()), &space, SHOWN)?;
    let lease_count = waiting.iter().map(|one| one.count as u64).sum();
    let shown = waiting.into_iter().map(|one| {
        let mut shown = map! {
            "mount_path" => one.mount_path,
            "target" => one.target,
            "lease_count" => one.count as u64,
        };
        if let Some(since) = one.since {
            shown = shown.with("waiting_since", rfc3339(since)).with("age", now.since(since).as_secs());
        }
        let reason = one.down.as_ref().map(|down| down.reason.clone()).or(one.reason);
        if let Some(reason) = reason {
            shown = shown.with("reason", reason);
        }
        if let Some(down) = one.down {
            shown = shown
                .with("down_since", rfc3339(down.since))
                .with("failed_attempts", u64::from(down.failed))
                .with("next_try", rfc3339(down.until));
        }
        Body::from(shown)
    });
    let targets = shown.collect();
    let tried_again = retried::some(cx.view.widen(Widened::assertion()), &space, SHOWN)?;
    let leases = tried_again.into_iter().map(|one| {
        Body::from(map! {
            "lease_id" => one.record.id.as_str(),
            "failed_attempts" => one.attempts.failed,
            "reason" => one.attempts.reason,
            "failing_since" => rfc3339(one.since),
            "age" => now.since(one.since).as_secs(),
            "next_try" => rfc3339(one.record.due),
        })
    });
    Ok(Data(Revoking { lease_count, targets, leases: leases.collect() }))
}

pub(super) async fn tree(sys: &Sys, cx: Cx<'_>, page: Page) -> Result<Warned<Data<TreeShown>>, Fault> {
    let Page { after, limit } = page;
    tree_of(sys, cx, TreePage { prefix: String::new(), after, limit })
}

pub(super) async fn tree_below(sys: &Sys, cx: Cx<'_>, page: TreePage) -> Result<Warned<Data<TreeShown>>, Fault> {
    tree_of(sys, cx, page)
}

fn tree_of(sys: &Sys, mut cx: Cx<'_>, page: TreePage) -> Result<Warned<Data<TreeShown>>, Fault> {
    let TreePage { prefix, after, limit } = page;
    let space = sys.space(&cx)?;
    let limit = limit.0.unwrap_or(SHOWN).min(SHOWN_MAX);
    let is_whole = prefix.trim_matches('/').is_empty();
    let txn = cx.view.widen(Widened::assertion());
    let (mut lease_count, mut namespaces) = (None, Vec::new());
    if is_whole {
        let tokens = &sys.handles.tokens;
        let everything =
            if space.id.is_root() { tokens.live_everywhere(txn) } else { tokens.live_in(txn, &space.id, true) };
        lease_count = Some(everything?);
        // With the first page.
        let shown = if after.is_none() { SHOWN_MAX } else { 0 };
        for below in sys.handles.spaces.below(&space.path, None, shown, false) {
            let number = tokens.live_in(txn, &below.id, true)?;
            let path = below.path.strip_prefix(&space.path).unwrap_or(&below.path);
            namespaces.push(Body::from(map! { "path" => path, "lease_count" => number }));
        }
    }
    let tree = sys.handles.leases.tree(txn, &space, &prefix, after.as_deref(), limit)?;
    let mounts = tree.mounts.into_iter().map(|branch| {
        let record = branch.mount.as_ref().map(|mount| &mount.record);
        let paths =
            branch.paths.into_iter().map(|(path, number)| Body::from(map! { "path" => path, "lease_count" => number }));
        let mut shown = map! {
            "path" => record.map_or("", |record| record.path.as_str()),
            "type" => record.map_or("", |record| record.kind.as_str()),
            "lease_count" => branch.live,
            "paths" => paths.collect::<Vec<Body>>(),
        };
        let others =
            [("collecting", branch.collecting), ("revoking", branch.revoking), ("irrevocable", branch.irrevocable)];
        for (name, number) in others.into_iter().filter(|(_, number)| *number > 0) {
            shown = shown.with(name, number);
        }
        Body::from(shown)
    });
    let shown = TreeShown { lease_count, namespaces, mounts: mounts.collect(), next: tree.next };
    let warnings = tree.is_cut.then(|| "something was left out because it cannot be read".to_owned());
    Ok(Warned(Data(shown), warnings.into_iter().collect()))
}

pub(super) async fn abandoned(_sys: &Sys, mut cx: Cx<'_>, input: Page) -> Result<Option<Data<AbandonedShown>>, Fault> {
    let namespace = cx.mount.namespace.clone();
    let limit = input.limit.0.unwrap_or(SHOWN).min(SHOWN_MAX);
    let txn = cx.view.widen(Widened::assertion());
    let reports = abandoned::reports(txn, &namespace, input.after.as_deref(), limit)?;
    let shown = reports.iter().map(|report| {
        Body::from(map! {
            "lease_id" => report.id.as_str(),
            "mount_id" => report.mount.as_str(),
            "kind" => report.kind.as_str(),
            "target" => report.target.as_str(),
            "issue_time" => rfc3339(report.issued),
            "abandoned_time" => rfc3339(report.since),
            "reason" => report.reason.as_str(),
        })
    });
    let leases: Vec<Body> = shown.collect();
    Ok((!leases.is_empty()).then_some(Data(AbandonedShown { leases })))
}

pub(super) async fn clear_abandoned(_sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Warned<Nothing>, Fault> {
    let namespace = cx.mount.namespace.clone();
    let is_any_left = abandoned::clear(cx.view.widen(Widened::assertion()), &namespace, CLEARED_MAX)?;
    let warnings = is_any_left.then(|| "there are more reports: delete once more".to_owned());
    Ok(Warned(Nothing, warnings.into_iter().collect()))
}

fn order(sys: &Sys, mut cx: Cx<'_>, work: JobWork, prefix: &str) -> Result<Nothing, Fault> {
    let (now, entropy, space) = (cx.now, cx.entropy, sys.space(&cx)?);
    if prefix.trim_matches('/').is_empty() {
        return Err(Fault::invalid("a prefix must be specified"));
    }
    sys.handles.leases.order(cx.view.widen(Widened::assertion()), &space, work, prefix, now, entropy)?;
    Ok(Nothing)
}

pub(super) async fn tidy(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Warned<Accepted>, Fault> {
    let (now, entropy, space) = (cx.now, cx.entropy, sys.space(&cx)?);
    sys.handles.leases.order(cx.view.widen(Widened::assertion()), &space, JobWork::TidyLeases, "", now, entropy)?;
    Ok(Warned(Accepted, vec!["Tidy operation successfully started. Any information from the operation will be printed to the server's logs.".to_owned()]))
}

pub(super) async fn count(sys: &Sys, mut cx: Cx<'_>, input: Which) -> Result<Data<Counted>, Fault> {
    let space = sys.space(&cx)?;
    let mut spaces = vec![Arc::clone(&space)];
    if input.include_child_namespaces == Some(true) {
        // What is sealed cannot be counted, and keeps nobody from counting the rest.
        let below = sys.handles.spaces.below(&space.path, None, SPACES_MAX, true);
        spaces.extend(below.into_iter().filter(|space| !space.is_sealed));
    }
    let mut counts: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    match input.kind.as_str() {
        "irrevocable" => {
            for space in &spaces {
                let mut after: Option<String> = None;
                loop {
                    let txn = cx.view.widen(Widened::assertion());
                    let page = sys.handles.leases.irrevocable(txn, space, after.as_deref(), SHOWN)?;
                    for lease in &page {
                        *counts.entry(lease.mount.clone()).or_default() += 1;
                    }
                    let Some(last) = page.last() else { break };
                    after = Some(last.record.number().to_owned());
                    tresor_env::tasks::breathe().await;
                }
            }
        }
        "live" => {
            for space in &spaces {
                let table = space.mounts.table();
                for (mount, number) in sys.handles.tokens.live(cx.view.widen(Widened::assertion()), &space.id)? {
                    let accessor = table.with_id(&mount).map(|mount| mount.record.accessor.as_str().to_owned());
                    if number > 0 {
                        *counts.entry(accessor.unwrap_or_default()).or_default() += number;
                    }
                }
                tresor_env::tasks::breathe().await;
            }
        }
        "damaged" => {
            let asked = spaces.iter().map(|space| space.id.clone()).collect();
            let found = sys.handles.leases.set_aside(cx.view.widen(Widened::assertion()), &asked, SHOWN_MAX)?;
            counts.insert("unknown".to_owned(), u64::try_from(found.len()).unwrap_or(u64::MAX));
        }
        "" => return Err(Fault::invalid("missing required field \"type\"")),
        _ => return Err(Fault::invalid("`type` is `irrevocable`, `live` or `damaged`")),
    }
    let lease_count = counts.values().sum();
    Ok(Data(Counted {
        lease_count,
        counts: counts.into_iter().map(|(name, count)| (name, Body::from(count))).collect(),
    }))
}

pub(super) async fn irrevocable(sys: &Sys, mut cx: Cx<'_>, input: Which) -> Result<Data<Irrevocable>, Fault> {
    let is_damaged = match input.kind.as_str() {
        "irrevocable" => false,
        "damaged" => true,
        "" => return Err(Fault::invalid("missing required field \"type\"")),
        _ => return Err(Fault::invalid("`type` is `irrevocable` or `damaged`")),
    };
    let limit = match input.limit.as_deref() {
        None | Some("") => SHOWN,
        Some("none") => SHOWN_MAX,
        Some(number) => match number.parse::<usize>() {
            Ok(limit) if limit > 0 => limit.min(SHOWN_MAX),
            _ => return Err(Fault::invalid("`limit` is a positive number or `none`")),
        },
    };
    let space = sys.space(&cx)?;
    let txn = cx.view.widen(Widened::assertion());
    let shown = |id: &str, mount: &str, error: &str| {
        Body::from(map! { "lease_id" => id, "mount_id" => mount, "error" => error })
    };
    let leases: Vec<Body> = if is_damaged {
        // What it was is in a record that cannot be read: its name in the index is all there is.
        let found = sys.handles.leases.set_aside(txn, &[space.id.clone()].into(), limit)?;
        found.iter().map(|(name, aside)| shown(name, "", &aside.reason)).collect()
    } else {
        let found = sys.handles.leases.irrevocable(txn, &space, None, limit)?;
        found.iter().map(|lease| shown(lease.record.id.as_str(), &lease.mount, &lease.reason)).collect()
    };
    Ok(Data(Irrevocable { lease_count: u64::try_from(leases.len()).unwrap_or(u64::MAX), leases }))
}
