//! Bytes to entries; texts borrow from the bytes, which zeroize, and bodies are left where they are: how they are made up
//! is checked, not what their texts say, since most of those are only hashed.
//!
//! Deliberately absent: trust; counts are bounded by the bytes that are there.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use tresor_env::Timestamp;
use tresor_model::{Operation, TokenType};

use super::{DEPTH_MAX, VERSION};
use crate::body::{Fields, ListRef, MapRef, ValueRef};
use crate::entry::{
    AnswerBody, AuditedHeader, AuthFacts, Clear, GrantingPolicy, Handle, MountFacts, NamespaceFacts, PolicyResults,
    RequestFacts, ResponseFacts, Sensitive, WrapFacts,
};

/// The entries of a record's bytes, one or two; `None` when they are not a record.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<crate::entry::Entry<'_>>> {
    let parts = split(bytes)?;
    let head = parts.head;
    let mut entries = Vec::new();
    for Moment { time, response, error } in parts.moments() {
        let (auth, rest) = decode_caller(head)?;
        let request = decode_asked(rest)?;
        entries.push(crate::entry::Entry { time, auth, request, response, error });
    }
    Some(entries)
}

/// A record whose head is not looked into yet.
pub(crate) struct Parts<'a> {
    /// What all of it has in common.
    pub(crate) head: &'a [u8],
    asked: Option<Moment<'a>>,
    answered: Option<Moment<'a>>,
}

/// What was recorded at one time: that something was asked, or with `response` that it was answered.
pub(crate) struct Moment<'a> {
    pub(crate) time: Timestamp,
    pub(crate) response: Option<ResponseFacts<'a>>,
    pub(crate) error: Clear<'a>,
}

impl<'a> Parts<'a> {
    /// Whether it says both what was asked and what was answered, so that no other record has the same head.
    pub(crate) const fn says_all(&self) -> bool {
        self.asked.is_some() && self.answered.is_some()
    }

    /// When the first of it was recorded.
    pub(crate) fn time(&self) -> Timestamp {
        self.asked.as_ref().or(self.answered.as_ref()).map_or(Timestamp::EPOCH, |moment| moment.time)
    }

    /// What was recorded, in order; at least one.
    pub(crate) fn moments(self) -> impl Iterator<Item = Moment<'a>> {
        self.asked.into_iter().chain(self.answered)
    }
}

/// Takes a record apart; `None` when the bytes are not one, as far as its head need not be read for that.
pub(crate) fn split(bytes: &[u8]) -> Option<Parts<'_>> {
    let mut reader = Reader { rest: bytes };
    if reader.byte()? != VERSION {
        return None;
    }
    let parts = Parts {
        head: reader.bytes()?,
        asked: reader.option(|reader| Some(Moment { time: reader.time()?, response: None, error: reader.clear()? }))?,
        answered: reader.option(|reader| {
            let (time, response) = (reader.time()?, Some(reader.response()?));
            Some(Moment { time, response, error: reader.clear()? })
        })?,
    };
    let says_something = parts.asked.is_some() || parts.answered.is_some();
    (says_something && reader.rest.is_empty()).then_some(parts)
}

/// What was asked, of a whole record.
pub(crate) fn decode_request(bytes: &[u8]) -> Option<RequestFacts<'_>> {
    let (_, rest) = decode_caller(split(bytes)?.head)?;
    decode_asked(rest)
}

/// Who asks, of a head's bytes, and those that are left: for what.
pub(crate) fn decode_caller(bytes: &[u8]) -> Option<(AuthFacts<'_>, &[u8])> {
    let mut reader = Reader { rest: bytes };
    Some((reader.auth()?, reader.rest))
}

/// For what, of the rest of a head.
pub(crate) fn decode_asked(bytes: &[u8]) -> Option<RequestFacts<'_>> {
    let mut reader = Reader { rest: bytes };
    let request = reader.request()?;
    reader.rest.is_empty().then_some(request)
}

