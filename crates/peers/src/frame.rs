//! What goes over a connection: frames of a bounded length, each told by its kind.
//!
//! `length (4) ‖ kind (1) ‖ fields ‖ body`, numbers big-endian, the length being that of what follows it. The version of
//! all this is the protocol's name in the handshake ([`PROTOCOL`]), so that an unknown one is refused before the first
//! frame. Invariant: total; a peer's bytes give a frame or an error, and no length is believed beyond the lane's bound.
//! Deliberately absent: what bodies mean, and checksums, which TLS has.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::lane::Lane;
use crate::trouble::Parting;

/// The name of this format where the connection is made (ALPN): a change of the format is another name.
pub const PROTOCOL: &[u8] = b"tresor-peers/1";

/// What the length takes.
const LENGTH_BYTES: usize = 4;
/// Kind, number and time of the kind with the longest head.
const HEAD_BYTES_MAX: usize = 1 + 8 + 4;

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const MESSAGE: u8 = 3;
const ANSWER: u8 = 4;
const DECLINED: u8 = 5;
const GIVEN_UP: u8 = 6;
const ALIVE: u8 = 7;
const PARTING: u8 = 8;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The first of who connected: what the connection is for.
    Hello(Lane),
    /// The first of who accepted: the other one is known, and may ask.
    Welcome,
    /// A message.
    Message {
        /// Its number, by which the answer is found.
        number: u64,
        /// How long its sender waits for the answer.
        within_millis: u32,
        /// What it is.
        body: Bytes,
    },
    /// The answer to a message.
    Answer {
        /// The message's number.
        number: u64,
        /// What it is.
        body: Bytes,
    },
    /// There will be no answer to a message.
    Declined {
        /// The message's number.
        number: u64,
    },
    /// Nobody waits for the answer any more.
    GivenUp {
        /// The message's number.
        number: u64,
    },
    /// Whoever had nothing to say for a while is there all the same.
    Alive,
    /// The last: why the connection ends.
    Parting(Parting),
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than its lane allows.
    #[error("a frame of {length} bytes, and {max} is the limit")]
    TooLong {
        /// What it says.
        length: usize,
        /// What is allowed.
        max: usize,
    },
    /// A kind that this version has not.
    #[error("a frame of the unknown kind {0}")]
    UnknownKind(u8),
    /// Shorter or longer than its kind is.
    #[error("a frame of kind {0} with a length that it cannot have")]
    WrongLength(u8),
    /// A value that this version has not.
    #[error("a frame of kind {0} with an unknown value")]
    UnknownValue(u8),
}

/// The longest frame of a lane, without its length.
const fn frame_bytes_max(lane: Option<Lane>) -> usize {
    match lane {
        // Before the lane is told there are no bodies.
        None => HEAD_BYTES_MAX,
        Some(lane) => lane.message_bytes_max() + HEAD_BYTES_MAX,
    }
}

/// How many bytes the frame at the front takes, once enough is there to say so.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn measure(front: &[u8], lane: Option<Lane>) -> Result<Option<usize>, FrameError> {
    let Some(length) = front.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    let max = frame_bytes_max(lane);
    if length > max { Err(FrameError::TooLong { length, max }) } else { Ok(Some(LENGTH_BYTES + length)) }
}

/// Reads a frame from exactly the bytes that [`measure`] told.
///
/// # Errors
/// [`FrameError`].
pub fn read(mut bytes: Bytes) -> Result<Frame, FrameError> {
    if bytes.len() <= LENGTH_BYTES {
        return Err(FrameError::WrongLength(0));
    }
    bytes.advance(LENGTH_BYTES);
    let kind = bytes.get_u8();
    let head = match kind {
        WELCOME | ALIVE => 0,
        HELLO | PARTING => 1,
        ANSWER | DECLINED | GIVEN_UP => 8,
        MESSAGE => 12,
        unknown => return Err(FrameError::UnknownKind(unknown)),
    };
    let has_body = matches!(kind, MESSAGE | ANSWER);
    if bytes.len() < head || bytes.len() > head && !has_body {
        return Err(FrameError::WrongLength(kind));
    }
    Ok(match kind {
        HELLO => Frame::Hello(Lane::of_code(bytes.get_u8()).ok_or(FrameError::UnknownValue(kind))?),
        WELCOME => Frame::Welcome,
        MESSAGE => Frame::Message { number: bytes.get_u64(), within_millis: bytes.get_u32(), body: bytes },
        ANSWER => Frame::Answer { number: bytes.get_u64(), body: bytes },
        DECLINED => Frame::Declined { number: bytes.get_u64() },
        GIVEN_UP => Frame::GivenUp { number: bytes.get_u64() },
        ALIVE => Frame::Alive,
        _ => Frame::Parting(Parting::of_code(bytes.get_u8()).ok_or(FrameError::UnknownValue(kind))?),
    })
}

