//! Typed inputs by derive, proven on three ugly field sets of the API before there are engines that need them: a PKI
//! role, an AppRole role, the tuning of a mount. What is asserted is the reference's leniency: every field in every
//! form that clients send it, absent and `null` alike, old names, lists as text, durations as numbers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use tresor_model::{Body, Map};
use tresor_secret::SecretString;
use tresor_wire::input::{
    Cidrs, CommaList, Fields, Form, Input, InputError, Kind, LowerName, Seconds, SignedSeconds, StringList,
};
use tresor_wire::json::{JsonLimits, decode};

/// A role of the PKI engine, with every field of the reference.
#[derive(Input, Debug, PartialEq)]
struct PkiRole {
    /// Its name.
    #[input(path)]
    name: String,
    #[input(default = "false")]
    allowed_domains_template: bool,
    #[input(default = "false")]
    allow_bare_domains: bool,
    #[input(default = "false")]
    allow_subdomains: bool,
    #[input(default = "false")]
    allow_glob_domains: bool,
    #[input(default = "true")]
    allow_wildcard_certificates: bool,
    #[input(default = "true")]
    enforce_hostnames: bool,
    #[input(default = "true")]
    allow_ip_sans: bool,
    #[input(default = "")]
    allowed_uri_sans: CommaList,
    #[input(default = "false")]
    allowed_uri_sans_template: bool,
    #[input(default = "")]
    allowed_other_sans: CommaList,
    #[input(default = "")]
    allowed_serial_numbers: CommaList,
    #[input(default = "")]
    allowed_user_ids: CommaList,
    #[input(default = "true")]
    client_flag: bool,
    #[input(default = "false")]
    code_signing_flag: bool,
    #[input(default = "false")]
    email_protection_flag: bool,
    #[input(default = "0")]
    signature_bits: i64,
    #[input(default = "false")]
    use_pss: bool,
    #[input(default = "")]
    ext_key_usage_oids: CommaList,
    #[input(default = "true")]
    use_csr_common_name: bool,
    #[input(default = "true")]
    use_csr_sans: bool,
    #[input(default = "")]
    organization: CommaList,
    #[input(default = "")]
    country: CommaList,
    #[input(default = "")]
    locality: CommaList,
    #[input(default = "")]
    province: CommaList,
    #[input(default = "")]
    street_address: CommaList,
    #[input(default = "")]
    postal_code: CommaList,
    #[input(default = "false")]
    no_store: bool,
    #[input(default = "true")]
    require_cn: bool,
    /// Object identifiers, or objects with notices: read as it is, and looked into by the engine.
    policy_identifiers: Option<Body>,
    #[input(default = "false")]
    basic_constraints_valid_for_non_ca: bool,
    #[input(default = "")]
    not_before: String,
    #[input(default = "default")]
    issuer_ref: String,
    /// Life of certificates.
    #[input(default = "0")]
    ttl: Seconds,
    #[input(default = "0")]
    max_ttl: Seconds,
    #[input(default = "true")]
    allow_localhost: bool,
    #[input(default = "")]
    allowed_domains: CommaList,
    #[input(default = "false")]
    allow_any_name: bool,
    #[input(default = "true")]
    server_flag: bool,
    #[input(default = "rsa")]
    key_type: String,
    #[input(default = "0")]
    key_bits: i64,
    #[input(default = "DigitalSignature,KeyAgreement,KeyEncipherment")]
    key_usage: CommaList,
    #[input(default = "")]
    ext_key_usage: CommaList,
    #[input(default = "email,hostname")]
    cn_validations: CommaList,
    #[input(default = "")]
    ou: CommaList,
    #[input(default = "false")]
    generate_lease: bool,
    #[input(default = "30s")]
    not_before_duration: Seconds,
    #[input(default = "")]
    not_after: String,
}

