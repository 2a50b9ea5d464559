//! The witness that an answer was audited: the only thing that the HTTP encoder accepts.
//!
//! Invariant: made in this crate alone, by [`crate::Broker::record_response`], by the fixed refusal of an answer that
//! could not be recorded, and by the greppable [`Audited::exempt`]. Deliberately absent: `map`, which could put
//! another answer in the place of the recorded one.

/// An answer that may leave the server.
///
/// ```
/// use tresor_audit::{Audited, Exempt};
/// let _ = Audited::exempt("healthy", Exempt::UnauditedRoute);
/// ```
///
/// It cannot be made outside, nor can another answer be put in its place:
///
/// ```compile_fail,E0423
/// use tresor_audit::{Audited, Exempt};
/// let _ = Audited("never recorded");
/// ```
///
/// ```compile_fail,E0616
/// use tresor_audit::{Audited, Exempt};
/// let mut answer = Audited::exempt("healthy", Exempt::UnauditedRoute);
/// answer.0 = "never recorded";
/// ```
pub struct Audited<T>(T);

/// Why an answer needs no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exempt {
    /// Its route is on the golden list of unaudited routes (`sys/seal-status` and its kin).
    UnauditedRoute,
    /// The request was malformed and refused before it entered the pipeline, so nothing is known to record.
    NeverAdmitted,
    /// It did not run on this node: the one that it ran on has recorded it, or it ran nowhere.
    RanElsewhere,
}

impl<T> Audited<T> {
    pub(crate) const fn witness(value: T) -> Self {
        Self(value)
    }

    /// An answer that needs no record, for one of the reasons that there are.
    #[must_use]
    pub const fn exempt(value: T, reason: Exempt) -> Self {
        match reason {
            Exempt::UnauditedRoute | Exempt::NeverAdmitted | Exempt::RanElsewhere => Self(value),
        }
    }

    /// The answer.
    #[must_use]
    pub const fn value(&self) -> &T {
        &self.0
    }

    /// The answer, to be encoded.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0
    }
}
