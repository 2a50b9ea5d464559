//! TLS of listeners, and of the command line towards them.

use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::Signal;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, NamedGroup, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::support::{Cli, Production, Server, read_answer, until};

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// An authority, and files of what it signed.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) file: PathBuf,
}

impl Authority {
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let file = directory.join(format!("{name}-ca.pem"));
        std::fs::write(&file, parameters.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(parameters, key), file }
    }

    /// Writes a certificate for a name, and its key.
    pub(crate) fn sign(&self, directory: &Path, stem: &str, name: &str) -> (PathBuf, PathBuf) {
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let files = (directory.join(format!("{stem}.pem")), directory.join(format!("{stem}-key.pem")));
        std::fs::write(&files.0, parameters.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }
}

/// A server with TLS whose certificate is for 127.0.0.1, and what it was made with.
fn with_tls(settings: &str) -> (Production, Authority) {
    let production = Production::new();
    let home = production.home();
    let authority = Authority::new(home, "server");
    let (certificate, key) = authority.sign(home, "server", "127.0.0.1");
    let text = std::fs::read_to_string(production.config()).unwrap();
    production.configure(&text.replace(
        "tls_disable = true",
        &format!("tls_cert_file = \"{}\"\n  tls_key_file = \"{}\"\n  {settings}", certificate.display(), key.display()),
    ));
    (production, authority)
}

type Connection = StreamOwned<ClientConnection, TcpStream>;

/// Shakes hands as one version; asks for the health to see that the server agrees.
fn connect(
    server: &Server,
    authority: &Path,
    version: &'static SupportedProtocolVersion,
    own: Option<&(PathBuf, PathBuf)>,
) -> Option<Connection> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let builder = builder.with_webpki_verifier(verifier);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
        }
    };
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, server.http().connect());
    ask(&mut stream).then_some(stream)
}

/// Whether a question over a connection is answered.
fn ask(stream: &mut Connection) -> bool {
    stream.write_all(b"GET /v1/sys/init HTTP/1.1\r\nHost: h\r\n\r\n").is_ok()
        && read_answer(stream).is_some_and(|answer| answer.status == 200)
}

fn certificate(stream: &Connection) -> Vec<u8> {
    stream.conn.peer_certificates().unwrap()[0].as_ref().to_vec()
}

#[test]
fn both_versions_are_offered_within_the_configured_bounds() {
    for (settings, offered) in [
        ("", [true, true]),
        ("tls_min_version = \"tls12\"", [true, true]),
        ("tls_min_version = \"tls13\"", [false, true]),
        ("tls_max_version = \"tls12\"", [true, false]),
    ] {
        let (production, authority) = with_tls(settings);
        let server = production.start();
        assert!(server.said("Listener 1: ").contains("tls: \"enabled\""));
        assert!(server.said("Api Address: ").starts_with("https://"));
        let got = BOTH.map(|version| connect(&server, &authority.file, version, None).is_some());
        assert_eq!(got, offered, "{settings}");
    }
}

#[test]
fn a_hang_up_takes_a_new_certificate_for_both_versions_and_keeps_connections() {
    let (production, authority) = with_tls("");
    let home = production.home();
    let server = production.start();
    let mut open = BOTH.map(|version| connect(&server, &authority.file, version, None).unwrap());
    let before = certificate(&open[0]);
    let other = Authority::new(home, "other");
    other.sign(home, "server", "127.0.0.1");
    for version in BOTH {
        assert!(connect(&server, &authority.file, version, None).is_some(), "nothing changes by itself");
    }
    server.signal(Signal::HUP);
    until("the reload", || server.log().contains("certificate reloaded").then_some(()));
    for (version, open) in BOTH.into_iter().zip(&mut open) {
        let fresh = connect(&server, &other.file, version, None).expect("the new certificate");
        assert_ne!(certificate(&fresh), before);
        assert!(connect(&server, &authority.file, version, None).is_none(), "the old one is gone");
        assert!(ask(open), "an open connection stays");
    }
    // A key that does not fit, then no file at all: the last good certificate stays.
    let stranger = KeyPair::generate().unwrap();
    std::fs::write(home.join("server-key.pem"), stranger.serialize_pem()).unwrap();
    for times in 1..=2 {
        server.signal(Signal::HUP);
        until("the complaint", || (server.log().matches("old one stays").count() == times).then_some(()));
        for version in BOTH {
            assert!(connect(&server, &other.file, version, None).is_some());
        }
        let _ = std::fs::remove_file(home.join("server.pem"));
    }
}

