//! Workflows of a real server: one that its configuration lets everybody run, written by the requests that the server makes at
//! its first start.

use serde_json::json;

use crate::support::Production;

#[test]
fn a_server_that_initialises_itself_has_a_workflow_for_everybody_where_that_is_allowed() {
    let production = Production::new();
    let key = production.home().join("unseal.key");
    std::fs::write(&key, [7; 32]).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    production.configure_more(&format!(
        r#"seal "static" {{
             current_key_id = "a"
             current_key    = "file://{}"
           }}
           allow_unauthenticated_workflows = true
           initialize "people" {{
             request "method" {{
               operation = "update"
               path      = "sys/auth/userpass"
               data      = {{ type = "userpass" }}
             }}
             request "password" {{
               operation = "update"
               path      = "sys/tools/random/16"
               data      = {{ format = "hex" }}
             }}
             request "bob" {{
               operation = "create"
               path      = "auth/userpass/users/bob"
               data = {{
                 password = {{
                   eval_source     = "response"
                   eval_type       = "string"
                   initialize_name = "people"
                   response_name   = "password"
                   field_selector  = ["data", "random_bytes"]
                 }}
               }}
             }}
             request "greeting" {{
               operation = "update"
               path      = "sys/workflows/manage/greeting"
               data = {{
                 allow_unauthenticated = true
                 workflow = <<EOT
input {{
  field "string" "name" {{ default = "nobody" }}
}}
flow "f" {{
  request "health" {{
    operation = "read"
    path      = "sys/seal-status"
  }}
}}
output {{
  data = {{
    text = {{ eval_source = "cel" eval_type = "string"
             expression = "input.name + (responses.f.health.data.sealed ? ' sees it sealed' : ' sees it open')" }}
  }}
}}
EOT
               }}
             }}
           }}"#,
        key.display(),
    ));
    let server = production.start();
    let run = |body: &str, status: u16| {
        server.http().send("POST", "sys/workflows/unauthed-execute/greeting", body).expect(status)
    };
    assert_eq!(run(r#"{"name": "Ada"}"#, 200).at("/data"), json!({ "text": "Ada sees it open" }));
    assert_eq!(run("{}", 200).at("/data"), json!({ "text": "nobody sees it open" }));
    assert!(run(r#"{"name": {}}"#, 400).text.contains("input: `name`: must be a string"));
    server.http().send("POST", "sys/workflows/unauthed-execute/other", "{}").expect(403);
    server.http().send("POST", "sys/workflows/execute/greeting", "{}").expect(403);
    let guess = r#"{"password": "guess"}"#;
    server.http().send("POST", "auth/userpass/login/bob", guess).expect(400);
}
