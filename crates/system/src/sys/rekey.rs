//! `sys/rotate/root` and `recovery` with `init`, `update`, `verify` and `backup`, and their older spellings `sys/rekey` and
//! `sys/rekey-recovery-key`: other shares, by those who hold enough of the ones that open now.
//!
//! The older spellings ask for `sudo`, unless the operator opened them to whoever holds shares; then whoever has no token
//! names the attempt to cancel it. Deliberately absent: the terms of the key ring ([`rotate`](super::rotate)).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_core::shareholders::{Entered, NewKeys, RekeyWish, Shareholders, Target};
use tresor_crypto::shamir::Threshold;
use tresor_engine::{Cx, Data, Mirrored, Nothing, Widened};
use tresor_model::{Body, Fault, Map, Refusal, Timestamp};
use tresor_pgp::Recipient;
use tresor_secret::{SecretBytes, SecretString, UnsealShare};
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::output::Output;

use super::Sys;
use crate::always::parse_share;

/// What is to be, and of which of the two.
#[derive(Input)]
pub(super) struct Begin {
    /// What is changed: `root` or `recovery`.
    #[input(path)]
    target: String,
    /// What is to be.
    #[input(flatten)]
    wish: Wish,
}

/// What is to be.
#[derive(Input)]
pub(super) struct Wish {
    /// How many shares there are to be.
    secret_shares: Option<i64>,
    /// How many of them are to open.
    secret_threshold: Option<i64>,
    /// Keys to encrypt the new shares to, one each.
    pgp_keys: Option<Vec<String>>,
    /// Whether the encrypted shares are kept in the store as well.
    #[input(default = "false")]
    backup: bool,
    /// Whether the new shares must be entered once before they open.
    #[input(default = "false")]
    require_verification: bool,
}

/// Which of the two is meant.
#[derive(Input)]
pub(super) struct Of {
    /// What is changed: `root` or `recovery`.
    #[input(path)]
    target: String,
}

/// A share, and for which of the two.
#[derive(Input)]
pub(super) struct Enter {
    /// What is changed: `root` or `recovery`.
    #[input(path)]
    target: String,
    /// The share.
    #[input(flatten)]
    share: Share,
}

/// A share.
#[derive(Input)]
pub(super) struct Share {
    /// The share, in hexadecimal or base64.
    key: Option<SecretString>,
    /// The name of the attempt.
    #[input(default = "")]
    nonce: String,
}

/// Which attempt ends.
#[derive(Input)]
pub(super) struct Cancel {
    /// The name of the attempt; whoever has no token must give it.
    #[input(query, default = "")]
    nonce: String,
}

/// How far the attempt is, or what it led to.
#[derive(Output)]
pub(super) struct Progressed {
    /// The name of the attempt.
    nonce: String,
    /// Whether there is one.
    started: bool,
    /// Whether enough shares were entered.
    complete: bool,
    /// How many new shares are to open.
    t: u64,
    /// How many new shares there are to be.
    n: u64,
    /// How many shares were entered.
    progress: u64,
    /// How many are needed.
    required: u64,
    /// To whom the new shares are encrypted.
    pgp_fingerprints: Option<Vec<String>>,
    /// Whether they are kept.
    backup: bool,
    /// Whether they must be entered once before they open.
    verification_required: bool,
    /// The name of that verification.
    #[output(optional)]
    verification_nonce: Option<String>,
    /// The new shares, in hexadecimal.
    #[output(secret, optional)]
    keys: Option<Vec<String>>,
    /// The same in base64.
    #[output(secret, optional)]
    keys_base64: Option<Vec<String>>,
}

/// How far the verification is.
#[derive(Output)]
pub(super) struct Verified {
    /// Its name.
    nonce: String,
    /// Whether there is one.
    started: bool,
    /// Whether it is done: the new shares open.
    complete: bool,
    /// How many new shares open.
    t: u64,
    /// How many there are.
    n: u64,
    /// How many were entered.
    progress: u64,
}

/// Encrypted shares that are kept.
#[derive(Output)]
pub(super) struct Kept {
    /// The attempt that made them.
    nonce: String,
    /// By fingerprint, in hexadecimal.
    keys: Map,
    /// By fingerprint, in base64.
    keys_base64: Map,
}

