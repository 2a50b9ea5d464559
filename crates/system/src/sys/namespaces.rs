//! `sys/namespaces`: tenants below the namespace that is asked; and locking the API of one.
//!
//! A name is one segment below the namespace of the request, so nobody reaches beyond it (NS-01). Deliberately absent: what
//! becomes of what a deleted namespace has, which `core/src/leases/leaving.rs` takes away; and seals that namespaces have of
//! their own ([`seals`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use tresor_core::Space;
use tresor_core::namespaces::NamespaceName;
use tresor_core::namespaces::record::NamespaceRecord;
use tresor_engine::{Cx, Data, Keys, Nothing, Warned, Widened};
use tresor_model::{Body, Fault, Map, Refusal, map};
use tresor_secret::SecretString;
use tresor_wire::input::{Change, EmptyInput, Input, Limit};
use tresor_wire::output::Output;

use super::rekey::recipients;
use super::{Sys, seals};

/// How many namespaces one answer tells of at most.
const SHOWN_MAX: usize = 10_000;

/// Which namespaces are asked for.
#[derive(Input)]
pub(super) struct Page {
    /// List names after this one.
    #[input(query)]
    after: Option<String>,
    /// How many names to list at most.
    #[input(query, default = "0")]
    limit: Limit,
}

/// A namespace by its name.
#[derive(Input)]
pub(super) struct ByName {
    /// Its name.
    #[input(path)]
    pub(super) path: String,
}

/// What a namespace is to be.
#[derive(Input)]
pub(super) struct Write {
    /// Its name.
    #[input(path)]
    path: String,
    /// What operators note about it.
    custom_metadata: Option<Map>,
    /// A seal of its own, in HCL or JSON: `seal "shamir" { shares = 5 threshold = 3 }`. It comes sealed.
    seal: Option<String>,
    /// Keys to encrypt the shares of that seal to, one each.
    pgp_keys: Option<Vec<String>>,
}

/// What changes of a namespace.
#[derive(Input)]
pub(super) struct Patch {
    /// Its name.
    #[input(path)]
    path: String,
    /// Values by name; null removes one, and null instead of values all of them.
    custom_metadata: Change<Map>,
}

/// What is unlocked, and by which key.
#[derive(Input)]
pub(super) struct Unlock {
    /// The key that locking answered; who has `sudo` needs none.
    unlock_key: Option<SecretString>,
}

/// The same, of a namespace below.
#[derive(Input)]
pub(super) struct UnlockBelow {
    /// Its path.
    #[input(path)]
    path: String,
    /// The key that locking answered; who has `sudo` needs none.
    unlock_key: Option<SecretString>,
}

/// A namespace as it is shown.
#[derive(Output)]
pub(super) struct NamespaceShown {
    /// What operators note about it.
    custom_metadata: BTreeMap<String, String>,
    /// Its identity: ids of what belongs to it end in this.
    id: String,
    /// Whether its API is locked.
    locked: bool,
    /// Its path.
    path: String,
    /// Whether it is being deleted.
    tainted: bool,
    /// Its identity as a UUID.
    uuid: String,
    /// What is left of it while it is being deleted: `tokens_and_leases_left`, `mounts_left`, and `records_left` of any kind,
    /// where 10000 is that or more; of one that is sealed, the first alone. Listings leave it out.
    #[output(optional)]
    deletion: Option<Map>,
}

/// A namespace as it was made.
#[derive(Output)]
pub(super) struct Made {
    /// What operators note about it.
    custom_metadata: BTreeMap<String, String>,
    /// Its identity: ids of what belongs to it end in this.
    id: String,
    /// The shares that open its seal, when it was made with one; they are kept nowhere.
    #[output(secret, optional)]
    key_shares: Option<Vec<String>>,
    /// How many of them open it.
    #[output(optional)]
    key_threshold: Option<u64>,
    /// Whether its API is locked.
    locked: bool,
    /// Its path.
    path: String,
    /// Whether it is being deleted.
    tainted: bool,
    /// Its identity as a UUID.
    uuid: String,
}

/// Namespaces by name.
#[derive(Output)]
pub(super) struct Listed {
    /// The names, each with a slash.
    keys: Vec<String>,
    /// The namespaces by name.
    key_info: Map,
}

/// How a deletion stands.
#[derive(Output)]
pub(super) struct Deletion {
    /// `in-progress`.
    #[output(optional)]
    pub(super) status: Option<&'static str>,
}

/// What unlocks a namespace.
#[derive(Output)]
pub(super) struct Locked {
    /// The key; it is kept nowhere.
    #[output(secret)]
    unlock_key: String,
}

fn shown(record: &NamespaceRecord) -> NamespaceShown {
    NamespaceShown {
        custom_metadata: record.metadata.clone(),
        id: record.id.as_str().to_owned(),
        locked: record.is_locked(),
        path: record.path.clone(),
        tainted: record.is_leaving(),
        uuid: record.uuid.clone(),
        deletion: None,
    }
}

