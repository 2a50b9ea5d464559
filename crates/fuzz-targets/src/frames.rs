//! FZ-16: frames between the nodes of a cluster. Total; no length beyond the lane's bound is believed; what is read is
//! written again as it was.

use bytes::{Bytes, BytesMut};
use tresor_peers::{Lane, frame};

pub(crate) const WORDS: &[&str] = &[
    "\0\0\0\u{1}",
    "\0\0\0\u{2}",
    "\0\0\0\u{9}",
    "\0\0\0\u{d}",
    "\0\0\0\u{20}",
    "\u{7f}\0\0\0",
    "\u{1}\u{1}",
    "\u{2}",
    "\u{3}\0\0\0\0\0\0\0\u{1}\0\0\u{3}\u{1}",
    "\u{4}\0\0\0\0\0\0\0\u{1}",
    "\u{5}\0\0\0\0\0\0\0\u{1}",
    "\u{6}\0\0\0\0\0\0\0\u{1}",
    "\u{7}",
    "\u{8}\u{1}",
    "body",
];

/// A stream of frames, as each lane reads it.
pub fn frames(bytes: &[u8]) {
    for lane in [None, Some(Lane::Urgent), Some(Lane::Entries), Some(Lane::Bulk)] {
        let mut rest = bytes;
        while let Ok(Some(length)) = frame::measure(rest, lane) {
            let max = lane.map_or(0, Lane::message_bytes_max) + 32;
            assert!((4..=max).contains(&length), "a length beyond the bound");
            let Some((front, after)) = rest.split_at_checked(length) else { break };
            let Ok(read) = frame::read(Bytes::copy_from_slice(front)) else { break };
            let mut again = BytesMut::new();
            read.write(&mut again);
            assert_eq!(again, front, "one frame, two spellings");
            rest = after;
        }
    }
}
