//! What nodes say to each other, as bytes.
//!
//! A message is its format (1), its kind, and its fields; an answer is its kind and its fields. Whatever cannot be read is
//! answered with a refusal. Deliberately absent: who sends it, which those who carry messages know for certain.

use openraft::raft::AppendEntriesResponse;
use tresor_storage::Version;
use tresor_storage::machine::{Applied, Position};

use crate::peers::NodeId;
use crate::reads::{Asked, Confirmed};
use crate::spelled::{Reader, entry_bytes, put_bytes, put_entry, put_log_id, put_optional, put_u32, put_u64, put_vote};
use crate::types::{Entry, LogId, Vote};

const FORMAT: u8 = 1;
/// More entries than are ever sent at once.
const ENTRIES_MAX: u32 = 4096;

/// A message.
#[derive(Debug)]
pub(crate) enum Message {
    /// Entries of the log, or none, from who leads.
    Append {
        /// Whether a majority has answered the sender lately: who was cut off does not keep others from campaigning.
        is_assured: bool,
        vote: Vote,
        previous: Option<LogId>,
        committed: Option<LogId>,
        entries: Vec<Entry>,
    },
    /// Whether the other would vote for a node whose log ends so.
    WouldVote { last: Option<LogId> },
    /// A campaign. When leadership was handed over, hearing from the leader is no reason to refuse.
    Vote { is_handed_over: bool, vote: Vote, last: Option<LogId> },
    /// The leader, whose log ends so, asks the other to campaign at once.
    Lead { last: Option<LogId> },
    /// Which entry a confirmed read has to wait for.
    Confirm(Asked),
    /// A state that begins to be sent, by its number among the sender's.
    Begin { transfer: u64, state: Applied },
    /// Its next chunk.
    Chunk { transfer: u64, number: u64, chunk: Vec<u8> },
    /// Its end.
    End { transfer: u64, vote: Vote },
}

/// An answer.
#[derive(Debug)]
pub(crate) enum Answer {
    /// To entries.
    Appended(AppendEntriesResponse<NodeId>),
    /// Whether it would vote, or will campaign.
    Would(bool),
    /// To a campaign.
    Voted { vote: Vote, is_granted: bool, last: Option<LogId> },
    /// The index of the entry to wait for; none when this node does not lead.
    Confirmed(Option<u64>),
    /// It, and that of the last one that no read does without, when that was asked for.
    ConfirmedBoth(Confirmed),
    /// A part of a state is taken.
    Taken,
    /// To the end of a state.
    Installed(Vote),
    /// Nothing was done.
    Refused(String),
}

fn put_optional_id(out: &mut Vec<u8>, id: Option<LogId>) {
    put_optional(out, id, put_log_id);
}

