//! What programs come to, what is refused, and that none outgrows its bounds.
#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use tresor_model::{Body, Map};
use tresor_wire::json;

use super::*;

fn given() -> Bindings {
    let text = br#"{"input":{"name":"Ada","n":3,"x":1.5,"tags":["b","a","b"],"map":{"k":"v"},"read-only":true,"big":18446744073709551615}}"#;
    let map = json::decode(text, &json::JsonLimits::default()).unwrap();
    let input = Value::from_body(map.get("input").unwrap(), &mut Budget::default()).unwrap();
    Bindings::from([("input", input)])
}

fn run(variables: &[(&str, &str)], expression: &str, budget: &mut Budget) -> Result<String, CelError> {
    let variables = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let source = Source { variables, expression: expression.to_owned() };
    let value = Program::parse(&source, &["input"])?.run(&given(), budget)?;
    let mut out = Vec::new();
    json::encode(&value.into_body(budget).map_err(|problem| problem.at(1))?, &mut out);
    Ok(String::from_utf8(out).unwrap())
}

fn came(expression: &str) -> String {
    run(&[], expression, &mut Budget::default()).unwrap_or_else(|error| error.to_string())
}

#[test]
fn sys_29_expressions_come_to_what_the_language_says() {
    for (expression, expected) in [
        ("1 + 2 * 3 - 4 / 2 % 3", "5"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("0x1F + 1", "32"),
        ("2u * 3u", "6"),
        ("1.5 + input.n", "4.5"),
        ("7 % -2", "1"),
        ("'a' + \"b\" + r'\\d' + '''c'd'''", r#""ab\\dc'd""#),
        (r"'\u00e9\n\x41\101'", r#""é\nAA""#),
        ("b'abc' + b'\\xff' == b'abc\\377'", "true"),
        ("string(b'abc')", r#""abc""#),
        ("1 == 1.0 && 1u == 1 && 2 > 1.5 && !(1 == '1')", "true"),
        ("9223372036854775807 < 9223372036854775808.0", "true"),
        ("[1, 2] + [3] == [1, 2, 3]", "true"),
        ("{'a': 1, 2: 'b'}[2.0]", r#""b""#),
        ("2 in [1, 2] && 'k' in input.map && !('x' in input.map)", "true"),
        ("input.n > 2 ? 'many' : false", r#""many""#),
        ("input.n > 5 ? 'many' : false", "false"),
        ("has(input.name) && !has(input.missing)", "true"),
        ("input.`read-only`", "true"),
        ("input['name'].size() + size(input.tags) + size({'a': 1})", "7"),
        ("true || 1 / 0 == 0", "true"),
        ("1 / 0 == 0 || true", "true"),
        ("false && input.missing", "false"),
        ("[1, 2, 3].filter(x, x > 1).map(x, x * 10)", "[20,30]"),
        ("[1, 2, 3].map(x, x != 2, x)", "[1,3]"),
        ("[1, 2].all(x, x > 0) && [1, 2].exists(x, x == 2) && [1, 2].exists_one(x, x > 1)", "true"),
        ("{'b': 1, 'a': 2}.map(k, k)", r#"["a","b"]"#),
        ("[[1, 2], [3]].map(l, l.map(x, x + size(l)))", "[[3,4],[4]]"),
        ("input.?missing.orValue('none') + input.?name.orValue('none')", r#""noneAda""#),
        ("input.?map.k.value()", r#""v""#),
        ("[1, 2][?5].hasValue()", "false"),
        ("optional.of(2).optMap(x, x + 1)", "3"),
        ("optional.none()", "null"),
        ("optional.ofNonZeroValue('').or(optional.of('x'))", r#""x""#),
        ("[?input.?missing, ?input.?n]", "[3]"),
        ("{?'a': input.?missing, 'b': 1}", r#"{"b":1}"#),
        ("type(1) == type(2) && type(1) != type('')", "true"),
        ("int('12') + int(3.9) + int(4u) + int(timestamp('1970-01-01T00:00:05Z'))", "24"),
        ("string(1) + string(1.5) + string(true) + string(duration('1h30m'))", r#""11.5true5400s""#),
        ("duration('1h') < duration('61m')", "true"),
        ("timestamp('2026-11-30T12:00:00Z') + duration('36h')", r#""2026-12-02T00:00:00Z""#),
        ("timestamp('2026-12-01T00:00:00Z') - timestamp('2026-11-30T00:00:00Z')", r#""86400s""#),
        ("timestamp('2026-11-30T23:30:00Z').getDayOfWeek('+01:00')", "2"),
        ("timestamp('2026-11-30T23:30:00Z').getMonth() + duration('90m').getHours()", "11"),
        ("// nothing\n 1 // one", "1"),
    ] {
        assert_eq!(came(expression), expected, "{expression}");
    }
}

#[test]
fn sys_29_the_extensions_of_the_reference_are_there() {
    for (expression, expected) in [
        ("'hello'.charAt(1) + 'hello'.substring(2, 4) + 'hello'.substring(4)", r#""ello""#),
        ("'añbñ'.indexOf('ñ') + 'añbñ'.lastIndexOf('ñ') + 'abc'.indexOf('x') + 'aba'.indexOf('a', 1)", "5"),
        ("'aba'.lastIndexOf('a', 1)", "0"),
        ("'a,b,c'.split(',', 2) + 'ab'.split('')", r#"["a","b,c","a","b"]"#),
        ("['a', 'b'].join('-') + ['c'].join()", r#""a-bc""#),
        ("'AbC'.lowerAscii() + 'AbC'.upperAscii() + ' x '.trim() + 'abc'.reverse()", r#""abcABCxcba""#),
        ("'aaa'.replace('a', 'b', 2)", r#""bba""#),
        ("strings.quote('a\"b\\n')", r#""\"a\\\"b\\n\"""#),
        ("'%s %d %.2f %x %% %s'.format(['a', 3, 1.005, 255, [1, 'b']])", r#""a 3 1.00 ff % [1, b]""#),
        ("'%e|%X|%o|%b'.format([1234.5, 'hi', 8, 5])", r#""1.234500e+03|6869|10|101""#),
        ("'ada@example.com'.matches('^[a-z]+@example[.]com$') && matches('x', 'x')", "true"),
        ("regex.replace('a1b2', '([a-z])([0-9])', '\\\\2\\\\1')", r#""1a2b""#),
        ("regex.replace('aaa', 'a', 'b', 1)", r#""baa""#),
        ("regex.extract('user=ada', 'user=(.*)').value()", r#""ada""#),
        ("regex.extractAll('a1 b2', '[a-z][0-9]')", r#"["a1","b2"]"#),
        ("[1, 2, 3, 4].slice(1, 3) + [[1], [[2]]].flatten() + [[[3]]].flatten(2)", "[2,3,1,[2],3]"),
        ("input.tags.distinct() + [3, 1, 2].sort() + [1, 2].reverse() + lists.range(2)", r#"["b","a",1,2,3,2,1,0,1]"#),
        ("[{'n': 2}, {'n': 1}].sortBy(e, e.n).map(e, e.n)", "[1,2]"),
        ("[1, 2].first().value() + [1, 2].last().value()", "3"),
        ("math.greatest(1, 2.5, 2u) + math.least([3, 1])", "3.5"),
        ("[math.ceil(1.2), math.floor(1.8), math.round(1.5), math.trunc(-1.8)]", "[2,1,2,-1]"),
        (
            "[math.abs(-3), math.sign(-3), math.bitOr(1, 2), math.bitXor(3, 1), math.bitShiftLeft(1, 4)]",
            "[3,-1,3,2,16]",
        ),
        ("math.sqrt(16) == 4.0 && math.isNaN(0.0 / 0.0) && math.bitNot(0) == -1", "true"),
        ("sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1]) && !sets.intersects([1], [2])", "true"),
        ("base64.encode(b'hi') + string(base64.decode('aGk'))", r#""aGk=hi""#),
        ("encode_json({'b': [1, null, 'x'], 'a': duration('1m')})", r#""{\"a\":\"60s\",\"b\":[1,null,\"x\"]}""#),
        ("decode_json('{\"a\": [1.0]}').a[0]", "1"),
        ("check_valid_email('a.b@example.com') && !check_valid_email('nobody') && !check_valid_email(3)", "true"),
    ] {
        assert_eq!(came(expression), expected, "{expression}");
    }
}

#[test]
fn a_variable_stands_for_what_comes_before_it_and_the_expression() {
    let variables = [("long", "size(input.name) > 2"), ("text", "long ? input.name : 'short'")];
    assert_eq!(run(&variables, "text + '!'", &mut Budget::default()).unwrap(), r#""Ada!""#);
    let early = run(&[("a", "b"), ("b", "1")], "a", &mut Budget::default()).unwrap_err();
    assert_eq!(early.to_string(), "variable `a`: character 1: there is no `b`");
    let twice = run(&[("input", "1")], "a", &mut Budget::default()).unwrap_err();
    assert_eq!(twice.to_string(), "variable `input`: character 1: there are two variables `input`");
    let failed = run(&[("a", "1 / 0")], "1", &mut Budget::default()).unwrap_err();
    assert_eq!(failed.to_string(), "variable `a`: character 3: division by zero");
}

#[test]
fn what_is_no_program_is_refused_by_its_place() {
    for (expression, expected) in [
        ("", "character 1: an expression is missing"),
        ("1 +", "character 4: unexpected end"),
        ("1 2", "character 3: unexpected `number`"),
        ("(1", "character 3: unexpected end"),
        ("'a", "character 1: a text is not closed"),
        ("'\\q'", "character 1: this cannot be read: an escape"),
        ("a # b", "character 3: unexpected `#`"),
        ("missing + 1", "character 1: there is no `missing`"),
        ("[1].map(x, y)", "character 12: there is no `y`"),
        ("[1].map(x, x) + x", "character 17: there is no `x`"),
        ("nothing(1)", "character 1: there is no function `nothing`"),
        ("'a'.nothing()", "character 5: there is no function `nothing`"),
        ("size(1, 2)", "character 1: `size` takes another number of arguments"),
        ("[1].map(1, 2)", "character 5: `map` takes a name and an expression"),
        ("has(1)", "character 1: `has` takes a field, as in `has(a.b)`"),
        ("PKIX.Name{a: 1}", "character 6: there is no message type `PKIX.Name`"),
        ("while", "character 1: `while` cannot be a name"),
        ("99999999999999999999", "character 1: this cannot be read: a number"),
        ("9223372036854775808", "character 1: a number, time or duration is out of range"),
    ] {
        let error = run(&[], expression, &mut Budget::default()).unwrap_err();
        assert_eq!(error.to_string(), expected, "{expression}");
    }
}

#[test]
fn what_cannot_be_done_is_an_error_without_the_value() {
    for (expression, expected) in [
        ("9223372036854775807 + 1", "character 21: a number, time or duration is out of range"),
        ("input.missing", "character 7: there is no field `missing`"),
        ("input.map[input.name]", "character 10: there is no such key"),
        ("[1][1]", "character 4: the index is out of bounds"),
        ("input.name + 1", "character 12: `+` does not take string, int"),
        ("input.name < 1", "character 12: `<` does not take string, int"),
        ("input.name ? 1 : 2", "character 1: `? :` does not take string"),
        ("{'a': 1, 'a': 2}", "character 1: a key is there twice"),
        ("int(input.name)", "character 1: a text is no whole number"),
        ("'a'.matches('(')", "character 5: it is no regular expression, or too large a one"),
        ("'a'.matches('(a{99}){99}{99}')", "character 5: it is no regular expression, or too large a one"),
        (
            "timestamp('2026-11-30T23:30:00Z').getHours('Europe/Berlin')",
            "character 35: a text is no zone of time, which is `UTC` or as `+02:00`",
        ),
        ("optional.none().value()", "character 17: an optional value is none"),
        ("[3, 'a'].sort()", "character 10: `sort` does not take int, string"),
        ("true && 1", "character 9: `&&` does not take int"),
        ("0.0 / 0.0", "character 1: the result cannot be shown: a number that is none, or has no end"),
    ] {
        assert_eq!(came(expression), expected, "{expression}");
    }
    for expression in ["int(input.name)", "input.name + 1", "input.map[input.name]", "duration(input.name)"] {
        assert!(!came(expression).contains("Ada"), "{expression}");
    }
}

/// A program cannot be made to run long, hold much, or overflow the stack: each of these is refused.
#[test]
fn sec_no_program_outgrows_its_bounds() {
    let nested = |count: usize, open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(count), close.repeat(count))
    };
    let mut variables = vec![("v0".to_owned(), "'0123456789'".to_owned())];
    variables.extend((1..40).map(|index| (format!("v{index}"), format!("v{} + v{}", index - 1, index - 1))));
    let doubled = Source { variables, expression: "v39".into() };
    let mut lists = vec![("v0".to_owned(), "[1]".to_owned())];
    lists.extend((1..40).map(|index| (format!("v{index}"), format!("[v{}, v{}]", index - 1, index - 1))));
    let shared = |expression: &str| Source { variables: lists.clone(), expression: expression.into() };
    let plain = |expression: String| Source { variables: Vec::new(), expression };
    let sources = [
        (doubled, Problem::TooMuch),
        (shared("v39 == [v38, v38]"), Problem::TooManySteps),
        (shared("encode_json(v39)"), Problem::TooMuch),
        (shared("v39"), Problem::TooMuch),
        (shared("v39.flatten(64)"), Problem::TooMuch),
        (plain("lists.range(9000000000)".into()), Problem::TooMuch),
        (plain("lists.range(1000).map(a, lists.range(1000).map(b, lists.range(1000).size()))".into()), Problem::TooMuch),
        (plain("lists.range(50000).all(a, lists.range(50000).all(b, true))".into()), Problem::TooMuch),
        (plain("[1,2,3,4,5,6,7,8].map(a, [1,2,3,4,5,6,7,8].map(b, [1,2,3,4,5,6,7,8].map(c, [1,2,3,4,5,6,7,8].map(d, \
                [1,2,3,4,5,6,7,8].map(e, [1,2,3,4,5,6,7,8].map(f, [1,2,3,4,5,6,7,8].map(g, 1)))))))".into()), Problem::TooMuch),
        (plain("'a'.replace('', 'b'.replace('', '0123456789'.replace('', '0123456789'.replace('', '0123456789'))))\
                .replace('', '0123456789'.replace('', '0123456789').replace('', '0123456789').replace('', '0123456789'))\
                .replace('', '0123456789'.replace('', '0123456789').replace('', '0123456789').replace('', '0123456789'))".into()),
         Problem::TooMuch),
        (plain(nested(5000, "(", "1", ")")), Problem::TooDeep),
        (plain(nested(5000, "[", "1", "]")), Problem::TooDeep),
        (plain(nested(5000, "!", "true", "")), Problem::TooDeep),
        (plain(nested(5000, "-", "input.n", "")), Problem::TooDeep),
        (plain(nested(5000, "1+", "1", "")), Problem::TooDeep),
        (plain(nested(4000, "a?b:", "c", "")), Problem::TooDeep),
        (plain(nested(4000, "a?", "c", "")), Problem::Unexpected("?".into())),
        (plain(nested(1, "input", &".a".repeat(5000), "")), Problem::TooDeep),
        (plain(nested(1000, "[1].map(x,", "x", ")")), Problem::TooDeep),
        (plain("1".repeat(TEXT_BYTES_MAX + 1)), Problem::TooLong),
    ];
    for (index, (source, expected)) in sources.iter().enumerate() {
        let run = Program::parse(source, &["input"]).and_then(|program| {
            let mut budget = Budget::default();
            let value = program.run(&given(), &mut budget)?;
            value.into_body(&mut budget).map_err(|problem| problem.at(1))
        });
        let problem = run.unwrap_err().problem;
        // Which of both is used up first does not matter.
        let uses_up = |problem: &Problem| matches!(problem, Problem::TooMuch | Problem::TooManySteps);
        assert!(problem == *expected || uses_up(&problem) && uses_up(expected), "source {index}: {problem}");
    }
    let mut deep = vec![("v0".to_owned(), "[1]".to_owned())];
    deep.extend((1..64).map(|index| (format!("v{index}"), format!("[[v{}]]", index - 1))));
    let deep = Source { variables: deep, expression: "v63 == v63".into() };
    let run = Program::parse(&deep, &["input"]).unwrap().run(&given(), &mut Budget::default());
    assert_eq!(run.unwrap_err().problem, Problem::TooDeep);
    // A long chain that is not nested is no trouble.
    assert_eq!(came(&format!("{}false", "false || ".repeat(1000))), "false");
}

#[test]
fn numbers_keep_their_digits_both_ways() {
    assert_eq!(came("input.big"), "18446744073709551615");
    assert_eq!(came("input.x"), "1.5");
    let mut budget = Budget::default();
    let body = Body::Map(Map::new().with("n", 3));
    assert!(Value::from_body(&body, &mut budget).unwrap().into_body(&mut budget).unwrap() == body);
}

proptest! {
    #[test]
    fn no_text_makes_it_stumble(text in "([-(){}\\[\\].,?:+*/%!<>=&|'\"` 0-9ax]|input|in |true|map|all|has|size|matches|format|flatten|\\\\){0,40}") {
        drop(run(&[("a", &text)], &text, &mut Budget::new(20_000, 256 * 1024)));
    }

    #[test]
    fn whole_numbers_add_as_they_should(one in any::<i64>(), two in any::<i64>()) {
        let expected = one.checked_add(two).map(|sum| sum.to_string());
        let came = run(&[], &format!("({one}) + ({two})"), &mut Budget::default()).ok();
        prop_assert_eq!(came, expected);
    }
}
