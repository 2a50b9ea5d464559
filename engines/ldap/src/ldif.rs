//! LDIF (RFC 2849) with templates in it: what is changed in a directory when an account is made or taken back.
//!
//! The text is taken apart *before* anything is put into its templates, and what is put in goes where the template stands:
//! into one value, never into another line; and where that is a distinguished name, escaped (PWD-04). Deliberately absent:
//! values out of files (`:<`), controls, and renaming.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_credential::{Moment, Template};
use tresor_directory::{Modification, Verb, name};
use tresor_record::Part;
use tresor_secret::Wiped;

/// How long a text can be.
const BYTES_MAX: usize = 64 * 1024;
/// How many changes one can be.
const CHANGES_MAX: usize = 64;

/// What can be put into a template.
const FIELDS: &[&str] = &[
    "Username",
    "Password",
    "DisplayName",
    "RoleName",
    "IssueTime",
    "IssueTimeSeconds",
    "ExpirationTime",
    "ExpirationTimeSeconds",
];

/// Attributes whose values are distinguished names.
const NAMES: &[&str] = &[
    "member",
    "uniquemember",
    "manager",
    "owner",
    "roleoccupant",
    "seealso",
    "secretary",
    "memberof",
    "distinguishedname",
    "aliasedobjectname",
];

/// A change of one entry.
#[derive(Part)]
pub(crate) struct Change {
    /// The entry.
    pub(crate) name: String,
    /// What is done.
    pub(crate) deed: Deed,
}

/// What is done to an entry.
#[derive(Part)]
pub(crate) enum Deed {
    /// It is made, with these attributes.
    #[part(tag = 1)]
    Add(Vec<Attribute>),
    /// It is changed.
    #[part(tag = 2)]
    Modify(Vec<Step>),
    /// It is removed.
    #[part(tag = 3)]
    Delete,
}

/// An attribute and its values.
#[derive(Part)]
pub(crate) struct Attribute {
    name: String,
    values: Vec<Wiped<Vec<u8>>>,
}

/// A change of one attribute.
#[derive(Part)]
pub(crate) struct Step {
    verb: StepVerb,
    attribute: Attribute,
}

#[derive(Part, Clone, Copy)]
enum StepVerb {
    #[part(tag = 1)]
    Add,
    #[part(tag = 2)]
    Delete,
    #[part(tag = 3)]
    Replace,
}

impl Attribute {
    /// As the directory's client takes it.
    pub(crate) fn pair(&self) -> (String, Vec<Wiped<Vec<u8>>>) {
        (self.name.clone(), self.values.clone())
    }
}

impl Step {
    /// As the directory's client takes it.
    pub(crate) fn modification(&self) -> Modification {
        let (attribute, values) = self.attribute.pair();
        let verb = match self.verb {
            StepVerb::Add => Verb::Add,
            StepVerb::Delete => Verb::Delete,
            StepVerb::Replace => Verb::Replace,
        };
        Modification { verb, attribute, values }
    }
}

/// Why a text is no LDIF; where, never what a value was.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LdifError {
    #[error("must specify at least one LDIF entry")]
    Empty,
    #[error("LDIF is too long")]
    TooLong,
    #[error("line {0}: {1}")]
    Line(usize, &'static str),
    #[error("line {0}: invalid template: {1}")]
    Template(usize, String),
}

/// What is put into templates.
pub(crate) type Values<'v> = [(&'static str, &'v str)];

/// One line.
enum Line {
    Pair(usize, String, Wiped<Vec<u8>>),
    Dash(usize),
}

/// The changes of a text, with everything put in.
pub(crate) fn changes(text: &str, values: &Values<'_>, moment: Moment<'_>) -> Result<Vec<Change>, LdifError> {
    if text.len() > BYTES_MAX {
        return Err(LdifError::TooLong);
    }
    let mut changes = Vec::new();
    for record in records(text)? {
        let mut lines = Vec::with_capacity(record.len());
        for (number, line) in record {
            lines.push(filled(number, &line, values, moment)?);
        }
        changes.extend(change(lines)?);
        if changes.len() > CHANGES_MAX {
            return Err(LdifError::TooLong);
        }
    }
    if changes.is_empty() { Err(LdifError::Empty) } else { Ok(changes) }
}