impl Message {
    pub(crate) fn spelled(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        match self {
            Self::Append { is_assured, vote, previous, committed, entries } => {
                out.reserve(128 + entries.iter().map(|entry| 4 + entry_bytes(entry)).sum::<usize>());
                out.extend_from_slice(&[1, u8::from(*is_assured)]);
                put_vote(&mut out, vote);
                put_optional_id(&mut out, *previous);
                put_optional_id(&mut out, *committed);
                put_u32(&mut out, entries.len());
                for entry in entries {
                    put_u64(&mut out, entry.log_id.index);
                    let at = out.len();
                    put_u32(&mut out, 0);
                    put_entry(&mut out, entry);
                    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
                    if let Some(place) = out.get_mut(at..at + 4) {
                        place.copy_from_slice(&length.to_le_bytes());
                    }
                }
            }
            Self::WouldVote { last } => {
                out.push(2);
                put_optional_id(&mut out, *last);
            }
            Self::Vote { is_handed_over, vote, last } => {
                out.extend_from_slice(&[3, u8::from(*is_handed_over)]);
                put_vote(&mut out, vote);
                put_optional_id(&mut out, *last);
            }
            Self::Lead { last } => {
                out.push(4);
                put_optional_id(&mut out, *last);
            }
            Self::Confirm(Asked::Index) => out.push(5),
            Self::Confirm(Asked::Both) => out.push(9),
            Self::Begin { transfer, state } => {
                out.push(6);
                put_u64(&mut out, *transfer);
                put_u64(&mut out, state.position.term);
                put_u64(&mut out, state.position.index);
                put_u64(&mut out, state.version.0);
                put_bytes(&mut out, &state.membership);
            }
            Self::Chunk { transfer, number, chunk } => {
                out.push(7);
                put_u64(&mut out, *transfer);
                put_u64(&mut out, *number);
                put_bytes(&mut out, chunk);
            }
            Self::End { transfer, vote } => {
                out.push(8);
                put_u64(&mut out, *transfer);
                put_vote(&mut out, vote);
            }
        }
        out
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.byte()? != FORMAT {
            return None;
        }
        let message = match reader.byte()? {
            1 => Self::Append {
                is_assured: reader.bool()?,
                vote: reader.vote()?,
                previous: reader.optional(Reader::log_id)?,
                committed: reader.optional(Reader::log_id)?,
                entries: reader.many(ENTRIES_MAX, |reader| {
                    let index = reader.counted()?;
                    Reader(reader.bytes()?).entry(index)
                })?,
            },
            2 => Self::WouldVote { last: reader.optional(Reader::log_id)? },
            3 => Self::Vote {
                is_handed_over: reader.bool()?,
                vote: reader.vote()?,
                last: reader.optional(Reader::log_id)?,
            },
            4 => Self::Lead { last: reader.optional(Reader::log_id)? },
            5 => Self::Confirm(Asked::Index),
            6 => Self::Begin {
                transfer: reader.u64()?,
                state: Applied {
                    position: Position { term: reader.counted()?, index: reader.counted()? },
                    version: Version(reader.u64()?),
                    membership: reader.bytes()?.to_vec(),
                },
            },
            7 => Self::Chunk { transfer: reader.u64()?, number: reader.u64()?, chunk: reader.bytes()?.to_vec() },
            8 => Self::End { transfer: reader.u64()?, vote: reader.vote()? },
            9 => Self::Confirm(Asked::Both),
            _ => return None,
        };
        reader.whole(message).filter(Self::is_in_order)
    }

    /// Whether entries follow each other and what is before them: the library takes that for granted.
    fn is_in_order(&self) -> bool {
        let Self::Append { vote, previous, entries, .. } = self else { return true };
        let mut last = *previous;
        let follow = entries.iter().all(|entry| {
            let follows = last.map_or(entry.log_id.index == 0, |last| {
                entry.log_id.index == last.index + 1 && entry.log_id.leader_id >= last.leader_id
            });
            last = Some(entry.log_id);
            follows
        });
        follow && vote.committed && vote.leader_id.voted_for.is_some()
    }
}

