//! `sys/external-keys`: who keeps keys, which keys they have, and which mounts of the namespace were granted them (SEAL-33).
//!
//! A reference to such a key is `KEEPER:KEY`. What is written is looked up at its keeper before it is kept, unless whoever writes it says not
//! to. Deliberately absent: what uses them, and the making of keys.

use tresor_core::kept_keys::{self as stored, Keeper, Key, Of};
use tresor_crypto::token_text::random_uuid;
use tresor_engine::kept::{Usage, fault};
use tresor_engine::{Cx, Data, Keys, Nothing, Routes, Widened};
use tresor_model::{Fault, Map, Refusal};
use tresor_wire::input::Input;

use super::Sys;
use super::kept_options::{Secrets, check, keeper, merged, shown};
use crate::pages::Page;

/// The routes.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes
        .at("external-keys/configs", "Lists those who keep keys.")
        .list(list)
        .at(
            "external-keys/configs/{config}",
            "Shows, writes, changes or forgets who keeps keys, with the keys; they stay where they are.",
        )
        .read(read)
        .write(write)
        .patch(patch)
        .delete(delete)
        .at("external-keys/configs/{config}/keys", "Lists the keys that somebody keeps.")
        .list(list_keys)
        .at("external-keys/configs/{config}/keys/{key}", "Shows, writes, changes or forgets a key that somebody keeps.")
        .read(read_key)
        .write(write_key)
        .patch(patch_key)
        .delete(delete_key)
        .at("external-keys/configs/{config}/keys/{key}/grants", "Lists the mounts that may use a key.")
        .list(list_grants)
        .at("external-keys/configs/{config}/keys/{key}/grants/{mount...}", "Lets a mount use a key, or no longer.")
        .write(grant)
        .delete(revoke)
        .done()
}

/// Who keeps keys, by name.
#[derive(Input)]
pub(super) struct ByConfig {
    /// Its name.
    #[input(path)]
    config: String,
}

/// Who keeps keys, to write.
#[derive(Input)]
pub(super) struct Write {
    /// Its name.
    #[input(path)]
    config: String,
    /// What it is: `pkcs11`, `awskms`, `azurekeyvault` or `gcpckms`.
    #[input(default = "")]
    plugin: String,
    /// Look whether it makes sense before it is kept.
    #[input(default = "true")]
    verify: bool,
    /// What leads to it.
    #[input(rest)]
    sent: Map,
}

/// Which keys are listed.
#[derive(Input)]
pub(super) struct PageOf {
    /// Of whom.
    #[input(path)]
    config: String,
    /// List names after this one.
    #[input(query)]
    after: Option<String>,
    /// How many names to list at most.
    #[input(query, default = "0")]
    limit: tresor_wire::input::Limit,
}

/// A key, by whose it is and its name.
#[derive(Input)]
pub(super) struct ByKey {
    /// Who keeps it.
    #[input(path)]
    config: String,
    /// Its name.
    #[input(path)]
    key: String,
}

/// A key to write.
#[derive(Input)]
pub(super) struct WriteKey {
    /// Who keeps it.
    #[input(path)]
    config: String,
    /// Its name.
    #[input(path)]
    key: String,
    /// Look whether it is there before it is kept.
    #[input(default = "true")]
    verify: bool,
    /// What names it there.
    #[input(rest)]
    sent: Map,
}

/// A mount to let in, or out.
#[derive(Input)]
pub(super) struct ByGrant {
    /// Who keeps the key.
    #[input(path)]
    config: String,
    /// Its name.
    #[input(path)]
    key: String,
    /// The path of the mount.
    #[input(path)]
    mount: String,
}

fn no_config(name: &str) -> Fault {
    Refusal::Absent(format!("config {name:?} not found").into()).into()
}

fn no_key(name: &str) -> Fault {
    Refusal::Absent(format!("key {name:?} not found").into()).into()
}

