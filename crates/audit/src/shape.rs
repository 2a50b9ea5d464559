//! What becomes of a line once it shows no more than its device may: fields are left out, it is spelled in another format,
//! something is put in front.
//!
//! Everything here only takes away, or spells otherwise, what a redactor wrote. Deliberately absent: any look at the entry.

use std::borrow::Cow;

use tresor_model::{Body, Timestamp};
use tresor_wire::json::{JsonLimits, decode_value};
use tresor_wire::time::rfc3339;

use crate::document::{Fields, Kind, Pointer, Value, unescaped};
use crate::error::AuditError;
use crate::expression::{Expression, Found, Selector, Subject};

/// How many exclusions a device may have, and fields each of them.
const EXCLUSIONS_MAX: usize = 64;

/// What becomes of a device's lines.
#[derive(Default)]
pub(crate) struct Shaping {
    /// What syslog wants in front of a message.
    pub(crate) header: Option<Header>,
    pub(crate) exclusions: Vec<Exclusion>,
    pub(crate) format: Format,
}

/// How a line is spelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Json,
    /// The same in XML, as IBM's JSONx has it.
    Jsonx,
}

/// What RFC 3164 wants in front of a message that stays on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Facility and severity in one number.
    pub priority: u8,
    /// What the process is called.
    pub tag: String,
    /// The process's number.
    pub process_id: u32,
}

/// Fields that are left out, of which lines.
pub(crate) struct Exclusion {
    condition: Option<Expression>,
    fields: Vec<Pointer>,
}

impl Shaping {
    /// Whether lines stay as they are written.
    pub(crate) fn is_plain(&self) -> bool {
        self.exclusions.is_empty() && self.format == Format::Json
    }

    /// Appends a line's JSON as it is to be.
    pub(crate) fn shape(&self, json: &[u8], out: &mut Vec<u8>) {
        let line = Value::new(json);
        let excluded: Vec<&Pointer> =
            self.exclusions.iter().filter(|exclusion| exclusion.is_of(line)).flat_map(|each| &each.fields).collect();
        match self.format {
            Format::Json => line.copy_without(&excluded, out),
            Format::Jsonx => {
                let mut rest = tresor_secret::Wiped::new(Vec::with_capacity(json.len()));
                line.copy_without(&excluded, &mut rest);
                if let Kind::Object(fields) = Value::new(&rest).kind() {
                    jsonx(fields, out);
                }
            }
        }
    }
}

impl Header {
    /// Appends it, for a message of this time.
    pub(crate) fn write(&self, time: Timestamp, out: &mut Vec<u8>) {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let text = rfc3339(time);
        let part = |from: usize, to: usize| text.get(from..to).unwrap_or("");
        let month =
            part(5, 7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.checked_sub(1)?)).unwrap_or(&"Jan");
        let day = part(8, 10).trim_start_matches('0');
        let (priority, tag, process) = (self.priority, &self.tag, self.process_id);
        let header = format!("<{priority}>{month} {day:>2} {} {tag}[{process}]: ", part(11, 19));
        out.extend_from_slice(header.as_bytes());
    }
}

