//! OpenLDAP, in the clear, with StartTLS and with TLS, on 127.0.0.1.
//!
//! Below `dc=example,dc=com` it has people, groups, and a manager who may do everything and whose password lies in the
//! directory like any other's.

use std::io::{Read, Write};
use std::path::Path;

use crate::certificates::Certificates;
use crate::process::{Home, Process, free_port};

/// Where Debian's package puts it.
const PROGRAM: &str = "/usr/sbin/slapd";
/// Who may do everything.
pub const MANAGER: &str = "cn=manager,dc=example,dc=com";
/// By which password, at the start.
pub const MANAGER_PASSWORD: &str = "manager-Canary-pw-1";
/// Who is there; the password of each is the name and `'s first`.
pub const PEOPLE: &[&str] = &["alice", "bob", "carol", "fizz", "buzz"];

/// A server that runs until it is dropped.
pub struct Slapd {
    // Ended before its directory goes.
    process: Option<Process>,
    home: Home,
    port: u16,
    tls_port: u16,
    authority: String,
}

impl Slapd {
    /// Starts one. Its certificate is for 127.0.0.1.
    ///
    /// # Errors
    /// Text that says what is not there or did not work.
    pub fn start() -> Result<Self, String> {
        let home = Home::of("openldap")?;
        let Certificates { authority, own, key, .. } = Certificates::of("127.0.0.1")?;
        home.write("ca.pem", &authority)?;
        home.write("own.pem", &own)?;
        home.write("key.pem", &key)?;
        home.directory("db")?;
        let config = home.write("slapd.conf", &config(home.path()))?;
        let seed = home.write("seed.ldif", &seed())?;
        let seeded = home
            .command(Path::new(PROGRAM))
            .args(["-T", "add", "-f"])
            .arg(&config)
            .arg("-l")
            .arg(&seed)
            .stderr(home.log()?)
            .status();
        match seeded {
            Ok(status) if status.success() => {}
            Ok(_) => return Err(format!("slapadd failed: {}", home.said())),
            Err(error) => return Err(format!("{PROGRAM}: {error}")),
        }
        let (port, tls_port) = (free_port()?, free_port()?);
        let mut slapd = Self { process: None, home, port, tls_port, authority };
        slapd.start_again()?;
        Ok(slapd)
    }

    /// Its address in the clear, where StartTLS is spoken, too.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    /// Its address with TLS.
    #[must_use]
    pub fn secure_url(&self) -> String {
        format!("ldaps://127.0.0.1:{}", self.tls_port)
    }

    /// The certificate of who vouches for it, in PEM.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether somebody logs in.
    ///
    /// # Errors
    /// Text, when it does not answer.
    pub fn lets_in(&self, name: &str, password: &str) -> Result<bool, String> {
        let broken = |error: std::io::Error| format!("slapd: {error}: {}", self.home.said());
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).map_err(broken)?;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).map_err(broken)?;
        // RFC 4511, 4.2: the first message, a log in by version 3, with a name and a password in the clear.
        let mut bind = vec![0x02, 1, 3];
        bind.extend(tagged(0x04, name.as_bytes())?);
        bind.extend(tagged(0x80, password.as_bytes())?);
        let mut message = vec![0x02, 1, 1];
        message.extend(tagged(0x60, &bind)?);
        stream.write_all(&tagged(0x30, &message)?).map_err(broken)?;
        let mut answer = [0_u8; 512];
        let length = stream.read(&mut answer).map_err(broken)?;
        // What came of it is the first enumerated value.
        let outcome = answer.get(..length).unwrap_or_default().windows(3).find(|window| window.starts_with(&[0x0a, 1]));
        outcome.map(|outcome| outcome.ends_with(&[0])).ok_or_else(|| "slapd: no answer to a log in".to_owned())
    }

    /// From now on shows a certificate whose time is over, of another authority, which [`Self::authority`] is then.
    ///
    /// # Errors
    /// Text that says what did not work.
    pub fn show_expired(&mut self) -> Result<(), String> {
        let Certificates { authority, own, key, .. } = Certificates::expired("127.0.0.1")?;
        self.home.write("ca.pem", &authority)?;
        self.home.write("own.pem", &own)?;
        self.home.write("key.pem", &key)?;
        self.authority = authority;
        self.stop();
        self.start_again()
    }

    /// Ends it, and keeps what it holds.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again where it was.
    ///
    /// # Errors
    /// Text that says what did not work.
    pub fn start_again(&mut self) -> Result<(), String> {
        let mut command = self.home.command(Path::new(PROGRAM));
        command.arg("-f").arg(self.home.path().join("slapd.conf"));
        command
            .arg("-h")
            .arg(format!("{} {}", self.url(), self.secure_url()))
            .args(["-d", "0"])
            .stderr(self.home.log()?);
        let ports = [self.port, self.tls_port];
        let is_open = |port: &u16| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok();
        let process = Process::start(&mut command, "TERM", || ports.iter().all(is_open));
        self.process = Some(process.map_err(|why| format!("slapd: {why}: {}", self.home.said()))?);
        Ok(())
    }
}

/// A value as BER spells it.
fn tagged(tag: u8, value: &[u8]) -> Result<Vec<u8>, String> {
    let length = u16::try_from(value.len()).map_err(|_| "too long".to_owned())?;
    let [high, low] = length.to_be_bytes();
    Ok([&[tag, 0x82, high, low], value].concat())
}

fn config(home: &Path) -> String {
    let home = home.display();
    format!(
        "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
         include /etc/ldap/schema/inetorgperson.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n\
         TLSCACertificateFile {home}/ca.pem\nTLSCertificateFile {home}/own.pem\nTLSCertificateKeyFile {home}/key.pem\n\
         TLSVerifyClient never\ndatabase mdb\nmaxsize 67108864\nsuffix dc=example,dc=com\n\
         rootdn cn=nobody,dc=example,dc=com\ndirectory {home}/db\ndbnosync\n\
         access to attrs=userPassword by dn.exact={MANAGER} manage by self write by anonymous auth by * none\n\
         access to * by dn.exact={MANAGER} manage by * read\n"
    )
}

fn seed() -> String {
    let mut ldif = format!(
        "dn: dc=example,dc=com\nobjectClass: domain\ndc: example\n\n\
         dn: {MANAGER}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: manager\n\
         userPassword: {MANAGER_PASSWORD}\n\n\
         dn: ou=people,dc=example,dc=com\nobjectClass: organizationalUnit\nou: people\n\n\
         dn: ou=groups,dc=example,dc=com\nobjectClass: organizationalUnit\nou: groups\n\n\
         dn: cn=staff,ou=groups,dc=example,dc=com\nobjectClass: groupOfNames\ncn: staff\nmember: {MANAGER}\n\n"
    );
    for name in PEOPLE {
        let person = format!(
            "dn: cn={name},ou=people,dc=example,dc=com\nobjectClass: inetOrgPerson\ncn: {name}\nsn: {name}\nuid: {name}\n\
             userPassword: {name}'s first\n\n"
        );
        ldif.push_str(&person);
    }
    ldif
}