fn target(text: &str) -> Result<Target, Fault> {
    match text {
        "root" => Ok(Target::Root),
        "recovery" => Ok(Target::Recovery),
        _ => Err(Refusal::Absent("unsupported path".into()).into()),
    }
}

/// Keys that may be encrypted to now.
pub(crate) fn recipients(keys: &[String], now: Timestamp) -> Result<Vec<Recipient>, Fault> {
    let parse = |key: &String| Recipient::parse(key, now);
    let parsed: Result<Vec<_>, _> = keys.iter().filter(|key| !key.is_empty()).map(parse).collect();
    parsed.map_err(|error| Fault::invalid(format!("error parsing PGP key: {error}")))
}

/// Shares as they are given to their owners: as they are, or each encrypted to one.
pub(crate) fn given_out(
    shares: &[UnsealShare],
    owners: &[Recipient],
    encrypt: impl Fn(&Recipient, &[u8]) -> Result<Vec<u8>, Fault>,
) -> Result<Vec<SecretBytes>, Fault> {
    if owners.is_empty() {
        return Ok(shares.iter().map(|share| SecretBytes::new(share.expose().to_vec())).collect());
    }
    let sealed = shares.iter().zip(owners).map(|(share, owner)| {
        let text = SecretString::new(hex::encode(share.expose()));
        encrypt(owner, text.expose().as_bytes()).map(SecretBytes::new)
    });
    sealed.collect()
}

/// Bytes in hexadecimal and in base64.
pub(crate) fn spelled(shares: &[SecretBytes]) -> (Vec<String>, Vec<String>) {
    let spelled = shares.iter().map(|share| (hex::encode(share.expose()), STANDARD.encode(share.expose())));
    spelled.unzip()
}

fn wish(of: &Shareholders, now: Timestamp, target: Target, input: Wish) -> Result<RekeyWish, Fault> {
    let changes_shares = of.changes_shares(target)?;
    let recipients = recipients(&input.pgp_keys.unwrap_or_default(), now)?;
    let threshold = if changes_shares {
        let threshold = Threshold::of(input.secret_shares.unwrap_or(0), input.secret_threshold.unwrap_or(0));
        Some(threshold.map_err(|error| Fault::invalid(format!("invalid rotate seal configuration: {error}")))?)
    } else if !recipients.is_empty() || input.backup || input.require_verification {
        let text =
            "the root key of a seal that opens by itself has no shares: nothing can be encrypted, kept or verified";
        return Err(Fault::invalid(text));
    } else {
        None
    };
    let (backup, require_verification) = (input.backup, input.require_verification);
    Ok(RekeyWish { threshold, recipients, backup, require_verification })
}

fn begin(of: &Shareholders, now: Timestamp, target: Target, input: Wish) -> Result<Progressed, Fault> {
    of.begin_rekey(target, wish(of, now, target, input)?)?;
    standing(of, target)
}

fn standing(of: &Shareholders, target: Target) -> Result<Progressed, Fault> {
    let standing = of.rekey_standing(target)?;
    Ok(Progressed {
        nonce: standing.nonce,
        started: standing.is_started,
        complete: false,
        t: standing.threshold.into(),
        n: standing.shares.into(),
        progress: standing.progress.into(),
        required: standing.required.into(),
        pgp_fingerprints: standing.fingerprints,
        backup: standing.backup,
        verification_required: standing.verification_required,
        verification_nonce: standing.verification_nonce,
        keys: None,
        keys_base64: None,
    })
}

fn share(key: Option<SecretString>) -> Result<UnsealShare, Fault> {
    let key = key.filter(|key| !key.is_empty());
    parse_share(&key.ok_or_else(|| Fault::invalid("'key' must be specified in request body as JSON"))?)
}

async fn enter(of: &Shareholders, target: Target, input: Share) -> Result<Progressed, Fault> {
    let entered = of.enter_rekey(target, &input.nonce, share(input.key)?).await?;
    match entered {
        Entered::NotEnough => standing(of, target),
        Entered::Enough(made) => handed_out(of, made),
    }
}

