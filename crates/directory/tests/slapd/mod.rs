//! A real OpenLDAP server of the tests: on a free port, in a directory of its own, gone when it is dropped.
//!
//! Below `dc=example,dc=com` it has people, services, and a manager who may do everything and whose password lies in the
//! directory like any other's. Started once per test binary by whoever shares it.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "shared by several test binaries, each of which uses a part"
)]

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Who may do everything.
pub(crate) const MANAGER: &str = "cn=manager,dc=example,dc=com";
/// The manager's password at the start.
pub(crate) const MANAGER_PASSWORD: &str = "first manager's password";

/// The server.
pub(crate) struct Slapd {
    home: PathBuf,
    process: Child,
    /// The port in the clear, where StartTLS is spoken, too.
    pub(crate) port: u16,
    /// The port of TLS.
    pub(crate) tls_port: u16,
    /// The authority of its certificate, PEM.
    pub(crate) authority: String,
}

const PEOPLE: &[(&str, &str)] = &[
    ("alice", "alice's first"),
    ("bob", "bob's first"),
    ("carol", "carol's first"),
    ("fizz", "fizz's first"),
    ("buzz", "buzz's first"),
];

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn seed() -> String {
    let mut ldif = format!(
        "dn: dc=example,dc=com\nobjectClass: domain\ndc: example\n\n\
         dn: {MANAGER}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: manager\nuserPassword: {MANAGER_PASSWORD}\n\n\
         dn: ou=people,dc=example,dc=com\nobjectClass: organizationalUnit\nou: people\n\n\
         dn: ou=groups,dc=example,dc=com\nobjectClass: organizationalUnit\nou: groups\n\n\
         dn: cn=staff,ou=groups,dc=example,dc=com\nobjectClass: groupOfNames\ncn: staff\nmember: {MANAGER}\n\n"
    );
    for (name, password) in PEOPLE {
        ldif += &format!(
            "dn: cn={name},ou=people,dc=example,dc=com\nobjectClass: inetOrgPerson\ncn: {name}\nsn: {name}\nuid: {name}\nuserPassword: {password}\n\n"
        );
    }
    ldif
}

/// Certificates: an authority, and the server's for `127.0.0.1`.
fn certificates(home: &Path) -> String {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(home.join("ca.pem"), &authority_pem).unwrap();
    std::fs::write(home.join("own.pem"), own.pem()).unwrap();
    std::fs::write(home.join("key.pem"), key.serialize_pem()).unwrap();
    authority_pem
}

impl Slapd {
    /// Starts it in this directory, which is its own.
    pub(crate) fn start(home: &Path) -> Self {
        std::fs::create_dir_all(home.join("db")).unwrap();
        let authority = certificates(home);
        let shown = home.display();
        let config = format!(
            "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
             include /etc/ldap/schema/inetorgperson.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n\
             pidfile {shown}/pid\nTLSCACertificateFile {shown}/ca.pem\nTLSCertificateFile {shown}/own.pem\n\
             TLSCertificateKeyFile {shown}/key.pem\nTLSVerifyClient never\n\
             database mdb\nmaxsize 67108864\nsuffix dc=example,dc=com\nrootdn cn=nobody,dc=example,dc=com\ndirectory {shown}/db\ndbnosync\n\
             access to attrs=userPassword by dn.exact={MANAGER} manage by self write by anonymous auth by * none\n\
             access to * by dn.exact={MANAGER} manage by * read\n"
        );
        std::fs::write(home.join("slapd.conf"), config).unwrap();
        std::fs::write(home.join("seed.ldif"), seed()).unwrap();
        let seeded = Command::new("/usr/sbin/slapd")
            .args(["-T", "add", "-f"])
            .arg(home.join("slapd.conf"))
            .arg("-l")
            .arg(home.join("seed.ldif"))
            .output();
        let seeded = seeded.unwrap_or_else(|error| panic!("slapd (package slapd) is needed: {error}"));
        assert!(seeded.status.success(), "{}", String::from_utf8_lossy(&seeded.stderr));
        // Somebody else may take a free port before it does.
        for _ in 0..5 {
            let (port, tls_port) = (free_port(), free_port());
            let mut process = spawn(home, port, tls_port);
            if answers(&mut process, port) && answers(&mut process, tls_port) {
                return Self { home: home.to_owned(), process, port, tls_port, authority };
            }
        }
        panic!("slapd does not start");
    }

    /// Its address in the clear.
    pub(crate) fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    /// Its address with TLS.
    pub(crate) fn secure_url(&self) -> String {
        format!("ldaps://127.0.0.1:{}", self.tls_port)
    }

    /// Stops it, and keeps what it holds.
    pub(crate) fn stop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }

    /// Starts it again where it was.
    pub(crate) fn start_again(&mut self) {
        self.process = spawn(&self.home, self.port, self.tls_port);
        assert!(answers(&mut self.process, self.port), "slapd does not start again");
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(home: &Path, port: u16, tls_port: u16) -> Child {
    Command::new("/usr/sbin/slapd")
        .arg("-f")
        .arg(home.join("slapd.conf"))
        .arg("-h")
        .arg(format!("ldap://127.0.0.1:{port} ldaps://127.0.0.1:{tls_port}"))
        .args(["-d", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Whether it comes to answer.
fn answers(process: &mut Child, port: u16) -> bool {
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        if process.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