#[test]
fn a_replaced_certificate_is_taken_without_a_signal_where_that_is_wanted() {
    let (production, authority) = with_tls("tls_auto_reload = true\n  tls_auto_reload_interval = \"1s\"");
    let server = production.start();
    let mut open = connect(&server, &authority.file, &TLS13, None).unwrap();
    let other = Authority::new(production.home(), "other");
    other.sign(production.home(), "server", "127.0.0.1");
    until("the reload", || connect(&server, &other.file, &TLS13, None));
    assert!(ask(&mut open), "an open connection stays");
}

#[test]
fn of_the_older_version_the_suites_are_offered_that_an_operator_names() {
    let suite = |settings: &str| {
        let (production, authority) = with_tls(settings);
        let server = production.start();
        let suite = |version| {
            let stream = connect(&server, &authority.file, version, None)?;
            stream.conn.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str())
        };
        (BOTH.map(suite), server.log())
    };
    let one = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    let ([older, newer], _) = suite(&format!("tls_cipher_suites = \"{one}\""));
    assert_eq!((older, newer.is_some_and(|suite| suite.starts_with("TLS13_"))), (Some(one), true));
    let ([older, _], log) =
        suite("tls_cipher_suites = \"TLS_RSA_WITH_AES_128_CBC_SHA,TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305\"");
    assert_eq!(older, Some("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"));
    assert!(log.contains("the cipher suite `TLS_RSA_WITH_AES_128_CBC_SHA` is not offered"), "{log}");
}

#[test]
fn keys_are_exchanged_as_an_operator_prefers() {
    let group = |settings: &str| {
        let (production, authority) = with_tls(settings);
        let server = production.start();
        let stream = connect(&server, &authority.file, &TLS13, None).unwrap();
        (stream.conn.negotiated_key_exchange_group().map(|group| group.name()), server.log())
    };
    for (name, expected) in [
        ("CurveP384", NamedGroup::secp384r1),
        ("secp256r1", NamedGroup::secp256r1),
        ("X25519MLKEM768", NamedGroup::X25519MLKEM768),
    ] {
        let (group, _) = group(&format!("tls_key_exchange_preferences = [\"{name}\"]"));
        assert_eq!(group, Some(expected), "{name}");
    }
    let (group, log) = group("tls_key_exchange_preferences = [\"SecP384r1MLKEM1024\", \"CurveP256\"]");
    assert_eq!(group, Some(NamedGroup::secp256r1));
    assert!(log.contains("the key exchange `SecP384r1MLKEM1024` is not offered"), "{log}");
}

#[test]
fn client_certificates_are_asked_for_and_verified_only_when_told() {
    let clients = tempfile::tempdir().unwrap();
    let trusted = Authority::new(clients.path(), "trusted");
    let stranger = Authority::new(clients.path(), "stranger");
    let known = trusted.sign(clients.path(), "known", "client");
    let unknown = stranger.sign(clients.path(), "unknown", "client");
    let demanding =
        format!("tls_require_and_verify_client_cert = true\n  tls_client_ca_file = \"{}\"", trusted.file.display());
    for (settings, expected) in [
        ("", [true, true, true]),
        ("tls_disable_client_certs = true", [true, true, true]),
        (demanding.as_str(), [false, true, false]),
    ] {
        let (production, authority) = with_tls(settings);
        let server = production.start();
        for version in BOTH {
            let got = [None, Some(&known), Some(&unknown)]
                .map(|own| connect(&server, &authority.file, version, own).is_some());
            assert_eq!(got, expected, "{settings} {version:?}");
        }
    }
}

