//! Reading the log in order, from memory where the record is still there, else from its segment.
//!
//! Invariant: a reader sees every record exactly once, in order. Deliberately absent: cursors; a reader is a place in
//! memory, and what was delivered is the log's to note.

use std::sync::Arc;

use tresor_env::disk::{DiskFile, Open};
use tresor_secret::Wiped;

use super::sealing::SegmentKey;
use super::segment::{self, FRAMES_AT, Tag};
use super::{AuditLog, Segment, damaged, recovery, unavailable};
use crate::error::AuditError;

/// A record, opened.
pub(crate) struct Record {
    /// Its sequence.
    pub(crate) sequence: u64,
    /// The length of its frame.
    pub(crate) frame_bytes: u64,
    /// What was appended.
    pub(crate) bytes: Arc<Wiped<Vec<u8>>>,
}

/// A place in the log.
pub(crate) struct Reader {
    next: u64,
    place: Option<Place>,
}

struct Place {
    number: u64,
    file: Arc<dyn DiskFile>,
    key: SegmentKey,
    offset: u64,
    sequence: u64,
    previous: Tag,
}

impl Reader {
    /// A reader whose next record is `next`.
    pub(crate) const fn starting_at(next: u64) -> Self {
        Self { next, place: None }
    }

    /// The sequence of the next record.
    pub(crate) const fn next(&self) -> u64 {
        self.next
    }
}

impl AuditLog {
    /// The next records, at most so many and (but for the first) so many bytes; from memory alone: `None` when they
    /// must be read from disk.
    pub(crate) fn read_recent(&self, reader: &mut Reader, records_max: usize, bytes_max: usize) -> Option<Vec<Record>> {
        let state = self.state();
        if reader.next >= state.next_sequence {
            return Some(Vec::new());
        }
        let first = state.next_sequence - state.recent.len() as u64;
        let skip = usize::try_from(reader.next.checked_sub(first)?).unwrap_or(usize::MAX);
        let (mut records, mut bytes) = (Vec::new(), 0);
        for (sequence, recent) in (reader.next..).zip(state.recent.iter().skip(skip)) {
            bytes += recent.record.len();
            if records.len() == records_max || (!records.is_empty() && bytes > bytes_max) {
                break;
            }
            let (frame_bytes, bytes) = (recent.frame_bytes, Arc::clone(&recent.record));
            records.push(Record { sequence, frame_bytes, bytes });
        }
        reader.place = None;
        reader.next += records.len() as u64;
        Some(records)
    }

    /// The next records from their segments. Blocking.
    pub(crate) fn read_disk(
        &self,
        reader: &mut Reader,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, AuditError> {
        let mut records = Vec::new();
        match self.read_segments(reader, records_max, bytes_max, &mut records) {
            // What was read before the damage is delivered; the next call meets it again.
            Err(_) if !records.is_empty() => Ok(records),
            outcome => outcome.map(|()| records),
        }
    }

    fn read_segments(
        &self,
        reader: &mut Reader,
        records_max: usize,
        bytes_max: usize,
        records: &mut Vec<Record>,
    ) -> Result<(), AuditError> {
        let mut bytes = 0;
        while records.len() < records_max && bytes < bytes_max {
            let Some((segment, end_of_log)) = self.segment_of(reader.next) else { break };
            let mut place = match reader.place.take() {
                Some(place) if place.number == segment.number => place,
                _ => self.enter(&segment)?,
            };
            if place.offset >= segment.end {
                // The sequences between this segment's end and what follows were never given.
                reader.next = reader.next.max(end_of_log.unwrap_or(reader.next));
                reader.next = reader.next.max(self.first_after(segment.number).unwrap_or(reader.next));
                if end_of_log.is_some() {
                    reader.place = Some(place);
                    break;
                }
                continue;
            }
            let frame = recovery::read_frame(&*place.file, place.offset, segment.end).map_err(unavailable)?;
            let opened = frame.and_then(|(header, sealed)| {
                let opened = segment::open_frame(&place.key, &header, &place.previous, &sealed)?;
                (header.sequence == place.sequence).then_some((header, opened))
            });
            let Some((header, (record, tag))) = opened else { return Err(damaged(place.number, place.offset)) };
            let length = header.frame_length() as u64;
            place.offset += length;
            place.sequence += 1;
            place.previous = tag;
            if header.sequence >= reader.next {
                reader.next = header.sequence + 1;
                bytes += header.frame_length();
                records.push(Record { sequence: header.sequence, frame_bytes: length, bytes: Arc::new(record) });
            }
            reader.place = Some(place);
        }
        Ok(())
    }

    /// The segment that holds a sequence and, when it is the last one, the sequence that comes after it.
    fn segment_of(&self, sequence: u64) -> Option<(Segment, Option<u64>)> {
        let state = self.state();
        if sequence >= state.next_sequence {
            return None;
        }
        let after = state.segments.partition_point(|segment| segment.first_sequence <= sequence);
        let index = after.checked_sub(1)?;
        let is_last = index + 1 == state.segments.len();
        Some((*state.segments.get(index)?, is_last.then_some(state.next_sequence)))
    }

    fn first_after(&self, number: u64) -> Option<u64> {
        let state = self.state();
        state.segments.iter().find(|segment| segment.number > number).map(|segment| segment.first_sequence)
    }

    fn enter(&self, segment: &Segment) -> Result<Place, AuditError> {
        let Some(directory) = &self.directory else {
            return Err(AuditError::LogUnavailable("record is not in memory".into()));
        };
        let path = directory.join(segment::name(segment.number));
        let file = self.doors.disk.open(&path, Open::Existing).map_err(unavailable)?;
        let header = recovery::read_header(&*file, &self.header_key)
            .map_err(unavailable)?
            .filter(|header| header.number == segment.number)
            .ok_or_else(|| damaged(segment.number, 0))?;
        let opening = recovery::read_opening(&*file, &header, &self.header_key)
            .map_err(unavailable)?
            .ok_or_else(|| damaged(segment.number, segment::HEADER_BYTES as u64))?;
        Ok(Place {
            number: segment.number,
            file,
            key: header.segment_key(&self.key),
            offset: FRAMES_AT,
            sequence: opening.first_sequence,
            previous: opening.previous_tag,
        })
    }
}
