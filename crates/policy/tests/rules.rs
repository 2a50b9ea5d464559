//! Policies from outside: what is parsed, what is decided, and a slow evaluator that must agree with the fast one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use proptest::prelude::*;
use tresor_model::{Body, Map, Operation, Timestamp, map};
use tresor_policy::{AskedPath, Capability, DEFAULT_POLICY_TEXT, Holder, Parameters, Policy, PolicySet, Request};
use tresor_wire::input::{FieldSpec, Kind, Place};

/// Nobody in particular, at the beginning of time.
const NOBODY: Holder<'static> = Holder { identity: None, now: Timestamp::from_nanos(0) };

fn set(texts: &[&str]) -> PolicySet {
    let policies: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| {
            Arc::new(Policy::parse(&format!("p{at}"), text).unwrap_or_else(|error| panic!("{error}: {text}")))
        })
        .collect();
    PolicySet::compile(&policies, &NOBODY)
}

fn may(set: &PolicySet, operation: Operation, path: &str) -> bool {
    may_ask(set, operation, AskedPath::exact(path))
}

fn may_ask(set: &PolicySet, operation: Operation, path: AskedPath<'_>) -> bool {
    set.decide(&Request {
        path,
        operation,
        parameters: None,
        wrap_ttl_seconds: None,
        is_protected: false,
        event_type: None,
    })
    .allowed_with_sudo()
    .is_some()
}

/// What `sys/capabilities` would show of a path that is spelled canonically.
fn shown(set: &PolicySet, path: &str) -> Vec<Capability> {
    let directory = if path.ends_with('/') { path.to_owned() } else { format!("{path}/") };
    set.capabilities(AskedPath::exact(path), AskedPath::exact(&directory))
}

