//! The client against a real OpenLDAP server: in the clear, with StartTLS, with TLS.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use tresor_directory::{
    Certificates, Connection, Dialer, DirectoryError, Filter, Modification, Scope, Tls, Values, Verb, Version,
    addresses,
};
use tresor_secret::{SecretString, Wiped};
use tresor_services::Slapd;
use tresor_services::slapd::{MANAGER, MANAGER_PASSWORD};

const ALICE: &str = "cn=alice,ou=people,dc=example,dc=com";

fn dialer(urls: &str, certificates: Certificates<'_>, start_tls: bool) -> Dialer {
    let doors = tresor_env_os::doors();
    Dialer {
        net: Arc::clone(&doors.net),
        clock: Arc::clone(&doors.clock),
        addresses: addresses(urls).unwrap(),
        tls: Some(Tls::new(certificates, (Version::Tls12, Version::Tls13), &doors.clock).unwrap()),
        start_tls,
        connection_timeout: Duration::from_secs(20),
        request_timeout: Duration::from_secs(20),
    }
}

fn secret(text: &str) -> SecretString {
    SecretString::new(text.to_owned())
}

fn values(texts: &[&str]) -> Values {
    texts.iter().map(|text| Wiped::new(text.as_bytes().to_vec())).collect()
}

async fn as_manager(urls: &str) -> Connection {
    let mut connection = dialer(urls, Certificates::default(), false).connect().await.unwrap();
    connection.bind(MANAGER, &secret(MANAGER_PASSWORD)).await.unwrap();
    connection
}

async fn log_in(urls: &str, name: &str, password: &str) -> Result<(), DirectoryError> {
    dialer(urls, Certificates::default(), false).connect().await.unwrap().bind(name, &secret(password)).await
}

#[tokio::test]
async fn a_real_server_is_asked_everything() {
    let mut server = Slapd::start().unwrap();
    let (plain, secure) = (server.url(), server.secure_url());

    // Wrong passwords are told apart from everything else; an empty one is never sent (PWD-06).
    let wrong = log_in(&plain, ALICE, "wrong").await.unwrap_err();
    assert!(
        wrong.is_wrong_password() && wrong.to_string().starts_with("LDAP Result Code 49 \"Invalid Credentials\": ")
    );
    assert!(matches!(log_in(&plain, ALICE, "").await.unwrap_err(), DirectoryError::NoPassword));

    // What a name holds cannot become part of a filter (PWD-04).
    let mut connection = as_manager(&plain).await;
    for (value, expected) in
        [("alice", 1), ("*", 0), ("a*", 0), ("alice)(uid=*", 0), ("\\2a", 0), ("alice\\", 0), ("a\0", 0)]
    {
        let filter = Filter::Equal("uid".to_owned(), value.to_owned());
        let found = connection.search("dc=example,dc=com", Scope::Subtree, &filter, &[]).await.unwrap();
        assert_eq!(found.len(), expected, "{value}");
    }
    let both = Filter::All(vec![Filter::any(), Filter::Equal("cn".to_owned(), "alice".to_owned())]);
    let found = connection.search("dc=example,dc=com", Scope::Subtree, &both, &["sn", "cn"]).await.unwrap();
    assert_eq!(found[0].name, ALICE);
    assert_eq!(found[0].attributes.len(), 2);
    let nothing = connection.search("cn=zoe,dc=example,dc=com", Scope::Base, &Filter::any(), &[]).await.unwrap_err();
    assert!(nothing.is_absent(), "{nothing}");

    // A refusal leaves the connection usable: an entry is made, changed and removed on it.
    let name = "cn=zoe,ou=people,dc=example,dc=com";
    let attributes = [
        ("objectClass".to_owned(), values(&["inetOrgPerson"])),
        ("sn".to_owned(), values(&["zoe"])),
        ("userPassword".to_owned(), values(&["zoe's first"])),
    ];
    connection.add(name, &attributes).await.unwrap();
    assert!(connection.add(name, &attributes).await.unwrap_err().is_refusal());
    log_in(&plain, name, "zoe's first").await.unwrap();
    let long = "x".repeat(70_000);
    let change = |verb, attribute: &str, texts: &[&str]| Modification {
        verb,
        attribute: attribute.to_owned(),
        values: values(texts),
    };
    let changes = [
        change(Verb::Replace, "userPassword", &["zoe's second"]),
        change(Verb::Add, "description", &[&long, "short"]),
        change(Verb::Delete, "description", &["short"]),
    ];
    connection.modify(name, &changes).await.unwrap();
    log_in(&plain, name, "zoe's second").await.unwrap();
    assert!(log_in(&plain, name, "zoe's first").await.unwrap_err().is_wrong_password());
    let found = connection.search(name, Scope::Base, &Filter::any(), &["description"]).await.unwrap();
    assert_eq!(found[0].attributes, [("description".to_owned(), vec![long.into_bytes()])]);
    connection.delete(name).await.unwrap();
    assert!(connection.delete(name).await.unwrap_err().is_absent());
    assert!(connection.is_usable());

    // TLS from the start or from StartTLS on, verified against an authority of our own, or not at all.
    let trusting = Certificates { authority: server.authority(), ..Certificates::default() };
    let anybody = Certificates { anybody: true, ..Certificates::default() };
    for (urls, start_tls) in [(&secure, false), (&plain, true)] {
        for certificates in [trusting, anybody] {
            let mut connection = dialer(urls, certificates, start_tls).connect().await.unwrap();
            connection.bind(ALICE, &secret("alice's first")).await.unwrap();
        }
        let untrusted = dialer(urls, Certificates::default(), start_tls).connect().await;
        assert!(matches!(untrusted, Err(DirectoryError::Unreachable(_))));
    }
    tls_01_a_wrong_name_and_a_time_that_is_over_are_refused(&mut server).await;

    // The next address is tried where one does not answer.
    let refused = "ldap://127.0.0.1:1";
    let error = dialer(refused, Certificates::default(), false).connect().await.err().unwrap();
    assert!(matches!(error, DirectoryError::Unreachable(_)), "{error}");
    as_manager(&format!("{refused},{plain}")).await;
}