impl Exclusion {
    /// Reads the option `exclude`: a JSON list of objects with `fields` and perhaps a `condition`.
    pub(crate) fn parse_all(text: &str) -> Result<Vec<Self>, AuditError> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let shape =
            || AuditError::option("`exclude` must be a JSON list of objects with `fields` and perhaps a `condition`");
        let body = decode_value(text.as_bytes(), &JsonLimits::default()).map_err(|_| shape())?;
        let all = body.as_list().filter(|all| all.len() <= EXCLUSIONS_MAX).ok_or_else(shape)?;
        all.iter().map(|each| Self::parse(each).ok_or_else(shape)?).collect()
    }

    /// Nothing when it has another shape.
    fn parse(body: &Body) -> Option<Result<Self, AuditError>> {
        let map = body.as_map()?;
        if map.names().any(|name| !matches!(name, "condition" | "fields")) {
            return None;
        }
        let fields = map.get("fields")?.as_list().filter(|fields| (1..=EXCLUSIONS_MAX).contains(&fields.len()))?;
        let pointers = fields.iter().map(|field| field.as_str().map(Pointer::parse)).collect::<Option<Vec<_>>>()?;
        let Some(fields) = pointers.into_iter().collect::<Option<Vec<_>>>() else {
            return Some(Err(AuditError::option(
                "`fields` of `exclude` must be JSON pointers such as `/request/data`",
            )));
        };
        let condition = match map.get("condition") {
            None => None,
            Some(condition) => match condition.as_str()? {
                "" => None,
                text => match Expression::parse(text, Subject::Lines) {
                    Ok(condition) => Some(condition),
                    Err(error) => {
                        return Some(Err(AuditError::option(format!("a `condition` of `exclude` is none: {error}"))));
                    }
                },
            },
        };
        Some(Ok(Self { condition, fields }))
    }

    fn is_of(&self, line: Value<'_>) -> bool {
        let Some(condition) = &self.condition else { return true };
        condition.holds(&|selector| {
            let Selector::Pointer(pointer) = selector else { return Found::NOTHING };
            match line.at(pointer).map(|value| (value, value.kind())) {
                None => Found::NOTHING,
                Some((_, Kind::Object(fields))) => Found::Several(fields.map(|(name, _)| unescaped(name)).collect()),
                Some((_, Kind::List(items))) => Found::Several(items.map(Value::text).collect()),
                Some((value, Kind::Text(_) | Kind::Word(_))) => Found::Text(value.text()),
            }
        })
    }
}

/// Appends what is in an object as JSONx, in order of names, as the reference does. What XML has no way to say is shown as
/// a replacement character; what means something to XML is escaped, which the reference forgets.
fn jsonx(fields: Fields<'_>, out: &mut Vec<u8>) {
    let mut fields: Vec<(Cow<'_, str>, Value<'_>)> = fields.map(|(name, value)| (unescaped(name), value)).collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields.into_iter().for_each(|(name, value)| element(value, Some(&name), out));
}

fn element(value: Value<'_>, name: Option<&str>, out: &mut Vec<u8>) {
    let kind = value.kind();
    let tag = match &kind {
        Kind::Object(_) => "object",
        Kind::List(_) => "array",
        Kind::Text(_) => "string",
        Kind::Word(b"null") => "null",
        Kind::Word(b"true" | b"false") => "boolean",
        Kind::Word(_) => "number",
    };
    out.extend_from_slice(b"<json:");
    out.extend_from_slice(tag.as_bytes());
    if let Some(name) = name {
        out.extend_from_slice(b" name=\"");
        escape(name, out);
        out.push(b'"');
    }
    if tag == "null" {
        return out.extend_from_slice(b" />");
    }
    out.push(b'>');
    match kind {
        Kind::Object(fields) => jsonx(fields, out),
        Kind::List(items) => items.for_each(|item| element(item, None, out)),
        Kind::Text(_) | Kind::Word(_) => escape(&value.text(), out),
    }
    out.extend_from_slice(b"</json:");
    out.extend_from_slice(tag.as_bytes());
    out.push(b'>');
}