/// Whether a text is LDIF whatever is put in.
pub(crate) fn check(text: &str, moment: Moment<'_>) -> Result<(), LdifError> {
    let sample: Vec<(&'static str, &str)> =
        FIELDS.iter().map(|field| (*field, if field.ends_with("Seconds") { "1" } else { "test" })).collect();
    changes(text, &sample, moment).map(drop)
}

type Numbered = (usize, String);

/// The lines of each record, unfolded, without comments.
fn records(text: &str) -> Result<Vec<Vec<Numbered>>, LdifError> {
    let mut records: Vec<Vec<Numbered>> = vec![Vec::new()];
    // What a folded line goes on with: the last line, a comment, or nothing.
    let (mut is_comment, mut is_open) = (false, false);
    for (at, line) in text.split('\n').enumerate() {
        let (number, line) = (at + 1, line.strip_suffix('\r').unwrap_or(line));
        let last = records.last_mut().map_or_else(Vec::new, std::mem::take);
        let mut current = last;
        if line.trim().is_empty() {
            is_open = false;
            is_comment = false;
            records.pop();
            if !current.is_empty() {
                records.push(current);
            }
            records.push(Vec::new());
            continue;
        }
        if let Some(rest) = line.strip_prefix(' ') {
            match current.last_mut() {
                _ if is_comment => {}
                Some((_, before)) if is_open => before.push_str(rest),
                _ => return Err(LdifError::Line(number, "goes on with nothing")),
            }
        } else if line.starts_with('#') {
            is_comment = true;
        } else {
            is_comment = false;
            is_open = true;
            let is_version =
                records.len() == 1 && current.is_empty() && line.to_ascii_lowercase().starts_with("version:");
            if is_version {
                is_open = false;
            } else {
                current.push((number, line.to_owned()));
            }
        }
        if let Some(place) = records.last_mut() {
            *place = current;
        }
    }
    records.retain(|record| !record.is_empty());
    Ok(records)
}

/// A line with everything put in.
fn filled(number: usize, line: &str, values: &Values<'_>, moment: Moment<'_>) -> Result<Line, LdifError> {
    if line.trim_end() == "-" {
        return Ok(Line::Dash(number));
    }
    let (attribute, rest) = line.split_once(':').ok_or(LdifError::Line(number, "no attribute and value"))?;
    let is_name = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ';'))
    };
    if !is_name(attribute) {
        return Err(LdifError::Line(number, "no name of an attribute"));
    }
    if rest.starts_with('<') {
        return Err(LdifError::Line(number, "values out of files are not read"));
    }
    let lower = attribute.to_ascii_lowercase();
    let kind = lower.split(';').next().unwrap_or_default();
    let is_distinguished = kind == "dn" || NAMES.contains(&kind);
    let value = match rest.strip_prefix(':') {
        Some(_) if is_distinguished && rest.contains("{{") => {
            return Err(LdifError::Line(number, "a distinguished name in base64 cannot have a template in it"));
        }
        Some(encoded) => {
            let text = rendered(number, encoded.trim(), values, moment)?;
            let decoded = STANDARD.decode(text.trim().as_bytes());
            Wiped::new(decoded.map_err(|_| LdifError::Line(number, "no base64"))?)
        }
        None if is_distinguished => {
            let mut whole = String::new();
            for piece in pieces(rest.trim_start()) {
                match piece {
                    Piece::Text(text) => whole.push_str(text),
                    Piece::Template(text) => whole.push_str(&name::escaped(&rendered(number, text, values, moment)?)),
                }
            }
            Wiped::new(whole.into_bytes())
        }
        None => Wiped::new(rendered(number, rest.trim_start(), values, moment)?.as_bytes().to_vec()),
    };
    Ok(Line::Pair(number, attribute.to_owned(), value))
}

fn rendered(number: usize, text: &str, values: &Values<'_>, moment: Moment<'_>) -> Result<Wiped<String>, LdifError> {
    let wrong = |error: tresor_credential::TemplateError| LdifError::Template(number, error.to_string());
    let template = Template::parse(text, FIELDS).map_err(wrong)?;
    let rendered = template.render(values, moment).map_err(wrong)?;
    Ok(Wiped::new(rendered.to_string()))
}

