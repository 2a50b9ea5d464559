//! Why a record was not taken, or a device not enabled.
//!
//! Texts name no path of the server's file system (PLG-03). Deliberately absent: an error for a device that fails
//! later: that is a matter of [`crate::Standing`], not of any request.

use std::borrow::Cow;

use tresor_model::fault::{Failure, Side};
use tresor_model::{Fault, Refusal};

use crate::witness::Audited;

/// Why a record was not taken, or a device not enabled.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditError {
    /// The local log could not be written: the request must not go on (DR-19). Ours to mend.
    #[error("audit log unavailable: {0}")]
    LogUnavailable(Cow<'static, str>),
    /// The local log is closed, because the node is being sealed: the request came too late.
    #[error("audit log is closed")]
    Closed,
    /// The devices are so far behind that the backlog's bound is reached: the request must not go on. Ours to mend.
    #[error("audit backlog is full: devices do not keep up")]
    BacklogFull,
    /// A device that requests wait for does not take their records: the request must not go on. The operator's to mend.
    #[error("an audit device with `require_delivery` does not take its records")]
    Undelivered,
    /// A record of the local log is not what was written there. The operator's to judge.
    #[error("audit log segment `{segment}` is damaged at offset {offset}")]
    Damaged {
        /// The name of the segment's file.
        segment: String,
        /// Where the damaged frame starts, in bytes.
        offset: u64,
    },
    /// An option of a device makes no sense or is not allowed. The caller's to mend.
    #[error("{0}")]
    InvalidOption(Cow<'static, str>),
    /// A device of that path is enabled already. The caller's to mend.
    #[error("path already in use")]
    PathInUse,
    /// No device of that path is enabled. The caller's to mend.
    #[error("unknown audit backend")]
    UnknownDevice,
}

impl AuditError {
    /// An option that makes no sense.
    pub(crate) fn option(text: impl Into<Cow<'static, str>>) -> Self {
        Self::InvalidOption(text.into())
    }
}

impl From<AuditError> for Fault {
    /// What the caller may mend is a refusal, and so is what came too late; everything else is our failure (500), its
    /// cause for the log.
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::InvalidOption(_) | AuditError::PathInUse | AuditError::UnknownDevice => {
                Self::Refusal(Refusal::Invalid(error.to_string().into()))
            }
            AuditError::Closed => Refusal::Sealed.into(),
            AuditError::LogUnavailable(_)
            | AuditError::BacklogFull
            | AuditError::Undelivered
            | AuditError::Damaged { .. } => {
                let public = match error {
                    AuditError::BacklogFull => "audit backlog is full: devices do not keep up",
                    AuditError::Undelivered => "an audit device with `require_delivery` does not take its records",
                    _ => "the request cannot be recorded in the audit log",
                };
                Self::Failure(Failure { cause: error.into(), side: Side::Ours, public: Some(public.into()) })
            }
        }
    }
}

/// An answer whose record was not taken: it must not leave, but a fixed refusal may.
pub struct Unrecorded<T> {
    /// The answer.
    pub value: T,
    /// Why.
    pub error: AuditError,
}

impl<T> Unrecorded<T> {
    /// Drops the answer; what leaves instead tells nothing but that something failed on our side.
    pub fn refuse(self) -> Audited<Fault> {
        Audited::witness(Fault::from(self.error))
    }
}

impl<T> Unrecorded<Result<T, Fault>> {
    /// As [`Unrecorded::refuse`], in the shape of an outcome.
    pub fn refuse_outcome(self) -> Audited<Result<T, Fault>> {
        Audited::witness(Err(Fault::from(self.error)))
    }
}

impl<T> std::fmt::Debug for Unrecorded<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unrecorded").field("error", &self.error).finish_non_exhaustive()
    }
}
