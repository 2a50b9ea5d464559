//! What is said to a server of keys by KMIP 1.4: requests to encrypt and to decrypt by AES in Galois/counter mode, and their answers,
//! as bytes.
//!
//! Pure functions, total on whatever a server answers. Deliberately absent: connections, every other operation, and other versions:
//! this is the oldest one whose requests take associated data.

pub mod ttlv;

use tresor_secret::Wiped;
use ttlv::{Item, TtlvError, Value};
use zeroize::Zeroizing;

/// The longest answer that is read, its head included.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How many bytes say how long a message is.
pub const HEAD_BYTES: usize = 8;

/// Names of what messages are made of (section 9.1.3.1 of the specification).
mod tag {
    pub(super) const AAD: u32 = 0x42_00fe;
    pub(super) const ALGORITHM: u32 = 0x42_0028;
    pub(super) const BATCH_COUNT: u32 = 0x42_000d;
    pub(super) const BATCH_ITEM: u32 = 0x42_000f;
    pub(super) const DATA: u32 = 0x42_00c2;
    pub(super) const MAJOR: u32 = 0x42_006a;
    pub(super) const MINOR: u32 = 0x42_006b;
    pub(super) const MODE: u32 = 0x42_0011;
    pub(super) const NONCE: u32 = 0x42_003d;
    pub(super) const OPERATION: u32 = 0x42_005c;
    pub(super) const PARAMETERS: u32 = 0x42_002b;
    pub(super) const REQUEST: u32 = 0x42_0078;
    pub(super) const REQUEST_HEADER: u32 = 0x42_0077;
    pub(super) const REQUEST_PAYLOAD: u32 = 0x42_0079;
    pub(super) const RESPONSE: u32 = 0x42_007b;
    pub(super) const RESPONSE_PAYLOAD: u32 = 0x42_007c;
    pub(super) const RESULT_MESSAGE: u32 = 0x42_007d;
    pub(super) const RESULT_REASON: u32 = 0x42_007e;
    pub(super) const RESULT_STATUS: u32 = 0x42_007f;
    pub(super) const TAG: u32 = 0x42_00ff;
    pub(super) const TAG_LENGTH: u32 = 0x42_00ce;
    pub(super) const UNIQUE_IDENTIFIER: u32 = 0x42_0094;
    pub(super) const VERSION: u32 = 0x42_0069;
}

/// How many bytes authenticate what is encrypted.
pub const TAG_BYTES: usize = 16;
/// How many begin it.
pub const NONCE_BYTES: usize = 12;
const AES: u32 = 3;
const GCM: u32 = 9;
const ENCRYPT: u32 = 0x1f;
const DECRYPT: u32 = 0x20;
const SUCCESS: u32 = 0;

/// What to do with which key.
pub struct Asked<'a> {
    /// The key's id at the server.
    pub key: &'a str,
    /// What encrypting begins with.
    pub nonce: &'a [u8],
    /// What goes along.
    pub bound_to: &'a [u8],
}

/// What a server encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encrypted {
    /// The key that did it, as the server calls it.
    pub key: String,
    /// What came out.
    pub data: Vec<u8>,
    /// What authenticates it.
    pub tag: Vec<u8>,
}

/// Why an answer is none that was hoped for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It is no message.
    #[error("no message of KMIP: {0}")]
    Garbled(#[from] TtlvError),
    /// It is another message than an answer to one request.
    #[error("another message than was asked for")]
    Unexpected,
    /// The server says no.
    #[error("{0}")]
    Refused(Refusal),
}

/// What a server says when it does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The number of its reason.
    pub reason: u32,
    /// What it says; it may repeat what it was asked.
    pub message: String,
}

