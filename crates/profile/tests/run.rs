//! Profiles read and run, with a door that notes what is asked and answers by a table.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use futures_util::FutureExt;
use proptest::prelude::*;
use tresor_env::doubles::SeededEntropy;
use tresor_env::{BoxFuture, Timestamp};
use tresor_model::{Body, Fault, Map, Verb};
use tresor_profile::{Door, History, Kind, Machine, Made, Profile, Run, Who, Workflow};
use tresor_secret::Wiped;
use tresor_wire::json;

fn map(text: &str) -> Map {
    json::decode(text.as_bytes(), &json::JsonLimits::default()).unwrap()
}

fn shown(map: &Map) -> String {
    let mut bytes = Vec::new();
    json::encode_map(map, &mut bytes);
    String::from_utf8(bytes).unwrap()
}

/// Answers by path; what is not there is denied.
struct Answers {
    answers: BTreeMap<&'static str, &'static str>,
    asked: Mutex<Vec<String>>,
}

impl Answers {
    fn new(answers: &[(&'static str, &'static str)]) -> Self {
        Self { answers: answers.iter().copied().collect(), asked: Mutex::default() }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Door for Answers {
    fn ask(&self, made: Made) -> BoxFuture<'_, Result<Map, Fault>> {
        let who = match &made.who {
            Who::Runner => "runner".to_owned(),
            Who::Nobody => "nobody".to_owned(),
            Who::Token(token) => format!("token {}", token.expose()),
        };
        let wrapped = made.wrap_ttl.map(|ttl| format!(" wrapped for {ttl:?}")).unwrap_or_default();
        let line = format!("{:?} {} by {who}: {} {:?}{wrapped}", made.verb, made.path, shown(&made.data), made.headers);
        self.asked.lock().unwrap().push(line);
        let answer = self.answers.get(made.path.as_str()).map(|text| map(text)).ok_or_else(Fault::denied);
        Box::pin(std::future::ready(answer))
    }
}

struct Fixed;

impl Machine for Fixed {
    fn variable(&self, name: &str) -> Option<Wiped<String>> {
        (name == "SET").then(|| Wiped::new("of the machine".to_owned()))
    }