/// Names and values, or values alone, of a record: checked, and not taken apart before somebody walks through them.
#[derive(Clone, Copy)]
pub struct EncodedMap<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> EncodedMap<'a> {
    /// None.
    pub(crate) const EMPTY: Self = Self { count: 0, bytes: &[] };

    pub(crate) const fn len(self) -> usize {
        self.count
    }

    /// As they stand in the record, behind their count.
    pub(crate) const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn each_field(self, visit: &mut dyn FnMut(&'a [u8], ValueRef<'a>)) {
        let mut reader = Reader { rest: self.bytes };
        for _ in 0..self.count {
            // It was checked, so neither is ever missing.
            let (Some(name), Some(value)) = (reader.bytes(), reader.value()) else { return };
            visit(name, value);
        }
    }

    pub(crate) fn each_item(self, visit: &mut dyn FnMut(ValueRef<'a>)) {
        let mut reader = Reader { rest: self.bytes };
        for _ in 0..self.count {
            let Some(value) = reader.value() else { return };
            visit(value);
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn raw(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn whole(&mut self) -> Option<u64> {
        // Nearly every number is less.
        if let [byte @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Some(u64::from(*byte));
        }
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// A count of things that take a byte each at least, so that damage cannot ask for absurd allocations.
    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.whole()?).ok().filter(|count| *count <= self.rest.len())
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.count()?;
        self.raw(length)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn clear(&mut self) -> Option<Clear<'a>> {
        self.text().map(Clear::from)
    }

    fn list<T>(&mut self, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.count()?;
        (0..count).map(|_| item(self)).collect()
    }

    fn words(&mut self) -> Option<Cow<'a, [String]>> {
        self.list(|reader| reader.text().map(str::to_owned)).map(Cow::Owned)
    }

    fn time(&mut self) -> Option<Timestamp> {
        Some(Timestamp::from_nanos(i64::from_le_bytes(self.raw(8)?.try_into().ok()?)))
    }

    fn duration(&mut self) -> Option<Duration> {
        let seconds = self.whole()?;
        let nanos = u32::try_from(self.whole()?).ok().filter(|nanos| *nanos < 1_000_000_000)?;
        Some(Duration::new(seconds, nanos))
    }

    fn option<T>(&mut self, value: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { value(self).map(Some) } else { Some(None) }
    }

    fn handle(&mut self) -> Option<Option<Handle<'a>>> {
        self.option(|reader| reader.text().map(Handle))
    }

    fn secret(&mut self) -> Option<Option<Sensitive<'a>>> {
        self.option(|reader| reader.text().map(Sensitive))
    }

    /// Names and values, or values alone: checked, and passed over.
    fn group(&mut self, depth: usize, has_names: bool) -> Option<EncodedMap<'a>> {
        let count = self.count()?;
        let before = self.rest;
        for _ in 0..count {
            if has_names {
                self.bytes()?;
            }
            self.pass(depth)?;
        }
        let bytes = before.get(..before.len() - self.rest.len())?;
        Some(EncodedMap { count, bytes })
    }

    /// Checks a value and passes over it.
    fn pass(&mut self, depth: usize) -> Option<()> {
        match self.byte()? {
            0..=2 => {}
            3 | 4 => drop(self.bytes()?),
            kind @ (5 | 6) => drop(self.group(depth.checked_sub(1)?, kind == 6)?),
            _ => return None,
        }
        Some(())
    }

    /// A value that was checked.
    fn value(&mut self) -> Option<ValueRef<'a>> {
        Some(match self.byte()? {
            0 => ValueRef::Null,
            1 => ValueRef::Bool(false),
            2 => ValueRef::Bool(true),
            3 => ValueRef::Number(self.bytes()?),
            4 => ValueRef::String(self.bytes()?),
            5 => ValueRef::List(ListRef::Encoded(self.group(DEPTH_MAX, false)?)),
            6 => ValueRef::Map(MapRef::Encoded(self.group(DEPTH_MAX, true)?)),
            _ => return None,
        })
    }

    fn auth(&mut self) -> Option<AuthFacts<'a>> {
        Some(AuthFacts {
            client_token: self.secret()?,
            accessor: self.handle()?,
            display_name: self.clear()?,
            policies: self.words()?,
            token_policies: self.words()?,
            identity_policies: self.words()?,
            no_default_policy: self.flag()?,
            policy_results: self.option(|reader| {
                Some(PolicyResults {
                    allowed: reader.flag()?,
                    granting_policies: reader.list(|reader| {
                        Some(GrantingPolicy {
                            name: reader.clear()?,
                            namespace_id: reader.clear()?,
                            namespace_path: reader.clear()?,
                            kind: reader.clear()?,
                        })
                    })?,
                })
            })?,
            metadata: self.option(|reader| {
                let pairs = reader.list(|reader| Some((reader.text()?.to_owned(), reader.text()?.to_owned())))?;
                Some(Cow::Owned(pairs.into_iter().collect::<BTreeMap<_, _>>()))
            })?,
            num_uses: self.whole()?,
            remaining_uses: self.whole()?,
            entity_id: self.clear()?,
            token_type: match self.byte()? {
                0 => None,
                1 => Some(TokenType::Service),
                2 => Some(TokenType::Batch),
                _ => return None,
            },
            token_ttl: self.duration()?,
            token_issue_time: self.option(Self::time)?,
        })
    }

    fn request(&mut self) -> Option<RequestFacts<'a>> {
        Some(RequestFacts {
            id: self.clear()?,
            operation: match self.byte()? {
                0 => Operation::Read,
                1 => Operation::List,
                2 => Operation::Create,
                3 => Operation::Update,
                4 => Operation::Patch,
                5 => Operation::Delete,
                6 => Operation::Help,
                7 => Operation::Scan,
                8 => Operation::Subscribe,
                _ => return None,
            },
            mount: MountFacts {
                point: self.clear()?,
                kind: self.clear()?,
                accessor: self.clear()?,
                running_version: self.clear()?,
                class: self.clear()?,
            },
            client_token: self.secret()?,
            client_token_accessor: self.handle()?,
            namespace: NamespaceFacts { id: self.clear()?, path: self.clear()? },
            path: self.clear()?,
            body: Fields::Encoded(self.group(DEPTH_MAX, true)?),
            clear_keys: self.words()?,
            remote_address: self.clear()?,
            remote_port: u16::try_from(self.whole()?).ok()?,
            wrap_ttl: self.option(Self::duration)?,
            headers: self.list(|reader| {
                Some(AuditedHeader {
                    name: Cow::Borrowed(reader.text()?),
                    values: reader.words()?,
                    hashed: reader.flag()?,
                })
            })?,
            client_certificate_serial_number: self.clear()?,
            forwarded_from: match self.rest.is_empty() {
                true => Clear::default(),
                false => self.clear().filter(|from| !from.is_empty())?,
            },
        })
    }

    fn response(&mut self) -> Option<ResponseFacts<'a>> {
        Some(ResponseFacts {
            auth: self.option(Self::auth)?,
            lease_id: self.clear()?,
            body: match self.byte()? {
                0 => AnswerBody::Nothing,
                1 => AnswerBody::Fields(Fields::Encoded(self.group(DEPTH_MAX, true)?)),
                2 => AnswerBody::Raw { content_type: Cow::Borrowed(self.text()?), bytes: self.bytes()? },
                _ => return None,
            },
            clear_keys: self.words()?,
            warnings: self.words()?,
            redirect: self.clear()?,
            wrap_info: self.option(|reader| {
                Some(WrapFacts {
                    ttl: reader.duration()?,
                    token: Sensitive(reader.text()?),
                    accessor: Handle(reader.text()?),
                    creation_time: reader.time()?,
                    creation_path: reader.clear()?,
                    wrapped_accessor: reader.handle()?,
                })
            })?,
        })
    }
}