/// Reasons, by name (section 9.1.3.2.29).
const REASONS: [(u32, &str); 12] = [
    (0x01, "item not found"),
    (0x03, "authentication not successful"),
    (0x04, "invalid message"),
    (0x05, "operation not supported"),
    (0x06, "missing data"),
    (0x07, "invalid field"),
    (0x08, "feature not supported"),
    (0x0a, "cryptographic failure"),
    (0x0b, "illegal operation"),
    (0x0c, "permission denied"),
    (0x0d, "object archived"),
    (0x100, "general failure"),
];

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match REASONS.iter().find(|(number, _)| *number == self.reason) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "reason {:#x}", self.reason),
        }
    }
}

impl Refusal {
    /// Whether the same may be done another time.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        self.reason == 0x100
    }
}

/// A request to encrypt.
#[must_use]
pub fn encrypt(asked: &Asked<'_>, secret: &[u8]) -> Zeroizing<Vec<u8>> {
    request(ENCRYPT, asked, secret, None)
}

/// A request to decrypt.
#[must_use]
pub fn decrypt(asked: &Asked<'_>, data: &[u8], tag: &[u8]) -> Zeroizing<Vec<u8>> {
    request(DECRYPT, asked, data, Some(tag))
}

fn request(operation: u32, asked: &Asked<'_>, data: &[u8], tag_bytes: Option<&[u8]>) -> Zeroizing<Vec<u8>> {
    let bytes = |tag, bytes: &[u8]| Item::new(tag, Value::Bytes(Wiped::new(bytes.to_vec())));
    let tag_length = i32::try_from(TAG_BYTES).unwrap_or_default();
    let parameters = vec![
        Item::new(tag::MODE, Value::Enumeration(GCM)),
        Item::new(tag::ALGORITHM, Value::Enumeration(AES)),
        Item::new(tag::TAG_LENGTH, Value::Integer(tag_length)),
    ];
    let mut payload = vec![
        Item::new(tag::UNIQUE_IDENTIFIER, Value::Text(asked.key.to_owned())),
        Item::new(tag::PARAMETERS, Value::Structure(parameters)),
        bytes(tag::DATA, data),
        bytes(tag::NONCE, asked.nonce),
        bytes(tag::AAD, asked.bound_to),
    ];
    payload.extend(tag_bytes.map(|code| bytes(tag::TAG, code)));
    let version = vec![Item::new(tag::MAJOR, Value::Integer(1)), Item::new(tag::MINOR, Value::Integer(4))];
    let header =
        vec![Item::new(tag::VERSION, Value::Structure(version)), Item::new(tag::BATCH_COUNT, Value::Integer(1))];
    let item = vec![
        Item::new(tag::OPERATION, Value::Enumeration(operation)),
        Item::new(tag::REQUEST_PAYLOAD, Value::Structure(payload)),
    ];
    let message = vec![
        Item::new(tag::REQUEST_HEADER, Value::Structure(header)),
        Item::new(tag::BATCH_ITEM, Value::Structure(item)),
    ];
    Item::new(tag::REQUEST, Value::Structure(message)).encode()
}

/// How many bytes of an answer follow its head.
///
/// # Errors
/// [`AnswerError`] when it is no answer, or longer than any that was expected.
pub fn length(head: [u8; HEAD_BYTES]) -> Result<usize, AnswerError> {
    let [a, b, c, kind, l1, l2, l3, l4] = head;
    if u32::from_be_bytes([0, a, b, c]) != tag::RESPONSE || kind != ttlv::STRUCTURE {
        return Err(AnswerError::Unexpected);
    }
    let length = usize::try_from(u32::from_be_bytes([l1, l2, l3, l4])).unwrap_or(usize::MAX);
    if length > ANSWER_BYTES_MAX - HEAD_BYTES {
        return Err(AnswerError::Garbled(TtlvError::TooLong));
    }
    Ok(length)
}