#[test]
fn files_that_make_no_certificate_are_a_clear_refusal() {
    let (production, _authority) = with_tls("");
    let home = production.home().to_path_buf();
    let cli = Cli { home: &home, environment: Vec::new() };
    let refuse = |word: &str| {
        let finished = cli.run(&["server", "-config", production.config().to_str().unwrap()]);
        assert_eq!((finished.code, finished.output.as_str()), (1, ""), "{finished:?}");
        assert!(finished.errors.contains(word), "{word}: {finished:?}");
    };
    let certificate = std::fs::read(home.join("server.pem")).unwrap();
    std::fs::write(home.join("server-key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    refuse("does not belong to the certificate");
    std::fs::write(home.join("server-key.pem"), &certificate).unwrap();
    refuse("server-key.pem");
    std::fs::write(home.join("server.pem"), "nothing").unwrap();
    refuse("server.pem");
    std::fs::remove_file(home.join("server.pem")).unwrap();
    refuse("server.pem");
}

#[test]
fn something_else_than_tls_on_a_tls_port_ends_that_connection_alone() {
    let (production, authority) = with_tls("");
    let server = production.start();
    for bytes in
        [b"GET /v1/sys/init HTTP/1.1\r\nHost: h\r\n\r\n".as_slice(), b"\x16\x03\x01\xff\xff", b"\0\0\0\0\0\0\0\0"]
    {
        let mut stream = server.http().connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
        assert!(!rest.windows(3).any(|window| window == b"200"), "no answer in clear");
    }
    assert!(connect(&server, &authority.file, &TLS13, None).is_some());
}

#[test]
fn the_command_line_checks_the_server_and_shows_its_certificate() {
    let clients = tempfile::tempdir().unwrap();
    let trusted = Authority::new(clients.path(), "trusted");
    let (own, own_key) = trusted.sign(clients.path(), "known", "client");
    let settings =
        format!("tls_require_and_verify_client_cert = true\n  tls_client_ca_file = \"{}\"", trusted.file.display());
    let (production, authority) = with_tls(&settings);
    let home = production.home();
    authority.sign(home, "server", "vault.example");
    let server = production.start();
    let directory = home.join("authorities");
    std::fs::create_dir(&directory).unwrap();
    std::fs::copy(&authority.file, directory.join("a.pem")).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (ca, own, own_key, directory) = (text(&authority.file), text(&own), text(&own_key), text(&directory));
    let cli = Cli { home, environment: vec![("VAULT_ADDR".to_owned(), format!("https://{}", server.address))] };
    let call = |arguments: &[&str], environment: &[(&str, &str)]| {
        let arguments = [&["operator", "init", "-status"], arguments].concat();
        cli.run_with(crate::support::binary(), &arguments, environment, "").code
    };
    // 2: it was reached, and is not initialised. 1: it was not.
    let whole = [
        ("VAULT_CACERT", ca.as_str()),
        ("VAULT_CLIENT_CERT", &own),
        ("VAULT_CLIENT_KEY", &own_key),
        ("VAULT_TLS_SERVER_NAME", "vault.example"),
    ];
    assert_eq!(call(&[], &whole), 2);
    assert_eq!(call(&[], &[("VAULT_CAPATH", &directory), whole[1], whole[2], whole[3]]), 2);
    assert_eq!(call(&[], &[("VAULT_SKIP_VERIFY", "true"), whole[1], whole[2]]), 2);
    let (ca_flag, certificate_flag) = (format!("-ca-cert={ca}"), format!("-client-cert={own}"));
    let flags = [ca_flag.as_str(), &certificate_flag, "--client-key", &own_key, "-tls-server-name=vault.example"];
    assert_eq!(call(&flags, &[]), 2);
    assert_eq!(call(&["-ca-path", &directory, flags[1], flags[2], flags[3], flags[4]], &[]), 2);
    assert_eq!(call(&["-tls-skip-verify", flags[1], flags[2], flags[3]], &[]), 2);
    for missing in 0..whole.len() {
        let mut some = whole.to_vec();
        some.remove(missing);
        assert_eq!(call(&[], &some), 1, "without {}", whole[missing].0);
    }
    assert_eq!(call(&[], &[whole[0], whole[1], whole[2], ("VAULT_TLS_SERVER_NAME", "other.example")]), 1);
}