/// A role of the AppRole method: most fields have an older name, and "not sent" differs from "sent empty", because an
/// update keeps what is not sent.
#[derive(Input, Debug, PartialEq)]
struct AppRole {
    #[input(path)]
    role_name: String,
    bind_secret_id: Option<bool>,
    #[input(alias = "bound_cidr_list")]
    secret_id_bound_cidrs: Option<Cidrs>,
    #[input(alias = "policies")]
    token_policies: Option<CommaList>,
    #[input(alias = "period")]
    token_period: Option<Seconds>,
    secret_id_num_uses: Option<u64>,
    secret_id_ttl: Option<Seconds>,
    token_num_uses: Option<u64>,
    role_id: Option<String>,
    #[input(default = "false")]
    local_secret_ids: bool,
    token_ttl: Option<Seconds>,
    token_max_ttl: Option<Seconds>,
    token_explicit_max_ttl: Option<Seconds>,
    token_bound_cidrs: Option<Cidrs>,
    token_no_default_policy: Option<bool>,
    token_type: Option<LowerName>,
}

/// What a client says to make an id for a role of its own choice.
#[derive(Input)]
struct CustomSecretId {
    #[input(path)]
    role_name: String,
    secret_id: SecretString,
    metadata: Option<BTreeMap<String, String>>,
    cidr_list: Option<Cidrs>,
    #[input(default = "0")]
    num_uses: i64,
}

/// The tuning of a mount: durations that may be the word `system`, a map of texts, and lists where sending an empty one
/// means something.
#[derive(Input, Debug, PartialEq)]
struct MountTune {
    #[input(path)]
    path: String,
    default_lease_ttl: Option<String>,
    max_lease_ttl: Option<String>,
    description: Option<String>,
    audit_non_hmac_request_keys: Option<CommaList>,
    options: Option<BTreeMap<String, String>>,
    user_lockout_config: Option<Map>,
    force_no_cache: Option<bool>,
    token_type: Option<String>,
    audit_non_hmac_response_keys: Option<CommaList>,
    listing_visibility: Option<String>,
    passthrough_request_headers: Option<CommaList>,
    allowed_response_headers: Option<CommaList>,
    plugin_version: Option<String>,
    allowed_managed_keys: Option<CommaList>,
    delegated_auth_accessors: Option<CommaList>,
    identity_token_key: Option<String>,
    trim_request_trailing_slashes: Option<bool>,
}

fn read<In: Input>(parameter: &'static str, json: &str) -> Result<(In, Vec<String>), InputError> {
    let body = decode(json.as_bytes(), &JsonLimits::default()).expect("the document is JSON");
    In::decode(Fields { path: BTreeMap::from([(parameter, "x".to_owned())]), body, from_query: Vec::new() })
}

#[track_caller]
fn role(json: &str) -> PkiRole {
    read("name", json).unwrap().0
}

#[track_caller]
fn app_role(json: &str) -> AppRole {
    read("role_name", json).unwrap().0
}

#[track_caller]
fn tune(json: &str) -> MountTune {
    read("path", json).unwrap().0
}

fn list(entries: &[&str]) -> CommaList {
    CommaList(entries.iter().map(|entry| (*entry).to_owned()).collect())
}

const fn seconds(number: u64) -> Seconds {
    Seconds(Duration::from_secs(number))
}

#[test]
fn an_empty_role_has_every_default_of_the_reference() {
    let expected = PkiRole {
        name: "x".to_owned(),
        allowed_domains_template: false,
        allow_bare_domains: false,
        allow_subdomains: false,
        allow_glob_domains: false,
        allow_wildcard_certificates: true,
        enforce_hostnames: true,
        allow_ip_sans: true,
        allowed_uri_sans: list(&[]),
        allowed_uri_sans_template: false,
        allowed_other_sans: list(&[]),
        allowed_serial_numbers: list(&[]),
        allowed_user_ids: list(&[]),
        client_flag: true,
        code_signing_flag: false,
        email_protection_flag: false,
        signature_bits: 0,
        use_pss: false,
        ext_key_usage_oids: list(&[]),
        use_csr_common_name: true,
        use_csr_sans: true,
        organization: list(&[]),
        country: list(&[]),
        locality: list(&[]),
        province: list(&[]),
        street_address: list(&[]),
        postal_code: list(&[]),
        no_store: false,
        require_cn: true,
        policy_identifiers: None,
        basic_constraints_valid_for_non_ca: false,
        not_before: String::new(),
        issuer_ref: "default".to_owned(),
        ttl: seconds(0),
        max_ttl: seconds(0),
        allow_localhost: true,
        allowed_domains: list(&[]),
        allow_any_name: false,
        server_flag: true,
        key_type: "rsa".to_owned(),
        key_bits: 0,
        key_usage: list(&["DigitalSignature", "KeyAgreement", "KeyEncipherment"]),
        ext_key_usage: list(&[]),
        cn_validations: list(&["email", "hostname"]),
        ou: list(&[]),
        generate_lease: false,
        not_before_duration: seconds(30),
        not_after: String::new(),
    };
    assert_eq!(role("{}"), expected);
    // An explicit null is the same as an absent field, for every kind of field.
    let nulls: Vec<String> = PkiRole::SPEC.iter().map(|field| format!("{:?}:null", field.name)).collect();
    assert_eq!(role(&format!("{{{}}}", nulls.join(","))), expected);
}

