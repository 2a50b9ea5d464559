//! `sys/managed-keys`: keys that modules and clouds keep, each with all that leads to it, for mounts that are tuned to use them (SEAL-32).
//!
//! What is written is merged into what is there, since nobody is shown the secrets again. Deliberately absent: what uses them, and keys of
//! keepers that are written down by themselves ([`external_keys`](super::external_keys)).

use tresor_core::kept_keys::{self as stored, Key, Of};
use tresor_crypto::token_text::random_uuid;
use tresor_engine::kept::{Usage, fault};
use tresor_engine::{Cx, Data, Keys, Nothing, Routes, Widened};
use tresor_env::custody::{SignedHash, Signing};
use tresor_model::{Fault, Map, Refusal};
use tresor_wire::input::{CommaList, Input};
use tresor_wire::output::Output;

use super::Sys;
use super::kept_options::{Secrets, check, keeper, merged, shown};

/// What a test signs.
const TESTED_BYTES: usize = 64;
/// What says by itself whether keys are made, and goes to the keeper with the rest.
const MAKES: &str = "allow_generate_key";

/// The routes.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes
        .at("managed-keys/{type}", "Lists the managed keys of a type.")
        .in_administration()
        .list(list)
        .at("managed-keys/{type}/{name}", "Shows, writes or forgets a managed key; the key itself stays where it is.")
        .in_administration()
        .read(read)
        .write(write)
        .delete(delete)
        .at("managed-keys/{type}/{name}/test/sign", "Has a managed key sign something, and verifies that.")
        .in_administration()
        .ask(test_sign)
        .done()
}

/// A type of keeper.
#[derive(Input)]
pub(super) struct ByType {
    /// `pkcs11`, `awskms`, `azurekeyvault` or `gcpckms`.
    #[input(path, name = "type")]
    kind: String,
}

/// A key by its name.
#[derive(Input)]
pub(super) struct ByName {
    /// `pkcs11`, `awskms`, `azurekeyvault` or `gcpckms`.
    #[input(path, name = "type")]
    kind: String,
    /// Its name.
    #[input(path)]
    name: String,
}

/// A key to write.
#[derive(Input)]
pub(super) struct Write {
    /// `pkcs11`, `awskms`, `azurekeyvault` or `gcpckms`.
    #[input(path, name = "type")]
    kind: String,
    /// Its name, which is one among those of all types.
    #[input(path)]
    name: String,
    /// Make the key where there is none, when it is first used.
    allow_generate_key: Option<bool>,
    /// Kept and shown: nothing here replaces a key that is there.
    allow_replace_key: Option<bool>,
    /// Kept and shown: nothing here brings a key to its keeper.
    allow_store_key: Option<bool>,
    /// Let every mount of the namespace use it.
    any_mount: Option<bool>,
    /// What it may be used for: `encrypt`, `decrypt`, `sign`, `verify`. All of them, without.
    usages: Option<CommaList>,
    /// What leads to it.
    #[input(rest)]
    sent: Map,
}

/// What to sign, and how.
#[derive(Input)]
pub(super) struct TestSign {
    /// `pkcs11`, `awskms`, `azurekeyvault` or `gcpckms`.
    #[input(path, name = "type")]
    kind: String,
    /// Its name.
    #[input(path)]
    name: String,
    /// `sha2-256`, `sha2-384` or `sha2-512`.
    #[input(default = "sha2-256")]
    hash_algorithm: String,
    /// Use the padding PSS, where the key is one of RSA.
    #[input(default = "false")]
    use_pss: bool,
}

/// A managed key, without its secrets.
#[derive(Output)]
pub(super) struct Shown {
    /// Its name.
    name: String,
    /// The type of its keeper.
    #[output(name = "type")]
    kind: String,
    /// What never names another one.
    #[output(name = "UUID")]
    uuid: String,
    /// Every mount of the namespace may use it.
    any_mount: bool,
    /// What it may be used for.
    usages: Vec<String>,
    /// What leads to it.
    #[output(rest)]
    options: Map,
}

fn absent() -> Fault {
    Refusal::Absent("there is no such managed key".into()).into()
}

/// A key of this type.
fn found(cx: &mut Cx<'_>, kind: &str, name: &str) -> Result<Option<Key>, Fault> {
    let namespace = cx.mount.namespace.clone();
    let found = stored::key(cx.view.widen(Widened::assertion()), &namespace, Of::Managed, name)?;
    Ok(found.filter(|key| key.kind == kind))
}

pub(super) async fn list(_sys: &Sys, mut cx: Cx<'_>, input: ByType) -> Result<Keys, Fault> {
    keeper(cx.keepers.custody(Widened::assertion()).keepers(), &input.kind)?;
    let namespace = cx.mount.namespace.clone();
    let names = stored::key_names(cx.view.widen(Widened::assertion()), &namespace, Of::Managed, None, None)?;
    let mut of_type = Vec::new();
    for name in names {
        if found(&mut cx, &input.kind, &name)?.is_some() {
            of_type.push(name);
        }
    }
    Ok(Keys(of_type))
}

