//! The shapes of real files, good and bad, in both forms.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use proptest::prelude::*;
use tresor_hcl::{Object, Value, ValueKind, parse};

fn show(object: &Object) -> String {
    let item = |item: &tresor_hcl::Item| {
        let keys: Vec<&str> = item.keys.iter().map(|key| key.name.as_str()).collect();
        format!("{}={}", keys.join("."), show_value(&item.value))
    };
    object.items.iter().map(item).collect::<Vec<_>>().join(";")
}

fn show_value(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Integer(number) => number.to_string(),
        ValueKind::Float(number) => format!("{number:?}"),
        ValueKind::Bool(value) => value.to_string(),
        ValueKind::Null => "null".to_owned(),
        ValueKind::List(items) => format!("[{}]", items.iter().map(show_value).collect::<Vec<_>>().join(",")),
        ValueKind::Object(object) => format!("{{{}}}", show(object)),
    }
}

#[track_caller]
fn check(text: &str, expected: &str) {
    match parse(text) {
        Ok(object) => assert_eq!(show(&object), expected, "{text}"),
        Err(error) => assert_eq!(format!("! {error}"), expected, "{text}"),
    }
}

#[test]
fn the_shapes_of_real_files_are_read() {
    check("", "");
    check("ui = true\n\"quoted\" = 1", "ui=true;quoted=1");
    check("path \"a/*\" {\n  capabilities = [\"read\", \"list\",]\n}", r#"path.a/*={capabilities=["read","list"]}"#);
    check("listener \"tcp\" { address = \"x\" tls_disable = 1 }", r#"listener.tcp={address="x";tls_disable=1}"#);
    check("\"listener\" \"tcp\" {}", "listener.tcp={}");
    check("headers { \"default\" = { \"X\" = [\"a\"] } }", r#"headers={default={X=["a"]}}"#);
    check("sink \"file\" { wrap_ttl = \"5m\"\n config = {} }", r#"sink.file={wrap_ttl="5m";config={}}"#);
    check("a = 1, b = 2", "a=1;b=2");
    check("mode = 0640\nhex = 0x10\nf = 1.5\nn = -3", "mode=416;hex=16;f=1.5;n=-3");
    check("a = \"${HOME}/%{x}\"\nb = \"x${f(\"y\")}\"", r#"a="${HOME}/%{x}";b="x${f(\"y\")}""#);
    check("a = <<EOT\nline 1\n  line 2\nEOT\nb = 2", r#"a="line 1\n  line 2\n";b=2"#);
    check("a = <<-EOT\n    x\n      y\n    EOT\n", r#"a="x\n  y\n""#);
    check("# c\n// c\n/* c\n*/ a = 1 # c", "a=1");
    check("a = 1\r\nb = 2\r\n", "a=1;b=2");
    check("\u{feff}a = 1", "a=1");
    check("p \"a\" {}\np \"a\" {}", "p.a={};p.a={}");
    check("p \"{{identity.entity.id}}/*\" {}", "p.{{identity.entity.id}}/*={}");
}

#[test]
fn the_json_form_keeps_duplicates() {
    check("{\"path\":{\"a\":{\"capabilities\":[\"read\"]},\"a\":{}}}", r#"path={a={capabilities=["read"]};a={}}"#);
    check(" {\"n\":null,\"t\":true,\"f\":1.5e3,\"s\":\"\\u00e9\\\"\"}", r#"n=null;t=true;f=1500.0;s="é\"""#);
    check("{}", "");
    check("{\"a\":1} x", "! line 1, column 9: expected the end of the document");
    check("{\"a\" 1}", "! line 1, column 6: expected `:`");
}

#[test]
fn errors_name_a_place_and_no_value() {
    check("a = \n", "! line 2, column 1: expected a value");
    check("a = \"secret", "! line 1, column 5: unterminated string");
    check("a {", "! line 1, column 4: expected a key");
    check("a = [1 2]", "! line 1, column 8: expected `,` or `]`");
    check("a = secret", "! line 1, column 5: expected a value");
    check("}", "! line 1, column 1: expected a key");
    check("a = \"\\q\"", "! line 1, column 6: unknown escape in string");
    check("a = 0x-5", "! line 1, column 5: malformed number");
    check("a = 0x+5", "! line 1, column 5: malformed number");
    check("a = -0x-8000000000000000", "! line 1, column 5: malformed number");
    check("a = 09", "! line 1, column 5: malformed number");
    check("/* x", "! line 1, column 1: unterminated comment");
    check("a = <<X\nsecret", "! line 1, column 5: malformed or unterminated heredoc");
    check(&"a {".repeat(100), "! line 1, column 196: nested too deep");
    check(&format!("a = {}", "[".repeat(100_000)), "! line 1, column 70: nested too deep");
}

#[test]
fn labelled_blocks_are_found_in_every_spelling() {
    let spellings = [
        "listener \"tcp\" { address = \"x\" }",
        "listener = { tcp = { address = \"x\" } }",
        "{\"listener\":{\"tcp\":{\"address\":\"x\"}}}",
        "{\"listener\":[{\"tcp\":{\"address\":\"x\"}}]}",
        "{\"listener\":{\"tcp\":[{\"address\":\"x\"}]}}",
    ];
    for text in spellings {
        let object = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let blocks = object.labelled_blocks("listener").unwrap();
        assert_eq!(blocks.len(), 1, "{text}");
        assert_eq!(blocks[0].labels, ["tcp"], "{text}");
        assert_eq!(blocks[0].object.value("address").unwrap().as_string("address").unwrap(), "x");
    }
}

proptest! {
    #[test]
    fn fz_05_any_text_is_a_document_or_an_error(text in "\\PC{0,60}") {
        drop(parse(&text));
    }

    #[test]
    fn fz_05_likely_text_is_a_document_or_an_error(text in "[a-c\"{}\\[\\]=, \\n\\\\#/*<$:1-]{0,60}") {
        drop(parse(&text));
    }
}
