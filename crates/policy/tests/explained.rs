//! What is said about policies, against what is enforced: explanations, findings, cases, templates, ends, filters.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tresor_model::{Operation, Timestamp, map};
use tresor_policy::{
    Alias, AskedPath, Cases, Decision, Denial, Group, Holder, Identity, KeysFilter, Parameters, PasswordError,
    PasswordPolicy, Policy, PolicySet, Reason, Request, Severity, Trusted, lint,
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn parsed(texts: &[String]) -> Vec<Arc<Policy>> {
    texts.iter().enumerate().map(|(at, text)| Arc::new(Policy::parse(&format!("p{at}"), text).unwrap())).collect()
}

fn compiled(texts: &[String], identity: Option<&Identity>, now: i64) -> PolicySet {
    PolicySet::compile(&parsed(texts), &Holder { identity, now: at(now) })
}

fn request(path: &str, operation: Operation) -> Request<'_> {
    let path = AskedPath::exact(path);
    Request { path, operation, parameters: None, wrap_ttl_seconds: None, is_protected: false, event_type: None }
}

fn may(set: &PolicySet, path: &str) -> bool {
    set.decide(&request(path, Operation::Read)).allowed_with_sudo().is_some()
}

fn policy_text() -> impl Strategy<Value = String> {
    let pattern = prop::sample::select(vec!["a", "a/*", "a/b", "a/+", "+/b", "+/b/*", "a/b/*", "*", "b/*", "a/+/c"]);
    let words = prop::sample::subsequence(vec!["read", "list", "update", "create", "sudo", "scan", "subscribe"], 0..4);
    let extra = prop::sample::select(vec![
        "",
        "",
        "",
        "min_wrapping_ttl = \"10s\"",
        "required_parameters = [\"k\"]",
        "denied_parameters = { \"x\" = [] }",
        "pagination_limit = 5",
        "subscribe_event_types = [\"kv-v2/*\"]",
        "subscribe_event_types = [\"kv-v2/data-write\", \"database/*\"]",
    ]);
    let rule = (pattern, words, extra, prop::bool::weighted(0.15)).prop_map(|(pattern, mut words, extra, denies)| {
        if denies {
            words.push("deny");
        }
        format!("path \"{pattern}\" {{ capabilities = {words:?} {extra} }}\n")
    });
    prop::collection::vec(rule, 0..5).prop_map(|rules| rules.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_is_explained_is_what_is_enforced(
        texts in prop::collection::vec(policy_text(), 1..3),
        path in "(a|b|c)(/(a|b|c)){0,2}",
        operation in prop::sample::select(vec![
            Operation::Read, Operation::List, Operation::Scan, Operation::Update, Operation::Create, Operation::Delete,
            Operation::Subscribe,
        ]),
        event_type in prop::sample::select(vec!["kv-v2/data-write", "kv-v2/delete", "kv-v1/write"]),
        is_protected in any::<bool>(),
        sends in any::<bool>(),
    ) {
        let set = compiled(&texts, None, 0);
        let path = if operation.is_of_directory() { format!("{path}/") } else { path };
        let sent = if sends { map! { "k" => "v", "x" => "y" } } else { map! { "k" => "v" } };
        let parameters = Some(Parameters { sent: &sent, from_query: &[], fields: &[] });
        let event_type = (operation == Operation::Subscribe).then_some(event_type);
        let request = Request { parameters, is_protected, event_type, ..request(&path, operation) };
        let (explanation, decision) = (set.explain(&request), set.decide(&request));
        prop_assert_eq!(&explanation.decision, &decision);
        prop_assert!(!explanation.sentence(operation, &path).is_empty());
        let is_allowed = decision.allowed_with_sudo().is_some();
        prop_assert!(!is_allowed || explanation.would_grant.is_none());
        match &decision {
            Decision::Denied(Denial::Rule { pattern, .. }) => {
                prop_assert_eq!(explanation.rule.map(|rule| rule.pattern), Some(*pattern));
            }
            Decision::Denied(Denial::NoRule) => prop_assert!(explanation.rule.is_none() && explanation.shadowed.is_empty()),
            Decision::Allowed { .. } => {}
        }
        // What is said to grant it grants it, unless the united rule asks for more than a capability.
        if let Some(rule) = explanation.would_grant {
            let with = [texts.as_slice(), std::slice::from_ref(&rule)].concat();
            let with = compiled(&with, None, 0);
            let after = with.decide(&request);
            let asks_for_more = matches!(
                after,
                Decision::Denied(Denial::Rule {
                    reason: Reason::Parameters(_) | Reason::Wrapping { .. } | Reason::Pagination(_),
                    ..
                })
            );
            prop_assert!(after.allowed_with_sudo().is_some() || asks_for_more, "{} does not help with {}", rule, texts.concat());
        }
    }

    #[test]
    fn a_shadowed_denial_that_is_found_is_one(text in policy_text()) {
        let set = compiled(std::slice::from_ref(&text), None, 0);
        for finding in lint(&text, &[]).into_iter().filter(|finding| finding.kind == "shadowed-deny") {
            let path = finding.text.split('`').nth(3).unwrap();
            let explanation = set.explain(&request(path, Operation::Read));
            prop_assert!(explanation.reason() != "denied", "{}: {}", text, finding.text);
        }
    }

    #[test]
    fn fz_07_no_value_of_a_template_widens_what_a_rule_grants(value in "[ab*+/,.]{0,4}", path in "(a|b|x)(/(a|b|x)){0,3}") {
        let identity = Identity { name: value.clone(), ..Identity::default() };
        let rules = ["path \"kv/{{identity.entity.name}}/*\" { capabilities = [\"read\"] }".to_owned()];
        let granted = may(&compiled(&rules, Some(&identity), 0), &format!("kv/{path}"));
        let is_own = path.strip_prefix(&value).is_some_and(|rest| rest.starts_with('/'));
        prop_assert!(!granted || (is_own && !value.contains('/')), "{value} grants {path}");
    }
}

#[test]
fn a_denial_says_which_rule_of_which_policy_and_what_would_grant_it() {
    let set = compiled(
        &[
            "path \"kv/*\" { capabilities = [\"read\", \"update\"] }".to_owned(),
            "\n  path \"kv/app/*\" { capabilities = [\"read\"] }\npath \"kv/no\" { capabilities = [\"deny\"] }"
                .to_owned(),
        ],
        None,
        0,
    );
    let explanation = set.explain(&request("kv/app/x", Operation::Update));
    assert_eq!(explanation.reason(), "missing-capability");
    let rule = explanation.rule.unwrap();
    assert_eq!((rule.pattern, rule.sources[0].policy.as_str()), ("kv/app/*", "p1"));
    assert_eq!((rule.sources[0].position.line, rule.sources[0].position.column), (2, 8));
    assert_eq!(explanation.shadowed[0].pattern, "kv/*");
    assert_eq!(explanation.would_grant.unwrap(), "path \"kv/app/*\" {\n  capabilities = [\"update\"]\n}\n");
    let denied = set.explain(&request("kv/no", Operation::Read));
    assert_eq!((denied.reason(), denied.would_grant), ("denied", None));
    let nothing = set.explain(&Request { is_protected: true, ..request("sys/x", Operation::Read) });
    assert_eq!(nothing.reason(), "no-rule");
    assert_eq!(nothing.would_grant.unwrap(), "path \"sys/x\" {\n  capabilities = [\"read\", \"sudo\"]\n}\n");
}

#[test]
fn templates_are_filled_with_what_is_known_of_the_holder() {
    let pairs = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let identity = Identity {
        id: "e1".into(),
        name: "ada".into(),
        metadata: pairs("team", "blue"),
        aliases: BTreeMap::from([(
            "auth_userpass_1".to_owned(),
            Alias {
                id: "a1".into(),
                name: "ada@x".into(),
                metadata: pairs("m", "1"),
                custom_metadata: pairs("c", "2"),
            },
        )]),
        groups: vec![Group { id: "g1".into(), name: "ops".into(), metadata: pairs("floor", "3") }],
    };
    for (placeholder, value) in [
        ("identity.entity.id", "e1"),
        (" identity.entity.name ", "ada"),
        ("identity.entity.metadata.team", "blue"),
        ("identity.entity.aliases.auth_userpass_1.id", "a1"),
        ("identity.entity.aliases.auth_userpass_1.name", "ada@x"),
        ("identity.entity.aliases.auth_userpass_1.metadata.m", "1"),
        ("identity.entity.aliases.auth_userpass_1.custom_metadata.c", "2"),
        ("identity.groups.ids.g1.name", "ops"),
        ("identity.groups.names.ops.id", "g1"),
        ("identity.groups.names.ops.metadata.floor", "3"),
    ] {
        let rules = [format!("path \"kv/{{{{{placeholder}}}}}/x\" {{ capabilities = [\"read\"] }}")];
        assert!(may(&compiled(&rules, Some(&identity), 0), &format!("kv/{value}/x")), "{placeholder}");
        assert!(!may(&compiled(&rules, Some(&identity), 0), "kv/other/x"), "{placeholder}");
        assert!(!may(&compiled(&rules, None, 0), &format!("kv/{value}/x")), "{placeholder}");
    }
    for unknown in
        ["identity.entity.nick", "identity.entity.aliases.other.name", "identity.groups.names.dev.id", "x", ""]
    {
        let rules = [format!("path \"kv/{{{{{unknown}}}}}*\" {{ capabilities = [\"read\"] }}")];
        assert!(!may(&compiled(&rules, Some(&identity), 0), "kv/x"), "{unknown}");
    }
}

#[test]
fn acl_05_acl_06_values_that_are_no_names_make_a_rule_vanish_and_a_denial_wider() {
    let of = |value: &str| Identity { name: value.to_owned(), ..Identity::default() };
    let grant = "path \"kv/{{identity.entity.name}}\" { capabilities = [\"read\"] }".to_owned();
    let deny = "path \"kv/{{identity.entity.name}}\" { capabilities = [\"deny\"] } path \"kv/a\" { capabilities = [\"read\"] }";
    for value in ["*", "+", "a*", "a/admin", "..", ".", "", "a\u{0}", "a,b", &"x".repeat(4096)] {
        let set = compiled(std::slice::from_ref(&grant), Some(&of(value)), 0);
        for path in ["kv/a", "kv/a/admin", "kv/other", &format!("kv/{value}")] {
            assert!(!may(&set, path), "{value} on {path}");
        }
    }
    assert!(!may(&compiled(&[deny.to_owned(), grant.clone()], Some(&of("a")), 0), "kv/a"));
    // Whoever wrote the policy may trust its values with more.
    let trusting = |trusted: Trusted, value: &str, path: &str| {
        let mut policy = Policy::parse("p", &grant).unwrap();
        policy.trusted = trusted;
        may(&PolicySet::compile(&[Arc::new(policy)], &Holder { identity: Some(&of(value)), now: at(0) }), path)
    };
    assert!(trusting(Trusted { slashes: true, wildcards: false }, "a/admin", "kv/a/admin"));
    assert!(!trusting(Trusted { slashes: true, wildcards: false }, "a/../b", "kv/a/../b"));
    assert!(trusting(Trusted { slashes: false, wildcards: true }, "a*", "kv/abc"));
    assert!(!trusting(Trusted { slashes: false, wildcards: true }, "a/admin", "kv/a/admin"));
}

#[test]
fn what_ends_grants_and_denies_nothing_from_then_on() {
    let text = "path \"a\" { capabilities = [\"read\"] expiration = \"1970-01-01T00:00:10Z\" }\n\
                path \"b\" { capabilities = [\"deny\"] expiration = \"1970-01-01T00:00:20Z\" }\n\
                path \"b*\" { capabilities = [\"read\"] comment = \"why\" }";
    let set = |now| compiled(&[text.to_owned()], None, now);
    assert_eq!([9, 10].map(|now| may(&set(now), "a")), [true, false]);
    assert_eq!([10, 19, 20].map(|now| may(&set(now), "b")), [false, false, true]);
    assert_eq!([0, 10, 20].map(|now| set(now).expires()), [Some(at(10)), Some(at(20)), None]);
    let mut policy = Policy::parse("p", text).unwrap();
    policy.expires = Some(at(5));
    let whole = |now| PolicySet::compile(&[Arc::new(policy.clone())], &Holder { identity: None, now: at(now) });
    assert_eq!([4, 5].map(|now| may(&whole(now), "a")), [true, false]);
    assert_eq!(whole(4).expires(), Some(at(5)));
    Policy::parse("p", "path \"a\" { expiration = \"tomorrow\" }").unwrap_err();
}

#[test]
fn acl_10_no_form_of_a_limit_is_unlimited_under_a_bound() {
    let set =
        compiled(&["path \"kv/*\" { capabilities = [\"list\", \"scan\"] pagination_limit = 10 }".to_owned()], None, 0);
    let ask = |operation, sent: Option<&str>| {
        let sent = sent.map_or_else(|| map! {}, |sent| map! { "limit" => sent });
        let parameters = Some(Parameters { sent: &sent, from_query: &[], fields: &[] });
        match set.decide(&Request { parameters, ..request("kv/", operation) }) {
            Decision::Allowed { listing, .. } => listing.limit,
            Decision::Denied(_) => None,
        }
    };
    for operation in [Operation::List, Operation::Scan] {
        for allowed in [None, Some("0"), Some("1"), Some("10"), Some("max")] {
            assert_eq!(ask(operation, allowed), Some(10), "{allowed:?}");
        }
        for refused in ["11", "-1", "abc", "99999999999999999999999", "1.5", ""] {
            assert_eq!(ask(operation, Some(refused)), None, "{refused}");
        }
    }
    for refused in ["0", "-1", "\"x\"", "1.5"] {
        Policy::parse("p", &format!("path \"a\" {{ capabilities = [\"list\"] pagination_limit = {refused} }}"))
            .unwrap_err();
    }
}

#[test]
fn filters_make_a_path_of_each_name() {
    let path = |filter: &str| KeysFilter::parse(filter).unwrap().path("kv/metadata/", "a/b");
    assert_eq!(path("{{ .path }}{{ .key }}").unwrap(), "kv/metadata/a/b");
    assert_eq!(path("{{ .path | replace \"kv/metadata/\" \"kv/data/\" }}{{.key}}").unwrap(), "kv/data/a/b");
    assert_eq!(path("/x/{{ .key | uppercase | trimPrefix \"A\" | trimSuffix \"B\" }}").unwrap(), "x//");
    for refused in
        ["kv/a", "{{ .path }}", "{{ .key", "{{ .other }}{{ .key }}", "{{ .key | sha256 }}", "{{ .key | replace \"a }}"]
    {
        KeysFilter::parse(refused).unwrap_err();
    }
    // What would grow without bound is refused, or gives no path.
    let grows = format!("{{{{ .key {} }}}}", "| replace \"a\" \"aaaaaaaaaaaaaaaa\" ".repeat(25));
    assert_eq!(KeysFilter::parse(&grows).unwrap().path("", "a"), None);
    Policy::parse("p", "path \"a\" { capabilities = [\"read\"] list_scan_response_keys_filter_path = \"{{ .key }}\" }")
        .unwrap_err();
}

#[track_caller]
fn finds(text: &str, expected: &[(&str, usize, usize)]) {
    let found: Vec<_> = lint(text, &["secret/".to_owned()])
        .into_iter()
        .filter(|finding| finding.severity > Severity::Note)
        .map(|finding| (finding.kind, finding.position.line, finding.position.column))
        .collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn what_is_hardly_meant_is_found_with_its_place() {
    finds("path \"secret/data/a\" { capabilities = [\"read\"] }", &[]);
    finds("path \"secret/metadata/\" { capabilities = [\"list\"] }", &[]);
    finds("path \"secret/*\" { capabilities = [\"read\"] }", &[]);
    finds("\npath \"secret/app/db\" { capabilities = [\"read\"] }", &[("kv2-path", 2, 6)]);
    finds("path \"secret/data/*\" { capabilities = [\"read\", \"list\"] }", &[("kv2-list", 1, 6)]);
    finds("path \"secret/destroy/a\" { capabilities = [\"delete\"] }", &[("kv2-action", 1, 6)]);
    // Another rule shows that the mount is KV version 2.
    finds(
        "path \"apps/data/a\" { capabilities = [\"read\"] }\n path \"apps/b\" { capabilities = [\"read\"] }",
        &[("kv2-path", 2, 7)],
    );
    finds("path \"a/*/b\" { capabilities = [\"read\"] }", &[("dead-glob", 1, 6)]);
    finds("path \"a/b+/c\" { capabilities = [\"read\"] }", &[("dead-wildcard", 1, 6)]);
    finds("path \"v1/a\" { capabilities = [\"read\"] }", &[("api-prefix", 1, 6)]);
    finds("path \"a\" { capabilities = [] }", &[("grants-nothing", 1, 6)]);
    finds("path \"a\" { capabilities = [\"read\", \"deny\"] }", &[("deny-and-more", 1, 6)]);
    finds("path \"kv/{{identity.entity.nick}}\" { capabilities = [\"read\"] }", &[("unknown-placeholder", 1, 6)]);
    finds("path \"a/\" { capabilities = [\"read\"] }", &[("only-the-directory", 1, 6)]);
    finds("path \"a\" { capabilities = [\"raed\"] }", &[("no-policy", 1, 28)]);
    // A denial that a more specific rule takes back on a path that crosses it, and a grant that one hides.
    finds(
        "path \"a/+/private\" { capabilities = [\"deny\"] }\npath \"a/app/*\" { capabilities = [\"read\"] }",
        &[("shadowed-deny", 1, 6)],
    );
    finds(
        "path \"a/*\" { capabilities = [\"read\", \"list\"] }\npath \"a/b\" { capabilities = [\"read\"] }",
        &[("shadowed", 1, 6)],
    );
    finds("path \"a/*\" { capabilities = [\"deny\"] }\npath \"a/b/*\" { capabilities = [\"deny\"] }", &[]);
}

#[test]
fn cases_say_what_does_not_hold() {
    let app = "path \"secret/data/{{identity.entity.name}}/*\" { capabilities = [\"read\", \"update\"] required_parameters = [\"k\"] }
               path \"old\" { capabilities = [\"read\"] expiration = \"2020-01-01T00:00:00Z\" }";
    let policies = BTreeMap::from([("app".to_owned(), Arc::new(Policy::parse("app", app).unwrap()))]);
    let run = |text: &str| -> Vec<String> {
        let cases = Cases::parse(&format!("policies = [\"app.hcl\"]\n{text}")).unwrap();
        assert_eq!(cases.files, ["app.hcl"]);
        cases
            .cases
            .iter()
            .flat_map(|case| case.run(&policies, at(2_000_000_000)).unwrap())
            .map(|broken| broken.why)
            .collect()
    };
    let own = "path = \"secret/data/ada/db\" entity { name = \"ada\" } parameters { k = \"v\" }";
    assert_eq!(
        run(&format!("case \"own\" {{ {own} can = [\"read\", \"update\"] cannot = [\"delete\", \"list\"] }}")),
        [""; 0]
    );
    assert_eq!(run(&format!("case \"own\" {{ {own} can = [\"delete\"] }}")).len(), 1);
    assert_eq!(run("case \"nobody\" { path = \"secret/data/ada/db\" cannot = [\"read\"] }"), [""; 0]);
    assert_eq!(run("case \"old\" { path = \"old\" can = [\"read\"] at = \"2019-01-01T00:00:00Z\" }"), [""; 0]);
    assert_eq!(run("case \"old\" { policies = [\"app\"] path = \"old\" can = [\"read\"] }").len(), 1);
    for wrong in [
        "",
        "policies = [] case \"a\" { can = [\"read\"] }",
        "policies = [] case \"a\" { path = \"x\" }",
        "policies = [] case \"a\" { path = \"x\" can = [\"raed\"] }",
        "policies = [] case \"a\" { path = \"x\" can = [\"read\"] typo = 1 }",
        "policies = [] cases = 1",
    ] {
        assert!(Cases::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn passwords_keep_their_policy_and_every_character_comes_as_often() {
    let mut state = 1_u64;
    let mut draw = |out: &mut [u8]| {
        for byte in out {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 33).to_le_bytes()[0];
        }
    };
    let policy = PasswordPolicy::parse(
        "length = 20\nrule \"charset\" { charset = \"abcde\" min-chars = 1 }\nrule \"charset\" { charset = \"0123456789\" min-chars = 2 }",
    )
    .unwrap();
    policy.try_out(&mut draw).unwrap();
    let mut counts: BTreeMap<char, u32> = BTreeMap::new();
    for _ in 0..2000 {
        let password = policy.generate(&mut draw).unwrap();
        assert_eq!(password.chars().count(), 20);
        assert!(password.chars().any(|one| one.is_ascii_lowercase()));
        assert!(password.chars().filter(char::is_ascii_digit).count() >= 2);
        password.chars().for_each(|one| *counts.entry(one).or_default() += 1);
    }
    // 40,000 characters of 15: 2,667 each, give or take five standard deviations.
    assert!(counts.len() == 15 && counts.values().all(|count| (2400..2950).contains(count)), "{counts:?}");
    let impossible = PasswordPolicy::parse("length = 4 rule \"charset\" { charset = \"ab\" min-chars = 5 }").unwrap();
    assert_eq!(impossible.try_out(&mut draw), Err(PasswordError::Impossible));
    for wrong in [
        "",
        "length = 3 rule \"charset\" { charset = \"ab\" }",
        "length = 101 rule \"charset\" { charset = \"ab\" }",
        "length = 8",
        "length = 8 rule \"charset\" { charset = \"\" }",
        "length = 8 rule \"charset\" { charset = \"a\\n\" }",
        "length = 8 rule \"words\" { charset = \"ab\" }",
        "length = 8 rule \"charset\" { charset = \"ab\" max-chars = 1 }",
        "length = 8 size = 1 rule \"charset\" { charset = \"ab\" }",
    ] {
        assert!(PasswordPolicy::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_missing_for_an_event_is_said_and_what_would_grant_it() {
    let set = compiled(
        &["path \"kv/*\" { capabilities = [\"subscribe\"] subscribe_event_types = [\"kv-v2/delete\"] }".to_owned()],
        None,
        0,
    );
    let asked = Request { event_type: Some("kv-v2/data-write"), ..request("kv/data/a", Operation::Subscribe) };
    let explanation = set.explain(&asked);
    assert_eq!(explanation.reason(), "event-type");
    assert!(explanation.sentence(Operation::Subscribe, "kv/data/a").contains("`subscribe_event_types`"));
    let rule = explanation.would_grant.unwrap();
    assert_eq!(
        rule,
        "path \"kv/*\" {\n  capabilities = [\"subscribe\"]\n  subscribe_event_types = [\"kv-v2/data-write\"]\n}\n"
    );
    let kinds = |text: &str| lint(text, &[]).into_iter().map(|finding| finding.kind).collect::<Vec<_>>();
    assert_eq!(kinds("path \"a\" { capabilities = [\"subscribe\"] }"), ["no-event-types"]);
    assert_eq!(kinds("path \"a\" { capabilities = [\"read\"] subscribe_event_types = [\"*\"] }"), ["no-subscription"]);
    assert_eq!(
        kinds("path \"kv/delete/*\" { capabilities = [\"subscribe\"] subscribe_event_types = [\"*\"] }"),
        [""; 0]
    );

    let cases = "policies = [\"p.hcl\"]\ncase \"told\" { path = \"kv/data/a\" event_type = \"kv-v2/delete\" can = [\"subscribe\"] }\n\
                 case \"not told\" { path = \"kv/data/a\" event_type = \"kv-v2/undelete\" cannot = [\"subscribe\"] }";
    let policies: BTreeMap<String, Arc<Policy>> =
        [("p".to_owned(), parsed(&[rule.replace("data-write", "delete")])[0].clone())].into();
    for case in Cases::parse(cases).unwrap().cases {
        assert!(case.run(&policies, at(0)).unwrap().is_empty(), "{}", case.name);
    }
}
