//! `pem_bundle` and `pem_json`: who vouches for the server, and what this one shows.
//!
//! Deliberately absent: looking into certificates; whoever uses them does.

use tresor_env::outgoing::Trust;
use tresor_model::{Body, Map};
use tresor_secret::SecretString;
use tresor_wire::json::{JsonLimits, decode};
use zeroize::Zeroizing;

/// What certificates in a row mean: with a key the first is that of the key and all others are authorities, without one all
/// are.
///
/// # Errors
/// Text that names the field.
pub(super) fn of_bundle(text: &SecretString) -> Result<Trust, String> {
    let (mut certificates, mut keys) = (Vec::new(), Vec::new());
    for (label, block) in blocks(text.expose()) {
        if label == "CERTIFICATE" {
            certificates.push(block);
        } else if label.ends_with("PRIVATE KEY") {
            keys.push(block);
        }
    }
    let identity = match (keys.first(), certificates.is_empty()) {
        (_, true) => return Err("pem_bundle holds no certificate in PEM".into()),
        (Some(key), false) => Some(Zeroizing::new(format!("{}{}", certificates.remove(0).as_str(), key.as_str()))),
        (None, false) => None,
    };
    let mut authorities = Zeroizing::new(String::new());
    for certificate in &certificates {
        authorities.push_str(certificate);
    }
    Ok(Trust {
        authorities: Some(authorities).filter(|pem| !pem.is_empty()),
        identity,
        anybody: false,
        server_name: None,
    })
}

/// The sections of a PEM: what each is, and its text.
fn blocks(text: &str) -> Vec<(&str, Zeroizing<String>)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let Some((label, body)) = after.split_once("-----") else { break };
        let end = format!("-----END {label}-----");
        let Some((body, behind)) = body.split_once(&end) else { break };
        found.push((label, Zeroizing::new(format!("-----BEGIN {label}-----{body}{end}\n"))));
        rest = behind;
    }
    found
}

/// The same as issuers of certificates answer it, with or without what stands around it.
///
/// # Errors
/// Text that names the field.
pub(super) fn of_json(text: &SecretString) -> Result<Trust, String> {
    let wrong = || "pem_json is not what an issuer of certificates answers".to_owned();
    let read = decode(text.expose().as_bytes(), &JsonLimits::default()).map_err(|_| wrong())?;
    let issued: &Map = read.get("data").and_then(Body::as_map).unwrap_or(&read);
    let pem = |name: &str| issued.text(name).filter(|text| !text.trim().is_empty());
    let identity = match (pem("certificate"), pem("private_key")) {
        (Some(certificate), Some(key)) => Some(Zeroizing::new(format!("{certificate}\n{key}\n"))),
        (Some(_), None) => return Err("pem_json has a certificate and no private_key".into()),
        (None, _) => None,
    };
    let mut authorities = Zeroizing::new(String::new());
    let chain = issued.get("ca_chain").and_then(Body::as_list).unwrap_or_default();
    for authority in pem("issuing_ca").into_iter().chain(chain.iter().filter_map(Body::as_str)) {
        authorities.push_str(authority);
        authorities.push('\n');
    }
    if identity.is_none() && authorities.is_empty() {
        return Err(wrong());
    }
    Ok(Trust {
        authorities: Some(authorities).filter(|pem| !pem.is_empty()),
        identity,
        anybody: false,
        server_name: None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\none\n-----END CERTIFICATE-----\n";
    const TWO: &str = "-----BEGIN CERTIFICATE-----\ntwo\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nkey\n-----END EC PRIVATE KEY-----\n";

    fn told(trust: Result<Trust, String>) -> (Option<String>, Option<String>) {
        let trust = trust.unwrap();
        let text = |pem: Option<Zeroizing<String>>| pem.map(|pem| pem.to_string());
        (text(trust.authorities), text(trust.identity))
    }

    #[test]
    fn a_bundle_says_who_vouches_and_who_we_are() {
        let of = |text: String| of_bundle(&SecretString::new(text));
        assert_eq!(told(of(format!("{ONE}{TWO}"))), (Some(format!("{ONE}{TWO}")), None));
        assert_eq!(told(of(format!("{KEY}{ONE}"))), (None, Some(format!("{ONE}{KEY}"))));
        assert_eq!(told(of(format!("{ONE}x\n{KEY}{TWO}"))), (Some(TWO.to_owned()), Some(format!("{ONE}{KEY}"))));
        for wrong in ["", "x", KEY, "-----BEGIN CERTIFICATE-----"] {
            assert!(of(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn json_says_who_vouches_and_who_we_are() {
        let of = |map: Map| {
            let mut bytes = Zeroizing::new(Vec::new());
            tresor_wire::json::encode_map(&map, &mut bytes);
            of_json(&SecretString::new(String::from_utf8(bytes.to_vec()).unwrap()))
        };
        let issued = || Map::new().with("certificate", ONE).with("private_key", KEY).with("issuing_ca", TWO);
        let both = (Some(format!("{TWO}\n")), Some(format!("{ONE}\n{KEY}\n")));
        assert_eq!(told(of(issued())), both);
        assert_eq!(told(of(Map::new().with("data", issued()))), both);
        assert_eq!(told(of(Map::new().with("issuing_ca", ONE))), (Some(format!("{ONE}\n")), None));
        assert!(of(Map::new().with("certificate", ONE)).is_err() && of(Map::new()).is_err());
    }
}
