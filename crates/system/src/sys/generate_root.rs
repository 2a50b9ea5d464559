//! `sys/generate-root-token` and its older spelling `sys/generate-root`, and `sys/decode-token`: a root token by those who hold
//! enough shares, of the server or of the namespace that is asked.
//!
//! The older spelling is the server's alone, as in the reference. It asks for `sudo`, unless the operator opened it to whoever holds shares; then whoever has no token names
//! the attempt to cancel it. Deliberately absent: the tokens of recovery mode (`recovery.rs`).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use tresor_core::shareholders::{Concealment, Entered, GenerationStanding, Shareholders};
use tresor_engine::{Cx, Data, Mirrored, Nothing};
use tresor_model::{Fault, Timestamp};
use tresor_pgp::Recipient;
use tresor_secret::SecretString;
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::output::Output;

use super::Sys;
use crate::always::parse_share;

/// How the token is kept from everybody else; a password is made up when neither is given.
#[derive(Input)]
pub(crate) struct Begin {
    /// A one-time password that the token is combined with.
    otp: Option<SecretString>,
    /// A key that it is encrypted to.
    #[input(default = "")]
    pgp_key: String,
}

/// A share.
#[derive(Input)]
pub(crate) struct Enter {
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
pub(crate) struct Progressed {
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

impl Progressed {
    pub(crate) fn of(standing: GenerationStanding, otp: &SecretString, otp_characters: usize) -> Self {
        Self {
            nonce: standing.nonce,
            started: standing.is_started,
            progress: standing.progress.into(),
            required: standing.required.into(),
            complete: false,
            encoded_token: String::new(),
            encoded_root_token: String::new(),
            pgp_fingerprint: standing.fingerprint,
            otp: otp.expose().clone(),
            otp_length: otp_characters as u64,
        }
    }

    /// There were enough shares.
    pub(crate) fn complete(&mut self, nonce: String, token: &SecretString, fingerprint: String) {
        (self.nonce, self.started, self.complete, self.progress) = (nonce, true, true, self.required);
        self.encoded_token = token.expose().clone();
        self.encoded_root_token.clone_from(&self.encoded_token);
        self.pgp_fingerprint = fingerprint;
    }
}

impl Enter {
    /// The share, and the name of the attempt.
    pub(crate) fn checked(self) -> Result<(SecretString, String), Fault> {
        let key = self.key.filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| Fault::invalid("'key' must be specified in request body as JSON"))?;
        Ok((key, self.nonce))
    }
}

/// How a token is to be kept from everybody else, and the password, where one had to be made up.
pub(crate) fn concealment(
    input: Begin,
    now: Timestamp,
    make_up: impl FnOnce() -> SecretString,
) -> Result<(Concealment, SecretString), Fault> {
    let nothing = SecretString::new(String::new());
    Ok(match input.otp.filter(|otp| !otp.is_empty()) {
        Some(otp) => (Concealment::OneTimePassword(otp), nothing),
        None if !input.pgp_key.is_empty() => {
            let recipient = Recipient::parse(&input.pgp_key, now);
            let recipient = recipient.map_err(|error| Fault::invalid(format!("error parsing PGP key: {error}")))?;
            (Concealment::Recipient(Box::new(recipient)), nothing)
        }
        None => {
            let made_up = make_up();
            (Concealment::OneTimePassword(SecretString::new(made_up.expose().clone())), made_up)
        }
    })
}

fn standing(shareholders: &Shareholders, otp: &SecretString) -> Result<Progressed, Fault> {
    Ok(Progressed::of(shareholders.generation_standing()?, otp, shareholders.otp_characters()))
}

fn shown(sys: &Sys, cx: &Cx<'_>) -> Result<Progressed, Fault> {
    standing(&*sys.shareholders(cx)?, &SecretString::new(String::new()))
}

fn begin(sys: &Sys, cx: &Cx<'_>, input: Begin) -> Result<Progressed, Fault> {
    let shareholders = sys.shareholders(cx)?;
    let (concealment, made_up) = concealment(input, cx.now, || shareholders.one_time_password())?;
    shareholders.begin_generation(concealment)?;
    standing(&shareholders, &made_up)
}

async fn enter(sys: &Sys, cx: &Cx<'_>, input: Enter) -> Result<Progressed, Fault> {
    let (key, nonce) = input.checked()?;
    let shareholders = sys.shareholders(cx)?;
    let entered = shareholders.enter_generation(&nonce, parse_share(&key)?).await?;
    let mut shown = standing(&shareholders, &SecretString::new(String::new()))?;
    if let Entered::Enough((token, fingerprint)) = entered {
        shown.complete(nonce, &token, fingerprint);
    }
    Ok(shown)
}

pub(super) async fn read(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Progressed>, Fault> {
    shown(sys, &cx).map(Data)
}

pub(super) async fn init(sys: &Sys, cx: Cx<'_>, input: Begin) -> Result<Data<Progressed>, Fault> {
    begin(sys, &cx, input).map(Data)
}

pub(super) async fn cancel(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Nothing, Fault> {
    sys.shareholders(&cx)?.cancel_generation(None).map(|()| Nothing)
}

pub(super) async fn update(sys: &Sys, cx: Cx<'_>, input: Enter) -> Result<Data<Progressed>, Fault> {
    enter(sys, &cx, input).await.map(Data)
}

pub(super) async fn read_legacy(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Mirrored<Progressed>, Fault> {
    shown(sys, &cx).map(Mirrored)
}

pub(super) async fn init_legacy(sys: &Sys, cx: Cx<'_>, input: Begin) -> Result<Mirrored<Progressed>, Fault> {
    begin(sys, &cx, input).map(Mirrored)
}

pub(super) async fn cancel_legacy(sys: &Sys, cx: Cx<'_>, input: Cancel) -> Result<Nothing, Fault> {
    let is_known = cx.caller.accessor.is_some();
    let nonce = (!is_known || !input.nonce.is_empty()).then_some(input.nonce.as_str());
    sys.shareholders(&cx)?.cancel_generation(nonce).map(|()| Nothing)
}

pub(super) async fn update_legacy(sys: &Sys, cx: Cx<'_>, input: Enter) -> Result<Mirrored<Progressed>, Fault> {
    enter(sys, &cx, input).await.map(Mirrored)
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