    fn file(&self, path: &Path) -> Result<Wiped<String>, String> {
        if path == Path::new("/there") {
            Ok(Wiped::new("of a file\n".to_owned()))
        } else {
            Err("it is not there".into())
        }
    }
}

fn run_with(door: &Answers, text: &str, sent: &str) -> (Result<Option<String>, String>, History) {
    let mut history = History::default();
    let outcome = Workflow::parse(text).map_err(|error| error.to_string()).and_then(|workflow| {
        let input = workflow.input(&map(sent)).map_err(|error| error.to_string())?;
        let entropy = SeededEntropy::new(1);
        let run = Run { door, machine: None, entropy: &entropy, now: Timestamp::from_seconds(1_795_996_800) };
        let outcome = workflow.run(&run, input.as_ref(), &mut history).now_or_never().unwrap();
        outcome.map(|output| output.as_ref().map(shown)).map_err(|error| error.to_string())
    });
    (outcome, history)
}

#[test]
fn sys_28_values_come_from_what_was_asked_answered_and_sent() {
    let door = Answers::new(&[
        ("sys/policies/password/strong/generate", r#"{"data": {"password": "s3cret", "n": 3}}"#),
        ("kv/data/app", r#"{"data": {"version": 1}}"#),
        ("auth/userpass/login/ada", r#"{"auth": {"client_token": "t.ada", "policies": ["a", "b"]}}"#),
        ("kv/metadata/", r#"{"data": {"keys": ["x", "y"]}}"#),
    ]);
    let text = r#"
      input {
        field "string" "policy" { required = true }
        field "string" { name = "user" default = "ada" }
        field "names" { type = "comma_slice_string" }
        field "int" "n" { allowed_values = [1, 2] default = 1 }
        field "bool" "on" {}
      }
      flow "make" {
        request "generate" {
          operation = "read"
          path = { eval_source = "template" eval_type = "string" template = "sys/policies/password/{{ .input.policy }}/generate" }
        }
        request "store" {
          operation = "update"
          path = "/kv/data/app"
          headers = { "X-Vault-MFA" = ["a:b", { eval_source = "input" field_name = "user" }] one = "1" }
          data = {
            data = {
              password = { eval_source = "response" eval_type = "string" flow_name = "make" response_name = "generate" field_selector = ["data", "password"] }
              of = { eval_source = "request" eval_type = "string" flow_name = "make" request_name = "generate" field_selector = "path" }
              names = { eval_source = "input" eval_type = "[]string" field_name = "names" }
              sum = { eval_source = "cel" eval_type = "string" expression = "base + size(names)"
                      variables = [ { name = "names" expression = "input.names" }, { name = "base" expression = "responses.make.generate.data.n" } ] }
              list = [1, "two", true, { eval_source = "input" field_name = "n" }]
            }
          }
        }
      }
      flow "log-in" {
        when = { eval_source = "cel" eval_type = "bool" expression = "input.n == 1" }
        request "login" {
          operation = "create"
          path = { eval_source = "template" eval_type = "string" template = "auth/userpass/login/{{ .data.who }}" data = { data = { who = { eval_source = "input" field_name = "user" } } } }
          token = ""
        }
        request "skipped" { operation = "delete" path = "kv/data/app" when = false }
        request "names" {
          operation = "list"
          path = "kv/metadata/"
          token = { eval_source = "response" eval_type = "string" flow_name = "log-in" response_name = "login" field_selector = ["auth", "client_token"] }
        }
        request "may-fail" { operation = "patch" path = "nowhere" allow_failure = "true" }
      }
      flow "never" {
        when = "false"
        request "r" { operation = "read" path = "nowhere" }
      }
      output {
        data = {
          last = { eval_source = "response" eval_type = "string" flow_name = "log-in" response_name = "names" field_selector = ["data", "keys", 1] }
          text = { eval_source = "template" eval_type = "string" template = "{{ index .responses.log-in \"login\" \"auth\" \"client_token\" }}!" }
        }
      }"#;
    let (outcome, history) = run_with(&door, text, r#"{"policy": "strong", "names": "p,q"}"#);
    assert_eq!(outcome.unwrap().as_deref(), Some(r#"{"last":"y","text":"t.ada!"}"#));
    let expected = [
        "Read sys/policies/password/strong/generate by runner: {} {}".to_owned(),
        concat!(
            r#"Write kv/data/app by runner: {"data":{"list":[1,"two",true,1],"names":["p","q"],"#,
            r#""of":"sys/policies/password/strong/generate","password":"s3cret","sum":"5"}} "#,
            r#"{"one": ["1"], "x-vault-mfa": ["a:b", "ada"]}"#
        )
        .to_owned(),
        "Write auth/userpass/login/ada by nobody: {} {}".to_owned(),
        "List kv/metadata/ by token t.ada: {} {}".to_owned(),
        "Patch nowhere by runner: {} {}".to_owned(),
    ];
    assert_eq!(door.asked(), expected);
    assert!(history.responses.get("never").is_none());
    let flow = history.responses.get("log-in").and_then(Body::as_map).unwrap();
    assert_eq!(flow.names().collect::<Vec<_>>(), ["login", "names"]);
    // Whose token it was stands nowhere among the requests.
    assert!(!shown(&history.requests).contains("t.ada"));
}

#[test]
fn a_workflow_can_be_json() {
    let door = Answers::new(&[("kv/a", r#"{"data": {"x": "y"}}"#)]);
    let text = r#"{
      "input": {"field": {"string": {"name": {"required": true}}}},
      "flow": {"f": {"request": {"r": {"operation": "read",
        "path": {"eval_source": "template", "eval_type": "string", "template": "kv/{{ .input.name }}"}}}}},
      "output": {"data": {"x": {"eval_source": "response", "eval_type": "string", "flow_name": "f",
        "response_name": "r", "field_selector": ["data", "x"]}}}
    }"#;
    let (outcome, _) = run_with(&door, text, r#"{"name": "a"}"#);
    assert_eq!(outcome.unwrap().as_deref(), Some(r#"{"x":"y"}"#));
    let lists = r#"{"flow": [{"f": [{"request": [{"r": {"operation": "read", "path": "kv/a"}}]}]}]}"#;
    assert_eq!(run_with(&door, lists, "{}").0, Ok(None));
}

#[test]
fn the_first_failure_ends_it_and_says_where() {
    let door = Answers::new(&[("a", r#"{"data": {"secret": "canary"}}"#)]);
    let request = |inside: &str| {
        format!(
            "flow \"f\" {{ request \"a\" {{ operation = \"read\" path = \"a\" }} request \"b\" {{ {inside} }} request \"c\" {{ operation = \"read\" path = \"a\" }} }}"
        )
    };
    let from = |what: &str| format!("operation = \"read\" path = {{ {what} }}");
    for (text, expected) in [
        (request("operation = \"read\" path = \"b\""), "flow `f`, request `b`: permission denied"),
        (
            request(&from(
                "eval_source = \"response\" eval_type = \"string\" flow_name = \"f\" response_name = \"a\" field_selector = [\"data\", \"x\"]",
            )),
            "flow `f`, request `b`: `path`: there is no `x`",
        ),
        (
            request(&from(
                "eval_source = \"response\" eval_type = \"string\" flow_name = \"f\" response_name = \"a\" field_selector = \"data\"",
            )),
            "flow `f`, request `b`: `path`: it is a map, and no text",
        ),
        (
            request(&from(
                "eval_source = \"cel\" eval_type = \"string\" expression = \"int(responses.f.a.data.secret)\"",
            )),
            "flow `f`, request `b`: `path`: CEL: character 1: a text is no whole number",
        ),
        (
            request(&from(
                "eval_source = \"template\" eval_type = \"string\" template = \"{{ .responses.f.a.data.none }}\"",
            )),
            "flow `f`, request `b`: `path`: template: there is no field `.responses.f.a.data.none`",
        ),
        (
            request(
                "operation = { eval_source = \"cel\" eval_type = \"string\" expression = \"'brew'\" } path = \"a\"",
            ),
            "flow `f`, request `b`: `operation` is none: create, read, update, patch, delete, list or scan",
        ),
    ] {
        let before = door.asked().len();
        let (outcome, history) = run_with(&door, &text, "{}");
        let error = outcome.unwrap_err();
        assert_eq!(error, expected, "{text}");
        assert!(!error.contains("canary"));
        let flow = history.responses.get("f").and_then(Body::as_map).unwrap();
        assert_eq!(flow.names().collect::<Vec<_>>(), ["a"], "what was answered before is known");
        assert!(door.asked().len() <= before + 2, "what comes after is not asked");
    }
}

#[test]
fn a_header_asks_that_an_answer_be_wrapped_as_of_a_client() {
    let asked = |header: &str| {
        let door = Answers::new(&[("a", "{}")]);
        let request = format!("request \"r\" {{ operation = \"read\" path = \"a\" headers = {{ {header} }} }}");
        run_with(&door, &format!("flow \"f\" {{ {request} }}"), "{}").0.map(|_| door.asked().concat())
    };
    for (header, wrapped) in
        [("\"X-Vault-Wrap-TTL\" = \"5m\"", "wrapped for 300s"), ("\"x-vault-wrap-ttl\" = 60", "wrapped for 60s")]
    {
        assert!(asked(header).unwrap().ends_with(wrapped), "{header}");
    }
    for header in ["", "\"X-Vault-Wrap-TTL\" = \"0\"", "\"X-Vault-Wrap-TTL\" = \"\""] {
        assert!(!asked(header).unwrap().contains("wrapped"), "{header}");
    }
    for header in ["\"X-Vault-Wrap-TTL\" = \"soon\"", "\"X-Vault-Wrap-TTL\" = [\"1m\", \"2m\"]"] {
        assert!(asked(header).unwrap_err().contains("`x-vault-wrap-ttl` is no duration"), "{header}");
    }
}

#[test]
fn input_is_what_the_workflow_says() {
    let flow = "flow \"f\" { request \"r\" { operation = \"read\" path = \"a\" } }";
    let read = |fields: &str, sent: &str| {
        let workflow = Workflow::parse(&format!("input {{ {fields} }}\n{flow}")).map_err(|error| error.to_string())?;
        let input = workflow.input(&map(sent)).map_err(|error| error.to_string())?;
        Ok::<_, String>(shown(&input.unwrap()))
    };
    for (fields, sent, expected) in [
        ("field \"string\" \"a\" { required = true }", "{}", Err("input: `a`: is required")),
        ("field \"string\" \"a\" { required = true }", r#"{"a": null}"#, Err("input: `a`: is required")),
        ("field \"string\" \"a\" {}", r#"{"a": 1, "b": 2}"#, Ok(r#"{"a":"1"}"#)),
        ("field \"int\" \"a\" {}", r#"{"a": "7"}"#, Ok(r#"{"a":7}"#)),
        ("field \"int\" \"a\" {}", r#"{"a": "x"}"#, Err("input: `a`: must be a whole number")),
        ("field \"duration_second\" \"a\" {}", r#"{"a": "1h"}"#, Ok(r#"{"a":3600}"#)),
        ("field \"signed_duration_second\" \"a\" {}", r#"{"a": "-90"}"#, Ok(r#"{"a":-90}"#)),
        ("field \"comma_int_slice\" \"a\" {}", r#"{"a": "1,2"}"#, Ok(r#"{"a":[1,2]}"#)),
        ("field \"kv_pairs\" \"a\" {}", r#"{"a": ["k=v"]}"#, Ok(r#"{"a":{"k":"v"}}"#)),
        ("field \"map\" \"a\" {}", r#"{"a": {"k": 1}}"#, Ok(r#"{"a":{"k":1}}"#)),
        ("field \"slice\" \"a\" {}", r#"{"a": "x"}"#, Ok(r#"{"a":["x"]}"#)),
        (
            "field \"name_string\" \"a\" {}",
            r#"{"a": "x/y"}"#,
            Err("input: `a`: must be letters, digits, `-`, `_` and `.`"),
        ),
        ("field \"lower_case_string\" \"a\" {}", r#"{"a": "XY"}"#, Ok(r#"{"a":"xy"}"#)),
        ("field \"time\" \"a\" {}", r#"{"a": "2026-11-30T00:00:00Z"}"#, Ok(r#"{"a":"2026-11-30T00:00:00Z"}"#)),
        ("field \"float\" \"a\" {}", r#"{"a": "1.5"}"#, Ok(r#"{"a":1.5}"#)),
        ("field \"float\" \"a\" {}", r#"{"a": 1e400}"#, Err("input: `a`: is out of range")),
        ("field \"float\" \"a\" {}", r#"{"a": "-1e400"}"#, Err("input: `a`: must be a number")),
        ("field \"float\" \"a\" {}", r#"{"a": 1e308}"#, Ok(r#"{"a":1e+308}"#)),
        ("field \"bool\" \"a\" { default = \"true\" }", "{}", Ok(r#"{"a":true}"#)),
        (
            "field \"string\" \"a\" { allowed_values = [\"x\"] }",
            r#"{"a": "y"}"#,
            Err("input: `a`: is none of the values that are allowed"),
        ),
        ("field \"nothing\" \"a\" {}", "{}", Err("1:29: the field `a` cannot be of the type `nothing`")),
        ("field \"a\" {}", "{}", Err("1:19: `field` needs a type and a name: field \"string\" \"name\" { .. }")),
        ("field \"int\" \"a\" { default = \"x\" }", "{}", Err("1:37: the field `a` must be a whole number")),
        ("other = 1", "{}", Err("1:9: `input` has fields, and no `other`")),
    ] {
        let outcome = read(fields, sent);
        assert_eq!(outcome.as_deref().map_err(String::as_str), expected, "{fields} {sent}");
    }
}

#[test]
fn what_is_no_workflow_is_refused_with_its_place() {
    let request = |inside: &str| format!("flow \"f\" {{ request \"r\" {{ {inside} }} }}");
    let value = |inside: &str| request(&format!("operation = \"read\" path = {{ {inside} }}"));
    for (text, words) in [
        (String::new(), "at least one `flow`"),
        ("input {}".to_owned(), "at least one `flow`"),
        ("what = 1".to_owned(), "1:1: a workflow has no `what`"),
        ("flow \"f\" {}".to_owned(), "without a `request`"),
        (
            format!("{}{}", request("operation = \"read\" path = \"a\""), request("operation = \"read\" path = \"a\"")),
            "two blocks",
        ),
        (format!("{} output {{}} output {{}}", request("operation = \"read\" path = \"a\"")), "one `output` at most"),
        (format!("{} output {{ headers = {{}} }}", request("operation = \"read\" path = \"a\"")), "cannot set headers"),
        (request("path = \"a\""), "needs `operation`"),
        (request("operation = \"alias-lookahead\" path = \"a\""), "cannot be `alias-lookahead`"),
        (request("operation = \"read\" path = \"a\" data = 1"), "`data` must be a map"),
        (request("operation = \"read\" path = [\"a\"]"), "`path` must be a single value"),
        (value("eval_source = \"env\" eval_type = \"string\" env_var = \"HOME\""), "cannot be \"env\" in a workflow"),
        (
            value("eval_source = \"file\" eval_type = \"string\" path = \"/etc/passwd\""),
            "cannot be \"file\" in a workflow",
        ),
        (value("eval_source = \"what\" eval_type = \"string\""), "cannot be \"what\""),
        (value("eval_source = \"input\" eval_type = \"string\" field_name = \"x\""), "no field `x`"),
        (value("eval_source = \"input\" eval_type = \"number\" field_name = \"x\""), "`eval_type` cannot be `number`"),
        (value("eval_type = \"string\""), "`eval_type` needs `eval_source`"),
        (value("eval_source = \"template\" template = \"{{ .secrets.x }}\""), "no field `.secrets.x`"),
        (value("eval_source = \"template\" template = \"{{ .input.x }}\""), "no field `.input.x`"),
        (value("eval_source = \"cel\" expression = \"input.x\""), "there is no `input`"),
        (value("eval_source = \"cel\" expression = \"1 +\""), "CEL: character 4: unexpected end"),
        (value("eval_source = \"cel\" expression = \"1\" more = 1"), "has no `more`"),
        (value("eval_source = { eval_source = \"cel\" }"), "must be a text"),
        (
            value("eval_source = \"response\" flow_name = \"f\" response_name = \"r\""),
            "no request `f/r` is made before",
        ),
        (value("eval_source = \"request\" flow_name = \"g\" request_name = \"r\""), "no request `g/r` is made before"),
    ] {
        let error = Workflow::parse(&text).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(words), "{text}: {error}");
    }
    let many: String =
        (0..65).map(|index| format!("request \"r{index}\" {{ operation = \"read\" path = \"a\" }}\n")).collect();
    let error = Workflow::parse(&format!("flow \"f\" {{ {many} }}")).err().unwrap();
    assert!(error.to_string().contains("more than 64 requests"), "{error}");
}

#[test]
fn what_runs_first_may_look_at_the_machine() {
    let text = r#"initialize "i" {
      request "a" {
        operation = "update"
        path = "x"
        data = {
          variable = { eval_source = "env" eval_type = "string" env_var = "SET" require_present = true }
          none = { eval_source = "env" eval_type = "string" env_var = "UNSET" require_present = false }
          file = { eval_source = "file" eval_type = "string" path = "/there" }
          both = { eval_source = "template" eval_type = "string" template = "{{ .v }}, {{ .f }}" data = {
            v = { eval_source = "env" env_var = "SET" } f = { eval_source = "file" path = "/there" } } }
        }
      }
    }"#;
    let run_it = |text: &str| {
        let door = Answers::new(&[("x", "{}")]);
        let profile = Profile::parse(Kind::Initialize, text).unwrap();
        let entropy = SeededEntropy::new(1);
        let run = Run { door: &door, machine: Some(&Fixed), entropy: &entropy, now: Timestamp::EPOCH };
        let outcome = profile.run(&run, None, &mut History::default()).now_or_never().unwrap();
        outcome.map(|()| door.asked()).map_err(|error| error.to_string())
    };
    let expected = concat!(
        r#"Write x by runner: {"both":"of the machine, of a file","file":"of a file","#,
        r#""none":"","variable":"of the machine"} {}"#
    );
    assert_eq!(run_it(text).unwrap(), [expected]);
    let unset = run_it(&text.replace(" require_present = false", ""));
    assert_eq!(unset.unwrap_err(), "initialize `i`, request `a`: `data`: the variable `UNSET` is not set");
    let lost = run_it(&text.replace("\"/there\"", "\"/lost\""));
    assert_eq!(lost.unwrap_err(), "initialize `i`, request `a`: `data`: it is not there");
}

#[test]
fn sec_what_is_kept_and_made_is_bounded() {
    let long: &'static str = Box::leak(format!(r#"{{"data": {{"x": "{}"}}}}"#, "y".repeat(700_000)).into_boxed_str());
    let door = Answers::new(&[("a", long)]);
    let requests: String =
        (0..10).map(|index| format!("request \"r{index}\" {{ operation = \"read\" path = \"a\" }}\n")).collect();
    let (outcome, _) = run_with(&door, &format!("flow \"f\" {{ {requests} }}"), "{}");
    assert!(outcome.unwrap_err().contains("more than what is kept"));
    let twice = r#"flow "f" {
      request "r" { operation = "read" path = "a" }
      request "s" { operation = "update" path = "a" data = {
        x = { eval_source = "response" flow_name = "f" response_name = "r" field_selector = "data" }
        y = { eval_source = "response" flow_name = "f" response_name = "r" field_selector = "data" } } }
    }"#;
    let (outcome, _) = run_with(&door, twice, "{}");
    assert!(outcome.unwrap_err().contains("larger than a value may be"));
}

#[test]
fn verbs_are_the_operations_of_policies() {
    let door = Answers::new(&[("a", "{}")]);
    let verbs = [
        ("create", Verb::Write),
        ("update", Verb::Write),
        ("read", Verb::Read),
        ("list", Verb::List),
        ("scan", Verb::Scan),
        ("patch", Verb::Patch),
        ("delete", Verb::Delete),
    ];
    for (word, verb) in verbs {
        let text = format!("flow \"f\" {{ request \"r\" {{ operation = \"{word}\" path = \"a\" }} }}");
        run_with(&door, &text, "{}").0.unwrap();
        assert!(door.asked().last().unwrap().starts_with(&format!("{verb:?} ")), "{word}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_stumble(text in "(flow|request|input|field|output|operation|path|data|when|eval_source|eval_type|template|cel|expression|response|\"[a-z{. }]{0,4}\"|\\{|\\}|=|\\[|\\]|,|\n| ){0,40}") {
        let door = Answers::new(&[]);
        drop(run_with(&door, &text, "{}"));
    }
}
