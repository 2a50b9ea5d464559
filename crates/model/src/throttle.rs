//! What quotas on rates say of a request before it is read.
//!
//! Deliberately absent: which quota said so, and how answers show it.

use crate::fault::Refusal;

/// How much of a request is known to who asks quotas about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Its path and its client.
    Head,
    /// What it says, too, as far as it could be read.
    Body,
}

/// What quotas on rates say of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// Why it is refused.
    pub refusal: Option<Refusal>,
    /// Whether nothing is said before its body is known: a quota on roles may be about it.
    pub awaits_body: bool,
    /// Whether a refusal leaves an audit record.
    pub is_recorded: bool,
    /// How many requests there may be in an interval, where answers show it.
    pub limit: Option<u64>,
    /// How many more there may be in this one.
    pub remaining: u64,
    /// How many seconds it takes until there may be more.
    pub seconds_until_more: u64,
}
