//! Configurations that are well, doubtful and wrong.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;

fn look_at(home: &Path, text: &str, skip: &[&str]) -> (i32, String) {
    let file = home.join("server.hcl");
    std::fs::write(&file, text).unwrap();
    let wanted = Diagnosis {
        config: vec![file],
        skip: skip.iter().map(|&part| part.to_owned()).collect(),
        json: true,
        ..Diagnosis::default()
    };
    let mut output = Vec::new();
    let code = diagnose(&wanted, &mut output);
    (code, String::from_utf8(output).unwrap())
}

fn server(home: &Path, storage: &str, listener: &str) -> String {
    let data = home.join("data");
    format!(
        "storage \"{storage}\" {{\n path = \"{}\"\n free_space_min = 1048576\n}}\nlistener \"tcp\" {{\n {listener}\n}}\ndisable_mlock = true\n",
        data.display()
    )
}

#[test]
fn what_is_well_is_said_to_be_and_nothing_is_left_behind() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
    let (code, text) = look_at(
        home.path(),
        &server(home.path(), "file", "address = \"127.0.0.1:0\"\ntls_disable = true"),
        &["system"],
    );
    // A temporary directory may lie on memory, which is doubtful.
    assert!(code == 0 || text.contains("tmpfs") || text.contains("container"), "{text}");
    assert!(!text.contains("\"fail\"") && text.contains("a sync takes"), "{text}");
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0, "what was written is removed");
}

#[test]
fn what_keeps_a_server_from_starting_is_named_with_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let (code, text) = look_at(home.path(), "storage \"file\" {", &[]);
    assert!(code == 1 && text.contains("server.hcl:1:"), "{text}");

    // A certificate that is over, and whose key others can read.
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let [certificate, key_file] = ["cert.pem", "key.pem"].map(|name| home.path().join(name));
    std::fs::write(&certificate, parameters.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let tls = |key: &Path| {
        format!(
            "address = \"127.0.0.1:0\"\ntls_cert_file = \"{}\"\ntls_key_file = \"{}\"",
            certificate.display(),
            key.display()
        )
    };
    let (code, text) = look_at(home.path(), &server(home.path(), "file", &tls(&key_file)), &["system", "storage"]);
    assert_eq!(code, 1, "{text}");
    for part in ["ended at 2021-01-01T00:00:00Z", "has the mode 0644", "chmod 0600", "left out by -skip"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let other = home.path().join("other.pem");
    std::fs::write(&other, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let (_, text) = look_at(home.path(), &server(home.path(), "file", &tls(&other)), &["system"]);
    assert!(text.contains("does not belong to the certificate"), "{text}");

    // The log of the other kind of storage, a leader that is not there, and a key that is missing.
    std::fs::create_dir_all(home.path().join("data/log")).unwrap();
    let joins = server(home.path(), "raft", "address = \"127.0.0.1:0\"\ntls_disable = true")
        .replace("free_space_min", "retry_join {\n leader_api_addr = \"http://127.0.0.1:1\"\n}\nfree_space_min");
    let seal = "seal \"static\" {\n current_key_id = \"k\"\n current_key = \"file:///absent\"\n}\n";
    let (code, text) = look_at(home.path(), &format!("{joins}{seal}"), &["system"]);
    assert_eq!(code, 1, "{text}");
    for part in ["holds what storage", "Node http://127.0.0.1:1", "cannot be read", "leads each to itself"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn only_the_configuration_is_looked_at_when_only_it_is_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("server.hcl");
    std::fs::write(&file, server(home.path(), "file", "tls_disable = true\nnonsense = 1")).unwrap();
    let wanted = Diagnosis { config: vec![file], only_config: true, ..Diagnosis::default() };
    let mut output = Vec::new();
    assert_eq!(diagnose(&wanted, &mut output), 2);
    let text = String::from_utf8(output).unwrap();
    assert!(
        text.contains("[ warn  ]") && text.contains("nonsense") && text.contains("1 well, 1 doubtful, 0 wrong"),
        "{text}"
    );
}

#[test]
fn what_is_sent_elsewhere_is_looked_for_there() {
    let home = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listens = listener.local_addr().unwrap();
    // The port of a client: it is taken, and nobody listens there.
    let client = std::net::TcpStream::connect(listens).unwrap();
    let deaf = client.local_addr().unwrap();
    let socket = home.path().join("log");
    let _daemon = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    let audit = |kind: &str, name: &str, options: &str| {
        format!("audit \"{kind}\" \"{name}\" {{\n options {{\n {} }}\n}}\n", options.replace(", ", "\n "))
    };
    let own = server(home.path(), "file", "address = \"127.0.0.1:0\"\ntls_disable = true");
    let place = |name: &str| home.path().join(name).display().to_string();
    let well = [
        own.clone(),
        audit("file", "a", &format!("file_path = \"{}\"", place("audit.log"))),
        audit("file", "b", "file_path = \"stdout\""),
        audit("socket", "c", &format!("address = \"{listens}\"")),
        audit("syslog", "d", &format!("address = \"{}\"", socket.display())),
        audit("http", "e", &format!("uri = \"http://{listens}/x\"")),
        format!("telemetry {{\n statsd_address = \"{deaf}\"\n otlp_traces_endpoint = \"http://{listens}\"\n}}\n"),
    ]
    .concat();
    let skip = ["system", "storage", "listener", "seal", "cluster"];
    let (code, text) = look_at(home.path(), &well, &skip);
    assert_eq!(code, 0, "{text}");
    assert!(text.matches("somebody listens at").count() == 4 && text.contains("audit.log can be written to"), "{text}");
    let doubtful = [
        own.clone(),
        audit("file", "a", &format!("file_path = \"{}\"", place("log/audit.log"))),
        audit("socket", "c", &format!("address = \"{deaf}\"")),
        audit("syslog", "d", &format!("address = \"{}\"", place("nobody"))),
        audit("http", "e", &format!("uri = \"https://{deaf}/x\", ca_cert = \"file:///absent\"")),
        format!("telemetry {{\n statsite_address = \"{deaf}\"\n}}\n"),
    ]
    .concat();
    let (code, text) = look_at(home.path(), &doubtful, &skip);
    assert_eq!(code, 2, "{text}");
    // Each is a message, and a warning.
    assert_eq!(text.matches("does not answer").count(), 6, "{text}");
    for part in ["not a directory", "nobody listens at", "file:///absent cannot be read"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let (code, text) =
        look_at(home.path(), &[own, audit("file", "a", "file_path = \"x\", batch = \"y\"")].concat(), &skip);
    assert!(code == 1 && text.contains("audit device `a/`: unknown option `batch`"), "{text}");
}