pub(super) async fn list(_sys: &Sys, mut cx: Cx<'_>, input: Page) -> Result<Keys, Fault> {
    let namespace = cx.mount.namespace.clone();
    let txn = cx.view.widen(Widened::assertion());
    Ok(Keys(stored::keepers(txn, &namespace, input.after.as_deref(), input.limit.0)?))
}

fn config(cx: &mut Cx<'_>, name: &str) -> Result<Keeper, Fault> {
    let namespace = cx.mount.namespace.clone();
    stored::keeper(cx.view.widen(Widened::assertion()), &namespace, name)?.ok_or_else(|| no_config(name))
}

pub(super) async fn read(_sys: &Sys, mut cx: Cx<'_>, input: ByConfig) -> Result<Data<Map>, Fault> {
    let there = config(&mut cx, &input.config)?;
    let facts = keeper(cx.keepers.custody(Widened::assertion()).keepers(), &there.kind)?;
    Ok(Data(shown(&there.options, &[facts.of_keeper], Secrets::Redacted).with("plugin", there.kind)))
}

pub(super) async fn write(_sys: &Sys, cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    if input.plugin.is_empty() {
        return Err(Fault::invalid("missing required field \"plugin\""));
    }
    let options = merged(Map::new(), input.sent);
    keep(cx, &input.config, Keeper { kind: input.plugin, options }, input.verify)
}

pub(super) async fn patch(_sys: &Sys, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    let there = config(&mut cx, &input.config)?;
    let kind = if input.plugin.is_empty() { there.kind } else { input.plugin };
    keep(cx, &input.config, Keeper { kind, options: merged(there.options, input.sent) }, input.verify)
}

fn keep(mut cx: Cx<'_>, name: &str, kept: Keeper, verify: bool) -> Result<Nothing, Fault> {
    let custody = cx.keepers.custody(Widened::assertion());
    let facts = keeper(custody.keepers(), &kept.kind)?;
    check(&kept.options, &[facts.of_keeper], &kept.kind)?;
    if verify {
        custody.check(&stored::place(Some(&kept), &fresh(String::new()))).map_err(fault)?;
    }
    let namespace = cx.mount.namespace.clone();
    stored::write_keeper(cx.view.widen(Widened::assertion()), &namespace, name, &kept)?;
    Ok(Nothing)
}

pub(super) async fn delete(_sys: &Sys, mut cx: Cx<'_>, input: ByConfig) -> Result<Nothing, Fault> {
    let namespace = cx.mount.namespace.clone();
    stored::delete_keeper(cx.view.widen(Widened::assertion()), &namespace, &input.config)?;
    Ok(Nothing)
}

pub(super) async fn list_keys(_sys: &Sys, mut cx: Cx<'_>, input: PageOf) -> Result<Keys, Fault> {
    let (namespace, of) = (cx.mount.namespace.clone(), Of::Keeper(stored::checked_name(&input.config)?));
    let txn = cx.view.widen(Widened::assertion());
    Ok(Keys(stored::key_names(txn, &namespace, of, input.after.as_deref(), input.limit.0)?))
}

fn key(cx: &mut Cx<'_>, config: &str, name: &str) -> Result<Key, Fault> {
    let (namespace, of) = (cx.mount.namespace.clone(), Of::Keeper(stored::checked_name(config)?));
    stored::key(cx.view.widen(Widened::assertion()), &namespace, of, name)?.ok_or_else(|| no_key(name))
}

/// A key that nobody wrote down yet.
fn fresh(uuid: String) -> Key {
    Key { kind: String::new(), options: Map::new(), grants: Vec::new(), any_mount: false, usages: Vec::new(), uuid }
}

