//! Certificates that listeners get for themselves, from an authority that really asks at the names.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tresor_services::Pebble;
use tresor_services::pebble::Wanted;

use crate::support::cluster::free_address;
use crate::support::{Http, Production, Server, read_answer, until};

const NAME: &str = "vault.example.com";
/// Longer than any test.
const LONG: u64 = 3600;

fn wanted(tls_port: u16, life: u64) -> Wanted {
    // Nobody listens at the discard port, so what is proven is proven by TLS.
    Wanted { tls_port, http_port: 9, life, external: None, nonces_refused: 0 }
}

/// A server that gets certificates from an authority; `more` is of the listener, `behind` of everything else.
fn server(port: u16, pebble: &Pebble, names: &[&str], more: &str, behind: &str) -> Production {
    let production = Production::new();
    production.configure(&format!(
        "storage \"inmem\" {{}}\ndisable_mlock = true\nlistener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  \
         tls_acme_ca_directory = \"{}\"\n  tls_acme_ca_root = \"{}\"\n  tls_acme_cache_path = \"{}\"\n  \
         tls_acme_domains = {names:?}\n  {more}\n}}\n{behind}\n",
        pebble.directory(),
        pebble.authority().display(),
        production.home().join("acme").display(),
    ));
    production
}

type Connection = StreamOwned<ClientConnection, TcpStream>;

/// Shakes hands with a server by its name, whom one of these vouches for; asks to see that it serves.
fn try_connect(server: &Server, root: &str, name: &str, protocols: &[&[u8]]) -> Option<Connection> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, Http::new(server.address).connect());
    ask(&mut stream).then_some(stream)
}

fn connect(server: &Server, root: &str, name: &str) -> Option<Connection> {
    try_connect(server, root, name, &[])
}

fn ask(stream: &mut Connection) -> bool {
    stream.write_all(b"GET /v1/sys/init HTTP/1.1\r\nHost: h\r\n\r\n").is_ok()
        && read_answer(stream).is_some_and(|answer| answer.status == 200)
}

fn certificate(stream: &Connection) -> Vec<u8> {
    stream.conn.peer_certificates().unwrap()[0].as_ref().to_vec()
}

/// Every file below a directory is its owner's alone; how many there are.
fn private_files(directory: &Path) -> usize {
    let mut count = 0;
    assert_eq!(std::fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o700, "{}", directory.display());
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count += private_files(&path);
        } else {
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
            count += 1;
        }
    }
    count
}

/// Lines of a log that hold this.
fn times(server: &Server, words: &str) -> usize {
    server.log().matches(words).count()
}

/// Has the server try again, and waits until it has said this once more.
fn again(server: &Server, words: &str) {
    let before = times(server, words);
    server.signal(Signal::HUP);
    until(words, || (times(server, words) > before).then_some(()));
}

#[test]
fn a_listener_gets_certificates_by_handshakes_and_renews_them_under_open_connections() {
    let port = free_address().port();
    let pebble = Pebble::start(&wanted(port, 9)).unwrap();
    let root = pebble.root().unwrap();
    let production = server(port, &pebble, &["Vault.Example.com", "127.0.0.1"], "tls_acme_email = \"a@b.c\"", "");
    let server = production.start();
    let mut open = until("the certificate", || connect(&server, &root, NAME));
    let first = certificate(&open);
    until("that of the address", || connect(&server, &root, "127.0.0.1"));
    assert!(connect(&server, &root, "other.example.com").is_none(), "a name that nobody configured");
    // The account, two certificates, and no proof that is not needed any more.
    let acme = production.home().join("acme");
    until("the files", || (private_files(&acme) == 3).then_some(()));
    until("another certificate", || connect(&server, &root, NAME).filter(|fresh| certificate(fresh) != first));
    assert!(ask(&mut open), "an open connection stays");
    // Two names, two orders each at least; one account.
    assert_eq!(times(&server, "an account was made"), 1);
    assert!(pebble.said("Issued certificate serial") >= 3);
    let log = server.log();
    assert!(log.contains("a certificate was got from the authority") && !log.contains("ERROR"), "{log}");
    assert!(!log.contains("PRIVATE KEY"), "{log}");
}

#[test]
fn a_proof_is_shown_in_a_handshake_even_where_clients_must_have_certificates() {
    let port = free_address().port();
    let pebble = Pebble::start(&wanted(port, LONG)).unwrap();
    let authority = pebble.authority();
    let more = format!(
        "tls_require_and_verify_client_cert = true\n  tls_client_ca_file = \"{}\"\n  tls_acme_key_type = \"p384\"\n  \
         tls_acme_disable_http_challenge = true",
        authority.display()
    );
    let production = server(port, &pebble, &[NAME], &more, "");
    let server = production.start();
    until("the certificate", || (times(&server, "a certificate was got") == 1).then_some(()));
    // It looks from several places.
    assert!(times(&server, "a proof was shown in a handshake") >= 1);
    let root = pebble.root().unwrap();
    assert!(connect(&server, &root, NAME).is_none(), "who has none is not let in");
    // With nothing to prove there is nothing to show.
    assert!(try_connect(&server, &root, NAME, &[b"acme-tls/1"]).is_none());
}