/// Reads the answer to a request to encrypt.
///
/// # Errors
/// [`AnswerError`].
pub fn encrypted(answer: &[u8]) -> Result<Encrypted, AnswerError> {
    let payload = payload(answer, ENCRYPT)?;
    let (key, data, code) = (
        ttlv::text(&payload, tag::UNIQUE_IDENTIFIER),
        ttlv::bytes(&payload, tag::DATA),
        ttlv::bytes(&payload, tag::TAG),
    );
    match (key, data, code) {
        (Some(key), Some(data), Some(code)) if code.len() == TAG_BYTES => {
            Ok(Encrypted { key: key.to_owned(), data: data.to_vec(), tag: code.to_vec() })
        }
        _ => Err(AnswerError::Unexpected),
    }
}

/// Reads the answer to a request to decrypt.
///
/// # Errors
/// [`AnswerError`].
pub fn decrypted(answer: &[u8]) -> Result<Zeroizing<Vec<u8>>, AnswerError> {
    let payload = payload(answer, DECRYPT)?;
    let data = ttlv::bytes(&payload, tag::DATA).ok_or(AnswerError::Unexpected)?;
    Ok(Zeroizing::new(data.to_vec()))
}

/// What an answer to one request of this kind holds, if it was done.
fn payload(answer: &[u8], operation: u32) -> Result<Vec<Item>, AnswerError> {
    let message = Item::decode(answer)?;
    let Value::Structure(parts) = message.value else { return Err(AnswerError::Unexpected) };
    if message.tag != tag::RESPONSE {
        return Err(AnswerError::Unexpected);
    }
    let mut items = parts.into_iter().filter(|part| part.tag == tag::BATCH_ITEM);
    let (Some(Item { value: Value::Structure(item), .. }), None) = (items.next(), items.next()) else {
        return Err(AnswerError::Unexpected);
    };
    if ttlv::enumeration(&item, tag::RESULT_STATUS).ok_or(AnswerError::Unexpected)? != SUCCESS {
        let reason = ttlv::enumeration(&item, tag::RESULT_REASON).unwrap_or_default();
        let message = ttlv::text(&item, tag::RESULT_MESSAGE).unwrap_or_default().to_owned();
        return Err(AnswerError::Refused(Refusal { reason, message }));
    }
    if ttlv::enumeration(&item, tag::OPERATION) != Some(operation) {
        return Err(AnswerError::Unexpected);
    }
    let found = item.into_iter().find(|part| part.tag == tag::RESPONSE_PAYLOAD);
    match found.map(|part| part.value) {
        Some(Value::Structure(payload)) => Ok(payload),
        _ => Err(AnswerError::Unexpected),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    fn structure(tag: u32, parts: Vec<Item>) -> Item {
        Item::new(tag, Value::Structure(parts))
    }

    /// An answer with these parts of its one item.
    fn answer(item: Vec<Item>) -> Vec<u8> {
        let header = structure(0x42_007a, vec![Item::new(tag::BATCH_COUNT, Value::Integer(1))]);
        structure(tag::RESPONSE, vec![header, structure(tag::BATCH_ITEM, item)]).encode().to_vec()
    }

    fn done(operation: u32, payload: Vec<Item>) -> Vec<u8> {
        answer(vec![
            Item::new(tag::OPERATION, Value::Enumeration(operation)),
            Item::new(tag::RESULT_STATUS, Value::Enumeration(SUCCESS)),
            structure(tag::RESPONSE_PAYLOAD, payload),
        ])
    }

    fn bytes(tag: u32, bytes: &[u8]) -> Item {
        Item::new(tag, Value::Bytes(Wiped::new(bytes.to_vec())))
    }

    /// What PyKMIP spells of the same requests.
    #[test]
    fn a_request_is_spelled_as_another_implementation_spells_it() {
        let header = "420077010000003842006901000000204\
                      2006a0200000004000000010000000042006b0200000004000000040000000042000d02000000040000000100000000";
        let parameters = "42009407000000016b0000000000000042002b0100000030420011050000000400000009000000004200280500000004\
                          00000003000000004200ce02000000040000001000000000";
        let bound = "42003d08000000056e6f6e63650000004200fe0800000004736c6f7400000000";
        let asked = Asked { key: "k", nonce: b"nonce", bound_to: b"slot" };
        let expected = format!(
            "42007801000000d8{header}42000f010000009042005c05000000040000001f000000004200790100000078{parameters}\
             4200c208000000067365637265740000{bound}"
        );
        assert_eq!(hex::encode(&*encrypt(&asked, b"secret")), expected);
        let expected = format!(
            "42007801000000f0{header}42000f01000000a842005c050000000400000020000000004200790100000090{parameters}\
             4200c208000000046d61646500000000{bound}4200ff0800000010{}",
            "07".repeat(16)
        );
        assert_eq!(hex::encode(&*decrypt(&asked, b"made", &[7; 16])), expected);
    }

    #[test]
    fn an_answer_is_read_and_a_refusal_told_by_name() {
        let key = Item::new(tag::UNIQUE_IDENTIFIER, Value::Text("k".to_owned()));
        let made = done(ENCRYPT, vec![key.clone(), bytes(tag::DATA, b"made"), bytes(tag::TAG, &[7; 16])]);
        let read = encrypted(&made).unwrap();
        assert_eq!(
            (read.key.as_str(), read.data.as_slice(), read.tag.as_slice()),
            ("k", b"made".as_slice(), &[7; 16][..])
        );
        let opened = done(DECRYPT, vec![key.clone(), bytes(tag::DATA, b"secret")]);
        assert_eq!(decrypted(&opened).unwrap().as_slice(), b"secret");
        // The answer to something else, without a tag, or with a short one.
        assert_eq!(decrypted(&made), Err(AnswerError::Unexpected));
        for code in [None, Some(bytes(tag::TAG, &[7; 12]))] {
            let parts = [Some(key.clone()), Some(bytes(tag::DATA, b"made")), code].into_iter().flatten().collect();
            assert_eq!(encrypted(&done(ENCRYPT, parts)), Err(AnswerError::Unexpected));
        }
        let refused = answer(vec![
            Item::new(tag::RESULT_STATUS, Value::Enumeration(1)),
            Item::new(tag::RESULT_REASON, Value::Enumeration(0x0c)),
            Item::new(tag::RESULT_MESSAGE, Value::Text("no".to_owned())),
        ]);
        let error = encrypted(&refused).unwrap_err();
        assert_eq!(error.to_string(), "permission denied");
        let two =
            structure(tag::RESPONSE, vec![structure(tag::BATCH_ITEM, vec![]), structure(tag::BATCH_ITEM, vec![])]);
        assert_eq!(encrypted(&two.encode()), Err(AnswerError::Unexpected));
    }

    #[test]
    fn dos_02_a_head_says_how_much_is_read_and_no_more_than_expected() {
        let made = done(ENCRYPT, vec![]);
        let head = <[u8; HEAD_BYTES]>::try_from(&made[..HEAD_BYTES]).unwrap();
        assert_eq!(length(head).unwrap() + HEAD_BYTES, made.len());
        assert_eq!(length(*b"HTTP/1.1"), Err(AnswerError::Unexpected));
        let long = [0x42, 0x00, 0x7b, 0x01, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(length(long), Err(AnswerError::Garbled(TtlvError::TooLong)));
    }

    proptest! {
        #[test]
        fn dos_02_whatever_is_answered_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            drop(encrypted(&bytes));
            drop(decrypted(&bytes));
        }

        #[test]
        fn dos_02_an_answer_that_was_changed_is_read_or_refused(at in 0_usize..200, by in 1_u8..) {
            let key = Item::new(tag::UNIQUE_IDENTIFIER, Value::Text("k".to_owned()));
            let mut made = done(ENCRYPT, vec![key, bytes(tag::DATA, b"made"), bytes(tag::TAG, &[7; 16])]);
            let length = made.len();
            made[at % length] ^= by;
            drop(encrypted(&made));
        }
    }
}
