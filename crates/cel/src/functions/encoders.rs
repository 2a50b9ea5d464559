//! Values as text, and back: base64 and JSON; and whether a text is an address of mail.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use tresor_wire::json::{self, JsonLimits};

use super::{Called, Function, function, made};
use crate::budget::Budget;
use crate::error::Problem;
use crate::value::Value;

pub(super) const TABLE: &[Function] = &[
    function("base64.encode", 1, 1, encode),
    function("base64.decode", 1, 1, decode),
    function("encode_json", 1, 1, encode_json),
    function("decode_json", 1, 1, decode_json),
    function("check_valid_email", 1, 1, is_mail_address),
];

/// How long a mail address can be, and what stands before its `@`.
const ADDRESS_BYTES_MAX: usize = 254;
const MAILBOX_BYTES_MAX: usize = 64;

pub(crate) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn encode(given: &[Value], budget: &mut Budget) -> Called {
    let bytes = match given {
        [Value::Bytes(bytes)] => bytes.as_slice(),
        [Value::Text(text)] => text.as_bytes(),
        _ => return Ok(None),
    };
    budget.look(bytes.len() * 2)?;
    made(to_base64(bytes), budget)
}

fn decode(given: &[Value], budget: &mut Budget) -> Called {
    let [Value::Text(text)] = given else { return Ok(None) };
    budget.make(text.len())?;
    let decoded = STANDARD.decode(text.as_bytes()).or_else(|_| STANDARD_NO_PAD.decode(text.as_bytes()));
    decoded.map(|bytes| Some(Value::bytes(bytes))).map_err(|_| Problem::NotA("base64"))
}

fn encode_json(given: &[Value], budget: &mut Budget) -> Called {
    let [value] = given else { return Ok(None) };
    let body = value.into_body(budget)?;
    let mut bytes = Vec::new();
    json::encode(&body, &mut bytes);
    made(String::from_utf8(bytes).map_err(|_| Problem::NotA("UTF-8"))?, budget)
}

fn decode_json(given: &[Value], budget: &mut Budget) -> Called {
    let [Value::Text(text)] = given else { return Ok(None) };
    budget.look(text.len())?;
    let limits = JsonLimits { depth_max: u32::from(crate::DEPTH_MAX), ..JsonLimits::default() };
    let body = json::decode_value(text.as_bytes(), &limits).map_err(|_| Problem::NotA("JSON"))?;
    Value::from_body(&body, budget).map(Some)
}

/// As a mailbox at a domain, perhaps with a name before it in front of `<..>`; without comments and quoted mailboxes.
fn is_mail_address(given: &[Value], budget: &mut Budget) -> Called {
    let [Value::Text(text)] = given else { return Ok(Some(Value::Bool(false))) };
    budget.look(text.len())?;
    let text = text.trim();
    let address = match text.strip_suffix('>').and_then(|inner| inner.rsplit_once('<')) {
        Some((_, address)) => address,
        None => text,
    };
    let is_atom = |text: &str| {
        let fits = |letter: char| letter.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(letter);
        !text.is_empty() && text.chars().all(fits)
    };
    let is_one = address.len() <= ADDRESS_BYTES_MAX
        && address.rsplit_once('@').is_some_and(|(mailbox, domain)| {
            mailbox.len() <= MAILBOX_BYTES_MAX && mailbox.split('.').all(is_atom) && domain.split('.').all(is_atom)
        });
    Ok(Some(Value::Bool(is_one)))
}
