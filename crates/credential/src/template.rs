//! Templates of names and texts: what stands between `{{` and `}}` is put in, in the words of Go's templates.
//!
//! Understood are fields (`.RoleName`, and fields of fields, `.input.name` or `index .input "a name"`), texts, numbers, the functions of [`functions`], parentheses and pipes, whose value
//! becomes the last argument of what follows; and `if`, `else` and `end`. What is rendered may be a secret, so values are wiped, and errors name
//! positions and words of the template, never values. Deliberately absent: loops, variables.

mod functions;
mod parse;

use tresor_env::{Entropy, Timestamp};
use zeroize::Zeroizing;

use functions::Function;

/// How long a template can be.
const TEXT_MAX: usize = 64 * 1024;
/// How long what is rendered can be.
const RENDERED_MAX: usize = 256 * 1024;
/// How deep parentheses can be nested.
const DEPTH_MAX: usize = 16;

/// A template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Pipeline(Vec<Command>),
    If { condition: Vec<Command>, then: Vec<Piece>, otherwise: Vec<Piece> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Command {
    Operand(Operand),
    Call(Function, Vec<Operand>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operand {
    Text(String),
    Number(i64),
    /// A field, or one of a field, and so on.
    Field(Vec<String>),
    Group(Vec<Command>),
}

/// What a template is rendered with beside its fields.
#[derive(Clone, Copy)]
pub struct Moment<'m> {
    /// The time.
    pub now: Timestamp,
    /// Where random parts come from.
    pub entropy: &'m dyn Entropy,
}

/// Why a text is no template, or cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{{` without its end, or a text without its quote.
    #[error("template: byte {at}: `{what}` is not closed")]
    Unclosed {
        /// What is open.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// A word that makes no sense there.
    #[error("template: byte {at}: unexpected `{word}`")]
    Unexpected {
        /// It.
        word: String,
        /// Where.
        at: usize,
    },
    /// A function that is not known.
    #[error("template: byte {at}: function `{name}` is not defined")]
    UnknownFunction {
        /// Its name.
        name: String,
        /// Where.
        at: usize,
    },
    /// A field that is not known.
    #[error("template: there is no field `.{name}`")]
    UnknownField {
        /// Its name.
        name: String,
    },
    /// A function with other arguments than it takes.
    #[error("template: `{function}` takes {takes}")]
    Arguments {
        /// The function.
        function: &'static str,
        /// What it takes.
        takes: &'static str,
    },
    /// Too long, too deep, or what it makes is.
    #[error("template: {0} is too long")]
    TooLong(&'static str),
    /// What it makes is no text.
    #[error("template: the result is not UTF-8 text")]
    NoText,
}

/// A value on its way.
#[derive(Clone)]
pub enum Value {
    /// Text, or bytes that may be none.
    Bytes(Zeroizing<Vec<u8>>),
    /// A whole number.
    Number(i64),
    /// True or false.
    Truth(bool),
}

/// What a field stands for, by its names from the outermost on.
pub type Fields<'f> = dyn Fn(&[String]) -> Option<Value> + 'f;

impl Value {
    /// Text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Bytes(Zeroizing::new(text.into().into_bytes()))
    }

    /// Whether it is something.
    fn holds(&self) -> bool {
        match self {
            Self::Bytes(bytes) => !bytes.is_empty(),
            Self::Number(number) => *number != 0,
            Self::Truth(truth) => *truth,
        }
    }

    fn bytes(&self) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Number(number) => Zeroizing::new(number.to_string().into_bytes()),
            Self::Truth(truth) => Zeroizing::new(truth.to_string().into_bytes()),
        }
    }
}