pub(super) fn name(path: &str) -> Result<NamespaceName, Fault> {
    NamespaceName::parse(path).map_err(|error| Fault::invalid(error.to_string()))
}

pub(super) async fn list(sys: &Sys, cx: Cx<'_>, page: Page) -> Result<Option<Data<Listed>>, Fault> {
    listed(sys, &cx, &page, false)
}

pub(super) async fn scan(sys: &Sys, cx: Cx<'_>, page: Page) -> Result<Option<Data<Listed>>, Fault> {
    listed(sys, &cx, &page, true)
}

fn listed(sys: &Sys, cx: &Cx<'_>, page: &Page, is_deep: bool) -> Result<Option<Data<Listed>>, Fault> {
    let space = sys.space(cx)?;
    let limit = page.limit.0.unwrap_or(SHOWN_MAX).min(SHOWN_MAX);
    let after = page.after.as_deref().filter(|after| !after.is_empty());
    let mut found = sys.handles.spaces.below(&space.path, after, limit, is_deep);
    // What lies in one that is sealed is shown to nobody.
    found.retain(|found| found.record.as_ref().is_none_or(|record| !sys.handles.spaces.is_sealed(&record.parent())));
    let below = |found: &Arc<Space>| found.path.strip_prefix(space.path.as_str()).unwrap_or(&found.path).to_owned();
    let keys: Vec<String> = found.iter().map(below).collect();
    let info =
        found.iter().filter_map(|found| Some((below(found), Body::Map(shown(found.record.as_ref()?).into_map()))));
    let key_info = info.collect();
    Ok((!keys.is_empty()).then_some(Data(Listed { keys, key_info })))
}

