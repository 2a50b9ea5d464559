//! How a state is spelled as a stream of chunks, for another node or for a file.
//!
//! ```text
//! chunk:  kind (1) | body | checksum (8)
//! first:  format (1) | term (8) | index (8) | version (8) | membership, the rest
//! values: per value: key length (1) | version (8) | value length (4) | key | value
//! more:   what a chunk has no room for of the value that the chunk before began
//! end:    how many values (8) | how many bytes of keys and values (8)
//! ```
//!
//! Little-endian. Values come in the order of their keys, as they are stored: sealed. A checksum is seeded with that of
//! the chunk before, so a chunk that is changed, missing, doubled or out of place is refused, by its place in the stream.
//! Deliberately absent: protection against somebody who can spell a stream (values are sealed above, and who keeps
//! streams adds a seal of his own), and files.

use twox_hash::XxHash3_64;

use crate::machine::{Applied, CHUNK_BYTES_MAX, Export, Position};
use crate::{RawKey, StoreError, Stored, Version};

const FORMAT: u8 = 1;
/// What the first checksum is seeded with.
const SEED: u64 = u64::from_le_bytes(*b"TRSTATE1");
const KIND_FIRST: u8 = 1;
const KIND_VALUES: u8 = 2;
const KIND_MORE: u8 = 3;
const KIND_END: u8 = 4;
const SUM_BYTES: usize = 8;
/// Key length, version and value length.
const VALUE_HEADER_BYTES: usize = 13;
/// A chunk is closed when it is so long.
const CHUNK_BYTES: usize = 128 * 1024;
/// A value cannot be longer.
const VALUE_BYTES_MAX: usize = 1 << 30;

/// What a state amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many values there are.
    pub count: u64,
    /// How many bytes their keys and they have.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, key: &[u8], length: usize) {
        self.count += 1;
        self.bytes += (key.len() + length) as u64;
    }
}

/// A state as chunks, from its values in the order of their keys.
pub struct Chunks<I> {
    state: Applied,
    values: I,
    next: Next,
    chain: u64,
    amount: Amount,
}

enum Next {
    First,
    Values,
    /// The value that did not fit into the chunk before.
    Value(RawKey, Stored),
    /// What is left of a value from there on.
    Rest(Vec<u8>, usize),
    End,
    Nothing,
}

