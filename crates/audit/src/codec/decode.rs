//! Bytes to entries; texts borrow from the bytes, which zeroize.
//!
//! Deliberately absent: trust; counts are bounded by the bytes that are there.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use tresor_env::Timestamp;
use tresor_model::{Body, Map, Number, Operation, TokenType};

use super::{DEPTH_MAX, VERSION};
use crate::entry::{
    AnswerBody, AuditedHeader, AuthFacts, Clear, Entry, Fields, GrantingPolicy, Handle, MountFacts, NamespaceFacts,
    PolicyResults, RequestFacts, ResponseFacts, Sensitive, WrapFacts,
};

/// The entry of a record's bytes; `None` when they are not one.
pub(crate) fn decode(bytes: &[u8]) -> Option<Entry<'_>> {
    let mut reader = Reader { rest: bytes };
    if reader.byte()? != VERSION {
        return None;
    }
    let entry = Entry {
        time: reader.time()?,
        auth: reader.auth()?,
        request: reader.request()?,
        response: reader.option(Reader::response)?,
        error: reader.clear()?,
    };
    reader.rest.is_empty().then_some(entry)
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
        self.raw(1)?.first().copied()
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn whole(&mut self) -> Option<u64> {
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

    fn map(&mut self, depth: usize) -> Option<Map> {
        let count = self.count()?;
        let mut map = Map::new();
        for _ in 0..count {
            let name = self.text()?;
            let value = self.value(depth)?;
            map.insert(name, value);
        }
        (map.len() == count).then_some(map)
    }

    fn value(&mut self, depth: usize) -> Option<Body> {
        let deeper = depth.checked_sub(1);
        let kind = self.byte()?;
        Some(match kind {
            0 => Body::Null,
            1 => Body::Bool(false),
            2 => Body::Bool(true),
            3 => Body::Number(Number::parse(self.text()?)?),
            4 => Body::from(self.text()?),
            5 => {
                let deeper = deeper?;
                Body::List(self.list(|reader| reader.value(deeper))?)
            }
            6 => Body::Map(self.map(deeper?)?),
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
            body: Fields::Owned(self.map(DEPTH_MAX)?),
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
        })
    }

    fn response(&mut self) -> Option<ResponseFacts<'a>> {
        Some(ResponseFacts {
            auth: self.option(Self::auth)?,
            lease_id: self.clear()?,
            body: match self.byte()? {
                0 => AnswerBody::Nothing,
                1 => AnswerBody::Fields(Fields::Owned(self.map(DEPTH_MAX)?)),
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