#[test]
fn a_name_is_proven_over_http_by_a_plain_listener() {
    let (port, plain) = (free_address().port(), free_address().port());
    let wanted = Wanted { http_port: plain, ..wanted(9, LONG) };
    let pebble = Pebble::start(&wanted).unwrap();
    let behind = format!("listener \"tcp\" {{\n  address = \"127.0.0.1:{plain}\"\n  tls_disable = true\n}}");
    let production = server(port, &pebble, &[NAME], "tls_acme_key_type = \"rsa2048\"", &behind);
    let server = production.start();
    let root = pebble.root().unwrap();
    // The handshake is tried first, at a port where nobody answers.
    until("the certificate", || connect(&server, &root, NAME));
    assert!(times(&server, "a proof was shown over HTTP") >= 1);
    assert_eq!(pebble.said("Issued certificate serial"), 1);
    // Afterwards the folder is a path like any other.
    let plain = Http::new(format!("127.0.0.1:{plain}").parse().unwrap());
    let folder = "/.well-known/acme-challenge/";
    let gone = plain.raw(format!("GET {folder}x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes());
    assert!(gone.starts_with(b"HTTP/1.1 404 "), "{}", String::from_utf8_lossy(&gone));
}

#[test]
fn while_the_authority_is_away_a_listener_serves_what_it_has_and_tries_again() {
    let (port, other) = (free_address().port(), free_address().port());
    let mut pebble = Pebble::prepare(&wanted(port, LONG)).unwrap();
    let trial = Pebble::start(&wanted(port, LONG)).unwrap();
    // One authority vouches for the server of the other one as well.
    let roots = [pebble.authority(), trial.authority()].map(|file| std::fs::read_to_string(file).unwrap()).concat();
    let more = format!("tls_acme_test_ca_directory = \"{}\"", trial.directory());
    let production = server(port, &pebble, &[NAME], &more, "");
    let both = production.home().join("authorities.pem");
    std::fs::write(&both, roots).unwrap();
    let text = std::fs::read_to_string(production.config()).unwrap();
    production.configure(&text.replace(&pebble.authority().display().to_string(), &both.display().to_string()));
    let running = production.start();
    const AWAY: &str = "no certificate is to be had";
    until("the complaint", || (times(&running, AWAY) == 1).then_some(()));
    let log = running.log();
    assert!(log.contains("the authority is not there") && log.contains("retry_seconds=60"), "{log}");
    assert_eq!(trial.said("Issued certificate serial"), 0, "what did not go wrong yet is not tried elsewhere first");
    again(&running, AWAY);
    assert!(running.log().contains("retry_seconds=120"), "{}", running.log());
    assert_eq!(trial.said("Issued certificate serial"), 1);
    pebble.run().unwrap();
    again(&running, "a certificate was got");
    let root = pebble.root().unwrap();
    let got = certificate(&connect(&running, &root, NAME).unwrap());

    // Another start, and another server over the same directory, show it without asking anybody.
    pebble.stop();
    drop(running);
    let running = production.start();
    assert_eq!(certificate(&connect(&running, &root, NAME).unwrap()), got);
    let beside = Production::new();
    let text = std::fs::read_to_string(production.config()).unwrap();
    beside.configure(&text.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{other}")));
    let second = beside.start();
    assert_eq!(certificate(&connect(&second, &root, NAME).unwrap()), got);
    assert_eq!(times(&running, "ERROR") + times(&second, "ERROR"), 0, "{}", running.log());
    drop((running, second));

    // An authority that forgot everybody is told anew.
    pebble.run().unwrap();
    let acme = production.home().join("acme");
    let of_authority = std::fs::read_dir(&acme).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<_> = of_authority.map(|path| path.join(format!("{NAME}.pem"))).filter(|path| path.exists()).collect();
    let [kept] = &kept[..] else { panic!("{kept:?}") };
    std::fs::write(kept, "nonsense").unwrap();
    let running = production.start();
    let fresh = pebble.root().unwrap();
    until("another certificate", || connect(&running, &fresh, NAME));
    assert_eq!((times(&running, "makes no sense"), times(&running, "an account was made")), (2, 1));
}

#[test]
fn what_an_authority_refuses_is_said_and_costs_no_other_name() {
    let port = free_address().port();
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let external = Some(("kid-1".to_owned(), key.to_owned()));
    let pebble = Pebble::start(&Wanted { external, ..wanted(port, LONG) }).unwrap();
    let more = "tls_acme_eab_key_id = \"kid-1\"\n  tls_acme_eab_mac_key = \"env://EAB_KEY\"";
    let production = server(port, &pebble, &["refused.example.com", NAME], more, "");
    // Somebody else's key first.
    let stranger = "b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfTaCeROxQM0BIt2XrJMDHJZBM5NuQmQJQH";
    let running = production.start_with(&[("EAB_KEY", stranger)]);
    until("both complaints", || (times(&running, "the authority refuses") == 2).then_some(()));
    assert!(!running.log().contains(stranger), "{}", running.log());
    drop(running);
    let running = production.start_with(&[("EAB_KEY", key)]);
    let root = pebble.root().unwrap();
    until("the certificate", || connect(&running, &root, NAME));
    let log = running.log();
    let refused: Vec<&str> = log.lines().filter(|line| line.contains("the authority refuses")).collect();
    let [refused] = &refused[..] else { panic!("{log}") };
    assert!(refused.contains("refused.example.com") && refused.contains("rejectedIdentifier"), "{refused}");
    assert!(!log.contains(key), "{log}");
}