impl Template {
    /// Reads a template whose fields are among `fields`.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn parse(text: &str, fields: &[&str]) -> Result<Self, TemplateError> {
        if text.len() > TEXT_MAX {
            return Err(TemplateError::TooLong("it"));
        }
        let template = Self(parse::pieces(text)?);
        check_pieces(&template.0, &|path| matches!(path, [name] if fields.contains(&name.as_str())))?;
        Ok(template)
    }

    /// Reads a template whose fields are among what `roots` hold, which is known when it is rendered.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn parse_nested(text: &str, roots: &[&str]) -> Result<Self, TemplateError> {
        if text.len() > TEXT_MAX {
            return Err(TemplateError::TooLong("it"));
        }
        let template = Self(parse::pieces(text)?);
        check_pieces(&template.0, &|path| path.first().is_some_and(|root| roots.contains(&root.as_str())))?;
        Ok(template)
    }

    /// The text with everything put in. A field that `fields` does not have is an error.
    ///
    /// # Errors
    /// [`TemplateError`], when a function is given what it does not take.
    pub fn render(&self, fields: &[(&str, &str)], moment: Moment<'_>) -> Result<Zeroizing<String>, TemplateError> {
        let named = |path: &[String]| match path {
            [name] => fields.iter().find(|(field, _)| field == name).map(|(_, value)| Value::text(*value)),
            _ => None,
        };
        self.render_with(&named, moment)
    }

    /// The text with everything put in that `fields` knows. What it does not know is an error.
    ///
    /// # Errors
    /// [`TemplateError`], when a function is given what it does not take.
    pub fn render_with(&self, fields: &Fields<'_>, moment: Moment<'_>) -> Result<Zeroizing<String>, TemplateError> {
        let mut out = Zeroizing::new(Vec::new());
        put(&self.0, fields, moment, &mut out)?;
        String::from_utf8(std::mem::take(&mut *out)).map(Zeroizing::new).map_err(|wrong| {
            drop(Zeroizing::new(wrong.into_bytes()));
            TemplateError::NoText
        })
    }
}

fn put(
    pieces: &[Piece],
    fields: &Fields<'_>,
    moment: Moment<'_>,
    out: &mut Zeroizing<Vec<u8>>,
) -> Result<(), TemplateError> {
    for piece in pieces {
        match piece {
            Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Pipeline(commands) => out.extend_from_slice(&run(commands, fields, moment)?.bytes()),
            Piece::If { condition, then, otherwise } => {
                let holds = run(condition, fields, moment)?.holds();
                put(if holds { then } else { otherwise }, fields, moment, out)?;
            }
        }
        if out.len() > RENDERED_MAX {
            return Err(TemplateError::TooLong("the result"));
        }
    }
    Ok(())
}

/// Whether a field is one that can be known.
type Known<'k> = dyn Fn(&[String]) -> bool + 'k;

fn check_pieces(pieces: &[Piece], fields: &Known<'_>) -> Result<(), TemplateError> {
    for piece in pieces {
        match piece {
            Piece::Literal(_) => {}
            Piece::Pipeline(commands) => check_fields(commands, fields)?,
            Piece::If { condition, then, otherwise } => {
                check_fields(condition, fields)?;
                check_pieces(then, fields)?;
                check_pieces(otherwise, fields)?;
            }
        }
    }
    Ok(())
}