#[test]
fn one_role_in_every_spelling_is_one_role() {
    let spellings = [
        r#"{"ttl":3600,"max_ttl":"24h","allow_localhost":false,"allowed_domains":["a.test","b.test"],"allow_any_name":true,
            "key_type":"ec","key_bits":256,"key_usage":[],"ou":"Ops","not_before_duration":60}"#,
        r#"{"ttl":"3600","max_ttl":86400,"allow_localhost":"false","allowed_domains":"a.test,b.test","allow_any_name":"true",
            "key_type":"ec","key_bits":"256","key_usage":"","ou":["Ops"],"not_before_duration":"60s"}"#,
        r#"{"ttl":"1h","max_ttl":"1d","allow_localhost":0,"allowed_domains":" a.test , b.test ,","allow_any_name":1,
            "key_type":"ec","key_bits":256,"key_usage":[""],"ou":[" Ops "],"not_before_duration":"1m"}"#,
        r#"{"ttl":"60m0s","max_ttl":"1440m","allow_localhost":"0","allowed_domains":["a.test ","","b.test"],
            "allow_any_name":"T","key_type":"ec","key_bits":" 256 ","key_usage":",","ou":"Ops,","not_before_duration":"1m0s"}"#,
    ];
    let first = role(spellings[0]);
    assert_eq!(first.allowed_domains, list(&["a.test", "b.test"]));
    assert_eq!((first.ttl, first.max_ttl, first.not_before_duration), (seconds(3600), seconds(86400), seconds(60)));
    assert_eq!((first.allow_localhost, first.allow_any_name, first.key_bits), (false, true, 256));
    // Sent empty is empty, not the default.
    assert_eq!(first.key_usage, list(&[]));
    for spelling in spellings {
        assert_eq!(role(spelling), first, "{spelling}");
    }
}