/// A piece of a value: text, or what stands in braces, with them.
enum Piece<'t> {
    Text(&'t str),
    Template(&'t str),
}

/// The pieces of a value; braces that a quoted text holds close nothing.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find("{{") {
        let (before, from) = rest.split_at(begin);
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        let (template, after) = from.split_at(end_of_template(from));
        pieces.push(Piece::Template(template));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

/// Where a template ends that begins here; the end of the text where it has none, which its parser refuses.
fn end_of_template(text: &str) -> usize {
    let mut quote = None;
    let mut before = ' ';
    for (at, letter) in text.char_indices() {
        match quote {
            Some(open) if letter == open && before != '\\' => quote = None,
            Some(_) => {}
            None if letter == '"' || letter == '`' => quote = Some(letter),
            None if letter == '}' && before == '}' => return at + 1,
            None => {}
        }
        before = if before == '\\' { ' ' } else { letter };
    }
    text.len()
}

/// The change that a record means.
fn change(lines: Vec<Line>) -> Result<Option<Change>, LdifError> {
    let mut lines = lines.into_iter().peekable();
    let (number, name) = match lines.next() {
        None => return Ok(None),
        Some(Line::Pair(number, attribute, value)) if attribute.eq_ignore_ascii_case("dn") => (number, value),
        Some(Line::Pair(number, ..) | Line::Dash(number)) => {
            return Err(LdifError::Line(number, "an entry begins with its dn"));
        }
    };
    let name = text_of(number, &name)?;
    if name.trim().is_empty() {
        return Err(LdifError::Line(number, "an empty dn"));
    }
    let mut kind = "add".to_owned();
    if let Some(Line::Pair(number, _, value)) = lines.next_if(|line| is_named(line, "changetype")) {
        kind = text_of(number, &value)?.trim().to_ascii_lowercase();
    }
    let deed = match kind.as_str() {
        "add" => Deed::Add(attributes(number, lines)?),
        "delete" => match lines.next() {
            None => Deed::Delete,
            Some(Line::Pair(number, ..) | Line::Dash(number)) => {
                return Err(LdifError::Line(number, "nothing follows the deletion of an entry"));
            }
        },
        "modify" => Deed::Modify(steps(number, lines)?),
        _ => return Err(LdifError::Line(number, "changetype must be add, modify or delete")),
    };
    Ok(Some(Change { name, deed }))
}

fn is_named(line: &Line, name: &str) -> bool {
    matches!(line, Line::Pair(_, attribute, _) if attribute.eq_ignore_ascii_case(name))
}

fn text_of(number: usize, value: &[u8]) -> Result<String, LdifError> {
    let text = std::str::from_utf8(value).map_err(|_| LdifError::Line(number, "no text"))?;
    Ok(text.to_owned())
}

fn attributes(number: usize, lines: impl Iterator<Item = Line>) -> Result<Vec<Attribute>, LdifError> {
    let mut attributes: Vec<Attribute> = Vec::new();
    for line in lines {
        let (name, value) = match line {
            Line::Pair(number, name, _) if name.eq_ignore_ascii_case("control") => {
                return Err(LdifError::Line(number, "controls are not sent"));
            }
            Line::Pair(_, name, value) => (name, value),
            Line::Dash(number) => return Err(LdifError::Line(number, "`-` belongs to changetype: modify")),
        };
        match attributes.iter_mut().find(|known| known.name.eq_ignore_ascii_case(&name)) {
            Some(known) => known.values.push(value),
            None => attributes.push(Attribute { name, values: vec![value] }),
        }
    }
    if attributes.is_empty() { Err(LdifError::Line(number, "an entry without attributes")) } else { Ok(attributes) }
}

fn steps(number: usize, mut lines: impl Iterator<Item = Line>) -> Result<Vec<Step>, LdifError> {
    let mut steps = Vec::new();
    while let Some(line) = lines.next() {
        let (number, verb, name) = match line {
            Line::Pair(number, verb, name) => (number, verb.to_ascii_lowercase(), text_of(number, &name)?),
            Line::Dash(number) => return Err(LdifError::Line(number, "`-` ends nothing")),
        };
        let verb = match verb.as_str() {
            "add" => StepVerb::Add,
            "delete" => StepVerb::Delete,
            "replace" => StepVerb::Replace,
            _ => return Err(LdifError::Line(number, "add, delete or replace is expected")),
        };
        let name = name.trim().to_owned();
        let mut values = Vec::new();
        for line in lines.by_ref() {
            match line {
                Line::Pair(_, attribute, value) if attribute.eq_ignore_ascii_case(&name) => values.push(value),
                Line::Pair(number, ..) => return Err(LdifError::Line(number, "a value of another attribute")),
                Line::Dash(_) => break,
            }
        }
        if values.is_empty() && matches!(verb, StepVerb::Add) {
            return Err(LdifError::Line(number, "nothing to add"));
        }
        steps.push(Step { verb, attribute: Attribute { name, values } });
    }
    if steps.is_empty() { Err(LdifError::Line(number, "nothing to modify")) } else { Ok(steps) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use proptest::prelude::*;
    use tresor_env::Timestamp;
    use tresor_env::doubles::SeededEntropy;

    use super::*;

    fn read(text: &str, values: &Values<'_>) -> Result<Vec<Change>, LdifError> {
        let entropy = SeededEntropy::new(1);
        changes(text, values, Moment { now: Timestamp::from_seconds(1_000_000_000), entropy: &entropy })
    }

    fn shown(changes: &[Change]) -> String {
        let values = |attribute: &Attribute| {
            let texts = attribute.values.iter().map(|value| String::from_utf8_lossy(value).into_owned());
            format!("{}={}", attribute.name, texts.collect::<Vec<_>>().join("|"))
        };
        let one = |change: &Change| match &change.deed {
            Deed::Add(attributes) => {
                format!("add <{}> {}", change.name, attributes.iter().map(values).collect::<Vec<_>>().join(" "))
            }
            Deed::Modify(steps) => {
                let step = |step: &Step| {
                    let verb = match step.verb {
                        StepVerb::Add => '+',
                        StepVerb::Delete => '-',
                        StepVerb::Replace => '=',
                    };
                    format!("{verb}{}", values(&step.attribute))
                };
                format!("modify <{}> {}", change.name, steps.iter().map(step).collect::<Vec<_>>().join(" "))
            }
            Deed::Delete => format!("delete <{}>", change.name),
        };
        changes.iter().map(one).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_people_write_is_read() {
        let text = "version: 1\n# a comment\n that goes on\ndn: cn={{.Username}},ou=people,dc=exa\n mple,dc=com\n\
                    changetype: add\r\nobjectClass: person\nobjectclass: top\nsn:{{.Password | base64}}\nuserPassword:: {{.Password | base64}}\n\n\n\
                    dn: cn=staff,dc=example,dc=com\nchangetype: modify\nadd: member\nmember: cn={{.Username}},ou=people\n-\n\
                    replace: description\ndescription: a\ndescription: b\n-\ndelete: mail\n\n\
                    dn:: Y249eA==\nchangetype: delete\n";
        let changes = read(text, &[("Username", "v_bob"), ("Password", "pa ss")]).unwrap();
        assert_eq!(
            shown(&changes),
            "add <cn=v_bob,ou=people,dc=example,dc=com> objectClass=person|top sn=cGEgc3M= userPassword=pa ss\n\
             modify <cn=staff,dc=example,dc=com> +member=cn=v_bob,ou=people =description=a|b -mail=\n\
             delete <cn=x>"
        );
    }

    #[test]
    fn pwd_04_what_is_put_in_stays_where_it_stands() {
        let text = "dn: cn={{.Username}},dc=x\nsn: {{.Username}}\nmember: cn={{.Username}},dc=x\n";
        for (value, escaped) in [
            ("a,ou=admins", "a\\,ou\\=admins"),
            ("a\nuserPassword: known", "a\\0AuserPassword: known"),
            ("a\n\ndn: cn=b", "a\\0A\\0Adn: cn\\=b"),
            ("{{.Password}}", "{{.Password}}"),
        ] {
            let changes = read(text, &[("Username", value), ("Password", "secret")]).unwrap();
            assert_eq!(shown(&changes), format!("add <cn={escaped},dc=x> sn={value} member=cn={escaped},dc=x"));
        }
        // What a function makes is escaped as well.
        let changes = read("dn: cn={{.Username | base64}},dc=x\nsn: a", &[("Username", "??>")]).unwrap();
        assert_eq!(shown(&changes), "add <cn=Pz8+,dc=x> sn=a".replace("Pz8+", "Pz8\\+"));
        let changes = read("dn: cn={{replace \"}}\" \"a\" .Username}},dc=x\nsn: a", &[("Username", "}},")]).unwrap();
        assert_eq!(shown(&changes), "add <cn=a\\,,dc=x> sn=a");
    }

    #[test]
    fn an_active_directory_password_is_spelled_as_it_wants_it() {
        let text = "dn: cn=x\nchangetype: modify\nreplace: unicodePwd\nunicodePwd:: {{printf \"%q\" .Password | utf16le | base64}}\n";
        let changes = read(text, &[("Password", "aé")]).unwrap();
        let Deed::Modify(steps) = &changes.first().unwrap().deed else { panic!("no modification") };
        let value: &[u8] = steps.first().unwrap().attribute.values.first().unwrap();
        assert_eq!(value, b"\"\0a\0\xe9\0\"\0");
    }

    #[test]
    fn what_is_no_ldif_is_refused_with_its_line() {
        for (text, expected) in [
            ("", "must specify at least one LDIF entry"),
            ("# nothing\n\n", "must specify at least one LDIF entry"),
            ("cn: a", "line 1: an entry begins with its dn"),
            ("dn: cn=a\n cn: a\nnonsense", "line 3: no attribute and value"),
            ("dn: cn=a\ncn:< file:///etc/passwd", "line 2: values out of files are not read"),
            ("dn: cn=a\ncn:: ???", "line 2: no base64"),
            ("dn: cn=a", "line 1: an entry without attributes"),
            ("\n x", "line 2: goes on with nothing"),
            ("dn: cn=a\nchangetype: modrdn\nnewrdn: cn=b", "line 1: changetype must be add, modify or delete"),
            ("dn: cn=a\nchangetype: delete\ncn: a", "line 3: nothing follows the deletion of an entry"),
            ("dn: cn=a\nchangetype: modify", "line 1: nothing to modify"),
            ("dn: cn=a\nchangetype: modify\nadd: mail\nsn: b", "line 4: a value of another attribute"),
            ("dn: cn=a\n{{.Username}}: b", "line 2: no name of an attribute"),
            ("dn: \ncn: b", "line 1: an empty dn"),
        ] {
            assert_eq!(
                read(text, &[("Username", "u")]).err().map(|error| error.to_string()).as_deref(),
                Some(expected),
                "{text}"
            );
        }
        let entropy = SeededEntropy::new(1);
        let moment = Moment { now: Timestamp::EPOCH, entropy: &entropy };
        assert!(matches!(check("dn: cn={{.Nobody}}\ncn: a", moment), Err(LdifError::Template(1, _))));
        assert!(matches!(check("dn: cn={{.Username\ncn: a", moment), Err(LdifError::Template(1, _))));
        check("dn: cn={{.Username}}\ncn: {{.ExpirationTimeSeconds}}", moment).unwrap();
    }

    proptest! {
        #[test]
        fn fz_09_whatever_the_text_and_values_the_shape_is_the_texts(
            text in "(dn: |cn|:|a|\n| |#|-|\\{\\{|\\}\\}|.Username|changetype: |modify|\"){0,30}",
            value in "[,=+\n :#a\u{0}-]{0,12}",
        ) {
            let plain = read(&text, &[("Username", "u")]);
            let hostile = read(&text, &[("Username", &value)]);
            // What is put in decides neither how many entries there are nor what they have.
            if let (Ok(plain), Ok(hostile)) = (&plain, &hostile) {
                prop_assert_eq!(plain.len(), hostile.len());
            }
        }
    }
}
