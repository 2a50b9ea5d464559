//! Certificates of which something is wrong, and to whom that matters; both ends of each connection are in memory. Tests of the
//! security bank are named by their row.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::{CertificateError, ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tresor_verified::{Verified, begin, certificates, end};

/// Whoever vouches for servers: its certificate, and what it signs with.
fn authority() -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), Issuer::new(params, key))
}

/// A server by the certificate that is made like this; none vouches: it does so itself.
fn server(name: &str, issuer: Option<&Issuer<'_, KeyPair>>, change: impl Fn(&mut CertificateParams)) -> ServerConfig {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let own = match issuer {
        Some(issuer) => params.signed_by(&key, issuer),
        None => params.self_signed(&key),
    };
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    builder.with_single_cert(certificates(&own.unwrap().pem()).unwrap(), key).unwrap()
}

/// What comes of a connection to `localhost`.
fn connected(client: ClientConfig, server: &Arc<ServerConfig>) -> Result<(), Error> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        let mut heard: &[u8] = &wire;
        while !heard.is_empty() {
            server.read_tls(&mut heard as &mut dyn io::Read).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        let mut heard: &[u8] = &wire;
        while !heard.is_empty() {
            client.read_tls(&mut heard as &mut dyn io::Read).unwrap();
            client.process_new_packets()?;
        }
        if !client.is_handshaking() {
            return Ok(());
        }
    }
    Err(Error::HandshakeNotComplete)
}

#[test]
fn tls_01_self_signed_wrong_name_and_expired_are_refused_by_whoever_verifies() {
    let (known, issuer) = authority();
    let (_, other) = authority();
    let as_it_is = |_: &mut CertificateParams| {};
    let over = |params: &mut CertificateParams| {
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    };
    let to_come = |params: &mut CertificateParams| params.not_before = date_time_ymd(4000, 1, 1);
    // By whom it is refused: who verifies the name, too, and who does not.
    for (what, server, fully, by_authority) in [
        ("right", server("localhost", Some(&issuer), as_it_is), true, true),
        ("wrong name", server("127.0.0.1", Some(&issuer), as_it_is), false, true),
        ("expired", server("localhost", Some(&issuer), over), false, false),
        ("not valid yet", server("localhost", Some(&issuer), to_come), false, false),
        ("expired, of another name", server("127.0.0.1", Some(&issuer), over), false, false),
        ("another authority's", server("localhost", Some(&other), as_it_is), false, false),
        ("self-signed", server("localhost", None, as_it_is), false, false),
    ] {
        let server = Arc::new(server);
        for (verified, is_let_in) in [
            (Verified::Fully("ca", &known), fully),
            (Verified::ByAuthority("ca", &known), by_authority),
            (Verified::Not, true),
        ] {
            let client = end(begin(&verified).unwrap(), ("certificate", None), ("key", None)).unwrap();
            let came = connected(client, &server);
            assert_eq!(came.is_ok(), is_let_in, "{what}: {came:?}");
            if what == "expired" && !is_let_in {
                let reason = CertificateError::Expired;
                let is_told = matches!(&came, Err(Error::InvalidCertificate(why))
                    if *why == reason || matches!(why, CertificateError::ExpiredContext { .. }));
                assert!(is_told, "{came:?}");
            }
        }
    }
}
