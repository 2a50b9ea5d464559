//! Wrapping tokens as JWT (RFC 7519): another spelling of a wrapping token, which says where it is opened and until when.
//!
//! The text is signed by a key that follows from the barrier's base key: so every node signs and verifies with the same one,
//! before and after a change of keys or leaders, and nothing is stored for it. It opens what the token in it opens, and no more:
//! the token is looked up first, and only one that lives is worth verifying a signature. Deliberately absent: other algorithms,
//! and believing anything that the text says but the token.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use tresor_barrier::Barrier;
use tresor_crypto::ecdsa::SigningKey;
use tresor_model::{Fault, Map, WrapInfo, map};
use tresor_secret::{DataKey, TokenSecret, Wiped};
use tresor_wire::json::{JsonLimits, decode, encode_map};

/// What the text of every JWT begins with: a brace and a quotation mark.
const BEGINNING: &str = "eyJ";
/// How long before it was made it holds, for clocks that are behind.
const SECONDS_BEFORE: i64 = 5;
/// What it calls itself.
const TYPE: &str = "wrapping";

/// A JWT whose signature nobody has looked at.
pub(super) struct Unverified<'t> {
    /// The wrapping token in it.
    pub(super) token: TokenSecret,
    signed: &'t str,
    signature: Vec<u8>,
}

impl<'t> Unverified<'t> {
    /// Reads a text; `None` when it is no wrapping token in this form.
    pub(super) fn parse(token: &'t TokenSecret) -> Option<Self> {
        let text = token.expose();
        if !text.starts_with(BEGINNING) {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let part = |part: &str| decode(&Wiped::new(BASE64.decode(part).ok()?), &JsonLimits::default()).ok();
        let (header, claims) = (part(header)?, part(claims)?);
        if header.text("alg")? != "ES512" || claims.text("type")? != TYPE {
            return None;
        }
        let token = TokenSecret::parse(claims.text("jti")?).ok()?;
        Some(Self { token, signed, signature: BASE64.decode(signature).ok()? })
    }
}

/// The key of a store.
pub(super) struct JwtKey {
    secret: DataKey,
    key: OnceLock<Option<SigningKey>>,
}

impl JwtKey {
    pub(super) fn new(barrier: &Barrier) -> Self {
        Self { secret: barrier.derive_subkey("wrapping-jwt"), key: OnceLock::new() }
    }

    pub(super) fn key(&self) -> Result<&SigningKey, Fault> {
        let key = self.key.get_or_init(|| SigningKey::derived(&self.secret).ok());
        key.as_ref().ok_or_else(|| Fault::internal("no key of wrapping tokens follows from the base key"))
    }

    /// Whether it was signed here.
    pub(super) fn verifies(&self, unverified: &Unverified<'_>) -> Result<bool, Fault> {
        Ok(self.key()?.verifies(unverified.signed.as_bytes(), &unverified.signature))
    }

    /// A wrapping token in this form, which says that it is opened at `address`.
    pub(super) fn spell(&self, info: &WrapInfo, address: &str) -> Result<TokenSecret, Fault> {
        let created = info.created.seconds();
        let claims = map! {
            "accessor" => info.wrapped_accessor.as_ref().map_or("", |accessor| accessor.as_str()),
            "addr" => address,
            "exp" => info.created.plus(info.ttl).seconds(),
            "iat" => created,
            "jti" => info.token.expose(),
            "nbf" => created.saturating_sub(SECONDS_BEFORE),
            "type" => TYPE,
        };
        let part = |content: &Map| {
            let mut bytes = Vec::new();
            encode_map(content, &mut bytes);
            BASE64.encode(&*Wiped::new(bytes))
        };
        let mut text = format!("{}.{}", part(&map! { "alg" => "ES512", "typ" => "JWT" }), part(&claims));
        let signature = self.key()?.sign(text.as_bytes()).map_err(Fault::internal)?;
        text.push('.');
        text.push_str(&BASE64.encode(signature));
        TokenSecret::parse(&Wiped::new(text)).map_err(|_| Fault::invalid("a wrapping token cannot say so much"))
    }
}
