//! What quotas on rates say of a request before it is read.
//!
//! Deliberately absent: which quota said so, and how answers show it.

use crate::fault::Refusal;

/// What quotas on rates say of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// Why it is refused.
    pub refusal: Option<Refusal>,
    /// Whether a refusal leaves an audit record.
    pub is_recorded: bool,
    /// How many requests there may be in an interval, where answers show it.
    pub limit: Option<u64>,
    /// How many more there may be in this one.
    pub remaining: u64,
    /// How many seconds it takes until there may be more.
    pub seconds_until_more: u64,
}
