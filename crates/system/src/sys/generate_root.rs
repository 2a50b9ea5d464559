//! `sys/generate-root-token` and its older spelling `sys/generate-root`, and `sys/decode-token`: a root token by those who hold
//! enough shares.
//!
//! The older spelling asks for `sudo`, unless the operator opened it to whoever holds shares; then whoever has no token names
//! the attempt to cancel it. Deliberately absent: the tokens of recovery mode.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use tresor_core::shareholders::{Concealment, Entered, OTP_CHARACTERS};
use tresor_engine::{Cx, Data, Mirrored, Nothing};
use tresor_model::Fault;
use tresor_pgp::Recipient;
use tresor_secret::SecretString;
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::output::Output;

use super::Sys;
use crate::always::parse_share;

/// How the token is kept from everybody else; a password is made up when neither is given.
#[derive(Input)]
pub(super) struct Begin {
    /// A one-time password that the token is combined with.
    otp: Option<SecretString>,
    /// A key that it is encrypted to.
    #[input(default = "")]
    pgp_key: String,
}

/// A share.
#[derive(Input)]
pub(super) struct Enter {
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

/// What is to be decoded.
#[derive(Input)]
pub(super) struct Decode {
    /// The token, combined with the password.
    encoded_token: Option<SecretString>,
    /// The password.
    otp: Option<SecretString>,
}

/// How far the attempt is, or what it led to.
#[derive(Output)]
pub(super) struct Progressed {
    /// The name of the attempt.
    nonce: String,
    /// Whether there is one.
    started: bool,
    /// How many shares were entered.
    progress: u64,
    /// How many are needed.
    required: u64,
    /// Whether there were enough.
    complete: bool,
    /// The token, as it is kept from everybody else.
    #[output(secret)]
    encoded_token: String,
    /// The same.
    #[output(secret)]
    encoded_root_token: String,
    /// To whom it is encrypted.
    pgp_fingerprint: String,
    /// The password that was made up, in the answer to whoever began.
    #[output(secret)]
    otp: String,
    /// How long a password is.
    otp_length: u64,
}

/// A token.
#[derive(Output)]
pub(super) struct Decoded {
    /// The token.
    #[output(secret)]
    token: String,
}

fn standing(sys: &Sys, otp: &SecretString) -> Result<Progressed, Fault> {
    let standing = sys.handles.shareholders.generation_standing()?;
    Ok(Progressed {
        nonce: standing.nonce,
        started: standing.is_started,
        progress: standing.progress.into(),
        required: standing.required.into(),
        complete: false,
        encoded_token: String::new(),
        encoded_root_token: String::new(),
        pgp_fingerprint: standing.fingerprint,
        otp: otp.expose().clone(),
        otp_length: OTP_CHARACTERS as u64,
    })
}

fn begin(sys: &Sys, cx: &Cx<'_>, input: Begin) -> Result<Progressed, Fault> {
    let shareholders = &sys.handles.shareholders;
    let mut made_up = SecretString::new(String::new());
    let concealment = match input.otp.filter(|otp| !otp.is_empty()) {
        Some(otp) => Concealment::OneTimePassword(otp),
        None if !input.pgp_key.is_empty() => {
            let recipient = Recipient::parse(&input.pgp_key, cx.now);
            let recipient = recipient.map_err(|error| Fault::invalid(format!("error parsing PGP key: {error}")))?;
            Concealment::Recipient(Box::new(recipient))
        }
        None => {
            made_up = shareholders.one_time_password();
            Concealment::OneTimePassword(SecretString::new(made_up.expose().clone()))
        }
    };
    shareholders.begin_generation(concealment)?;
    standing(sys, &made_up)
}

async fn enter(sys: &Sys, input: Enter) -> Result<Progressed, Fault> {
    let key = input.key.filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| Fault::invalid("'key' must be specified in request body as JSON"))?;
    let entered = sys.handles.shareholders.enter_generation(&input.nonce, parse_share(&key)?).await?;
    let nothing = SecretString::new(String::new());
    let mut shown = standing(sys, &nothing)?;
    if let Entered::Enough((token, fingerprint)) = entered {
        shown.nonce = input.nonce;
        (shown.started, shown.complete, shown.progress) = (true, true, shown.required);
        shown.encoded_token = token.expose().clone();
        shown.encoded_root_token = token.expose().clone();
        shown.pgp_fingerprint = fingerprint;
    }
    Ok(shown)
}

pub(super) async fn read(sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Progressed>, Fault> {
    standing(sys, &SecretString::new(String::new())).map(Data)
}

pub(super) async fn init(sys: &Sys, cx: Cx<'_>, input: Begin) -> Result<Data<Progressed>, Fault> {
    begin(sys, &cx, input).map(Data)
}

pub(super) async fn cancel(sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Nothing, Fault> {
    sys.handles.shareholders.cancel_generation(None).map(|()| Nothing)
}

pub(super) async fn update(sys: &Sys, _cx: Cx<'_>, input: Enter) -> Result<Data<Progressed>, Fault> {
    enter(sys, input).await.map(Data)
}

pub(super) async fn read_legacy(sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Mirrored<Progressed>, Fault> {
    standing(sys, &SecretString::new(String::new())).map(Mirrored)
}

pub(super) async fn init_legacy(sys: &Sys, cx: Cx<'_>, input: Begin) -> Result<Mirrored<Progressed>, Fault> {
    begin(sys, &cx, input).map(Mirrored)
}

pub(super) async fn cancel_legacy(sys: &Sys, cx: Cx<'_>, input: Cancel) -> Result<Nothing, Fault> {
    let is_known = cx.caller.accessor.is_some();
    let nonce = (!is_known || !input.nonce.is_empty()).then_some(input.nonce.as_str());
    sys.handles.shareholders.cancel_generation(nonce).map(|()| Nothing)
}

pub(super) async fn update_legacy(sys: &Sys, _cx: Cx<'_>, input: Enter) -> Result<Mirrored<Progressed>, Fault> {
    enter(sys, input).await.map(Mirrored)
}

pub(super) async fn decode(_sys: &Sys, _cx: Cx<'_>, input: Decode) -> Result<Data<Decoded>, Fault> {
    let (Some(encoded), Some(otp)) = (input.encoded_token, input.otp) else {
        return Err(Fault::invalid("provided 'encoded_token' or 'otp' is empty"));
    };
    let encoded = encoded.expose().trim();
    let bytes = STANDARD_NO_PAD.decode(encoded).or_else(|_| STANDARD.decode(encoded));
    let bytes = bytes.map_err(|_| Fault::invalid("'encoded_token' is not base64"))?;
    if bytes.is_empty() || bytes.len() != otp.expose().len() {
        return Err(Fault::invalid("'encoded_token' and 'otp' differ in length"));
    }
    let token = bytes.iter().zip(otp.expose().bytes()).map(|(byte, pad)| byte ^ pad).collect();
    let token = String::from_utf8(token).map_err(|_| Fault::invalid("'otp' does not belong to 'encoded_token'"))?;
    Ok(Data(Decoded { token }))
}
