//! Servers whose keys the services of Alibaba's and Oracle's clouds keep, for which fakes stand that verify each signature by OpenSSL:
//! opened at every start, moved from one to the other by shares, and refused with a wrong key, which nobody sees.

use serde_json::json;
use tresor_canary::Canaries;
use tresor_services::clouds::ALICLOUD_KEY;
use tresor_services::oracle::OCI_KEY;
use tresor_services::{FakeAliCloudKms, FakeOciKms};

use super::canary::files;
use crate::support::{Production, Server};

/// The secret of whoever Alibaba's service lets in.
const SECRET: &str = "canary+secret/of=alibaba";

fn is_sealed(server: &Server) -> bool {
    server.http().get("sys/seal-status").expect(200).at("/sealed") == json!(true)
}

fn slot(server: &Server, root: &str) -> (String, String) {
    let slots = server.http().with_token(root).get("sys/seal-slots").expect(200);
    (slots.text_at("/data/slots/1/type"), slots.text_at("/data/slots/1/key_id"))
}

#[test]
fn a_store_is_opened_by_alibabas_service_and_goes_over_to_oracles() {
    let alibaba = FakeAliCloudKms::start("AKID", SECRET).unwrap();
    let oracle = FakeOciKms::start().unwrap();
    let production = Production::new();
    let configured = std::fs::read_to_string(production.config()).unwrap();
    let configured = format!("{configured}log_level = \"trace\"\n");
    let first = format!(
        "seal \"alicloudkms\" {{\n  domain = \"{}\"\n  kms_key_id = \"alias/unseal\"\n  access_key = \"AKID\"\n}}\n",
        alibaba.address()
    );
    production.configure(&format!("{configured}{first}"));
    let secret = [("ALICLOUD_SECRET_KEY", SECRET)];
    let server = production.start_with(&secret);
    let body = json!({ "recovery_shares": 1, "recovery_threshold": 1 });
    let made = server.http().post("sys/init", &body).expect(200);
    let (share, root) = (made.text_at("/recovery_keys/0"), made.text_at("/root_token"));
    assert!(!is_sealed(&server), "{}", server.log());
    let mut logs = vec![server.log()];
    drop(server);
    let server = production.start_with(&secret);
    assert!(!is_sealed(&server), "{}", server.log());
    assert_eq!(slot(&server, &root), ("alicloudkms".to_owned(), "alias/unseal".to_owned()));
    drop(server);
    // Whose secret is another one is told so.
    let server = production.start_with(&[("ALICLOUD_SECRET_KEY", "canary-of-a-wrong-secret")]);
    assert!(is_sealed(&server));
    server
        .has_logged("the key `alias/unseal` of the seal `alicloudkms`: it refuses: status 400, SignatureDoesNotMatch");
    logs.push(server.log());
    drop(server);
    // The key by its id: another name, the same key.
    production.configure(&format!("{configured}{}", first.replace("alias/unseal", ALICLOUD_KEY)));
    let server = production.start_with(&secret);
    assert!(!is_sealed(&server), "{}", server.log());
    assert_eq!(slot(&server, &root).1, ALICLOUD_KEY);
    drop(server);
    // To Oracle's service, by shares.
    production.configure(&format!(
        "{configured}seal \"ocikms\" {{\n  key_id = \"{OCI_KEY}\"\n  crypto_endpoint = \"{0}\"\n  management_endpoint = \"{0}\"\n  \
         auth_type_api_key = true\n}}\n",
        oracle.address()
    ));
    let config = oracle.config().display().to_string();
    let file = [("OCI_CONFIG_FILE", config.as_str())];
    let server = production.start_with(&file);
    assert!(is_sealed(&server));
    assert_eq!(server.http().post("sys/unseal", &json!({ "key": share })).expect(200).at("/sealed"), json!(false));
    assert_eq!(slot(&server, &root), ("ocikms".to_owned(), OCI_KEY.to_owned()));
    logs.push(server.log());
    drop(server);
    // The user's key as older tools write it.
    oracle.write_key_as_pkcs1().unwrap();
    let server = production.start_with(&file);
    assert!(!is_sealed(&server), "{}", server.log());
    drop(server);
    // Another fake's user signs by another key.
    let stranger = FakeOciKms::start().unwrap();
    let server = production.start_with(&[("OCI_CONFIG_FILE", &stranger.config().display().to_string())]);
    assert!(is_sealed(&server));
    server.has_logged("of the seal `ocikms`: it refuses: status 401, NotAuthenticated");
    logs.push(server.log());
    drop(server);
    // The machine in the place of the user, by its metadata.
    let configuration = std::fs::read_to_string(production.config()).unwrap();
    production.configure(&configuration.replace("  auth_type_api_key = true\n", ""));
    let (metadata, authority, strange) = (oracle.metadata(), oracle.address(), stranger.metadata());
    let machine =
        |metadata| [("OCI_METADATA_BASE_URL", metadata), ("OCI_SDK_AUTH_CLIENT_REGION_URL", authority.as_str())];
    let server = production.start_with(&machine(&metadata));
    assert!(!is_sealed(&server), "{}", server.log());
    logs.push(server.log());
    drop(server);
    // Another machine.
    let server = production.start_with(&machine(&strange));
    assert!(is_sealed(&server));
    server.has_logged("of the seal `ocikms`: it refuses: no token for this machine: status 401, NotAuthenticated");
    logs.push(server.log());
    drop(server);
    let mut secrets = Canaries::new();
    let keys = [oracle.machine_key().unwrap(), stranger.machine_key().unwrap()];
    for key in &keys {
        secrets.watch("the key of a machine", key.lines().nth(2).unwrap().as_bytes());
    }
    secrets.watch("the secret key", SECRET.as_bytes());
    secrets.watch("a wrong one", b"canary-of-a-wrong-secret");
    for text in logs {
        assert_eq!(secrets.find(text.as_bytes()), None);
    }
    for file in files(&production.data()) {
        assert_eq!(secrets.find(&std::fs::read(&file).unwrap()), None, "{}", file.display());
    }
}