pub(super) async fn read(_sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Data<Shown>, Fault> {
    let facts = keeper(cx.keepers.custody(Widened::assertion()).keepers(), &input.kind)?;
    let key = found(&mut cx, &input.kind, &input.name)?.ok_or_else(absent)?;
    let mut options = shown(&key.options, &[facts.of_keeper, facts.of_key], Secrets::LeftOut);
    for name in GENERIC {
        if let Some(value) = key.options.get(name) {
            options.insert(name, value.duplicate());
        }
    }
    let usages = key.usages.iter().map(|usage| usage.name().to_owned()).collect();
    Ok(Data(Shown { name: input.name, kind: key.kind, uuid: key.uuid, any_mount: key.any_mount, usages, options }))
}

/// What is kept among what leads to a key, of whatever type it is.
const GENERIC: [&str; 3] = [MAKES, "allow_replace_key", "allow_store_key"];

pub(super) async fn write(_sys: &Sys, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    let custody = cx.keepers.custody(Widened::assertion());
    let facts = keeper(custody.keepers(), &input.kind)?;
    if stored::checked_name(&input.name)?.chars().any(|letter| letter.is_ascii_uppercase()) {
        return Err(Fault::invalid("the name of a managed key is in lower case"));
    }
    check(&input.sent, &[facts.of_keeper, facts.of_key], &input.kind)?;
    let namespace = cx.mount.namespace.clone();
    let fresh = random_uuid(cx.entropy);
    let txn = cx.view.widen(Widened::assertion());
    let there = stored::key(txn, &namespace, Of::Managed, &input.name)?;
    if there.as_ref().is_some_and(|there| there.kind != input.kind) {
        return Err(Fault::invalid("a managed key of another type has this name"));
    }
    let mut key = there.unwrap_or_else(|| Key {
        kind: input.kind.clone(),
        options: Map::new(),
        grants: Vec::new(),
        any_mount: false,
        usages: Usage::ALL.to_vec(),
        uuid: fresh,
    });
    key.options = merged(key.options, input.sent);
    for (name, value) in
        GENERIC.into_iter().zip([input.allow_generate_key, input.allow_replace_key, input.allow_store_key])
    {
        if let Some(value) = value {
            key.options.insert(name, value);
        }
    }
    key.any_mount = input.any_mount.unwrap_or(key.any_mount);
    if let Some(usages) = input.usages {
        key.usages = usages_of(&usages)?;
    }
    // Whoever wrote it hears of what is missing now, not whoever uses it.
    custody.key(&stored::place(None, &key)).map_err(fault)?;
    stored::write_key(txn, &namespace, Of::Managed, &input.name, &key)?;
    Ok(Nothing)
}

fn usages_of(names: &CommaList) -> Result<Vec<Usage>, Fault> {
    let mut usages = Vec::new();
    for name in &names.0 {
        let usage = Usage::parse(name.trim());
        usages.push(usage.ok_or_else(|| Fault::invalid("`usages` lists `encrypt`, `decrypt`, `sign` and `verify`"))?);
    }
    usages.sort_unstable();
    usages.dedup();
    Ok(usages)
}

pub(super) async fn delete(_sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    keeper(cx.keepers.custody(Widened::assertion()).keepers(), &input.kind)?;
    if found(&mut cx, &input.kind, &input.name)?.is_some() {
        let namespace = cx.mount.namespace.clone();
        stored::delete_key(cx.view.widen(Widened::assertion()), &namespace, Of::Managed, &input.name)?;
    }
    Ok(Nothing)
}

pub(super) async fn test_sign(_sys: &Sys, mut cx: Cx<'_>, input: TestSign) -> Result<Nothing, Fault> {
    let hash = match input.hash_algorithm.as_str() {
        "sha2-256" => SignedHash::Sha256,
        "sha2-384" => SignedHash::Sha384,
        "sha2-512" => SignedHash::Sha512,
        _ => return Err(Fault::invalid("`hash_algorithm` is `sha2-256`, `sha2-384` or `sha2-512`")),
    };
    let how = Signing { hash, pss: input.use_pss };
    let found = found(&mut cx, &input.kind, &input.name)?.ok_or_else(absent)?;
    let key = cx.keepers.custody(Widened::assertion()).key(&stored::place(None, &found)).map_err(fault)?;
    let mut message = [0; TESTED_BYTES];
    cx.entropy.fill(&mut message);
    let signature = key.sign(how, &message).await.map_err(fault)?;
    if key.verify(how, &message, &signature).await.map_err(fault)? {
        return Ok(Nothing);
    }
    Err(Fault::upstream("the key's keeper: what it signed does not verify by its public key"))
}
