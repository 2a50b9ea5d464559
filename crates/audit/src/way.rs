//! What a device has taken and whose place is not on disk yet, oldest first.
//!
//! The tail of it may have been lost on the way to the device (`sink.rs`), so this knows how far to go back.
//! Deliberately absent: the records themselves; they are in the log.

use std::collections::VecDeque;

#[derive(Default)]
pub(crate) struct Way {
    taken: VecDeque<Taken>,
    line_bytes: u64,
}

struct Taken {
    /// The sequence after it.
    after: u64,
    frame_bytes: u64,
    line_bytes: u64,
}

impl Way {
    pub(crate) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// Notes that a record was taken.
    pub(crate) fn push(&mut self, after: u64, frame_bytes: u64, line_bytes: usize) {
        let line_bytes = u64::try_from(line_bytes).unwrap_or(u64::MAX);
        self.taken.push_back(Taken { after, frame_bytes, line_bytes });
        self.line_bytes = self.line_bytes.saturating_add(line_bytes);
    }

    /// The place below which everything has arrived, when the last bytes may not have; `None` when that is no more than
    /// is on disk already.
    pub(crate) fn confirmable(&self, unconfirmed_bytes_max: u64) -> Option<u64> {
        let mut behind = 0;
        for taken in self.taken.iter().rev() {
            if behind >= unconfirmed_bytes_max {
                return Some(taken.after);
            }
            behind += taken.line_bytes;
        }
        None
    }

    /// Forgets what is below a place, which is on disk now.
    pub(crate) fn confirm(&mut self, place: u64) {
        while let Some(taken) = self.taken.pop_front_if(|taken| taken.after <= place) {
            self.line_bytes -= taken.line_bytes;
        }
    }

    /// Takes back at least so many bytes of lines, if there are: from which sequence on, and how many bytes of frames.
    pub(crate) fn take_back(&mut self, doubtful_bytes: u64) -> Option<(u64, u64)> {
        let (mut lines, mut frames, mut from) = (0_u64, 0, None);
        while lines < doubtful_bytes
            && let Some(taken) = self.taken.pop_back()
        {
            lines = lines.saturating_add(taken.line_bytes);
            frames += taken.frame_bytes;
            self.line_bytes -= taken.line_bytes;
            // Sequences may have gaps, but no record lies in one: a little early costs nothing.
            from = Some(self.taken.back().map_or(0, |before| before.after));
        }
        from.map(|from| (from, frames))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way() -> Way {
        let mut way = Way::default();
        for after in [11, 12, 13, 14] {
            way.push(after, 100, 50);
        }
        way
    }

    #[test]
    fn what_may_be_on_the_way_is_not_confirmed() {
        assert_eq!(way().confirmable(0), Some(14));
        assert_eq!(way().confirmable(1), Some(13));
        assert_eq!(way().confirmable(50), Some(13));
        assert_eq!(way().confirmable(150), Some(11));
        assert_eq!(way().confirmable(151), None);
        let mut way = way();
        way.confirm(13);
        assert_eq!((way.confirmable(0), way.confirmable(1)), (Some(14), None));
        way.confirm(14);
        assert!(way.is_empty());
        assert_eq!(way.confirmable(0), None);
    }

    #[test]
    fn what_is_in_doubt_is_taken_back_in_whole_records() {
        let mut first = way();
        assert_eq!(first.take_back(0), None);
        assert_eq!(first.take_back(1), Some((13, 100)));
        assert_eq!(first.take_back(60), Some((11, 200)));
        assert_eq!(first.confirmable(0), Some(11));
        // The place on disk is what the log then goes back to.
        assert_eq!(way().take_back(u64::MAX), Some((0, 400)));
    }
}
