//! Requests to services of Oracle's cloud, signed by whoever asks.
//!
//! Deliberately absent: who that is, and any request but one that posts JSON.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_core::ServiceError;
use tresor_crypto::hash::sha256;
use tresor_crypto::rsa::RsaKey;
use tresor_env::Timestamp;
use tresor_wire::time::http_date;
use zeroize::Zeroizing;

/// The media type of what is asked.
const JSON: &str = "application/json";

/// Names and values.
pub(super) type Headers = Vec<(Cow<'static, str>, Zeroizing<String>)>;

/// Who signs, as services know it; of a machine that is a secret.
pub(super) struct Signer<'s> {
    pub(super) id: &'s str,
    pub(super) key: &'s RsaKey,
}

/// Whether the host is signed, too: who gives machines their tokens does not want that.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Host<'h> {
    Signed(&'h str),
    Unsigned,
}

/// The headers of a body that is posted there.
pub(super) fn headers(
    signer: &Signer<'_>,
    url: &str,
    host: Host<'_>,
    body: &[u8],
    now: Timestamp,
) -> Result<Headers, ServiceError> {
    let (date, hash) = (http_date(now), STANDARD.encode(sha256(body)));
    // An endpoint may lie below a path of its own.
    let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let (length, target) = (body.len().to_string(), format!("post /{path}"));
    let mut signed = vec![("date", date.as_str()), ("(request-target)", &target)];
    if let Host::Signed(host) = host {
        signed.push(("host", host));
    }
    signed.extend([("content-length", length.as_str()), ("content-type", JSON), ("x-content-sha256", &hash)]);
    let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
    let lines: Vec<String> = signed.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let signature = signer.key.sign(lines.join("\n").as_bytes());
    let signature = signature.map_err(|error| ServiceError::Unprepared(error.to_string()))?;
    let authorization = format!(
        "Signature version=\"1\",keyId=\"{}\",algorithm=\"rsa-sha256\",headers=\"{}\",signature=\"{}\"",
        signer.id,
        names.join(" "),
        STANDARD.encode(signature)
    );
    let headers = [
        ("authorization", authorization),
        ("content-type", JSON.to_owned()),
        ("date", date),
        ("x-content-sha256", hash),
    ];
    Ok(headers.map(|(name, value)| (Cow::Borrowed(name), Zeroizing::new(value))).into())
}