pub(super) async fn read_key(_sys: &Sys, mut cx: Cx<'_>, input: ByKey) -> Result<Data<Map>, Fault> {
    let of = config(&mut cx, &input.config)?;
    let facts = keeper(cx.keepers.custody(Widened::assertion()).keepers(), &of.kind)?;
    let there = key(&mut cx, &input.config, &input.key)?;
    Ok(Data(shown(&there.options, &[facts.of_key], Secrets::Redacted)))
}

pub(super) async fn write_key(_sys: &Sys, mut cx: Cx<'_>, input: WriteKey) -> Result<Nothing, Fault> {
    let namespace = cx.mount.namespace.clone();
    let of = Of::Keeper(stored::checked_name(&input.config)?);
    let there = stored::key(cx.view.widen(Widened::assertion()), &namespace, of, &input.key)?;
    // Who was granted it keeps that.
    let there = there.unwrap_or_else(|| fresh(random_uuid(cx.entropy)));
    let options = merged(Map::new(), input.sent);
    keep_key(cx, (&input.config, &input.key), Key { options, ..there }, input.verify).await
}

pub(super) async fn patch_key(_sys: &Sys, mut cx: Cx<'_>, input: WriteKey) -> Result<Nothing, Fault> {
    let mut there = key(&mut cx, &input.config, &input.key)?;
    there.options = merged(there.options, input.sent);
    keep_key(cx, (&input.config, &input.key), there, input.verify).await
}

async fn keep_key(mut cx: Cx<'_>, at: (&str, &str), mut kept: Key, verify: bool) -> Result<Nothing, Fault> {
    let (name, key_name) = at;
    let of = config(&mut cx, name).map_err(|_| Fault::invalid(format!("config {name:?} does not exist")))?;
    let custody = cx.keepers.custody(Widened::assertion());
    check(&kept.options, &[keeper(custody.keepers(), &of.kind)?.of_key], &of.kind)?;
    kept.usages = Usage::ALL.to_vec();
    if verify {
        let key = custody.key(&stored::place(Some(&of), &kept)).map_err(fault)?;
        key.look().await.map_err(fault)?;
    }
    let namespace = cx.mount.namespace.clone();
    stored::write_key(cx.view.widen(Widened::assertion()), &namespace, Of::Keeper(name), key_name, &kept)?;
    Ok(Nothing)
}

pub(super) async fn delete_key(_sys: &Sys, mut cx: Cx<'_>, input: ByKey) -> Result<Nothing, Fault> {
    let (namespace, of) = (cx.mount.namespace.clone(), Of::Keeper(stored::checked_name(&input.config)?));
    stored::delete_key(cx.view.widen(Widened::assertion()), &namespace, of, &input.key)?;
    Ok(Nothing)
}

pub(super) async fn list_grants(_sys: &Sys, mut cx: Cx<'_>, input: ByKey) -> Result<Keys, Fault> {
    Ok(Keys(key(&mut cx, &input.config, &input.key)?.grants))
}

pub(super) async fn grant(_sys: &Sys, cx: Cx<'_>, input: ByGrant) -> Result<Nothing, Fault> {
    change_grants(cx, input, |grants, path| {
        if let Err(at) = grants.binary_search(&path) {
            grants.insert(at, path);
        }
    })
}

pub(super) async fn revoke(_sys: &Sys, cx: Cx<'_>, input: ByGrant) -> Result<Nothing, Fault> {
    change_grants(cx, input, |grants, path| grants.retain(|grant| *grant != path))
}

fn change_grants(
    mut cx: Cx<'_>,
    input: ByGrant,
    change: impl FnOnce(&mut Vec<String>, String),
) -> Result<Nothing, Fault> {
    let mut there = key(&mut cx, &input.config, &input.key)?;
    // Paths of mounts end in a slash.
    change(&mut there.grants, format!("{}/", input.mount.trim_end_matches('/')));
    let namespace = cx.mount.namespace.clone();
    stored::write_key(cx.view.widen(Widened::assertion()), &namespace, Of::Keeper(&input.config), &input.key, &there)?;
    Ok(Nothing)
}
