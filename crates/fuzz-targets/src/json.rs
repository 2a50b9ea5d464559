//! FZ-03: a request's body. Accepted or refused as a second, slower reader says; limits hold; what is written is read
//! back, in Go's spelling.

use tresor_model::Map;
use tresor_wire::json::{JsonError, JsonLimits, decode, encode_map};

pub(crate) const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"a\"",
    "\"b\":",
    "\"\\u0024\"",
    "\"\\ud800\"",
    "null",
    "true",
    "1",
    "-0",
    "1e9",
    "0.10",
    "1E400",
    "\"$serde_json::private::Number\":",
    "\"5\"",
    " ",
    "\n",
    "\u{c}",
    "\"<&>\\u2028\"",
    "00",
    "1.",
    "\\",
];

const LIMITS: JsonLimits = JsonLimits {
    depth_max: 8,
    values_max: 40,
    entries_max: 40,
    elements_max: 40,
    string_bytes_max: 60,
    strings_max: u32::MAX,
    text_bytes_max: usize::MAX,
    number_bytes_max: 30,
};

/// A JSON body.
pub fn json(bytes: &[u8]) {
    let read = decode(bytes, &LIMITS);
    let mut reference = Reference { bytes, at: 0, values: 0, deepest: 0, longest: 0 };
    let expected = reference.document();
    let within = reference.deepest <= LIMITS.depth_max
        && reference.values <= LIMITS.values_max
        && reference.longest <= LIMITS.string_bytes_max;
    match (&read, expected) {
        (Ok(map), Some(is_object)) => {
            assert!(is_object && within, "accepted what is over its limits or no object");
            check(map);
        }
        (Ok(_), None) => panic!("accepted what is no JSON"),
        (Err(JsonError::Malformed { .. }), Some(_)) => assert!(!within, "refused well-formed JSON as malformed"),
        (Err(JsonError::NotAnObject), Some(is_object)) => assert!(!is_object, "an object is an object"),
        // The reference knows neither repeated names nor how long numbers are.
        (Err(JsonError::RepeatedName | JsonError::TooLongNumber), Some(_)) => {}
        (Err(_), Some(_)) => assert!(!within, "refused within the limits"),
        // Malformed; a limit may be met before the place where it is.
        (Err(_), None) => {}
    }
}

/// Promises about every map that can be written.
fn check(map: &Map) {
    let mut written = Vec::new();
    encode_map(map, &mut written);
    let text = std::str::from_utf8(&written).expect("what is written is UTF-8");
    assert!(!text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "not as Go escapes");
    assert!(!text.chars().any(|letter| letter < ' '), "one line");
    let again = decode(&written, &JsonLimits::default()).expect("what is written can be read");
    assert!(again == *map, "what is written is what was read");
}

/// A reader that builds nothing: RFC 8259, and no more.
struct Reference<'b> {
    bytes: &'b [u8],
    at: usize,
    values: u32,
    deepest: u32,
    longest: usize,
}

impl Reference<'_> {
    /// Whether it is JSON, and then, whether it is an object (nothing and null stand for an empty one).
    fn document(&mut self) -> Option<bool> {
        if self.bytes.iter().all(u8::is_ascii_whitespace) {
            return Some(true);
        }
        self.blank();
        let first = self.peek()?;
        self.value(0)?;
        self.blank();
        (self.at == self.bytes.len()).then_some(matches!(first, b'{' | b'n'))
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: u32) -> Option<()> {
        self.values += 1;
        // Beyond its own limit a real reader has long stopped.
        if depth > 100 {
            return None;
        }
        match self.take()? {
            b'{' => self.items(depth + 1, b'}', |reader| {
                reader.blank();
                (reader.take()? == b'"').then_some(())?;
                reader.string()?;
                reader.blank();
                (reader.take()? == b':').then_some(())
            }),
            b'[' => self.items(depth + 1, b']', |_| Some(())),
            b'"' => self.string(),
            b't' => self.word(b"rue"),
            b'f' => self.word(b"alse"), // typos: meant
            b'n' => self.word(b"ull"),
            b'-' | b'0'..=b'9' => {
                self.at -= 1;
                self.number()
            }
            _ => None,
        }
    }

    fn items(&mut self, depth: u32, close: u8, name: fn(&mut Self) -> Option<()>) -> Option<()> {
        self.deepest = self.deepest.max(depth);
        self.blank();
        if self.peek()? == close {
            self.at += 1;
            return Some(());
        }
        loop {
            name(self)?;
            self.blank();
            self.value(depth)?;
            self.blank();
            match self.take()? {
                b',' => {}
                byte if byte == close => return Some(()),
                _ => return None,
            }
        }
    }

    fn word(&mut self, rest: &[u8]) -> Option<()> {
        rest.iter().try_for_each(|byte| (self.take()? == *byte).then_some(()))
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        match self.peek()? {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        let mut raw = Vec::new();
        loop {
            match self.take()? {
                b'"' => break,
                b'\\' => {
                    let letter = match self.take()? {
                        byte @ (b'"' | b'\\' | b'/') => char::from(byte),
                        b'b' | b'f' | b'n' | b'r' | b't' => ' ',
                        b'u' => self.escaped()?,
                        _ => return None,
                    };
                    raw.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                }
                byte if byte < b' ' => return None,
                byte => raw.push(byte),
            }
        }
        self.longest = self.longest.max(raw.len());
        std::str::from_utf8(&raw).ok().map(drop)
    }

    fn escaped(&mut self) -> Option<char> {
        let high = self.hex()?;
        if !(0xd800..0xdc00).contains(&high) {
            return char::from_u32(high);
        }
        self.word(b"\\u")?;
        let low = self.hex()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
        char::from_u32(0x10000 + ((high - 0xd800) << 10) + low)
    }

    fn hex(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |sum, _| Some(sum * 16 + char::from(self.take()?).to_digit(16)?))
    }
}
