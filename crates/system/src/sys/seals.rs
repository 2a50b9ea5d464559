//! `sys/namespaces/NAME/seal`, `unseal`, `seal-status` and `delete-sealed`: seals that namespaces have of their own.
//!
//! They are asked of the namespace above, since one that is sealed answers nothing. Deliberately absent: what is sealed and how
//! (`tresor_core::namespaces::realms`), and seals that open by themselves.

use tresor_core::namespaces::erasure::Erasing;
use tresor_core::namespaces::realms::RealmStanding;
use tresor_crypto::shamir::Threshold;
use tresor_engine::{Cx, Data, Nothing, Warned, Widened};
use tresor_env::Entropy;
use tresor_model::Fault;
use tresor_pgp::Recipient;
use tresor_secret::{SecretString, UnsealShare};
use tresor_wire::input::Input;
use tresor_wire::output::Output;

use super::Sys;
use super::namespaces::{ByName, Deletion, name};
use super::rekey::{self, spelled};
use crate::always::parse_share;

/// A share, and of which namespace.
#[derive(Input)]
pub(super) struct Enter {
    /// Its name.
    #[input(path)]
    path: String,
    /// The share, in hexadecimal or base64.
    key: Option<SecretString>,
    /// Forget the shares entered so far.
    #[input(default = "false")]
    reset: bool,
}

/// Which sealed namespace is deleted, and whether those below it are.
#[derive(Input)]
pub(super) struct Erase {
    /// Its name.
    #[input(path)]
    path: String,
    /// Delete the namespaces below it, too.
    #[input(query, default = "false")]
    force: bool,
}

/// How the seal of a namespace stands.
#[derive(Output)]
pub(super) struct Standing {
    /// Whether it has keys.
    initialized: bool,
    /// How many shares there are.
    #[output(name = "n")]
    shares: u64,
    /// Names the attempt while some are entered.
    nonce: String,
    /// How many were entered.
    progress: u64,
    /// Whether it is sealed.
    sealed: bool,
    /// How many shares open it.
    #[output(name = "t")]
    threshold: u64,
    /// What kind of seal it is.
    #[output(name = "type")]
    kind: &'static str,
}

/// How the key of a seal is split, as its configuration says.
pub(super) fn split(seal: &str) -> Result<Threshold, Fault> {
    let wrong = |error: &dyn std::fmt::Display| Fault::invalid(format!("invalid seal configuration: {error}"));
    let document = tresor_hcl::parse(seal).map_err(|error| wrong(&error))?;
    if let Some(key) = document.items.iter().filter_map(|item| item.keys.first()).find(|key| key.name != "seal") {
        return Err(wrong(&format!("{}: unknown key `{}`", key.position, key.name)));
    }
    let blocks = document.labelled_blocks("seal").map_err(|error| wrong(&error))?;
    let [block] = blocks.as_slice() else { return Err(wrong(&"there must be one `seal` block")) };
    if block.labels != ["shamir"] {
        return Err(wrong(&"a namespace's seal is of the type `shamir`"));
    }
    let known = ["shares", "threshold"];
    let keys = block.object.items.iter().filter_map(|item| item.keys.first());
    if let Some(key) = keys.into_iter().find(|key| !known.contains(&key.name.as_str())) {
        return Err(wrong(&format!("{}: unknown key `{}`", key.position, key.name)));
    }
    let count = |key: &str| match block.object.value(key) {
        None => Err(wrong(&format!("`{key}` is missing"))),
        Some(value) => value.as_integer(key).map_err(|error| wrong(&error)),
    };
    let (shares, threshold) = (count("shares")?, count("threshold")?);
    Threshold::of(shares, threshold).map_err(|error| wrong(&error))
}

/// Shares as whoever made them is told them: in hexadecimal, or encrypted to their owners.
pub(super) fn handed_out(
    shares: &[UnsealShare],
    owners: &[Recipient],
    entropy: &dyn Entropy,
) -> Result<Option<Vec<String>>, Fault> {
    let encrypt = |owner: &Recipient, plain: &[u8]| owner.encrypt(plain, entropy).map_err(Fault::internal);
    let (hex, _) = spelled(&rekey::given_out(shares, owners, encrypt)?);
    Ok((!hex.is_empty()).then_some(hex))
}

fn standing(sys: &Sys, cx: &mut Cx<'_>, path: &str) -> Result<Data<Standing>, Fault> {
    let (space, name) = (sys.space(cx)?, name(path)?);
    let RealmStanding { facts, is_sealed, progress, nonce } =
        sys.handles.spaces.standing(cx.view.widen(Widened::assertion()), &space, &name)?;
    let (shares, threshold) = (u64::from(facts.shares), u64::from(facts.threshold));
    let (initialized, progress) = (facts.initialized, u64::from(progress));
    Ok(Data(Standing { initialized, shares, nonce, progress, sealed: is_sealed, threshold, kind: "shamir" }))
}

pub(super) async fn read(sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Data<Standing>, Fault> {
    standing(sys, &mut cx, &input.path)
}

pub(super) async fn seal(sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    let (space, name) = (sys.space(&cx)?, name(&input.path)?);
    sys.handles.spaces.seal(cx.view.widen(Widened::assertion()), &space, &name)?;
    Ok(Nothing)
}

pub(super) async fn erase(sys: &Sys, mut cx: Cx<'_>, input: Erase) -> Result<Warned<Data<Deletion>>, Fault> {
    let (space, name, now) = (sys.space(&cx)?, name(&input.path)?, cx.now);
    let txn = cx.view.widen(Widened::assertion());
    let Some(Erasing { forgotten, below }) = sys.handles.spaces.erase(txn, &space, &name, input.force, now)? else {
        return Ok(Warned(Data(Deletion { status: None }), vec!["requested namespace does not exist".to_owned()]));
    };
    let mut warnings = Vec::new();
    if below > 0 {
        warnings.push(format!("{below} namespaces below it are deleted with it"));
    }
    if forgotten > 0 {
        warnings.push(format!(
            "{forgotten} tokens and leases are forgotten: what engines handed out from there is not taken back"
        ));
    }
    Ok(Warned(Data(Deletion { status: Some("in-progress") }), warnings))
}

pub(super) async fn unseal(sys: &Sys, mut cx: Cx<'_>, input: Enter) -> Result<Data<Standing>, Fault> {
    let (space, name) = (sys.space(&cx)?, name(&input.path)?);
    let (now, entropy) = (cx.now, cx.entropy);
    let txn = cx.view.widen(Widened::assertion());
    if input.reset {
        sys.handles.spaces.reset_shares(txn, &space, &name)?;
    } else {
        let key = input.key.filter(|key| !key.is_empty());
        let key = key
            .ok_or_else(|| Fault::invalid("'key' must be specified in request body as JSON, or 'reset' set to true"))?;
        sys.handles.spaces.enter_share(txn, &space, &name, parse_share(&key)?, now, entropy).await?;
    }
    standing(sys, &mut cx, &input.path)
}