/// A field as an endpoint declares it.
const fn field(name: &'static str, aliases: &'static [&'static str]) -> FieldSpec {
    let (default, description) = (None, "");
    FieldSpec {
        name,
        kind: Kind::Any,
        default,
        description,
        aliases,
        query: false,
        secret: false,
        required: false,
        place: Place::Body,
    }
}

fn may_send(set: &PolicySet, sent: &Map) -> bool {
    may_send_to(set, sent, &[], &[])
}

fn may_send_to(set: &PolicySet, sent: &Map, from_query: &[String], fields: &[FieldSpec]) -> bool {
    let parameters = Some(Parameters { sent, from_query, fields });
    let path = AskedPath::exact("a");
    set.decide(&Request {
        path,
        operation: Operation::Update,
        parameters,
        wrap_ttl_seconds: None,
        is_protected: false,
        event_type: None,
    })
    .allowed_with_sudo()
    .is_some()
}

#[test]
fn everything_is_denied_that_no_rule_grants() {
    let empty = set(&["", "{}", "name = \"x\""]);
    assert!(!may(&empty, Operation::Read, "a"));
    assert_eq!(shown(&empty, "a"), [Capability::Deny]);
    let root = PolicySet::compile(&[Arc::new(Policy::root())], &NOBODY);
    assert!(may(&root, Operation::Delete, "sys/anything"));
    assert_eq!(shown(&root, "a"), [Capability::Root]);
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
    assert_eq!(shown(&rules, "a"), [Capability::Read, Capability::Sudo, Capability::Update]);
    let denied = set(&["path \"a\" { capabilities = [\"read\"] }", "path \"a\" { capabilities = [\"deny\"] }"]);
    assert!(!may(&denied, Operation::Read, "a"));
    assert_eq!(shown(&denied, "a"), [Capability::Deny]);
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
fn acl_03_a_denial_holds_for_every_case_of_names_that_fold() {
    let rules = set(&[r#"
        path "auth/up/users/*" { capabilities = ["update"] }
        path "auth/up/users/Admin" { capabilities = ["deny"] }
        path "auth/Up/users/*" { capabilities = ["delete"] }
        path "auth/+/users/Root" { capabilities = ["deny"] }
        path "auth/up/users/SYS-*" { capabilities = ["deny"] }
        path "auth/up/users/SYS-Guest" { capabilities = ["update"] }
    "#]);
    let folded = |text| AskedPath { text, folds_after: Some(2) };
    assert!(may_ask(&rules, Operation::Update, folded("auth/up/users/bob")));
    assert!(may_ask(&rules, Operation::Update, folded("auth/up/users/sys-guest")), "the more specific one decides");
    for denied in ["auth/up/users/admin", "auth/up/users/root", "auth/up/users/sys-a"] {
        // `+` is a wildcard that comes earlier than the star of `users/*`: specificity decides, as documented.
        let is_denied = !may_ask(&rules, Operation::Update, folded(denied));
        assert_eq!(is_denied, denied != "auth/up/users/root", "{denied}");
    }
    // The mount's own part of the path is never folded.
    assert!(!may_ask(&rules, Operation::Delete, folded("auth/up/users/bob")));
    // Where case matters, it matters to rules too.
    let kv = set(&[r#"path "kv/*" { capabilities = ["read"] } path "kv/Admin" { capabilities = ["deny"] }"#]);
    assert!(may(&kv, Operation::Read, "kv/admin") && !may(&kv, Operation::Read, "kv/Admin"));
}

#[test]
fn acl_04_a_field_is_judged_by_every_name_it_is_read_by() {
    const FIELDS: &[FieldSpec] = &[field("ttl", &["lease"]), field("meta", &["metadata"])];
    let denied = set(&[r#"path "a" { capabilities = ["update"] denied_parameters = { "ttl" = [] } }"#]);
    for sent in [map! { "ttl" => "1h" }, map! { "lease" => "1h" }] {
        assert!(!may_send_to(&denied, &sent, &[], FIELDS));
    }
    let allowed = set(&[r#"path "a" { capabilities = ["update"] allowed_parameters = { "ttl" = ["1h"] } }"#]);
    assert!(may_send_to(&allowed, &map! { "lease" => "1h" }, &[], FIELDS));
    assert!(!may_send_to(&allowed, &map! { "lease" => "2h" }, &[], FIELDS));
    assert!(!may_send_to(&allowed, &map! { "metadata" => "x" }, &[], FIELDS));
}

#[test]
fn acl_04_what_the_handler_does_not_see_is_not_sent() {
    let rules = set(&[r#"path "a" { capabilities = ["update"] required_parameters = ["ttl"] }"#]);
    let fields = &[field("ttl", &["lease"])];
    let query = ["ttl".to_owned()];
    assert!(may_send_to(&rules, &map! { "ttl" => "1h" }, &[], fields));
    assert!(may_send_to(&rules, &map! { "lease" => "1h" }, &[], fields));
    assert!(!may_send_to(&rules, &map! { "ttl" => "1h" }, &query, fields), "handlers take no fields from the query");
    assert!(!may_send_to(&rules, &map! { "ttl" => Body::Null }, &[], fields), "null is the same as absent");
}

#[test]
fn rules_of_several_policies_merge_as_documented() {
    let rules = set(&[
        r#"path "a" { capabilities = ["update"] allowed_parameters = { "k" = ["x"] } min_wrapping_ttl = "10s" }"#,
        r#"path "a" { capabilities = ["read"] allowed_parameters = { "k" = ["y"], "l" = [] } max_wrapping_ttl = "60s" }"#,
        r#"path "a" { denied_parameters = { "l" = ["z"] } min_wrapping_ttl = "5s" }"#,
    ]);
    let may_send = |sent: &Map| {
        let parameters = Some(Parameters { sent, from_query: &[], fields: &[] });
        let path = AskedPath::exact("a");
        let request = Request {
            path,
            operation: Operation::Update,
            parameters,
            wrap_ttl_seconds: Some(5),
            is_protected: false,
            event_type: None,
        };
        rules.decide(&request).allowed_with_sudo().is_some()
    };
    for allowed in [map! { "k" => "x" }, map! { "k" => "y" }, map! { "l" => "w" }] {
        assert!(may_send(&allowed), "{allowed:?}");
    }
    for refused in [map! { "k" => "z" }, map! { "l" => "z" }, map! { "m" => "x" }] {
        assert!(!may_send(&refused), "{refused:?}");
    }
    let wrapped = |ttl| {
        let path = AskedPath::exact("a");
        let request = Request {
            path,
            operation: Operation::Read,
            parameters: None,
            wrap_ttl_seconds: ttl,
            is_protected: false,
            event_type: None,
        };
        rules.decide(&request).allowed_with_sudo().is_some()
    };
    assert_eq!([None, Some(4), Some(5), Some(60), Some(61)].map(wrapped), [false, false, true, true, false]);
}

#[test]
fn older_forms_of_rules_mean_what_they_meant() {
    for (word, granted) in [
        ("read", "list read"),
        ("write", "create delete list read update"),
        ("sudo", "create delete list read sudo update"),
        ("deny", "deny"),
    ] {
        for text in [
            format!("path \"a\" {{ policy = {word:?} }}"),
            format!("{{\"path\": {{\"a\": {{\"policy\": {word:?}}}}}}}"),
            format!("{{\"path\": [{{\"a\": {{\"policy\": {word:?}}}}}]}}"),
        ] {
            let names: Vec<_> = shown(&set(&[&text]), "a").into_iter().map(Capability::name).collect();
            assert_eq!(names.join(" "), granted, "{text}");
        }
    }
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
        let path = AskedPath::exact("a");
        let request = Request {
            path,
            operation: Operation::Read,
            parameters: None,
            wrap_ttl_seconds: ttl,
            is_protected: false,
            event_type: None,
        };
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
        shown(&set(&["path \"a\" { capabilities = [\"read\"] }\npath \"a\" { capabilities = [\"deny\"] }"]), "a")
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
    let found = best(path).or_else(|| if operation.is_of_directory() { best(path.strip_suffix('/')?) } else { None });
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
        prop::sample::select(vec![
            Capability::Read,
            Capability::List,
            Capability::Scan,
            Capability::Update,
            Capability::Deny,
        ]),
        1..3,
    )
}

fn text_of(rules: &[(String, Vec<Capability>)]) -> String {
    let line = |(pattern, granted): &(String, Vec<Capability>)| {
        let words: Vec<String> = granted.iter().map(|one| format!("{:?}", one.name())).collect();
        format!("path {pattern:?} {{ capabilities = [{}] }}\n", words.join(","))
    };
    rules.iter().map(line).collect()
}

#[test]
fn pt_02_every_pair_of_small_rules_is_judged_as_the_slow_one_judges() {
    let patterns = ["a", "*", "+", "a/", "a/*", "a/+", "+/*", "a/b", "+/b*", "a/+/b"];
    let words: [&[Capability]; 3] = [&[Capability::Read, Capability::List], &[Capability::Deny], &[]];
    let every: Vec<(String, Vec<Capability>)> = patterns
        .iter()
        .flat_map(|pattern| words.iter().map(|granted| ((*pattern).to_owned(), granted.to_vec())))
        .collect();
    let segments = ["a", "b"];
    let one = segments.map(str::to_owned).to_vec();
    let two: Vec<String> = one.iter().flat_map(|head| segments.map(|tail| format!("{head}/{tail}"))).collect();
    let three: Vec<String> = two.iter().flat_map(|head| segments.map(|tail| format!("{head}/{tail}"))).collect();
    let paths = [one, two, three].concat();
    for (at, first) in every.iter().enumerate() {
        for second in every.iter().skip(at) {
            let rules = [first.clone(), second.clone()];
            let compiled = set(&[&text_of(&rules)]);
            for path in &paths {
                let directory = format!("{path}/");
                for (operation, path) in [(Operation::Read, path), (Operation::List, &directory)] {
                    assert_eq!(may(&compiled, operation, path), slow(&rules, operation, path), "{rules:?} on {path}");
                }
            }
        }
    }
}

/// Patterns below the mount `m/`, some with capitals.
fn mixed_pattern() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "A", "b", "B", "+", "aB", "ab"]);
    (prop::collection::vec(segment, 1..3), any::<bool>())
        .prop_map(|(segments, glob)| format!("m/{}{}", segments.join("/"), if glob { "*" } else { "" }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn pt_02_the_matcher_agrees_with_the_slow_one(
        rules in prop::collection::vec((pattern(), capabilities()), 0..6),
        path in "(a|b|ab|c)(/(a|b|ab|c)?){0,3}",
        operation in prop::sample::select(vec![Operation::Read, Operation::List, Operation::Scan, Operation::Update]),
    ) {
        let text = text_of(&rules);
        let compiled = set(&[&text]);
        prop_assert_eq!(may(&compiled, operation, &path), slow(&rules, operation, &path), "{} on {}", text, path);
        // LST-06: what is shown is what is enforced, for every operation.
        let shown = shown(&compiled, &path);
        for operation in [Operation::Read, Operation::Update, Operation::Delete] {
            let needed = Capability::needed_by(operation).unwrap();
            prop_assert_eq!(shown.contains(&needed), may(&compiled, operation, &path), "{} on {}", text, path);
        }
        let directory = if path.ends_with('/') { path.clone() } else { format!("{path}/") };
        let can_list = may(&compiled, Operation::List, &directory);
        prop_assert_eq!(shown.contains(&Capability::List), can_list, "list {} on {}", text, path);
        let can_scan = may(&compiled, Operation::Scan, &directory);
        prop_assert_eq!(shown.contains(&Capability::Scan), can_scan, "scan {} on {}", text, path);
        // Adding a denial never adds access.
        let denied = set(&[&text, &format!("path {path:?} {{ capabilities = [\"deny\"] }}")]);
        prop_assert!(!may(&denied, operation, &path));
    }

    #[test]
    fn pt_02_adding_a_policy_never_lifts_a_denial_of_the_same_pattern(
        rules in prop::collection::vec((pattern(), capabilities()), 1..5),
        more in prop::collection::vec((pattern(), capabilities()), 0..4),
        path in "(a|b|ab)(/(a|b|ab)?){0,3}",
        operation in prop::sample::select(vec![Operation::Read, Operation::List, Operation::Update]),
    ) {
        let (first, second) = (text_of(&rules), text_of(&more));
        let both = set(&[&first, &second]);
        prop_assert_eq!(may(&both, operation, &path), slow(&[rules.clone(), more].concat(), operation, &path));
        // A denial of the pattern that decides is not lifted by anybody.
        let denied = rules.iter().any(|(pattern, granted)| *pattern == path && granted.contains(&Capability::Deny));
        prop_assert!(!(denied && may(&both, operation, &path)));
    }

    #[test]
    fn pt_01_a_folded_path_is_judged_as_its_patterns_in_lower_case(
        rules in prop::collection::vec((mixed_pattern(), capabilities()), 0..6),
        path in "m/(a|b|ab)(/(a|b|ab)?){0,2}",
        operation in prop::sample::select(vec![Operation::Read, Operation::List, Operation::Update]),
    ) {
        // Patterns that are one in lower case are not united (only their denials win): here each stands once.
        let unique: std::collections::BTreeMap<String, (String, Vec<Capability>)> =
            rules.into_iter().map(|rule| (rule.0.to_lowercase(), rule)).collect();
        let written: Vec<_> = unique.values().cloned().collect();
        let lowered: Vec<_> = unique.into_iter().map(|(pattern, rule)| (pattern, rule.1)).collect();
        let asked = AskedPath { text: &path, folds_after: Some(1) };
        prop_assert_eq!(may_ask(&set(&[&text_of(&written)]), operation, asked), slow(&lowered, operation, &path));
    }

    #[test]
    fn acl_03_a_denial_in_any_case_beats_a_grant_of_the_same_name(path in "m/(a|b|ab)(/(a|b|ab)){0,2}", upper in any::<u8>()) {
        let written: String = path.char_indices().map(|(at, letter)| {
            if at > 1 && upper >> (at % 8) & 1 == 1 { letter.to_ascii_uppercase() } else { letter }
        }).collect();
        let rules = set(&[&text_of(&[(path.clone(), vec![Capability::Read]), (written, vec![Capability::Deny])])]);
        let asked = AskedPath { text: &path, folds_after: Some(1) };
        prop_assert!(!may_ask(&rules, Operation::Read, asked));
    }

    #[test]
    fn fz_05_any_text_is_a_policy_or_an_error(text in "(path|capabilities|\"a\"|[{}=,\\[\\]\" \n*+]|read){0,30}") {
        drop(Policy::parse("p", &text));
    }
}

fn is_told(set: &PolicySet, path: &str, event_type: &str) -> bool {
    let (path, operation) = (AskedPath::exact(path), Operation::Subscribe);
    let (parameters, event_type) = (None, Some(event_type));
    set.decide(&Request { path, operation, parameters, wrap_ttl_seconds: None, is_protected: false, event_type })
        .allowed_with_sudo()
        .is_some()
}

#[test]
fn events_are_told_where_a_rule_says_subscribe_and_names_their_type() {
    let rules = set(&[
        r#"path "kv/*" { capabilities = ["subscribe"] subscribe_event_types = ["kv-v2/data-*"] }
           path "kv/data/own" { capabilities = ["read"] subscribe_event_types = ["*"] }
           path "kv/data/no" { capabilities = ["subscribe", "deny"] subscribe_event_types = ["*"] }
           path "kv/data/bare" { capabilities = ["subscribe"] }"#,
        r#"path "kv/*" { capabilities = ["read"] subscribe_event_types = ["*"] }"#,
    ]);
    assert!(is_told(&rules, "kv/data/a", "kv-v2/data-write") && is_told(&rules, "kv/data/a", "kv-v2/data-patch"));
    // Who grants no `subscribe` names types in vain, also beside a rule for the same pattern that grants it.
    assert!(!is_told(&rules, "kv/data/a", "kv-v2/delete") && !is_told(&rules, "kv/data/own", "kv-v2/data-write"));
    assert!(!is_told(&rules, "kv/data/no", "kv-v2/data-write") && !is_told(&rules, "kv/data/bare", "kv-v2/data-write"));
    assert!(!is_told(&rules, "other/data/a", "kv-v2/data-write"));
    assert!(!may(&rules, Operation::Subscribe, "kv/data/a"), "an event without a type is none");
    let root = PolicySet::compile(&[Arc::new(Policy::root())], &NOBODY);
    assert!(is_told(&root, "kv/data/a", "kv-v2/data-write"));
    refused(
        r#"path "a" { capabilities = ["subscribe"] subscribe_event_types = [""] }"#,
        "line 1, column 41: `subscribe_event_types` has an empty type",
    );
}

/// A rule about events: its pattern, whether it grants and denies, and the types that it names.
fn event_rule() -> impl Strategy<Value = (String, bool, bool, Vec<String>)> {
    let kinds = prop::sample::subsequence(vec!["kv-v2/*", "kv-v2/data-write", "*", "*/write", "database/x"], 0..3);
    let kinds = kinds.prop_map(|kinds| kinds.into_iter().map(str::to_owned).collect());
    (pattern(), any::<bool>(), prop::bool::weighted(0.2), kinds)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn an_event_is_told_exactly_where_the_rules_of_the_deciding_pattern_together_say_so(
        rules in prop::collection::vec(event_rule(), 0..5),
        path in "(a|b|ab)(/(a|b|ab)){0,2}",
        event_type in prop::sample::select(vec!["kv-v2/data-write", "kv-v1/write", "database/x", "kv-v2/delete"]),
    ) {
        let texts: Vec<String> = rules.iter().map(|(pattern, grants, denies, kinds)| {
            let words: Vec<&str> = [(*grants, "subscribe"), (*denies, "deny"), (true, "read")]
                .into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
            format!("path {pattern:?} {{ capabilities = {words:?} subscribe_event_types = {kinds:?} }}")
        }).collect();
        let compiled = set(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        // Which pattern decides, reading tells.
        let asked = Request {
            path: AskedPath::exact(&path), operation: Operation::Read, parameters: None,
            wrap_ttl_seconds: None, is_protected: false, event_type: None,
        };
        let decider = compiled.explain(&asked).rule.map(|rule| rule.pattern.to_owned());
        let of_it: Vec<_> = rules.iter().filter(|(pattern, ..)| Some(pattern) == decider.as_ref()).collect();
        let names_it = |kinds: &[String]| kinds.iter().any(|kind| match kind.as_str() {
            "*" => true,
            "kv-v2/*" => event_type.starts_with("kv-v2/"),
            "*/write" => event_type.ends_with("/write"),
            exact => exact == event_type,
        });
        let expected = !of_it.iter().any(|(_, _, denies, _)| *denies)
            && of_it.iter().any(|(_, grants, _, kinds)| *grants && names_it(kinds));
        prop_assert_eq!(is_told(&compiled, &path, event_type), expected, "{:?}", texts);
    }
}
