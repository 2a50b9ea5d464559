//! Signature Version 4 of one kind of request: what is posted to the root of a service of AWS; and the keys that a machine gives
//! whoever runs there, or that AWS gives for a token which it was told to believe, or for other keys.
//!
//! By hand, because the library for it brings a second implementation of SHA-256 and HMAC; a page, held to signatures that
//! AWS's own client makes. Deliberately absent: queries, paths, streams, presigned addresses.

pub mod assumed;
pub mod chain;
pub mod profile;
pub mod sts;
pub mod told;
pub mod web_identity;
pub mod xml;

use std::borrow::Cow;

use tresor_crypto::hash::{HmacKey, sha256, to_hex};
use tresor_env::Timestamp;
use tresor_secret::SecretString;
use tresor_wire::time::rfc3339;
use zeroize::Zeroizing;

/// What a request is signed with.
pub struct Keys {
    /// Their name.
    pub access_key: String,
    /// Their secret.
    pub secret_key: SecretString,
    /// What comes with keys that end by themselves.
    pub session_token: Option<SecretString>,
}

impl Keys {
    /// Keys of these parts.
    #[must_use]
    pub fn new(access_key: &str, mut secret: Zeroizing<String>, token: Option<Zeroizing<String>>) -> Self {
        Self {
            access_key: access_key.to_owned(),
            secret_key: SecretString::new(std::mem::take(&mut *secret)),
            session_token: token.map(|mut token| SecretString::new(std::mem::take(&mut *token))),
        }
    }

    /// The same keys once more.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let copy = |secret: &SecretString| SecretString::new(secret.expose().clone());
        Self {
            access_key: self.access_key.clone(),
            secret_key: copy(&self.secret_key),
            session_token: self.session_token.as_ref().map(copy),
        }
    }
}

/// What a signature is good for, beside its day.
#[derive(Clone, Copy)]
pub struct Scope<'s> {
    /// The region that the service is in.
    pub region: &'s str,
    /// The service, as signatures call it.
    pub service: &'s str,
}

/// What is posted.
#[derive(Clone, Copy)]
pub struct Posted<'p> {
    /// Its media type.
    pub media: &'static str,
    /// The operation, for services that are told it in a header.
    pub target: Option<&'static str>,
    /// The body.
    pub body: &'p [u8],
}

/// The media type of a form.
pub const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// A time as signatures spell it: `20260101T000000Z`.
fn spelled(at: Timestamp) -> String {
    rfc3339(Timestamp::from_seconds(at.seconds())).replace(['-', ':'], "")
}

/// The headers of what is posted to a host, its signature among them.
#[must_use]
pub fn headers(
    keys: &Keys,
    scope: Scope<'_>,
    host: &str,
    posted: Posted<'_>,
    at: Timestamp,
) -> Vec<(Cow<'static, str>, Zeroizing<String>)> {
    let time = spelled(at);
    let day = time.get(..8).unwrap_or_default();
    let mut signed = vec![
        ("content-type", Zeroizing::new(posted.media.to_owned())),
        ("host", Zeroizing::new(host.to_owned())),
        ("x-amz-date", Zeroizing::new(time.clone())),
    ];
    if let Some(token) = &keys.session_token {
        signed.push(("x-amz-security-token", Zeroizing::new(token.expose().clone())));
    }
    if let Some(target) = posted.target {
        signed.push(("x-amz-target", Zeroizing::new(target.to_owned())));
    }
    let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let mut canonical = Zeroizing::new("POST\n/\n\n".to_owned());
    for (name, value) in &signed {
        canonical.push_str(name);
        canonical.push(':');
        canonical.push_str(value);
        canonical.push('\n');
    }
    canonical.push_str(&format!("\n{names}\n{}", to_hex(&sha256(posted.body))));
    let place = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{place}\n{}", to_hex(&sha256(canonical.as_bytes())));
    let first = Zeroizing::new(format!("AWS4{}", keys.secret_key.expose()));
    let steps = [day, scope.region, scope.service, "aws4_request"];
    let key = steps.iter().fold(Zeroizing::new(first.as_bytes().to_vec()), |key, step| {
        Zeroizing::new(HmacKey::new(&key).sign(step.as_bytes()).to_vec())
    });
    let signature = to_hex(&HmacKey::new(&key).sign(to_sign.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{place}, SignedHeaders={names}, Signature={signature}",
        keys.access_key
    );
    // The host is said by whoever connects.
    let sent = signed.into_iter().filter(|(name, _)| *name != "host");
    let sent = sent.map(|(name, value)| (Cow::Borrowed(name), value));
    sent.chain([(Cow::Borrowed("authorization"), Zeroizing::new(authorization))]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(session_token: Option<&str>, scope: Scope<'_>, host: &str, form: &str) -> String {
        authorization(session_token, scope, host, Posted { media: FORM, target: None, body: form.as_bytes() })
    }

    /// The signature at noon and a half, made by botocore 1.43.
    fn authorization(session_token: Option<&str>, scope: Scope<'_>, host: &str, posted: Posted<'_>) -> String {
        let keys = Keys {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: SecretString::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            session_token: session_token.map(|token| SecretString::new(token.to_owned())),
        };
        let headers = headers(&keys, scope, host, posted, Timestamp::from_seconds(1_440_938_160));
        headers.last().map(|(_, value)| value.to_string()).unwrap_or_default()
    }

    #[test]
    fn signatures_are_those_of_others() {
        let scope = Scope { region: "us-east-1", service: "iam" };
        assert_eq!(
            signature(None, scope, "iam.amazonaws.com", "Action=GetUser&Version=2010-05-08"),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=a6078cef2143192187d32165e8e3617c62a00ab50d73907ac0b582b25fb62988"
        );
        let scope = Scope { region: "eu-central-1", service: "sts" };
        assert_eq!(
            signature(
                Some("a/session+token=="),
                scope,
                "127.0.0.1:5000",
                "Action=GetCallerIdentity&Version=2011-06-15"
            ),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/eu-central-1/sts/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, \
             Signature=385787d449258d9729f283627ecefa8ca5fe79cf2fc3f6b6d0a72c19348ef23d"
        );
        let scope = Scope { region: "eu-central-1", service: "kms" };
        let body = br#"{"CiphertextBlob":"AA=="}"#;
        let posted = Posted { media: "application/x-amz-json-1.1", target: Some("TrentService.Decrypt"), body };
        assert_eq!(
            authorization(Some("a/session+token=="), scope, "kms.eu-central-1.amazonaws.com", posted),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/eu-central-1/kms/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, \
             Signature=29807cea2ebe4b7476007374a5b7e7cef3560b87cf44eaba07a13e6db144d1e8"
        );
    }
}
