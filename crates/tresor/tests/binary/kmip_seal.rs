//! A server whose key a server of keys keeps that speaks KMIP, which PyKMIP does: opened at every start, while that one is away and comes
//! back, by another key, and refused by a key that is out of use.

use std::path::{Path, PathBuf};

use serde_json::json;
use tresor_services::{PyKmip, python};

use crate::support::{Production, Server, until};

fn is_sealed(server: &Server) -> bool {
    server.http().get("sys/seal-status").expect(200).at("/sealed") == json!(true)
}

fn interpreter() -> PathBuf {
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/kmip-requirements.txt");
    python::environment("kmip", Path::new(env!("CARGO_TARGET_TMPDIR")), &pinned).unwrap()
}

#[test]
fn a_server_whose_key_a_server_of_keys_keeps_opens_by_itself_when_that_one_answers() {
    let mut kmip = PyKmip::start(&interpreter()).unwrap();
    let (key, newer) = (kmip.make().unwrap(), kmip.make().unwrap());
    let production = Production::new();
    let configured = std::fs::read_to_string(production.config()).unwrap();
    let configure = |key: &str, more: &str| {
        let (authority, certificate, private) = (kmip.file("ca.pem"), kmip.file("client.pem"), kmip.file("client.key"));
        production.configure(&format!(
            "{configured}seal \"kmip\" {{\n  endpoint = \"{}\"\n  kms_key_id = \"{key}\"\n  ca_cert = \"{}\"\n  client_cert = \"{}\"\n  \
             client_key = \"{}\"\n{more}}}\n",
            kmip.address(),
            authority.display(),
            certificate.display(),
            private.display(),
        ));
    };
    configure(&key, "");
    let server = production.start();
    let body = json!({ "recovery_shares": 1, "recovery_threshold": 1 });
    let made = server.http().post("sys/init", &body).expect(200);
    let (share, root) = (made.text_at("/recovery_keys/0"), made.text_at("/root_token"));
    let status = server.http().get("sys/seal-status").expect(200);
    assert_eq!((status.at("/type"), status.at("/sealed")), (json!("kmip"), json!(false)), "{}", server.log());
    drop(server);
    // Another key: the store opens by the one before, and gets a slot of the new one.
    configure(&newer, &format!("  tls12_ciphers = \"{}\"\n  timeout = 5\n", tresor_services::pykmip::SUITE));
    for _ in 0..2 {
        let server = production.start();
        assert!(!is_sealed(&server), "{}", server.log());
        let slots = server.http().with_token(&root).get("sys/seal-slots").expect(200);
        assert_eq!(slots.at("/data/slots/1/key_id"), json!(newer), "{}", slots.text);
    }
    // An authority that did not vouch for it, and a name that it does not have.
    for (more, words) in [
        (
            "  server_name = \"other.example\"\n",
            "it does not answer: invalid peer certificate: certificate not valid for name",
        ),
        ("  tls12_ciphers = \"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384\"\n", "it does not answer"),
    ] {
        configure(&newer, more);
        let server = production.start();
        assert!(is_sealed(&server), "{more}");
        server.has_logged(words);
    }
    configure(&newer, "");
    // The server of keys is away, and comes back.
    kmip.stop();
    let server = production.start();
    assert!(is_sealed(&server));
    server.has_logged(&format!("the key `{newer}` of the seal `kmip`: it does not answer"));
    kmip.start_again().unwrap();
    until("the server to open by itself", || (!is_sealed(&server)).then_some(()));
    drop(server);
    // The key is taken out of use; shares open.
    kmip.revoke(&newer).unwrap();
    let server = production.start();
    assert!(is_sealed(&server));
    server.has_logged("of the seal `kmip`: it refuses: permission denied");
    assert_eq!(server.http().post("sys/unseal", &json!({ "key": share })).expect(200).at("/sealed"), json!(false));
}
