//! Servers of others that pages are about: what a page says of one, and what stands for it here.
//!
//! Each runs as long as its page. Deliberately absent: pages that start such a server themselves, which no reader has to.

use std::any::Any;
use std::path::{Path, PathBuf};

use tresor_services::pebble::Wanted;
use tresor_services::{
    FakeTransit, InfluxDb, MariaDb, Moto, Pebble, Postgres, RabbitMq, Redis, Slapd, free_port, influxdb, mariadb,
    postgres, python, redis,
};

/// A server beside a page.
pub(crate) struct Beside {
    /// Texts of the page, and what stands for them here.
    pub(crate) stand_ins: Vec<(String, String)>,
    /// The interpreter that the page's programs need, where it is not the usual one.
    pub(crate) python: Option<PathBuf>,
    /// Keeps it running.
    _running: Box<dyn Any>,
}

/// A broker at the usual port of its management API, with the usual administrator.
pub(crate) fn rabbitmq() -> Beside {
    let broker = RabbitMq::start().expect("a broker");
    let stand_ins = vec![("http://127.0.0.1:15672".to_owned(), broker.uri())];
    Beside { stand_ins, python: None, _running: Box::new(broker) }
}

/// An InfluxDB at its usual port.
pub(crate) fn influxdb() -> Beside {
    let server = InfluxDb::start().expect("an InfluxDB");
    let stand_ins = [("8086", server.port().to_string()), ("first-root-password", influxdb::ROOT_PASSWORD.to_owned())];
    let stand_ins = stand_ins.map(|(shown, own)| (shown.to_owned(), own)).to_vec();
    Beside { stand_ins, python: None, _running: Box::new(server) }
}

/// A MariaDB at its usual port.
pub(crate) fn mariadb() -> Beside {
    let server = MariaDb::start().expect("a database server");
    let stand_ins = [("3306", server.port().to_string()), ("first-root-password", mariadb::ROOT_PASSWORD.to_owned())];
    let stand_ins = stand_ins.map(|(shown, own)| (shown.to_owned(), own)).to_vec();
    Beside { stand_ins, python: None, _running: Box::new(server) }
}

/// A Redis at its usual port, with a file of users.
pub(crate) fn redis() -> Beside {
    let server = Redis::start(redis::Users::InAclFile).expect("a Redis");
    let stand_ins = [("6379", server.port().to_string()), ("first-root-password", redis::ROOT_PASSWORD.to_owned())];
    let stand_ins = stand_ins.map(|(shown, own)| (shown.to_owned(), own)).to_vec();
    Beside { stand_ins, python: None, _running: Box::new(server) }
}

/// A database server at its usual port.
pub(crate) fn postgres() -> Beside {
    let server = Postgres::start().expect("a database server");
    let stand_ins = [("5432", server.port().to_string()), ("first-root-password", postgres::ROOT_PASSWORD.to_owned())];
    let stand_ins = stand_ins.map(|(shown, own)| (shown.to_owned(), own)).to_vec();
    Beside { stand_ins, python: None, _running: Box::new(server) }
}

/// A directory with people in it.
pub(crate) fn ldap() -> Beside {
    let directory = Slapd::start().expect("a directory");
    let stand_ins = vec![("ldap://ldap.example.com".to_owned(), directory.url())];
    Beside { stand_ins, python: None, _running: Box::new(directory) }
}

/// What stands for AWS, at the port that it is known by, with the key that AWS's own examples have.
pub(crate) fn aws() -> Beside {
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/aws-requirements.txt");
    let python = python::environment("aws", Path::new(env!("CARGO_TARGET_TMPDIR")), &pinned).expect("moto and boto3");
    let moto = Moto::start(&python, "tresor").expect("moto");
    let stand_ins = [
        ("http://127.0.0.1:5000", moto.address()),
        ("AKIAIOSFODNN7EXAMPLE", moto.access_key.clone()),
        ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", moto.secret_key.clone()),
    ];
    let stand_ins = stand_ins.map(|(shown, own)| (shown.to_owned(), own)).to_vec();
    Beside { stand_ins, python: Some(python), _running: Box::new(moto) }
}

/// An authority of certificates, which asks at the port that the page's listener has.
pub(crate) fn pebble() -> Beside {
    let port = free_port().expect("a port");
    let wanted = Wanted { tls_port: port, http_port: 9, life: 3600, external: None, nonces_refused: 0 };
    let pebble = Pebble::start(&wanted).expect("an authority");
    let root = pebble.authority().with_file_name("root.pem");
    std::fs::write(&root, pebble.root().expect("its root")).expect("a file");
    let stand_ins = [
        ("8443", port.to_string()),
        ("https://acme.example.com/directory", pebble.directory()),
        ("/etc/ssl/acme-ca.pem", pebble.authority().display().to_string()),
        ("/etc/ssl/acme-root.pem", root.display().to_string()),
    ];
    let stand_ins = stand_ins.map(|(shown, own)| (shown.to_owned(), own)).to_vec();
    Beside { stand_ins, python: None, _running: Box::new(pebble) }
}

/// What stands for another server with a transit engine.
pub(crate) fn transit() -> Beside {
    let token = "hvs.token-of-the-other-server";
    let fake = FakeTransit::start(token).expect("a port");
    let stand_ins = vec![("https://vault.example.com".to_owned(), fake.address())];
    Beside { stand_ins, python: None, _running: Box::new(fake) }
}