impl Frame {
    /// Appends the frame without its body, which is given back and comes right after it.
    pub fn write_head(&self, out: &mut BytesMut) -> Option<Bytes> {
        let mut begin = |kind: u8, head: usize, body: usize| {
            // A body is within its lane's bound, which is far below.
            out.put_u32(u32::try_from(1 + head + body).unwrap_or(u32::MAX));
            out.put_u8(kind);
        };
        match self {
            Self::Hello(lane) => {
                begin(HELLO, 1, 0);
                out.put_u8(lane.code());
            }
            Self::Welcome => begin(WELCOME, 0, 0),
            Self::Message { number, within_millis, body } => {
                begin(MESSAGE, 12, body.len());
                out.put_u64(*number);
                out.put_u32(*within_millis);
                return Some(body.clone());
            }
            Self::Answer { number, body } => {
                begin(ANSWER, 8, body.len());
                out.put_u64(*number);
                return Some(body.clone());
            }
            Self::Declined { number } => {
                begin(DECLINED, 8, 0);
                out.put_u64(*number);
            }
            Self::GivenUp { number } => {
                begin(GIVEN_UP, 8, 0);
                out.put_u64(*number);
            }
            Self::Alive => begin(ALIVE, 0, 0),
            Self::Parting(parting) => {
                begin(PARTING, 1, 0);
                out.put_u8(parting.code());
            }
        }
        None
    }

    /// Appends the whole frame.
    pub fn write(&self, out: &mut BytesMut) {
        if let Some(body) = self.write_head(out) {
            out.put_slice(&body);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let body = || proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        prop_oneof![
            prop::sample::select(Lane::ALL.to_vec()).prop_map(Frame::Hello),
            Just(Frame::Welcome),
            (any::<u64>(), any::<u32>(), body()).prop_map(|(number, within_millis, body)| Frame::Message {
                number,
                within_millis,
                body
            }),
            (any::<u64>(), body()).prop_map(|(number, body)| Frame::Answer { number, body }),
            any::<u64>().prop_map(|number| Frame::Declined { number }),
            any::<u64>().prop_map(|number| Frame::GivenUp { number }),
            Just(Frame::Alive),
            prop::sample::select(Parting::ALL.to_vec()).prop_map(Frame::Parting),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again_and_a_part_of_it_waits(frame in frames(), more in any::<u8>()) {
            let mut bytes = BytesMut::new();
            frame.write(&mut bytes);
            for front in 0..LENGTH_BYTES {
                prop_assert_eq!(measure(&bytes[..front], Some(Lane::Urgent)), Ok(None));
            }
            prop_assert_eq!(measure(&bytes, Some(Lane::Urgent)), Ok(Some(bytes.len())));
            prop_assert_eq!(read(bytes.clone().freeze()), Ok(frame.clone()));
            bytes.put_u8(more);
            let has_body = matches!(frame, Frame::Message { .. } | Frame::Answer { .. });
            prop_assert_eq!(read(bytes.freeze()).is_ok(), has_body);
        }
    }

    #[test]
    fn no_length_beyond_the_bound_is_believed() {
        let told = |length: usize, lane| measure(&u32::try_from(length).unwrap().to_be_bytes(), lane);
        for lane in Lane::ALL {
            let max = frame_bytes_max(Some(lane));
            assert_eq!(told(max, Some(lane)), Ok(Some(LENGTH_BYTES + max)));
            assert_eq!(told(max + 1, Some(lane)), Err(FrameError::TooLong { length: max + 1, max }));
        }
        assert!(told(14, None).is_err() && measure(&[0xff; 4], Some(Lane::Entries)).is_err());
    }

    #[test]
    fn unknown_kinds_and_values_and_wrong_lengths_are_errors() {
        let read = |body: &[u8]| {
            let mut bytes = BytesMut::new();
            bytes.put_u32(u32::try_from(body.len()).unwrap());
            bytes.put_slice(body);
            super::read(bytes.freeze())
        };
        assert_eq!(read(&[]), Err(FrameError::WrongLength(0)));
        assert_eq!(read(&[0]), Err(FrameError::UnknownKind(0)));
        assert_eq!(read(&[9, 0]), Err(FrameError::UnknownKind(9)));
        assert_eq!(read(&[HELLO, 7]), Err(FrameError::UnknownValue(HELLO)));
        assert_eq!(read(&[PARTING, 0]), Err(FrameError::UnknownValue(PARTING)));
        assert_eq!(read(&[ALIVE, 0]), Err(FrameError::WrongLength(ALIVE)));
        assert_eq!(read(&[MESSAGE, 0, 0]), Err(FrameError::WrongLength(MESSAGE)));
    }
}
