//! Policies from outside: what is parsed, what is decided, and a slow evaluator that must agree with the fast one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use proptest::prelude::*;
use tresor_model::{Body, Map, Operation, map};
use tresor_policy::{Capability, DEFAULT_POLICY_TEXT, Policy, PolicySet, Request};

fn set(texts: &[&str]) -> PolicySet {
    let policies: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| {
            Arc::new(Policy::parse(&format!("p{at}"), text).unwrap_or_else(|error| panic!("{error}: {text}")))
        })
        .collect();
    PolicySet::compile(&policies)
}

fn may(set: &PolicySet, operation: Operation, path: &str) -> bool {
    set.decide(&Request { path, operation, parameters: None, wrap_ttl_seconds: None }).allowed_with_sudo().is_some()
}

fn may_send(set: &PolicySet, parameters: &Map) -> bool {
    let request =
        Request { path: "a", operation: Operation::Update, parameters: Some(parameters), wrap_ttl_seconds: None };
    set.decide(&request).allowed_with_sudo().is_some()
}

#[test]
fn everything_is_denied_that_no_rule_grants() {
    let empty = set(&["", "{}", "name = \"x\""]);
    assert!(!may(&empty, Operation::Read, "a"));
    assert_eq!(empty.capabilities("a"), [Capability::Deny]);
    let root = PolicySet::compile(&[Arc::new(Policy::root())]);
    assert!(may(&root, Operation::Delete, "sys/anything"));
    assert_eq!(root.capabilities("a"), [Capability::Root]);
}