impl<I> Chunks<I>
where
    I: Iterator<Item = Result<(RawKey, Stored), StoreError>>,
{
    /// The chunks of a state that has these values.
    pub const fn new(state: Applied, values: I) -> Self {
        Self { state, values, next: Next::First, chain: SEED, amount: Amount { count: 0, bytes: 0 } }
    }

    fn close(&mut self, mut chunk: Vec<u8>) -> Vec<u8> {
        self.chain = XxHash3_64::oneshot_with_seed(self.chain, &chunk);
        chunk.extend_from_slice(&self.chain.to_le_bytes());
        chunk
    }

    fn first(&self) -> Vec<u8> {
        let Applied { position, version, membership } = &self.state;
        let mut chunk = vec![KIND_FIRST, FORMAT];
        for number in [position.term, position.index, version.0] {
            chunk.extend_from_slice(&number.to_le_bytes());
        }
        chunk.extend_from_slice(membership);
        chunk
    }

    /// A chunk of values, the first of which is given when there is one already.
    fn values(&mut self, mut at_hand: Option<(RawKey, Stored)>) -> Result<Option<Vec<u8>>, StoreError> {
        let mut chunk = vec![KIND_VALUES];
        while chunk.len() < CHUNK_BYTES {
            let Some((key, stored)) =
                at_hand.take().map_or_else(|| self.values.next().transpose(), |one| Ok(Some(one)))?
            else {
                self.next = Next::End;
                return Ok((chunk.len() > 1).then_some(chunk));
            };
            let room = CHUNK_BYTES_MAX - SUM_BYTES - chunk.len();
            let header = VALUE_HEADER_BYTES + key.as_bytes().len();
            if header + stored.bytes.len() > room && chunk.len() > 1 {
                self.next = Next::Value(key, stored);
                return Ok(Some(chunk));
            }
            self.amount.add(key.as_bytes(), stored.bytes.len());
            chunk.push(u8::try_from(key.as_bytes().len()).unwrap_or(u8::MAX));
            chunk.extend_from_slice(&stored.version.0.to_le_bytes());
            chunk.extend_from_slice(&u32::try_from(stored.bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
            chunk.extend_from_slice(key.as_bytes());
            let fits = stored.bytes.len().min(room - header);
            chunk.extend_from_slice(stored.bytes.get(..fits).unwrap_or_default());
            if fits < stored.bytes.len() {
                self.next = Next::Rest(stored.bytes, fits);
                return Ok(Some(chunk));
            }
        }
        self.next = Next::Values;
        Ok(Some(chunk))
    }
}

impl<I> Export for Chunks<I>
where
    I: Iterator<Item = Result<(RawKey, Stored), StoreError>> + Send,
{
    fn state(&self) -> &Applied {
        &self.state
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        loop {
            let chunk = match std::mem::replace(&mut self.next, Next::Nothing) {
                Next::First => {
                    self.next = Next::Values;
                    Some(self.first())
                }
                Next::Values => self.values(None)?,
                Next::Value(key, stored) => self.values(Some((key, stored)))?,
                Next::Rest(bytes, at) => {
                    let until = bytes.len().min(at + CHUNK_BYTES_MAX - SUM_BYTES - 1);
                    let chunk = [&[KIND_MORE], bytes.get(at..until).unwrap_or_default()].concat();
                    self.next = if until < bytes.len() { Next::Rest(bytes, until) } else { Next::Values };
                    Some(chunk)
                }
                Next::End => {
                    let Amount { count, bytes } = self.amount;
                    Some([&[KIND_END][..], &count.to_le_bytes(), &bytes.to_le_bytes()].concat())
                }
                Next::Nothing => return Ok(None),
            };
            if let Some(chunk) = chunk {
                return Ok(Some(self.close(chunk)));
            }
        }
    }
}

/// What does not belong into a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {what}")]
pub struct Wrong {
    /// Where in the stream.
    pub offset: u64,
    /// What is wrong there.
    pub what: &'static str,
}

impl Wrong {
    /// The same, of what is to become a store.
    #[must_use]
    pub fn for_store(self, name: &str) -> StoreError {
        StoreError::Foreign { name: name.to_owned(), offset: self.offset, what: self.what.to_owned() }
    }
}

/// A value that is longer than what has come of it.
struct Begun {
    key: RawKey,
    version: Version,
    length: usize,
    bytes: Vec<u8>,
}

/// Takes the chunks of a state and gives out its values; knows whether all of them came.
pub struct Reading {
    expected: Option<Applied>,
    state: Option<Applied>,
    chain: u64,
    offset: u64,
    last: Option<RawKey>,
    begun: Option<Begun>,
    amount: Amount,
    is_whole: bool,
}

impl Reading {
    /// Of a state that must be this one, when one is given.
    #[must_use]
    pub const fn new(expected: Option<Applied>) -> Self {
        Self {
            expected,
            state: None,
            chain: SEED,
            offset: 0,
            last: None,
            begun: None,
            amount: Amount { count: 0, bytes: 0 },
            is_whole: false,
        }
    }

    const fn wrong(&self, what: &'static str) -> Wrong {
        Wrong { offset: self.offset, what }
    }

    /// Takes the next chunk, and shows the values that it completes.
    ///
    /// # Errors
    /// [`Wrong`], as `E`, when it is not the next chunk of a state; otherwise what `see` says.
    pub fn take<E: From<Wrong>>(
        &mut self,
        chunk: &[u8],
        mut see: impl FnMut(RawKey, Stored) -> Result<(), E>,
    ) -> Result<(), E> {
        if chunk.len() > CHUNK_BYTES_MAX {
            return Err(self.wrong("a chunk is too long").into());
        }
        let Some((spelled, sum)) = chunk.split_last_chunk::<SUM_BYTES>() else {
            return Err(self.wrong("a chunk is cut off").into());
        };
        self.chain = XxHash3_64::oneshot_with_seed(self.chain, spelled);
        if self.chain != u64::from_le_bytes(*sum) {
            return Err(self.wrong("a chunk is not what was written, or not the next one").into());
        }
        let Some((kind, body)) = spelled.split_first() else {
            return Err(self.wrong("a chunk is empty").into());
        };
        match (*kind, &self.state) {
            _ if self.is_whole => return Err(self.wrong("there is more behind the end").into()),
            (KIND_FIRST, None) => self.first(body)?,
            (KIND_VALUES, Some(state)) if self.begun.is_none() => {
                let newest = state.version;
                self.values(body, newest, &mut see)?;
            }
            (KIND_MORE, Some(_)) => self.more(body, &mut see)?,
            (KIND_END, Some(_)) if self.begun.is_none() => {
                let Amount { count, bytes } = self.amount;
                if body != [count.to_le_bytes(), bytes.to_le_bytes()].concat() {
                    return Err(self.wrong("there are not as many values as its end says").into());
                }
                self.is_whole = true;
            }
            _ => return Err(self.wrong("a chunk is out of place").into()),
        }
        self.offset += chunk.len() as u64;
        Ok(())
    }

    fn first(&mut self, body: &[u8]) -> Result<(), Wrong> {
        let Some((&FORMAT, body)) = body.split_first() else {
            return Err(self.wrong("it is of another format"));
        };
        let Some((numbers, membership)) = body.split_first_chunk::<24>() else {
            return Err(self.wrong("its first chunk is too short"));
        };
        let [term, index, version] = [0, 8, 16]
            .map(|at| numbers.get(at..at + 8).and_then(|eight| eight.try_into().ok()).map_or(0, u64::from_le_bytes));
        let position = Position { term, index };
        let state = Applied { position, version: Version(version), membership: membership.to_vec() };
        if self.expected.as_ref().is_some_and(|expected| *expected != state) {
            return Err(self.wrong("it is another state"));
        }
        self.state = Some(state);
        Ok(())
    }

    fn values<E: From<Wrong>>(
        &mut self,
        mut body: &[u8],
        newest: Version,
        see: &mut impl FnMut(RawKey, Stored) -> Result<(), E>,
    ) -> Result<(), E> {
        let cut = self.wrong("a value is cut off");
        while let Some((&key_length, rest)) = body.split_first() {
            let (version, rest) = rest.split_first_chunk::<8>().ok_or(cut)?;
            let (length, rest) = rest.split_first_chunk::<4>().ok_or(cut)?;
            let (key, rest) = rest.split_at_checked(usize::from(key_length)).ok_or(cut)?;
            let key = RawKey::new(key).ok_or(self.wrong("a key is too long or empty"))?;
            let version = Version(u64::from_le_bytes(*version));
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            if self.last.as_ref().is_some_and(|last| *last >= key) {
                return Err(self.wrong("a key is out of order").into());
            }
            if version > newest || length > VALUE_BYTES_MAX {
                return Err(self.wrong("a value is newer than the state, or too long").into());
            }
            self.last = Some(key.clone());
            let (value, rest) = rest.split_at(length.min(rest.len()));
            if value.len() < length {
                self.begun = Some(Begun { key, version, length, bytes: value.to_vec() });
                return Ok(());
            }
            self.amount.add(key.as_bytes(), length);
            see(key, Stored { version, bytes: value.to_vec() })?;
            body = rest;
        }
        Ok(())
    }

    fn more<E: From<Wrong>>(
        &mut self,
        body: &[u8],
        see: &mut impl FnMut(RawKey, Stored) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(mut begun) = self.begun.take() else {
            return Err(self.wrong("a chunk is out of place").into());
        };
        begun.bytes.extend_from_slice(body);
        if body.is_empty() || begun.bytes.len() > begun.length {
            return Err(self.wrong("a value is longer than it was to be").into());
        }
        if begun.bytes.len() < begun.length {
            self.begun = Some(begun);
            return Ok(());
        }
        self.amount.add(begun.key.as_bytes(), begun.length);
        see(begun.key, Stored { version: begun.version, bytes: begun.bytes })
    }

    /// What the state is, once its first chunk came.
    #[must_use]
    pub const fn state(&self) -> Option<&Applied> {
        self.state.as_ref()
    }

    /// Ends it: the state, and what it amounts to.
    ///
    /// # Errors
    /// When chunks are missing.
    pub fn finish(&self) -> Result<(&Applied, Amount), Wrong> {
        match &self.state {
            Some(state) if self.is_whole => Ok((state, self.amount)),
            _ => Err(self.wrong("it is cut off")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn state() -> Applied {
        Applied { position: Position { term: 3, index: 70 }, version: Version(60), membership: b"us".to_vec() }
    }

    fn chunks(values: &[(RawKey, Stored)]) -> Vec<Vec<u8>> {
        let mut chunks = Chunks::new(state(), values.iter().cloned().map(Ok));
        std::iter::from_fn(|| chunks.next().unwrap()).collect()
    }

    fn read(chunks: &[Vec<u8>]) -> Result<Vec<(RawKey, Stored)>, Wrong> {
        let (mut reading, mut found) = (Reading::new(Some(state())), Vec::new());
        for chunk in chunks {
            reading.take(chunk, |key, stored| {
                found.push((key, stored));
                Ok::<(), Wrong>(())
            })?;
        }
        let (_, amount) = reading.finish()?;
        assert_eq!(amount.count, found.len() as u64);
        Ok(found)
    }

    fn values(sizes: &[usize]) -> Vec<(RawKey, Stored)> {
        let value = |(at, size): (usize, &usize)| {
            let bytes = (0..*size).map(|byte| u8::try_from((at + byte) % 251).unwrap()).collect();
            (RawKey::new(&at.to_be_bytes()).unwrap(), Stored { version: Version(at as u64 % 60), bytes })
        };
        sizes.iter().enumerate().map(value).collect()
    }

    #[test]
    fn values_of_every_size_come_back_in_bounded_chunks() {
        let around = CHUNK_BYTES_MAX - SUM_BYTES - 1 - VALUE_HEADER_BYTES - 8;
        let mut sizes =
            vec![0, 1, CHUNK_BYTES, CHUNK_BYTES - 30, 5, around - 1, around, around + 1, 3 * CHUNK_BYTES_MAX, 7];
        sizes.extend(std::iter::repeat_n(900, 1000));
        for part in [&sizes[..], &sizes[..0], &sizes[8..9]] {
            let values = values(part);
            let chunks = chunks(&values);
            assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_BYTES_MAX));
            assert_eq!(read(&chunks), Ok(values));
        }
    }

    #[test]
    fn no_stream_that_was_changed_anywhere_is_taken() {
        let values = values(&[10, 300, CHUNK_BYTES_MAX + 20, 4, 4]);
        let whole = chunks(&values);
        for (at, chunk) in whole.iter().enumerate() {
            for place in (0..chunk.len()).step_by(chunk.len() / 97 + 1) {
                let mut changed = whole.clone();
                *changed.get_mut(at).unwrap().get_mut(place).unwrap() ^= 0x20;
                assert!(read(&changed).is_err(), "chunk {at} at {place}");
                let mut cut = whole.clone();
                cut.get_mut(at).unwrap().truncate(place);
                assert!(read(&cut).is_err(), "chunk {at} cut at {place}");
            }
            let mut missing = whole.clone();
            missing.remove(at);
            assert!(read(&missing).is_err(), "without chunk {at}");
        }
        assert_eq!(read(&whole), Ok(values));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_refused_and_never_a_panic(
            bodies in prop::collection::vec((0_u8..6, prop::collection::vec(any::<u8>(), 0..80)), 0..6),
        ) {
            // With checksums that are right, so that what is behind them is reached.
            let (mut reading, mut chain) = (Reading::new(None), SEED);
            let mut all = vec![Chunks::new(state(), std::iter::empty()).first()];
            all.extend(bodies.into_iter().map(|(kind, body)| [&[kind][..], &body].concat()));
            for mut chunk in all {
                chain = XxHash3_64::oneshot_with_seed(chain, &chunk);
                chunk.extend_from_slice(&chain.to_le_bytes());
                if reading.take(&chunk, |_, _| Ok::<(), Wrong>(())).is_err() {
                    break;
                }
            }
        }
    }
}