/// What an attempt led to.
fn handed_out(of: &Shareholders, made: NewKeys) -> Result<Progressed, Fault> {
    let NewKeys { nonce, shares, fingerprints, backup, verification_nonce } = made;
    let required = of.required()?;
    let (keys, keys_base64) = spelled(&shares);
    Ok(Progressed {
        nonce,
        started: verification_nonce.is_some(),
        complete: true,
        t: 0,
        n: keys.len() as u64,
        progress: required.into(),
        required: required.into(),
        pgp_fingerprints: fingerprints,
        backup,
        verification_required: verification_nonce.is_some(),
        verification_nonce,
        keys: Some(keys),
        keys_base64: Some(keys_base64),
    })
}

fn verification(of: &Shareholders, target: Target) -> Result<Verified, Fault> {
    let standing = of.verification_standing(target)?;
    Ok(Verified {
        nonce: standing.nonce,
        started: standing.is_started,
        complete: false,
        t: standing.threshold.into(),
        n: standing.shares.into(),
        progress: standing.progress.into(),
    })
}

async fn verify(of: &Shareholders, target: Target, input: Share) -> Result<Verified, Fault> {
    match of.enter_verification(target, &input.nonce, share(input.key)?).await? {
        Entered::NotEnough => verification(of, target),
        Entered::Enough(nonce) => {
            let required = u64::from(of.required()?);
            Ok(Verified { nonce, started: false, complete: true, t: required, n: 0, progress: required })
        }
    }
}

fn restart(of: &Shareholders, target: Target) -> Result<Verified, Fault> {
    of.restart_verification(target)?;
    verification(of, target)
}

fn kept(of: &Shareholders, target: Target) -> Result<Kept, Fault> {
    let backup = of.backup(target)?;
    let backup = backup.ok_or_else(|| Fault::invalid("no backed-up keys found"))?;
    let list = |spelled: &dyn Fn(&String) -> String| -> Map {
        let of = |keys: &Vec<String>| Body::from(keys.iter().map(|key| Body::from(spelled(key))).collect::<Vec<_>>());
        backup.keys.iter().map(|(fingerprint, keys)| (fingerprint.clone(), of(keys))).collect()
    };
    let base64 = |key: &String| STANDARD.encode(hex::decode(key).unwrap_or_default());
    Ok(Kept { keys: list(&Clone::clone), keys_base64: list(&base64), nonce: backup.nonce })
}

fn forget_kept(of: &Shareholders, cx: &mut Cx<'_>, target: Target) -> Result<Nothing, Fault> {
    of.forget_backup(cx.view.widen(Widened::assertion()), target)?;
    Ok(Nothing)
}