async fn tls_01_a_wrong_name_and_a_time_that_is_over_are_refused(server: &mut Slapd) {
    let refused = async |server: &Slapd, host: &str| {
        let trusting = Certificates { authority: server.authority(), ..Certificates::default() };
        let anybody = Certificates { anybody: true, ..Certificates::default() };
        let mut reasons = Vec::new();
        for (url, start_tls) in [(server.secure_url(), false), (server.url(), true)] {
            let url = url.replace("127.0.0.1", host);
            drop(dialer(&url, anybody, start_tls).connect().await.unwrap());
            match dialer(&url, trusting, start_tls).connect().await {
                Err(DirectoryError::Unreachable(why)) => reasons.push(why.to_string()),
                other => panic!("{url}: {:?}", other.map(drop)),
            }
        }
        reasons
    };
    for why in refused(server, "localhost").await {
        assert!(why.contains("not valid for name"), "{why}");
    }
    server.show_expired().unwrap();
    for why in refused(server, "127.0.0.1").await {
        assert!(why.contains("certificate expired"), "{why}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_the_operators() {
    let doors = tresor_env_os::doors();
    let tls =
        |certificates, versions| Tls::new(certificates, versions, &doors.clock).err().map(|error| error.to_string());
    let both = (Version::Tls12, Version::Tls13);
    let key = secret("-----BEGIN PRIVATE KEY-----\nbm8ga2V5\n-----END PRIVATE KEY-----\n");
    let half = Certificates { anybody: true, key: Some(&key), ..Certificates::default() };
    assert_eq!(tls(half, both).unwrap(), "both client_tls_cert and client_tls_key must be set");
    let no_authority = Certificates { authority: "nothing", ..Certificates::default() };
    assert_eq!(tls(no_authority, both).unwrap(), "certificate: no certificate in PEM");
    let anybody = Certificates { anybody: true, ..Certificates::default() };
    assert!(tls(anybody, (Version::Tls10, Version::Tls12)).is_none());
    assert_eq!(tls(anybody, (Version::Tls10, Version::Tls11)).unwrap(), "only TLS 1.2 and 1.3 are spoken");
}
