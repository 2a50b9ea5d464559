//! `sys/wrapping/`: wraps what is sent, shows what a wrapping token is about, opens it, and gives it another token.
//!
//! A token in the body is meant before the caller's own; either may be a JWT, and the key that verifies those is shown.
//! Deliberately absent: wrapping itself, which any request can ask for.

use tresor_core::tokens::FoundToken;
use tresor_core::wrapping::{Wish, not_valid};
use tresor_engine::answer::{Rewrapped, Unwrapped, Wrapped};
use tresor_engine::{Cx, Data, Widened};
use tresor_model::{Fault, Map};
use tresor_secret::{SecretString, TokenSecret};
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use super::Sys;
use super::leases::means;

/// What is to be wrapped.
#[derive(Input)]
pub(super) struct Anything {
    /// Everything that is sent.
    #[input(rest)]
    data: Map,
}

/// A wrapping token; without one, the caller's own.
#[derive(Input)]
pub(super) struct Which {
    /// The wrapping token.
    token: Option<SecretString>,
}

/// What a wrapping token is about.
#[derive(Output)]
pub(super) struct WrappingShown {
    /// The path whose answer was wrapped.
    creation_path: String,
    /// When it was wrapped.
    creation_time: String,
    /// How long it could be opened from then on.
    creation_ttl: std::time::Duration,
}

/// The public point that verifies wrapping tokens as JWT.
#[derive(Output)]
pub(super) struct PublicKey {
    /// Its curve.
    jwt_curve: &'static str,
    /// Its first coordinate, in decimal digits.
    jwt_x: String,
    /// Its second coordinate, in decimal digits.
    jwt_y: String,
}

/// A number in decimal digits, of its bytes, the most significant first.
fn decimal(bytes: &[u8]) -> String {
    let mut digits = vec![0_u8];
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            let value = u32::from(*digit) * 256 + carry;
            *digit = (value % 10) as u8;
            carry = value / 10;
        }
        while carry > 0 {
            digits.push((carry % 10) as u8);
            carry /= 10;
        }
    }
    digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect()
}

pub(super) async fn public_key(sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Data<PublicKey>, Fault> {
    let (x, y) = sys.handles.wrapping.public_key()?;
    Ok(Data(PublicKey { jwt_curve: "p521", jwt_x: decimal(x), jwt_y: decimal(y) }))
}

pub(super) async fn wrap(_sys: &Sys, _cx: Cx<'_>, input: Anything) -> Result<Wrapped<Data<Map>>, Fault> {
    Ok(Wrapped(Data(input.data)))
}

fn find(sys: &Sys, cx: &mut Cx<'_>, input: &Which) -> Result<FoundToken, Fault> {
    let named = input.token.as_ref().filter(|token| !token.expose().is_empty());
    let token = match named {
        Some(named) => TokenSecret::parse(named.expose()).map_err(|_| not_valid())?,
        None => {
            let own = cx.caller.held.token(Widened::assertion()).ok_or_else(not_valid)?;
            TokenSecret::parse(own.expose()).map_err(|_| not_valid())?
        }
    };
    let (caller, now, space) = (cx.caller.token_key, cx.now, sys.space(cx)?);
    // The caller's own may be one of a namespace above; one that is named is of this one.
    let homes = if named.is_some() { std::slice::from_ref(&space.id) } else { &space.line };
    sys.handles.wrapping.find(cx.view.widen(Widened::assertion()), homes, &token, caller, now)
}

pub(super) async fn lookup(sys: &Sys, mut cx: Cx<'_>, input: Which) -> Result<Data<WrappingShown>, Fault> {
    let record = find(sys, &mut cx, &input)?.record;
    Ok(Data(WrappingShown {
        creation_path: record.path.clone(),
        creation_time: rfc3339(record.created),
        creation_ttl: record.creation_ttl,
    }))
}

pub(super) async fn unwrap(sys: &Sys, mut cx: Cx<'_>, input: Which) -> Result<Unwrapped, Fault> {
    let found = find(sys, &mut cx, &input)?;
    let answer = sys.handles.wrapping.open(means(&mut cx), &found).await?;
    Ok(Unwrapped::new(answer.expose().clone().into_bytes(), Widened::assertion()))
}

pub(super) async fn rewrap(sys: &Sys, mut cx: Cx<'_>, input: Which) -> Result<Rewrapped, Fault> {
    let found = find(sys, &mut cx, &input)?;
    let answer = sys.handles.wrapping.open(means(&mut cx), &found).await?;
    let wish = Wish {
        space: sys.handles.spaces.of(&found.record.namespace)?,
        path: found.record.path.clone(),
        ttl: found.record.creation_ttl,
        display_name: found.record.display_name.clone(),
        wrapped_accessor: None,
    };
    Ok(Rewrapped::new(sys.handles.wrapping.wrap(means(&mut cx), answer, wish).await?, Widened::assertion()))
}