/// `sys/rotate/root`: the root key alone, by whoever may.
pub(super) async fn rotate_root(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Nothing, Fault> {
    sys.shareholders(&cx)?.rotate_root().await.map(|()| Nothing)
}

pub(super) async fn read(sys: &Sys, cx: Cx<'_>, input: Of) -> Result<Data<Progressed>, Fault> {
    standing(&*sys.shareholders(&cx)?, target(&input.target)?).map(Data)
}

pub(super) async fn init(sys: &Sys, cx: Cx<'_>, input: Begin) -> Result<Data<Progressed>, Fault> {
    let target = target(&input.target)?;
    let of = sys.shareholders(&cx)?;
    if target == Target::Recovery && of.required()? == 0 {
        let wish = wish(&of, cx.now, target, input.wish)?;
        return handed_out(&of, of.first_shares(wish).await?).map(Data);
    }
    begin(&of, cx.now, target, input.wish).map(Data)
}

pub(super) async fn cancel(sys: &Sys, cx: Cx<'_>, input: Of) -> Result<Nothing, Fault> {
    sys.shareholders(&cx)?.cancel_rekey(target(&input.target)?, None).map(|()| Nothing)
}

pub(super) async fn update(sys: &Sys, cx: Cx<'_>, input: Enter) -> Result<Data<Progressed>, Fault> {
    enter(&*sys.shareholders(&cx)?, target(&input.target)?, input.share).await.map(Data)
}

pub(super) async fn read_verification(sys: &Sys, cx: Cx<'_>, input: Of) -> Result<Data<Verified>, Fault> {
    verification(&*sys.shareholders(&cx)?, target(&input.target)?).map(Data)
}

pub(super) async fn enter_verification(sys: &Sys, cx: Cx<'_>, input: Enter) -> Result<Data<Verified>, Fault> {
    verify(&*sys.shareholders(&cx)?, target(&input.target)?, input.share).await.map(Data)
}

pub(super) async fn restart_verification(sys: &Sys, cx: Cx<'_>, input: Of) -> Result<Data<Verified>, Fault> {
    restart(&*sys.shareholders(&cx)?, target(&input.target)?).map(Data)
}

pub(super) async fn read_backup(sys: &Sys, cx: Cx<'_>, input: Of) -> Result<Mirrored<Kept>, Fault> {
    kept(&*sys.shareholders(&cx)?, target(&input.target)?).map(Mirrored)
}

pub(super) async fn delete_backup(sys: &Sys, mut cx: Cx<'_>, input: Of) -> Result<Nothing, Fault> {
    forget_kept(&*sys.shareholders(&cx)?, &mut cx, target(&input.target)?)
}

/// The older spellings, for one of the two.
macro_rules! legacy {
    ($name:ident, $target:ident) => {
        pub(super) mod $name {
            use super::*;

            pub(in super::super) async fn read(
                sys: &Sys,
                _cx: Cx<'_>,
                _input: EmptyInput,
            ) -> Result<Mirrored<Progressed>, Fault> {
                standing(&sys.handles.shareholders, Target::$target).map(Mirrored)
            }

            pub(in super::super) async fn init(
                sys: &Sys,
                cx: Cx<'_>,
                input: Wish,
            ) -> Result<Mirrored<Progressed>, Fault> {
                begin(&sys.handles.shareholders, cx.now, Target::$target, input).map(Mirrored)
            }

            pub(in super::super) async fn cancel(sys: &Sys, cx: Cx<'_>, input: Cancel) -> Result<Nothing, Fault> {
                let is_known = cx.caller.accessor.is_some();
                let nonce = (!is_known || !input.nonce.is_empty()).then_some(input.nonce.as_str());
                sys.handles.shareholders.cancel_rekey(Target::$target, nonce).map(|()| Nothing)
            }

            pub(in super::super) async fn update(
                sys: &Sys,
                _cx: Cx<'_>,
                input: Share,
            ) -> Result<Mirrored<Progressed>, Fault> {
                enter(&sys.handles.shareholders, Target::$target, input).await.map(Mirrored)
            }

            pub(in super::super) async fn read_verification(
                sys: &Sys,
                _cx: Cx<'_>,
                _input: EmptyInput,
            ) -> Result<Mirrored<Verified>, Fault> {
                verification(&sys.handles.shareholders, Target::$target).map(Mirrored)
            }

            pub(in super::super) async fn verify(
                sys: &Sys,
                _cx: Cx<'_>,
                input: Share,
            ) -> Result<Mirrored<Verified>, Fault> {
                super::verify(&sys.handles.shareholders, Target::$target, input).await.map(Mirrored)
            }

            pub(in super::super) async fn restart(
                sys: &Sys,
                _cx: Cx<'_>,
                _input: EmptyInput,
            ) -> Result<Mirrored<Verified>, Fault> {
                super::restart(&sys.handles.shareholders, Target::$target).map(Mirrored)
            }

            pub(in super::super) async fn read_backup(
                sys: &Sys,
                _cx: Cx<'_>,
                _input: EmptyInput,
            ) -> Result<Mirrored<Kept>, Fault> {
                kept(&sys.handles.shareholders, Target::$target).map(Mirrored)
            }

            pub(in super::super) async fn delete_backup(
                sys: &Sys,
                mut cx: Cx<'_>,
                _input: EmptyInput,
            ) -> Result<Nothing, Fault> {
                forget_kept(&sys.handles.shareholders, &mut cx, Target::$target)
            }
        }
    };
}

legacy!(root, Root);
legacy!(recovery, Recovery);
