//! One segment in use: a file of fixed length, filled frame by frame.
//!
//! In memory it keeps the place of every so many entries, so that reading a range begins near it.

use std::path::PathBuf;
use std::sync::Arc;

use tresor_env::DiskFile;

use crate::LogError;
use crate::frame::{HEADER_BYTES, Header, Kind, OPENING_BYTES, frame_bytes};

/// How far apart the places are that are kept in memory.
const PLACE_EVERY_BYTES: u64 = 32 * 1024;

/// A segment that holds entries.
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    /// What is preallocated; writing beyond it is possible, and slower.
    pub(crate) capacity: u64,
    /// The index before its first entry.
    pub(crate) before: u64,
    /// Its last entry; `before` when it has none.
    pub(crate) last: u64,
    /// Where the next frame goes.
    pub(crate) end: u64,
    /// Index and offset of some entries.
    places: Vec<(u64, u64)>,
}

impl Segment {
    pub(crate) fn new(number: u64, path: PathBuf, file: Arc<dyn DiskFile>, capacity: u64, before: u64) -> Self {
        let end = OPENING_BYTES as u64;
        Self { number, path, file, capacity, before, last: before, end, places: Vec::new() }
    }

    /// Notes an entry that lies at `end`.
    pub(crate) fn note(&mut self, index: u64, body: usize) {
        if self.places.last().is_none_or(|(_, at)| self.end - at >= PLACE_EVERY_BYTES) {
            self.places.push((index, self.end));
        }
        self.last = index;
        self.end += frame_bytes(body) as u64;
    }

    /// Forgets the entries from `index` on; `end` is where it lay.
    pub(crate) fn cut(&mut self, index: u64, end: u64) {
        self.places.retain(|(noted, _)| *noted < index);
        self.last = index - 1;
        self.end = end;
    }

    /// Looks at the entries from `from` on, in order, until `look` has seen enough (says `false`).
    pub(crate) fn walk(&self, from: u64, look: &mut dyn FnMut(u64, &Header, &[u8]) -> bool) -> Result<(), LogError> {
        let near = self.places.partition_point(|(index, _)| *index <= from);
        let mut at =
            near.checked_sub(1).and_then(|place| self.places.get(place)).map_or(OPENING_BYTES as u64, |(_, at)| *at);
        let mut frame = Vec::new();
        while at < self.end {
            frame.resize(HEADER_BYTES, 0);
            let io = |source| LogError::io(&self.path, source);
            self.file.read_exact_at(at, &mut frame).map_err(io)?;
            let damaged = || LogError::damaged(&self.path, at, "an entry cannot be read");
            let header = Header::parse(&frame).ok_or_else(damaged)?;
            if header.kind != Kind::Entry || at + frame_bytes(header.length) as u64 > self.end {
                return Err(damaged());
            }
            if header.index >= from {
                frame.resize(HEADER_BYTES + header.length, 0);
                self.file.read_exact_at(at, &mut frame).map_err(io)?;
                let (header, body) = Header::open(&frame, self.number).ok_or_else(damaged)?;
                if !look(at, &header, body) {
                    return Ok(());
                }
            }
            at += frame_bytes(header.length) as u64;
        }
        Ok(())
    }
}