#[test]
fn what_makes_no_sense_names_the_field_and_not_the_value() {
    for (json, field) in [
        (r#"{"ttl":"soon-s3cret"}"#, "ttl"),
        (r#"{"ttl":-5}"#, "ttl"),
        (r#"{"ttl":["1h"]}"#, "ttl"),
        (r#"{"ttl":"9999999999999999h"}"#, "ttl"),
        (r#"{"allow_localhost":"s3cret"}"#, "allow_localhost"),
        (r#"{"allow_localhost":[]}"#, "allow_localhost"),
        (r#"{"key_bits":"s3cret"}"#, "key_bits"),
        (r#"{"key_bits":1.5}"#, "key_bits"),
        (r#"{"key_bits":99999999999999999999}"#, "key_bits"),
        (r#"{"key_usage":{"s3cret":1}}"#, "key_usage"),
        (r#"{"key_type":{"s3cret":1}}"#, "key_type"),
    ] {
        let error = read::<PkiRole>("name", json).unwrap_err();
        assert!(matches!(error, InputError::Wrong { name, .. } if name == field), "{json}: {error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}

#[test]
fn unknown_fields_are_ignored_and_told() {
    let (read, unknown) = read::<PkiRole>("name", r#"{"max_tll":"1h","zz":null,"ttl":"1h","x":[{}]}"#).unwrap();
    assert_eq!(read.ttl, seconds(3600));
    assert_eq!(unknown, ["max_tll", "x"]);
}

#[test]
fn a_parameter_of_the_path_cannot_be_sent_in_the_body() {
    assert_eq!(role(r#"{"name":"other"}"#).name, "x");
}

#[test]
fn older_names_are_read_and_newer_ones_win() {
    let old = app_role(r#"{"policies":"a,b","period":"1h","bound_cidr_list":"10.0.0.0/8,127.0.0.1"}"#);
    let new = app_role(
        r#"{"token_policies":["a","b"],"token_period":3600,"secret_id_bound_cidrs":["10.0.0.0/8","127.0.0.1/32"]}"#,
    );
    assert_eq!(old, new);
    assert_eq!(old.token_policies, Some(list(&["a", "b"])));
    let (both, unknown) =
        read::<AppRole>("role_name", r#"{"policies":"old","token_policies":"new","period":null}"#).unwrap();
    assert_eq!((both.token_policies, both.token_period), (Some(list(&["new"])), None));
    assert!(unknown.is_empty(), "an older name beside the newer one is known: {unknown:?}");
    // A null newer name is absent, so the older one counts.
    assert_eq!(app_role(r#"{"policies":"old","token_policies":null}"#).token_policies, Some(list(&["old"])));
}

#[test]
fn an_update_tells_not_sent_from_sent_empty() {
    let nothing = app_role("{}");
    assert_eq!((nothing.bind_secret_id, nothing.token_policies, nothing.secret_id_num_uses), (None, None, None));
    assert!(!nothing.local_secret_ids);
    let empty = app_role(
        r#"{"bind_secret_id":"","token_policies":"","secret_id_num_uses":0,"secret_id_ttl":"","role_id":"",
            "secret_id_bound_cidrs":[]}"#,
    );
    assert_eq!(empty.bind_secret_id, Some(false));
    assert_eq!(empty.token_policies, Some(list(&[])));
    assert_eq!((empty.secret_id_num_uses, empty.secret_id_ttl), (Some(0), Some(seconds(0))));
    assert_eq!((empty.role_id.as_deref(), empty.secret_id_bound_cidrs), (Some(""), Some(Cidrs::default())));
}

#[test]
fn a_role_refuses_ranges_and_numbers_that_are_none() {
    for json in [
        r#"{"secret_id_bound_cidrs":"10.0.0.0/33"}"#,
        r#"{"bound_cidr_list":["localhost"]}"#,
        r#"{"secret_id_num_uses":-1}"#,
        r#"{"token_num_uses":"many"}"#,
        r#"{"secret_id_ttl":"-1s"}"#,
    ] {
        assert!(read::<AppRole>("role_name", json).is_err(), "{json}");
    }
}

#[test]
fn tuning_takes_durations_as_text_numbers_and_words() {
    assert_eq!(tune(r#"{"default_lease_ttl":"system"}"#).default_lease_ttl.as_deref(), Some("system"));
    assert_eq!(tune(r#"{"default_lease_ttl":3600}"#).default_lease_ttl.as_deref(), Some("3600"));
    assert_eq!(tune(r#"{"max_lease_ttl":"1234h"}"#).max_lease_ttl.as_deref(), Some("1234h"));
    assert_eq!(tune(r#"{"max_lease_ttl":""}"#).max_lease_ttl.as_deref(), Some(""));
    assert_eq!(tune("{}").max_lease_ttl, None);
}

#[test]
fn tuning_takes_options_as_a_map_of_anything_short_or_as_pairs() {
    let version = |json: &str| tune(json).options.unwrap();
    let expected = BTreeMap::from([("version".to_owned(), "2".to_owned())]);
    assert_eq!(version(r#"{"options":{"version":"2"}}"#), expected);
    assert_eq!(version(r#"{"options":{"version":2}}"#), expected);
    assert_eq!(version(r#"{"options":["version=2"]}"#), expected);
    assert_eq!(version(r#"{"options":"version=2"}"#), expected);
    assert_eq!(version(r#"{"options":{}}"#), BTreeMap::new());
    assert!(read::<MountTune>("path", r#"{"options":{"version":{}}}"#).is_err());
    assert!(read::<MountTune>("path", r#"{"options":7}"#).is_err());
}

#[test]
fn tuning_keeps_an_empty_list_apart_from_none() {
    assert_eq!(tune(r#"{"audit_non_hmac_request_keys":[]}"#).audit_non_hmac_request_keys, Some(list(&[])));
    assert_eq!(tune(r#"{"audit_non_hmac_request_keys":""}"#).audit_non_hmac_request_keys, Some(list(&[])));
    assert_eq!(tune(r#"{"audit_non_hmac_request_keys":"a, b"}"#).audit_non_hmac_request_keys, Some(list(&["a", "b"])));
    assert_eq!(tune(r#"{"audit_non_hmac_request_keys":null}"#).audit_non_hmac_request_keys, None);
    assert_eq!(
        tune(r#"{"user_lockout_config":{"lockout_threshold":"5"}}"#).user_lockout_config.map(|map| map.len()),
        Some(1)
    );
    assert!(read::<MountTune>("path", r#"{"user_lockout_config":"5"}"#).is_err());
}

#[test]
fn help_is_what_the_fields_say() {
    let ttl = PkiRole::SPEC.iter().find(|field| field.name == "ttl").unwrap();
    assert_eq!((ttl.description, ttl.default), ("Life of certificates.", Some("0")));
    let policies = AppRole::SPEC.iter().find(|field| field.name == "token_policies").unwrap();
    assert_eq!((policies.aliases, policies.default), (&["policies"][..], None));
}

#[test]
fn what_the_derive_says_of_a_field_is_what_it_does() {
    let field = |name: &str| CustomSecretId::SPEC.iter().find(|field| field.name == name).unwrap();
    let facts = |name: &str| (field(name).kind, field(name).required, field(name).secret);
    assert_eq!(facts("role_name"), (Kind::String, true, false));
    // The type alone says that it is a secret.
    assert_eq!(facts("secret_id"), (Kind::String, true, true));
    assert_eq!(facts("metadata"), (Kind::Map, false, false));
    assert_eq!(facts("cidr_list"), (Kind::List, false, false));
    assert_eq!(facts("num_uses"), (Kind::Integer, false, false));
    let read = |json: &str| read::<CustomSecretId>("role_name", json);
    assert_eq!(read("{}").err(), Some(InputError::Missing { name: "secret_id" }));
    assert_eq!(read(r#"{"secret_id":null}"#).err(), Some(InputError::Missing { name: "secret_id" }));
    let (input, _) = read(r#"{"secret_id":5,"metadata":{"a":null,"b":true,"c":1.50},"cidr_list":"::1"}"#).unwrap();
    assert_eq!((input.role_name.as_str(), input.secret_id.expose().as_str(), input.num_uses), ("x", "5", 0));
    let expected = [("a", ""), ("b", "1"), ("c", "1.50")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(input.metadata, Some(BTreeMap::from(expected)));
    assert_eq!(input.cidr_list.unwrap().0.len(), 1);
}

/// One value of a body, read as a form; the error as its text.
fn form<T: Form>(json: &str) -> Result<T, &'static str> {
    T::read(decode(format!("{{\"v\":{json}}}").as_bytes(), &JsonLimits::default()).unwrap().get("v").unwrap())
}

#[test]
fn truth_is_told_in_the_words_of_the_reference() {
    for (json, expected) in [
        ("true", Some(true)),
        ("false", Some(false)),
        ("1", Some(true)),
        ("0", Some(false)),
        ("\"1\"", Some(true)),
        ("\"t\"", Some(true)),
        ("\"TRUE\"", Some(true)),
        ("\"True\"", Some(true)),
        ("\"f\"", Some(false)),
        ("\"\"", Some(false)),
        ("2", None),
        ("1.0", None),
        ("\"yes\"", None),
        ("\"tRue\"", None),
        ("[true]", None),
        ("{}", None),
    ] {
        assert_eq!(form::<bool>(json).ok(), expected, "{json}");
    }
}

#[test]
fn whole_numbers_are_read_in_every_base_and_never_wrap() {
    for (json, expected) in [
        ("5", Some(5)),
        ("-5", Some(-5)),
        ("\"5\"", Some(5)),
        ("\"-5\"", Some(-5)),
        ("\"+5\"", Some(5)),
        ("\"\"", Some(0)),
        ("\"0x1F\"", Some(31)),
        ("\"-0x1f\"", Some(-31)),
        ("\"0o17\"", Some(15)),
        ("\"017\"", Some(15)),
        ("\"0b11\"", Some(3)),
        ("\"0\"", Some(0)),
        ("true", Some(1)),
        ("5.0", Some(5)),
        ("5e2", Some(500)),
        ("9223372036854775807", Some(i64::MAX)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("\"-0x8000000000000000\"", Some(i64::MIN)),
        ("9223372036854775808", None),
        ("\"9223372036854775808\"", None),
        ("1e400", None),
        ("5.5", None),
        ("\"5.5\"", None),
        ("\"0x\"", None),
        ("\"0x-5\"", None),
        ("\"--5\"", None),
        ("\"5 5\"", None),
        ("\"08\"", None),
        ("[5]", None),
    ] {
        assert_eq!(form::<i64>(json).ok(), expected, "{json}");
    }
    assert_eq!(form::<u8>("256"), Err("is out of range"));
    assert_eq!(form::<u64>("-1"), Err("is out of range"));
    assert_eq!(form::<Vec<u64>>("[1,\"2\"]"), Ok(vec![1, 2]));
    assert_eq!(form::<Vec<u64>>("\"1, 2,\""), Ok(vec![1, 2]));
    assert_eq!(form::<Vec<u64>>("3"), Ok(vec![3]));
    assert!(form::<Vec<u64>>("[-1]").is_err() && form::<Vec<u64>>("\"1,x\"").is_err());
}

#[test]
fn fz_18_durations_are_bounded_however_they_are_sent() {
    for (json, expected) in [
        ("3600", Some(3600)),
        ("\"3600\"", Some(3600)),
        ("\"1h\"", Some(3600)),
        ("\" 1h \"", Some(3600)),
        ("\"1h30m\"", Some(5400)),
        ("\"7d\"", Some(604_800)),
        ("60.0", Some(60)),
        ("6e1", Some(60)),
        ("\"\"", Some(0)),
        ("\"-0s\"", Some(0)),
        ("-1", None),
        ("\"-1s\"", None),
        ("1.5", None),
        ("true", None),
        ("[]", None),
        ("9223372036", Some(9_223_372_036)),
        ("9223372037", None),
        ("9223372036854775807", None),
        ("\"9223372037\"", None),
        ("9223372036854775808", None),
        ("\"1e9h\"", None),
        ("\"1w\"", None),
    ] {
        assert_eq!(form::<Seconds>(json).ok().map(|seconds| seconds.0.as_secs()), expected, "{json}");
    }
    assert!(form::<SignedSeconds>("-3600").is_ok_and(|signed| signed.0.negative));
    assert!(form::<SignedSeconds>("-9223372036854775808").is_err());
    assert_eq!(form::<Seconds>("-1"), Err("cannot be negative"));
}

#[test]
fn lists_and_pairs_are_read_as_the_reference_reads_them() {
    let texts = |entries: &[&str]| -> Vec<String> { entries.iter().map(|entry| (*entry).to_owned()).collect() };
    let commas = |json: &str| form::<CommaList>(json).ok().map(|list| list.0);
    assert_eq!(commas("\" a, b,,c \""), Some(texts(&["a", "b", "c"])));
    assert_eq!(commas("[\"a,b\",1,true,null]"), Some(texts(&["a,b", "1", "1"])));
    assert_eq!(commas("5"), Some(texts(&["5"])));
    assert_eq!((commas("[[]]"), commas("{}")), (None, None));
    let list = |json: &str| form::<StringList>(json).ok().map(|list| list.0);
    assert_eq!(list("\" a,b \""), Some(texts(&["a,b"])));
    assert_eq!(list("\"\""), Some(texts(&[])));
    assert_eq!(list("[\" a \",\"\"]"), Some(texts(&["a", ""])));
    let pairs = |json: &str| form::<BTreeMap<String, String>>(json).ok();
    let one = |name: &str, value: &str| Some(BTreeMap::from([(name.to_owned(), value.to_owned())]));
    assert_eq!(pairs("\"k=v,w=x\""), one("k", "v,w=x"), "a comma is a part of the value");
    assert_eq!(pairs("[\"k=v=w\"]"), one("k", "v=w"));
    assert_eq!(pairs("{\"k\":null}"), one("k", ""));
    assert_eq!((pairs("[\"k\"]"), pairs("[\"=v\"]"), pairs("{\"k\":[]}"), pairs("5")), (None, None, None, None));
    assert_eq!(pairs("\"\""), Some(BTreeMap::new()));
    assert_eq!(form::<String>("true").as_deref(), Ok("1"));
    assert_eq!(form::<String>("12345678901234567890").as_deref(), Ok("12345678901234567890"));
    assert!(form::<String>("[\"a\"]").is_err());
}
