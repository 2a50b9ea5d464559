//! What a directory sends: results of what was asked, entries that were found.
//!
//! Deliberately absent: referrals and controls, which are skipped.

use std::fmt;

use crate::ber::{ENUMERATED, INTEGER, OCTETS, Reader, SEQUENCE, SET};

/// A result, as the directory put it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its code.
    pub code: u32,
    /// What the directory says besides.
    pub message: String,
}

impl Outcome {
    /// Done.
    pub const SUCCESS: u32 = 0;
    /// There is no such attribute, or it has no such value.
    pub const NO_SUCH_ATTRIBUTE: u32 = 16;
    /// There is no such entry.
    pub const NO_SUCH_OBJECT: u32 = 32;
    /// The password is wrong, or there is nobody of that name.
    pub const INVALID_CREDENTIALS: u32 = 49;
    /// There is an entry of that name already.
    pub const ENTRY_ALREADY_EXISTS: u32 = 68;

    /// The name of the code, as clients of this API read it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.code {
            0 => "Success",
            1 => "Operations Error",
            2 => "Protocol Error",
            3 => "Time Limit Exceeded",
            4 => "Size Limit Exceeded",
            7 => "Auth Method Not Supported",
            8 => "Strong Auth Required",
            10 => "Referral",
            11 => "Admin Limit Exceeded",
            12 => "Unavailable Critical Extension",
            13 => "Confidentiality Required",
            16 => "No Such Attribute",
            17 => "Undefined Attribute Type",
            18 => "Inappropriate Matching",
            19 => "Constraint Violation",
            20 => "Attribute Or Value Exists",
            21 => "Invalid Attribute Syntax",
            32 => "No Such Object",
            33 => "Alias Problem",
            34 => "Invalid DN Syntax",
            48 => "Inappropriate Authentication",
            49 => "Invalid Credentials",
            50 => "Insufficient Access Rights",
            51 => "Busy",
            52 => "Unavailable",
            53 => "Unwilling To Perform",
            54 => "Loop Detect",
            64 => "Naming Violation",
            65 => "Object Class Violation",
            66 => "Not Allowed On Non Leaf",
            67 => "Not Allowed On RDN",
            68 => "Entry Already Exists",
            69 => "Object Class Mods Prohibited",
            71 => "Affects Multiple DSAs",
            _ => "Other",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LDAP Result Code {} {:?}: {}", self.code, self.name(), self.message)
    }
}

/// An entry that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its distinguished name.
    pub name: String,
    /// Its attributes and their values, as far as they were asked for.
    pub attributes: Vec<(String, Vec<Vec<u8>>)>,
}

/// What comes back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The end of what was asked, with the tag of what it was.
    End(u8, Outcome),
    /// An entry.
    Entry(Entry),
    /// Something to follow, which nobody does.
    Elsewhere,
}

pub(crate) const BOUND: u8 = 0x61;
pub(crate) const FOUND: u8 = 0x64;
pub(crate) const SEARCHED: u8 = 0x65;
pub(crate) const MODIFIED: u8 = 0x67;
pub(crate) const ADDED: u8 = 0x69;
pub(crate) const DELETED: u8 = 0x6b;
pub(crate) const ELSEWHERE: u8 = 0x73;
pub(crate) const EXTENDED: u8 = 0x78;

/// The longest message of a directory that is passed on.
const TEXT_CHARACTERS_MAX: usize = 400;

/// Reads one message: which request it answers, and the answer.
pub(crate) fn read(bytes: &[u8]) -> Option<(u32, Answer)> {
    let mut message = Reader::new(Reader::new(bytes).expect(SEQUENCE)?);
    let id = message.number(INTEGER)?;
    let (tag, content) = message.next()?;
    let mut content = Reader::new(content);
    let answer = match tag {
        BOUND | SEARCHED | MODIFIED | ADDED | DELETED | EXTENDED => Answer::End(tag, outcome(&mut content)?),
        FOUND => Answer::Entry(entry(&mut content)?),
        ELSEWHERE => Answer::Elsewhere,
        _ => return None,
    };
    Some((id, answer))
}

/// Text as it can be shown: of no length, and without what would be more than text to a terminal or log.
fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|letter| !letter.is_control()).take(TEXT_CHARACTERS_MAX).collect()
}

fn outcome(content: &mut Reader<'_>) -> Option<Outcome> {
    let code = content.number(ENUMERATED)?;
    content.expect(OCTETS)?;
    Some(Outcome { code, message: text(content.expect(OCTETS)?) })
}

fn entry(content: &mut Reader<'_>) -> Option<Entry> {
    let name = String::from_utf8(content.expect(OCTETS)?.to_vec()).ok()?;
    let mut list = Reader::new(content.expect(SEQUENCE)?);
    let mut attributes = Vec::new();
    while !list.is_at_end() {
        let mut attribute = Reader::new(list.expect(SEQUENCE)?);
        let kind = String::from_utf8(attribute.expect(OCTETS)?.to_vec()).ok()?;
        let mut set = Reader::new(attribute.expect(SET)?);
        let mut values = Vec::new();
        while !set.is_at_end() {
            values.push(set.expect(OCTETS)?.to_vec());
        }
        attributes.push((kind, values));
    }
    Some(Entry { name, attributes })
}