pub(super) async fn read(sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Option<Data<NamespaceShown>>, Fault> {
    let (space, name) = (sys.space(&cx)?, name(&input.path)?);
    let (spaces, txn) = (&sys.handles.spaces, cx.view.widen(Widened::assertion()));
    let Some(record) = spaces.stored(txn, &space, &name)? else { return Ok(None) };
    let mut deletion = None;
    if record.is_leaving() && spaces.is_sealed(&record.id) {
        // Nobody can say more.
        deletion = Some(map! { "tokens_and_leases_left" => spaces.realm_left(txn, &record.id)? });
    } else if record.is_leaving() {
        deletion = Some(map! {
            "tokens_and_leases_left" => sys.handles.tokens.live_in(txn, &record.id, false)?,
            "mounts_left" => spaces.mounts_left(txn, &record.id)?,
            "records_left" => spaces.records_left(txn, &record.id)?,
        });
    }
    Ok(Some(Data(NamespaceShown { deletion, ..shown(&record) })))
}

pub(super) async fn write(sys: &Sys, mut cx: Cx<'_>, input: Write) -> Result<Warned<Data<Made>>, Fault> {
    let (space, name) = (sys.space(&cx)?, name(&input.path)?);
    let seal = input.seal.filter(|seal| !seal.trim().is_empty()).map(|seal| seals::split(&seal)).transpose()?;
    let (now, entropy) = (cx.now, cx.entropy);
    let owners = recipients(&input.pgp_keys.unwrap_or_default(), now)?;
    if !owners.is_empty() && Some(owners.len()) != seal.map(|split| usize::from(split.shares())) {
        return Err(Fault::invalid("incorrect number of PGP keys: there must be one for each share of the seal"));
    }
    let metadata = metadata(input.custom_metadata.unwrap_or_default())?;
    if seal.is_some() {
        sys.handles.settings.stir().await?;
    }
    let txn = cx.view.widen(Widened::assertion());
    let (record, shares) = sys.handles.spaces.write(txn, &space, &name, (metadata, seal), now, entropy)?;
    let key_shares = seals::handed_out(&shares, &owners, entropy)?;
    let outdated = sys.handles.spaces.outdated(&record);
    let warning = (!outdated.is_empty()).then(|| {
        format!(
            "policies with rules for {:?} are older than this namespace and do not lead into it; write them again to mean it: {}",
            record.path,
            outdated.join(", ")
        )
    });
    let NamespaceShown { custom_metadata, id, locked, path, tainted, uuid, deletion: _ } = shown(&record);
    let key_threshold = seal.map(|split| u64::from(split.threshold()));
    let made = Made { custom_metadata, id, key_shares, key_threshold, locked, path, tainted, uuid };
    Ok(Warned(Data(made), warning.into_iter().collect()))
}

fn metadata(sent: Map) -> Result<BTreeMap<String, String>, Fault> {
    let text = |(name, value): (String, Body)| match value {
        Body::String(text) => Ok((name, text.as_str().to_owned())),
        _ => Err(Fault::invalid("custom_metadata values must be strings")),
    };
    sent.into_iter().map(text).collect()
}

pub(super) async fn patch(sys: &Sys, mut cx: Cx<'_>, input: Patch) -> Result<Data<NamespaceShown>, Fault> {
    let (space, name) = (sys.space(&cx)?, name(&input.path)?);
    let (is_cleared, sent) = match input.custom_metadata {
        Change::Keep => return Err(Fault::invalid("missing required field \"custom_metadata\"")),
        Change::Clear => (true, Map::new()),
        Change::To(sent) => (false, sent),
    };
    let mut changes = BTreeMap::new();
    for (name, value) in sent {
        let value = match value {
            Body::Null => None,
            Body::String(text) => Some(text.as_str().to_owned()),
            _ => return Err(Fault::invalid("metadata patch can only have string or null values")),
        };
        changes.insert(name, value);
    }
    let change = |known: &mut BTreeMap<String, String>| {
        if is_cleared {
            known.clear();
        }
        for (name, value) in changes {
            match value {
                Some(value) => known.insert(name, value),
                None => known.remove(&name),
            };
        }
    };
    Ok(Data(shown(&sys.handles.spaces.note(cx.view.widen(Widened::assertion()), &space, &name, change)?)))
}

pub(super) async fn delete(sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Warned<Data<Deletion>>, Fault> {
    let (space, name, now) = (sys.space(&cx)?, name(&input.path)?, cx.now);
    let is_there = sys.handles.spaces.leave(cx.view.widen(Widened::assertion()), &space, &name, now)?;
    Ok(if is_there {
        Warned(Data(Deletion { status: Some("in-progress") }), Vec::new())
    } else {
        Warned(Data(Deletion { status: None }), vec!["requested namespace does not exist".to_owned()])
    })
}

/// The namespace at a path below the one that is asked.
fn below(sys: &Sys, cx: &Cx<'_>, path: &str) -> Result<Arc<Space>, Fault> {
    let space = sys.space(cx)?;
    let path = format!("{}{}/", space.path, path.trim_matches('/'));
    sys.handles.spaces.at(&path).ok_or_else(|| Fault::invalid("requested namespace does not exist"))
}

pub(super) async fn lock(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Locked>, Fault> {
    let space = sys.space(&cx)?;
    lock_one(sys, &mut cx, &space)
}

pub(super) async fn lock_below(sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Data<Locked>, Fault> {
    let space = below(sys, &cx, &input.path)?;
    lock_one(sys, &mut cx, &space)
}

fn lock_one(sys: &Sys, cx: &mut Cx<'_>, space: &Space) -> Result<Data<Locked>, Fault> {
    let entropy = cx.entropy;
    let key = sys.handles.spaces.lock(cx.view.widen(Widened::assertion()), space, entropy)?;
    Ok(Data(Locked { unlock_key: key.expose().as_str().to_owned() }))
}

pub(super) async fn unlock(sys: &Sys, mut cx: Cx<'_>, input: Unlock) -> Result<Warned<Nothing>, Fault> {
    let space = sys.space(&cx)?;
    unlock_one(sys, &mut cx, &space, input.unlock_key)
}

pub(super) async fn unlock_below(sys: &Sys, mut cx: Cx<'_>, input: UnlockBelow) -> Result<Warned<Nothing>, Fault> {
    let space = below(sys, &cx, &input.path)?;
    unlock_one(sys, &mut cx, &space, input.unlock_key)
}

fn unlock_one(sys: &Sys, cx: &mut Cx<'_>, space: &Space, key: Option<SecretString>) -> Result<Warned<Nothing>, Fault> {
    let key = key.filter(|key| !key.expose().is_empty());
    if key.is_none() && !cx.caller.has_sudo {
        return Err(Fault::invalid("provided empty key"));
    }
    let txn = cx.view.widen(Widened::assertion());
    sys.handles.spaces.unlock(txn, space, key.as_ref().map(|key| key.expose().as_str()))?;
    let warning = key.is_none().then(|| "Namespace unlocked using sudo capabilities".to_owned());
    Ok(Warned(Nothing, warning.into_iter().collect()))
}

/// The namespaces directly below that the caller can do anything in (LST-04).
pub(super) async fn visible(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Keys, Fault> {
    let (space, spaces) = (sys.space(&cx)?, &sys.handles.spaces);
    let home = cx.caller.home.ok_or(Fault::Refusal(Refusal::Denied))?;
    let mut found = spaces.below(&space.path, None, SHOWN_MAX, false);
    found.retain(|below| spaces.permissions(below, home, cx.caller.policies, cx.now).reaches_below(""));
    let name = |found: &Arc<Space>| found.path.strip_prefix(space.path.as_str()).unwrap_or(&found.path).to_owned();
    Ok(Keys(found.iter().map(name).collect()))
}