fn escape(text: &str, out: &mut Vec<u8>) {
    for character in text.chars() {
        let mut own = [0; 4];
        let escaped = match character {
            '<' => "&lt;",
            '>' => "&gt;",
            '&' => "&amp;",
            '"' => "&#34;",
            '\'' => "&#39;",
            '\t' => "&#x9;",
            '\n' => "&#xA;",
            '\r' => "&#xD;",
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => "\u{fffd}",
            plain => plain.encode_utf8(&mut own),
        };
        out.extend_from_slice(escaped.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LINE: &str = r#"{"time":"t","auth":{"client_token":"hmac-sha256:1","policies":["a","b"]},"request":{"mount_type":"transit","remote_port":8,"data":{"x":null,"a<b":"<\u0026\n\u0001","y":true,"z":[]}}}"#;

    fn shaped(exclude: &str, format: Format) -> String {
        let shaping = Shaping { header: None, exclusions: Exclusion::parse_all(exclude).unwrap(), format };
        let mut out = Vec::new();
        shaping.shape(LINE.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_are_left_out_of_the_lines_that_a_condition_is_about() {
        assert_eq!(shaped("[]", Format::Json), LINE);
        let short = r#"{"time":"t","auth":{"client_token":"hmac-sha256:1","policies":["a","b"]},"request":{"mount_type":"transit","remote_port":8}}"#;
        for exclude in [
            r#"[{"fields":["/request/data","/response/data"]}]"#,
            r#"[{"condition":"","fields":["/request/data"]}]"#,
            r#"[{"condition":"\"/request/mount_type\" == transit","fields":["/request/data"]}]"#,
            r#"[{"condition":"\"/auth/client_token\" matches \"hmac.+\" and \"a\" in \"/auth/policies\"","fields":["/request/data"]}]"#,
            r#"[{"condition":"\"/request/remote_port\" == 8 and \"/request/data\" contains y","fields":["/request/data"]}]"#,
        ] {
            assert_eq!(shaped(exclude, Format::Json), short, "{exclude}");
        }
        // Conditions are about the line as it was, whatever others leave out.
        let both = r#"[{"fields":["/request/mount_type"]},{"condition":"\"/request/mount_type\" == transit","fields":["/auth","/request/data"]}]"#;
        assert_eq!(shaped(both, Format::Json), r#"{"time":"t","request":{"remote_port":8}}"#);
        assert_eq!(shaped(r#"[{"condition":"\"/request/mount_type\" == kv","fields":["/auth"]}]"#, Format::Json), LINE);
    }

    #[test]
    fn what_is_no_exclusion_is_refused() {
        for none in [
            "{}",
            "x",
            "[1]",
            "[{}]",
            r#"[{"fields":[]}]"#,
            r#"[{"fields":"/a"}]"#,
            r#"[{"fields":[1]}]"#,
            r#"[{"fields":["/a"],"when":""}]"#,
            r#"[{"fields":["/a"],"condition":1}]"#,
            r#"[{"fields":["a"]}]"#,
            r#"[{"fields":[""]}]"#,
            r#"[{"fields":["/a"],"condition":"path == x"}]"#,
        ] {
            assert!(Exclusion::parse_all(none).is_err(), "{none}");
        }
    }

    #[test]
    fn a_line_in_xml_says_the_same_in_order_of_names() {
        let xml = concat!(
            r#"<json:object name="auth"><json:string name="client_token">hmac-sha256:1</json:string>"#,
            r#"<json:array name="policies"><json:string>a</json:string><json:string>b</json:string></json:array></json:object>"#,
            r#"<json:object name="request"><json:object name="data"><json:string name="a&lt;b">&lt;&amp;&#xA;"#,
            "\u{fffd}",
            r#"</json:string><json:null name="x" /><json:boolean name="y">true</json:boolean>"#,
            r#"<json:array name="z"></json:array></json:object><json:string name="mount_type">transit</json:string>"#,
            r#"<json:number name="remote_port">8</json:number></json:object><json:string name="time">t</json:string>"#,
        );
        assert_eq!(shaped("", Format::Jsonx), xml);
        let short = r#"<json:string name="time">t</json:string>"#;
        assert_eq!(shaped(r#"[{"fields":["/auth","/request"]}]"#, Format::Jsonx), short);
    }

    #[test]
    fn a_header_says_when_in_the_way_of_rfc_3164() {
        let header = Header { priority: 38, tag: "vault".to_owned(), process_id: 7 };
        for (seconds, text) in
            [(1_767_225_600, "<38>Jan  1 00:00:00 vault[7]: "), (1_796_009_345, "<38>Nov 30 03:29:05 vault[7]: ")]
        {
            let mut out = Vec::new();
            header.write(Timestamp::from_seconds(seconds), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