fn check_fields(commands: &[Command], fields: &Known<'_>) -> Result<(), TemplateError> {
    for command in commands {
        let operands = match command {
            Command::Operand(operand) => std::slice::from_ref(operand),
            Command::Call(_, operands) => operands.as_slice(),
        };
        for operand in operands {
            match operand {
                Operand::Field(path) if !fields(path) => {
                    return Err(TemplateError::UnknownField { name: path.join(".") });
                }
                Operand::Group(commands) => check_fields(commands, fields)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn run(commands: &[Command], fields: &Fields<'_>, moment: Moment<'_>) -> Result<Value, TemplateError> {
    let mut piped = None;
    for command in commands {
        let value = match command {
            Command::Operand(operand) => evaluate(operand, fields, moment)?,
            Command::Call(function, operands) => {
                let operands = operands.iter().map(|operand| evaluate(operand, fields, moment));
                let arguments = operands.chain(piped.take().map(Ok)).collect::<Result<Vec<Value>, _>>()?;
                function.call(&arguments, moment)?
            }
        };
        piped = Some(value);
    }
    Ok(piped.unwrap_or_else(|| Value::text("")))
}

fn evaluate(operand: &Operand, fields: &Fields<'_>, moment: Moment<'_>) -> Result<Value, TemplateError> {
    match operand {
        Operand::Text(text) => Ok(Value::text(text.as_str())),
        Operand::Number(number) => Ok(Value::Number(*number)),
        Operand::Field(path) => fields(path).ok_or_else(|| TemplateError::UnknownField { name: path.join(".") }),
        Operand::Group(commands) => run(commands, fields, moment),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use tresor_env::doubles::SeededEntropy;

    use super::*;

    const FIELDS: [&str; 2] = ["DisplayName", "RoleName"];

    fn rendered(text: &str) -> Result<String, String> {
        let entropy = SeededEntropy::new(7);
        let moment = Moment { now: Timestamp::from_nanos(1_795_996_800_123_000_000), entropy: &entropy };
        let template = Template::parse(text, &FIELDS).map_err(|error| error.to_string())?;
        let fields = [("DisplayName", "token-with-display-name"), ("RoleName", "Read Only")];
        template.render(&fields, moment).map(|text| text.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn templates_render_as_go_renders_them() {
        for (template, expected) in [
            ("", ""),
            ("plain }} text", "plain }} text"),
            ("a-{{.RoleName}}-b", "a-Read Only-b"),
            ("{{ .RoleName | lowercase | replace \" \" \"_\" }}", "read_only"),
            ("{{.RoleName|uppercase}}", "READ ONLY"),
            ("x  {{- .RoleName -}}  y", "xRead Onlyy"),
            ("{{/* says nothing */}}x", "x"),
            ("{{ `raw \\n` }}{{ \"tab\\t\\u00e9\\\"\" }}", "raw \\ntab\té\""),
            ("{{ truncate 4 .DisplayName }}", "toke"),
            ("{{ \"añb\" | truncate 2 }}", "a"),
            ("{{ .DisplayName | truncate_sha256 12 }}", "toke2fb7cc36"),
            ("{{ .RoleName | truncate_sha256 12 }}", "Read Only"),
            ("{{ \"\" | sha256 }}", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("{{ .RoleName | base64 }}", "UmVhZCBPbmx5"),
            ("{{ \"UmVhZA==\" | decode_base64 }}", "Read"),
            ("{{ \"hi\" | encode_hex }}{{ \"6869\" | decode_hex }}", "6869hi"),
            ("{{ unix_time }} {{ unix_time_millis }}", "1795996800 1795996800123"),
            ("{{ timestamp \"2006-01-02\" }}", "2026-11-30"),
            ("{{ printf \"%s/%d/%v/%%/%q\" .RoleName 5 (\"x\" | uppercase) \"q\" }}", "Read Only/5/X/%/\"q\""),
            ("{{ (.DisplayName | truncate 8) | uppercase }}", "TOKEN-WI"),
            ("{{ if (eq .RoleName \"Read Only\") }}a{{ else }}b{{ end }}c", "ac"),
            ("{{ if eq .RoleName \"x\" }}a{{ else if ne 1 2 }}b{{ else }}c{{ end }}d", "bd"),
            ("{{ if .RoleName }}a{{ if \"\" }}b{{ end }}c{{ end }}{{ eq 1 1 }}", "actrue"),
            ("{{ printf \"%q\" \"p\" | utf16le | base64 }}", "IgBwACIA"),
        ] {
            assert_eq!(rendered(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn the_random_parts_are_random_and_as_long_as_they_should_be() {
        let usual = rendered(
            "{{ printf \"v-%s-%s-%s-%s\" (.DisplayName | truncate 8) (.RoleName | truncate 4) (random 20) (unix_time) | truncate 63 }}",
        )
        .unwrap();
        assert!(usual.starts_with("v-token-wi-Read-") && usual.ends_with("-1795996800"), "{usual}");
        assert_eq!(usual.len(), "v-token-wi-Read-".len() + 20 + "-1795996800".len());
        assert_eq!(rendered("{{ uuid }}").unwrap().len(), 36);
        let both = rendered("{{ random 10 }}{{ random 10 }}").unwrap();
        assert_ne!(both.get(..10), both.get(10..));
    }

    #[test]
    fn what_is_no_template_is_refused_by_its_place() {
        for (template, expected) in [
            ("ab{{ .RoleName", "template: byte 2: `{{` is not closed"),
            ("{{ \"x }}", "template: byte 3: `\"` is not closed"),
            ("{{ }}", "template: byte 0: unexpected `}}`"),
            ("{{ (.RoleName }}", "template: byte 3: `(` is not closed"),
            ("{{ .RoleName ) }}", "template: byte 13: unexpected `)`"),
            ("{{ .RoleName | }}", "template: byte 13: unexpected `|`"),
            ("{{ .Password }}", "template: there is no field `.Password`"),
            ("{{ env \"HOME\" }}", "template: byte 3: function `env` is not defined"),
            ("{{ if .RoleName }}x", "template: byte 0: `{{ if }}` is not closed"),
            ("x{{ end }}", "template: byte 4: unexpected `end`"),
            ("{{ if 1 }}{{ else }}{{ else }}{{ end }}", "template: byte 23: unexpected `else`"),
            ("{{ range .RoleName }}x{{ end }}", "template: byte 3: function `range` is not defined"),
            ("{{ .RoleName 5 }}", "template: byte 3: unexpected `.RoleName`"),
            ("{{ $x := 5 }}", "template: byte 3: unexpected `$x`"),
            ("{{ random }}", "template: `random` takes a number from 1 to 1000"),
            ("{{ truncate 0 .RoleName }}", "template: `truncate` takes a number above 0 and a text"),
            ("{{ truncate_sha256 8 .RoleName }}", "template: `truncate_sha256` takes a number above 8 and a text"),
            ("{{ printf \"%s %s\" .RoleName }}", "template: `printf` takes a format and a value for each of its verbs"),
            ("{{ \"/w==\" | decode_base64 }}", "template: the result is not UTF-8 text"),
        ] {
            assert_eq!(rendered(template).unwrap_err(), expected, "{template}");
        }
    }

    #[test]
    fn fields_of_fields_are_found_by_their_names() {
        let entropy = SeededEntropy::new(7);
        let moment = Moment { now: Timestamp::EPOCH, entropy: &entropy };
        let fields = |path: &[String]| match path.join("/").as_str() {
            "input/name" => Some(Value::text("ada")),
            "responses/a-flow/read-it/data/pass word" => Some(Value::text("s3cret")),
            "input/n" => Some(Value::Number(5)),
            "input/off" => Some(Value::Truth(false)),
            _ => None,
        };
        let rendered = |text: &str| {
            let template = Template::parse_nested(text, &["input", "responses"]).map_err(|error| error.to_string())?;
            template.render_with(&fields, moment).map(|text| text.to_string()).map_err(|error| error.to_string())
        };
        for (template, expected) in [
            ("a/{{ .input.name | uppercase }}", Ok("a/ADA")),
            ("{{ index .responses.a-flow \"read-it\" \"data\" \"pass word\" }}", Ok("s3cret")),
            ("{{ if .input.off }}on{{ else }}off{{ end }} {{ if eq .input.n 5 }}five{{ end }}", Ok("off five")),
            ("{{ .input.missing }}", Err("template: there is no field `.input.missing`")),
            ("{{ .requests.x }}", Err("template: there is no field `.requests.x`")),
            ("{{ .input. }}", Err("template: byte 3: unexpected `.input.`")),
            ("{{ index .input .input.name }}", Err("template: byte 3: unexpected `index`")),
            ("{{ index \"a\" }}", Err("template: byte 3: unexpected `index`")),
        ] {
            assert_eq!(rendered(template), expected.map(str::to_owned).map_err(str::to_owned), "{template}");
        }
    }

    #[test]
    fn what_grows_is_bounded_before_it_is_made() {
        let entropy = SeededEntropy::new(7);
        let moment = Moment { now: Timestamp::EPOCH, entropy: &entropy };
        let long = "x".repeat(200_000);
        let template = Template::parse("{{ .A | replace \"x\" .A }}", &["A"]).unwrap();
        let error = template.render(&[("A", &long)], moment).unwrap_err();
        assert_eq!(error, TemplateError::TooLong("the result"));
    }

    #[test]
    fn agt_03_no_error_shows_a_value() {
        let entropy = SeededEntropy::new(7);
        let moment = Moment { now: Timestamp::EPOCH, entropy: &entropy };
        for text in ["{{ .P | decode_hex }}", "{{ .P | decode_base64 }}", "{{ random .P }}", "{{ printf .P .P }}"] {
            let template = Template::parse(text, &["P"]).unwrap();
            let error = template.render(&[("P", "%d canary!")], moment).unwrap_err();
            assert!(!error.to_string().contains("canary"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_stumble(text in "([{}()|\"`. 0-9%-]|random|truncate|printf|if |else|end|\\.RoleName){0,30}") {
            drop(rendered(&text));
        }

        #[test]
        fn what_has_no_braces_is_itself(text in "[^{]{0,60}") {
            prop_assert_eq!(rendered(&text), Ok(text));
        }
    }
}