impl Answer {
    pub(crate) fn spelled(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Appended(AppendEntriesResponse::Success) => out.push(1),
            Self::Appended(AppendEntriesResponse::Conflict) => out.push(2),
            Self::Appended(AppendEntriesResponse::HigherVote(vote)) => {
                out.push(3);
                put_vote(&mut out, vote);
            }
            Self::Appended(AppendEntriesResponse::PartialSuccess(matching)) => {
                out.push(4);
                put_optional_id(&mut out, *matching);
            }
            Self::Would(would) => out.extend_from_slice(&[5, u8::from(*would)]),
            Self::Voted { vote, is_granted, last } => {
                out.extend_from_slice(&[6, u8::from(*is_granted)]);
                put_vote(&mut out, vote);
                put_optional_id(&mut out, *last);
            }
            Self::Confirmed(index) => {
                out.push(7);
                put_optional(&mut out, *index, put_u64);
            }
            Self::ConfirmedBoth(Confirmed { index, indispensable }) => {
                out.push(11);
                put_u64(&mut out, *index);
                put_u64(&mut out, *indispensable);
            }
            Self::Taken => out.push(8),
            Self::Installed(vote) => {
                out.push(9);
                put_vote(&mut out, vote);
            }
            Self::Refused(why) => {
                out.push(10);
                put_bytes(&mut out, why.as_bytes());
            }
        }
        out
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let answer = match reader.byte()? {
            1 => Self::Appended(AppendEntriesResponse::Success),
            2 => Self::Appended(AppendEntriesResponse::Conflict),
            3 => Self::Appended(AppendEntriesResponse::HigherVote(reader.vote()?)),
            4 => Self::Appended(AppendEntriesResponse::PartialSuccess(reader.optional(Reader::log_id)?)),
            5 => Self::Would(reader.bool()?),
            6 => {
                Self::Voted { is_granted: reader.bool()?, vote: reader.vote()?, last: reader.optional(Reader::log_id)? }
            }
            7 => Self::Confirmed(reader.optional(Reader::u64)?),
            8 => Self::Taken,
            9 => Self::Installed(reader.vote()?),
            10 => Self::Refused(String::from_utf8_lossy(reader.bytes()?).into_owned()),
            11 => Self::ConfirmedBoth(Confirmed { index: reader.u64()?, indispensable: reader.u64()? }),
            _ => return None,
        };
        reader.whole(answer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::sync::Arc;

    use openraft::EntryPayload;

    use super::*;
    use crate::types::{Proposal, log_id};

    fn vote() -> Vote {
        Vote::new_committed(5, NodeId(2))
    }

    #[test]
    fn messages_come_back_and_no_prefix_of_them_does() {
        let batch = tresor_storage::suite::batch(7, &[("a", Some(b"1")), ("b", None)]);
        let entry = |index, payload| Entry { log_id: log_id(3, index), payload };
        let entries = vec![
            entry(9, EntryPayload::Blank),
            entry(10, EntryPayload::Normal(Proposal::Batch(Arc::new(batch), crate::types::Proposer::default()))),
        ];
        let last = Some(log_id(3, 8));
        let state = Applied { position: Position { term: 1, index: 2 }, version: Version(3), membership: vec![1, 2] };
        for message in [
            Message::Append { is_assured: true, vote: vote(), previous: last, committed: None, entries },
            Message::WouldVote { last },
            Message::Vote { is_handed_over: true, vote: Vote::new(4, NodeId(1)), last: None },
            Message::Lead { last },
            Message::Confirm(Asked::Index),
            Message::Confirm(Asked::Both),
            Message::Begin { transfer: 4, state },
            Message::Chunk { transfer: 4, number: 1, chunk: vec![9; 9] },
            Message::End { transfer: 4, vote: vote() },
        ] {
            let bytes = message.spelled();
            assert_eq!(Message::read(&bytes).unwrap().spelled(), bytes, "{message:?}");
            assert!((0..bytes.len()).all(|length| Message::read(&bytes[..length]).is_none()), "{message:?}");
        }
    }

    #[test]
    fn what_is_confirmed_comes_back() {
        let both = Confirmed { index: 9, indispensable: 7 };
        for answer in [Answer::Confirmed(Some(9)), Answer::Confirmed(None), Answer::ConfirmedBoth(both)] {
            let bytes = answer.spelled();
            assert_eq!(Answer::read(&bytes).unwrap().spelled(), bytes, "{answer:?}");
            assert!((0..bytes.len()).all(|length| Answer::read(&bytes[..length]).is_none()), "{answer:?}");
        }
    }

    #[test]
    fn entries_that_leave_one_out_are_refused() {
        let entry = |index| Entry { log_id: log_id(3, index), payload: EntryPayload::Blank };
        let append = |previous, entries| {
            let message = Message::Append { is_assured: true, vote: vote(), previous, committed: None, entries };
            Message::read(&message.spelled()).is_some()
        };
        assert!(append(Some(log_id(3, 8)), vec![entry(9), entry(10)]));
        assert!(append(None, vec![entry(0)]));
        assert!(!append(None, vec![entry(1)]));
        assert!(!append(Some(log_id(3, 8)), vec![entry(10)]));
        assert!(!append(Some(log_id(3, 8)), vec![entry(9), entry(11)]));
        assert!(!append(Some(log_id(4, 8)), vec![entry(9)]));
        assert!(!append(Some(log_id(3, u64::MAX)), Vec::new()));
    }
}
