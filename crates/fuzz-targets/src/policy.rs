//! FZ-05, FZ-06 in part: a policy's text. Total; printed and read again it means the same; what it compiles to decides
//! about every path, and never grants beside a denial. (The decision itself is compared with a slow evaluator in the
//! tests of `tresor-policy`.)

use std::sync::Arc;

use tresor_hcl::Position;
use tresor_model::{Map, Operation, Timestamp};
use tresor_policy::{
    AskedPath, Capability, Cases, Decision, Holder, Identity, KeysFilter, Parameters, PasswordPolicy, Policy,
    PolicyName, PolicySet, Request, Rule, lint,
};

use crate::document::print;

pub(crate) const WORDS: &[&str] = &[
    "path \"",
    "secret/*",
    "+/a",
    "a/+/b*",
    "{{identity.entity.id}}",
    "{{",
    "\" {",
    "}",
    "capabilities = [",
    "\"read\",",
    "\"deny\"",
    "\"sudo\"",
    "]",
    "allowed_parameters = {",
    "\"*\" = []",
    "denied_parameters = { \"a\" = [\"x*\"] }",
    "required_parameters = [\"a\"]",
    "min_wrapping_ttl = \"1h\"",
    "max_wrapping_ttl = 0x-8000000000000000",
    "policy = \"write\"",
    "{\"path\":{\"a\":{\"capabilities\":[\"list\"]}}}",
    "name = \"x\"",
    "expiration = \"2030-01-01T00:00:00Z\"",
    "pagination_limit = 3",
    "list_scan_response_keys_filter_path = \"{{ .path }}{{ .key }}\"",
    "case \"a\" { path = \"a\" can = [\"read\"] }",
    "policies = []",
    "length = 8",
    "rule \"charset\" { charset = \"ab\" min-chars = 1 }",
    "\n",
    "=",
    "\"\"",
];

/// A policy.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = PolicyName::parse(text) {
        assert_eq!(PolicyName::parse(name.as_str()).as_ref(), Ok(&name), "folding a name twice changes it");
        assert_ne!(name.as_str(), "root");
    }
    drop(Cases::parse(text));
    drop(PasswordPolicy::parse(text));
    if let Ok(filter) = KeysFilter::parse(text) {
        let path = filter.path("kv/metadata/", "name");
        assert!(path.is_none_or(|path| path.len() < 64 * 1024 * 1024), "a filter that grows");
    }
    drop(lint(text, &["kv/".to_owned()]));
    let Ok(policy) = Policy::parse("p", text) else { return };
    let printed = print(&tresor_hcl::parse(text).expect("a policy is a document"));
    if printed.len() <= tresor_hcl::DOCUMENT_BYTES_MAX {
        let again = Policy::parse("p", &printed).unwrap_or_else(|error| panic!("{error} in: {printed}"));
        assert!(meaning(&again) == meaning(&policy), "printed and read, it grants something else");
    }
    templates(&policy);
    let set =
        PolicySet::compile(&[Arc::new(policy.clone())], &Holder { identity: None, now: Timestamp::from_nanos(0) });
    for rule in policy.rules.iter().take(20) {
        assert!(rule.max_wrapping_ttl == 0 || rule.min_wrapping_ttl <= rule.max_wrapping_ttl);
        let below = rule.pattern.replace('*', "x").replace('+', "y");
        for path in [rule.pattern.as_str(), &below, "", "a", "/"] {
            decide(&set, path);
        }
        let is_literal = !rule.pattern.contains(['*', '+']) && !rule.pattern.contains("{{");
        if is_literal && rule.capabilities.contains(Capability::Deny) {
            assert!(ask(&set, &rule.pattern, Operation::Read).allowed_with_sudo().is_none(), "granted beside a denial");
        }
    }
}

/// FZ-07: whatever the values of templates are, nothing is granted that the value as a literal name would not be.
fn templates(policy: &Policy) {
    for value in ["*", "+", "a/b", "..", "", "a*", "a,b", "ok"] {
        let metadata = [("k".to_owned(), value.to_owned())].into();
        let identity = Identity { id: value.into(), name: value.into(), metadata, ..Identity::default() };
        let set = PolicySet::compile(
            &[Arc::new(policy.clone())],
            &Holder { identity: Some(&identity), now: Timestamp::from_nanos(0) },
        );
        let plain =
            PolicySet::compile(&[Arc::new(policy.clone())], &Holder { identity: None, now: Timestamp::from_nanos(0) });
        for path in ["other", "other/deep", "secret/other"] {
            let (with, without) = (ask(&set, path, Operation::Read), ask(&plain, path, Operation::Read));
            let may = |decision: Decision<'_>| decision.allowed_with_sudo().is_some();
            assert!(value == "ok" || !may(with) || may(without), "`{value}` grants {path}");
        }
    }
}

/// A policy's rules, wherever they stand.
fn meaning(policy: &Policy) -> Vec<Rule> {
    let nowhere = Position { line: 0, column: 0 };
    policy.rules.iter().map(|rule| Rule { position: nowhere, ..rule.clone() }).collect()
}

fn decide(set: &PolicySet, path: &str) {
    let directory = if path.ends_with('/') { path.to_owned() } else { format!("{path}/") };
    let shown = set.capabilities(AskedPath::exact(path), AskedPath::exact(&directory));
    assert!(!shown.is_empty());
    for operation in [Operation::Read, Operation::List, Operation::Create, Operation::Delete] {
        let decision = ask(set, path, operation);
        if let Decision::Allowed { sudo, .. } = decision {
            let needed = Capability::needed_by(operation).expect("each of them needs one");
            assert!(operation == Operation::List || shown.contains(&needed) || path.ends_with('/'), "not shown");
            assert!(!sudo || operation == Operation::List || shown.contains(&Capability::Sudo));
        }
    }
    let _ = set.reaches_below(path);
}

fn ask<'s>(set: &'s PolicySet, path: &'s str, operation: Operation) -> Decision<'s> {
    static NOTHING: std::sync::LazyLock<Map> = std::sync::LazyLock::new(Map::new);
    let parameters = Some(Parameters { sent: &NOTHING, from_query: &[], fields: &[] });
    set.decide(&Request {
        path: AskedPath::exact(path),
        operation,
        parameters,
        wrap_ttl_seconds: None,
        is_protected: false,
        event_type: None,
    })
}