#[test]
fn the_most_specific_pattern_decides_alone() {
    let rules = set(&[r#"
        path "a/*" { capabilities = ["read", "list"] }
        path "a/b" { capabilities = ["update"] }
        path "a/+/c" { capabilities = ["delete"] }
        path "a/b*" { capabilities = ["create"] }
        path "a/x/*" { capabilities = ["deny"] }
        path "a/x/y/*" { capabilities = ["read"] }
    "#]);
    assert!(may(&rules, Operation::Read, "a/z"));
    assert!(may(&rules, Operation::Update, "a/b") && !may(&rules, Operation::Read, "a/b"));
    assert!(may(&rules, Operation::Create, "a/bb") && !may(&rules, Operation::Read, "a/bb"));
    assert!(may(&rules, Operation::Delete, "a/q/c") && !may(&rules, Operation::Read, "a/q/c"));
    assert!(!may(&rules, Operation::Read, "a/x/q") && may(&rules, Operation::Read, "a/x/y/q"));
    assert!(!may(&rules, Operation::Read, "a"));
}

#[test]
fn rules_of_one_pattern_are_united_and_deny_wins() {
    let rules =
        set(&["path \"a\" { capabilities = [\"read\"] }", "path \"a\" { capabilities = [\"update\", \"sudo\"] }"]);
    assert_eq!(rules.capabilities("a"), [Capability::Read, Capability::Sudo, Capability::Update]);
    let denied = set(&["path \"a\" { capabilities = [\"read\"] }", "path \"a\" { capabilities = [\"deny\"] }"]);
    assert!(!may(&denied, Operation::Read, "a"));
    assert_eq!(denied.capabilities("a"), [Capability::Deny]);
}

#[test]
fn lst_01_list_asks_the_path_with_its_slash_first() {
    let rules = set(&[r#"
        path "m/*" { capabilities = ["list"] }
        path "m/private/*" { capabilities = ["deny"] }
        path "m/private/granted/*" { capabilities = ["list"] }
    "#]);
    for allowed in ["m/", "m/test/", "m/private/granted/", "m/private/granted/x/"] {
        assert!(may(&rules, Operation::List, allowed), "{allowed}");
    }
    for denied in ["m/private/", "m/private/internal/"] {
        assert!(!may(&rules, Operation::List, denied), "{denied}");
    }
    assert!(may(&set(&["path \"d\" { capabilities = [\"list\"] }"]), Operation::List, "d/"));
}

#[test]
fn acl_04_a_forbidden_value_is_forbidden_in_every_spelling() {
    let rules =
        set(&[r#"path "a" { capabilities = ["update"] denied_parameters = { "policies" = ["super-admin"] } }"#]);
    let list = |text: &str| Map::new().with("policies", vec![text]);
    for refused in [
        list("Super-Admin"),
        list(" super-admin"),
        map! { "policies" => "x,Super-Admin" },
        map! { "POLICIES" => "super-admin" },
    ] {
        assert!(!may_send(&rules, &refused));
    }
    assert!(may_send(&rules, &list("reader")) && may_send(&rules, &Map::new()));
}

#[test]
fn parameters_are_constrained_as_documented() {
    let rules = set(&[r#"path "a" {
        capabilities = ["update"]
        allowed_parameters = { "kind" = ["x-*", "y"], "free" = [] }
        required_parameters = ["kind"]
    }"#]);
    assert!(may_send(&rules, &map! { "kind" => "x-1", "free" => 3 }));
    assert!(may_send(&rules, &map! { "kind" => "y" }));
    for refused in [map! { "kind" => "z" }, map! { "free" => 1 }, map! { "kind" => "y", "other" => 1 }] {
        assert!(!may_send(&rules, &refused));
    }
    let any = set(&[r#"path "a" { capabilities = ["update"] allowed_parameters = { "*" = [], "k" = ["v"] } }"#]);
    assert!(may_send(&any, &map! { "other" => 1, "k" => "v" }) && !may_send(&any, &map! { "k" => "w" }));
    let none = set(&[r#"path "a" { capabilities = ["update"] denied_parameters = { "*" = [] } }"#]);
    assert!(may_send(&none, &Map::new()) && !may_send(&none, &map! { "x" => Body::Null }));
}

#[test]
fn wrapping_bounds_are_kept() {
    let rules = set(&[r#"path "a" { capabilities = ["read"] min_wrapping_ttl = "1m" max_wrapping_ttl = 120 }"#]);
    let wrapped = |ttl| {
        let request = Request { path: "a", operation: Operation::Read, parameters: None, wrap_ttl_seconds: ttl };
        rules.decide(&request).allowed_with_sudo().is_some()
    };
    assert_eq!([None, Some(59), Some(60), Some(120), Some(121)].map(wrapped), [false, false, true, true, false]);
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    assert_eq!(Policy::parse("p", text).unwrap_err().to_string(), expected, "{text}");
}

#[test]
fn acl_14_what_a_reviewer_reads_is_what_is_enforced() {
    refused(
        "path \"a\" {\n  capabilities = [\"read\"]\n  capabilities = [\"deny\"]\n}",
        "line 3, column 3: `capabilities` is set twice",
    );
    refused("path \"a\" {\n  capabilites = [\"read\"]\n}", "line 2, column 3: unknown key `capabilites`");
    refused("path \"a\" { capabilities = [\"raed\"] }", "line 1, column 28: path \"a\": invalid capability `raed`");
    refused("pth \"a\" {}", "line 1, column 1: unknown key `pth`");
    refused("path \"a\" {} }", "line 1, column 13: expected a key");
    refused("path \"a\" { policy = \"admin\" }", "line 1, column 12: `policy` is `deny`, `read`, `write` or `sudo`");
    refused("path \"a\" { capabilities = \"read\" }", "line 1, column 27: `capabilities` must be a list of strings");
    refused("{\"path\":{\"a\":{\"capabilities\":[1,{}]}}}", "line 1, column 31: path \"a\": invalid capability `1`");
    assert!(
        set(&["path \"a\" { capabilities = [\"read\"] }\npath \"a\" { capabilities = [\"deny\"] }"]).capabilities("a")
            == [Capability::Deny]
    );
}

#[test]
fn acl_15_odd_but_harmless_policies_are_taken() {
    for text in [
        "path \"a\" { allowed_parameters = { \"a\" = [] } }",
        "path \"a\" { capabilities = [] }",
        "path \"\" {}",
        "path \"/lead\" { policy = \"read\" }",
    ] {
        drop(set(&[text]));
    }
    assert!(may(&set(&["path \"/lead\" { policy = \"read\" }"]), Operation::Read, "lead"));
    assert!(may(
        &set(&["{\"path\":{\"a\":{\"capabilities\":[\"read\"]},\"b\":{\"policy\":\"write\"}}}"]),
        Operation::Create,
        "b"
    ));
}

#[test]
fn the_default_policy_parses_and_grants_nothing_through_placeholders() {
    let default = set(&[DEFAULT_POLICY_TEXT]);
    assert!(may(&default, Operation::Read, "auth/token/lookup-self"));
    assert!(may(&default, Operation::Create, "cubbyhole/x"));
    assert!(!may(&default, Operation::Read, "identity/entity/id/{{identity.entity.id}}"));
    assert!(default.reaches_below("cubbyhole/") && !default.reaches_below("secret/"));
}

/// The documented order, spelled out naively over every rule.
fn slow(rules: &[(String, Vec<Capability>)], operation: Operation, path: &str) -> bool {
    fn matches(pattern: &str, path: &str) -> bool {
        let (glob, body) = pattern.strip_suffix('*').map_or((false, pattern), |body| (true, body));
        let (pattern, path): (Vec<&str>, Vec<&str>) = (body.split('/').collect(), path.split('/').collect());
        if !pattern.contains(&"+") {
            let (pattern, path) = (pattern.join("/"), path.join("/"));
            return if glob { path.starts_with(&pattern) } else { path == pattern };
        }
        let fixed = if glob { pattern.len() - 1 } else { pattern.len() };
        if path.len() < pattern.len() || (!glob && path.len() != pattern.len()) {
            return false;
        }
        let same = |at: usize| if pattern[at] == "+" { !path[at].is_empty() } else { pattern[at] == path[at] };
        let last = pattern[pattern.len() - 1];
        let tail =
            !glob || if last == "+" { same(pattern.len() - 1) } else { path[fixed..].join("/").starts_with(last) };
        (0..fixed).all(same) && tail
    }
    fn rank(pattern: &str) -> (bool, usize, bool, std::cmp::Reverse<usize>, usize, String) {
        let body = pattern.trim_end_matches('*');
        let plus = body.split('/').filter(|segment| *segment == "+").count();
        let first = body
            .split('/')
            .scan(0, |start, segment| {
                let at = *start;
                *start += segment.len() + 1;
                Some((at, segment))
            })
            .find(|(_, segment)| *segment == "+")
            .map_or(body.len(), |(at, _)| at);
        let glob = pattern.ends_with('*');
        (!(glob || plus > 0), first, !glob, std::cmp::Reverse(plus), pattern.len(), pattern.to_owned())
    }
    let best = |path: &str| {
        rules
            .iter()
            .map(|(pattern, _)| pattern)
            .filter(|pattern| matches(pattern, path))
            .max_by_key(|pattern| rank(pattern))
            .cloned()
    };
    let found = best(path).or_else(|| if operation == Operation::List { best(path.strip_suffix('/')?) } else { None });
    let Some(found) = found else { return false };
    let granted: Vec<Capability> =
        rules.iter().filter(|(pattern, _)| *pattern == found).flat_map(|(_, granted)| granted.clone()).collect();
    !granted.contains(&Capability::Deny) && granted.contains(&Capability::needed_by(operation).unwrap())
}

fn pattern() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "+", "ab", ""]);
    (prop::collection::vec(segment, 1..4), any::<bool>())
        .prop_map(|(segments, glob)| format!("{}{}", segments.join("/"), if glob { "*" } else { "" }))
        .prop_filter("a leading slash is stripped", |pattern| !pattern.starts_with('/'))
}

fn capabilities() -> impl Strategy<Value = Vec<Capability>> {
    prop::collection::vec(
        prop::sample::select(vec![Capability::Read, Capability::List, Capability::Update, Capability::Deny]),
        1..3,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn pt_02_the_matcher_agrees_with_the_slow_one(
        rules in prop::collection::vec((pattern(), capabilities()), 0..6),
        path in "(a|b|ab|c)(/(a|b|ab|c)?){0,3}",
        operation in prop::sample::select(vec![Operation::Read, Operation::List, Operation::Update]),
    ) {
        let text: String = rules.iter().map(|(pattern, granted)| {
            let words: Vec<String> = granted.iter().map(|one| format!("{:?}", one.name())).collect();
            format!("path {pattern:?} {{ capabilities = [{}] }}\n", words.join(","))
        }).collect();
        let compiled = set(&[&text]);
        prop_assert_eq!(may(&compiled, operation, &path), slow(&rules, operation, &path), "{} on {}", text, path);
        // LST-06: what is shown is what is enforced.
        let shown = compiled.capabilities(&path);
        if operation != Operation::List || path.ends_with('/') {
            let listed_only = may(&compiled, Operation::List, &path) && !may(&compiled, operation, &path);
            prop_assert!(may(&compiled, operation, &path) <= shown.contains(&Capability::needed_by(operation).unwrap()) || listed_only);
        }
        // Adding a denial never adds access.
        let denied = set(&[&text, &format!("path {path:?} {{ capabilities = [\"deny\"] }}")]);
        prop_assert!(!may(&denied, operation, &path));
    }

    #[test]
    fn fz_05_any_text_is_a_policy_or_an_error(text in "(path|capabilities|\"a\"|[{}=,\\[\\]\" \n*+]|read){0,30}") {
        drop(Policy::parse("p", &text));
    }
}
