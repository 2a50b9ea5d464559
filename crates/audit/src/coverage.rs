//! Which device takes which records: all of them, those that a filter lets through, or those that no other one takes.
//!
//! Invariant: with a fallback device no record falls through. What another one takes is said for a stretch of the log each:
//! from where it began to be told of records (after a restart: from where it goes on) to where it was let go of. So what
//! lies outside is the fallback's as well, rather twice than never. Deliberately absent: whether a device that is to take
//! a record takes it soon; it is there until it does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::entry::RequestFacts;
use crate::expression::{Expression, Found, OF_A_REQUEST, Selector};

/// How many stretches are remembered of devices that are gone.
const ENDED_MAX: usize = 256;

/// Which records a device takes.
#[derive(Clone)]
pub(crate) enum Takes {
    All,
    Matching(Arc<Expression>),
    /// What no other device takes.
    Rest,
}

impl Takes {
    /// Reads the option `filter`.
    pub(crate) fn filter(text: &str) -> Result<Self, impl std::fmt::Display + use<>> {
        Expression::parse(text, OF_A_REQUEST).map(|filter| Self::Matching(Arc::new(filter)))
    }

    /// Whether it takes what is said of this request, where that follows from the request alone.
    fn takes(&self, facts: &RequestFacts<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Rest => false,
            Self::Matching(filter) => filter.holds(&|selector| {
                let Selector::Property(property) = selector else { return Found::NOTHING };
                Found::Text(match *property {
                    "mount_point" => facts.mount.point.as_str().into(),
                    "mount_type" => facts.mount.kind.as_str().into(),
                    "namespace" => facts.namespace.path.as_str().into(),
                    "operation" => facts.operation.name().into(),
                    "path" => facts.path.as_str().into(),
                    _ => return Found::NOTHING,
                })
            }),
        }
    }
}

/// A stretch of the log of which one device takes its records.
struct Stretch {
    device: String,
    takes: Takes,
    from: u64,
    until: Option<u64>,
}

/// What all devices take.
#[derive(Default)]
pub(crate) struct Coverage(Mutex<Vec<Stretch>>);

impl Coverage {
    fn stretches(&self) -> MutexGuard<'_, Vec<Stretch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device is told of records from here on.
    pub(crate) fn begins(&self, device: &str, takes: Takes, from: u64) {
        self.stretches().push(Stretch { device: device.to_owned(), takes, from, until: None });
    }

    /// A device is told of no records from here on, or of none from an earlier place on than was said before.
    pub(crate) fn ends(&self, device: &str, until: u64) {
        let mut stretches = self.stretches();
        for stretch in stretches.iter_mut().filter(|stretch| stretch.device == device) {
            stretch.until = Some(stretch.until.map_or(until, |known| known.min(until)));
        }
        let ended = stretches.iter().filter(|stretch| stretch.until.is_some()).count();
        let mut forgotten = ended.saturating_sub(ENDED_MAX);
        stretches.retain(|stretch| {
            let goes = stretch.until.is_some() && forgotten > 0;
            forgotten -= usize::from(goes);
            !goes
        });
    }

    /// Whether the record of this place, which says this of its request, is one for a device that takes these.
    pub(crate) fn is_for(&self, takes: &Takes, sequence: u64, facts: &RequestFacts<'_>) -> bool {
        match takes {
            Takes::Rest => !self.stretches().iter().any(|stretch| {
                stretch.from <= sequence
                    && stretch.until.is_none_or(|until| sequence < until)
                    && stretch.takes.takes(facts)
            }),
            takes => takes.takes(facts),
        }
    }

    /// Whether there are records that no device takes: all have filters, and none takes the rest.
    pub(crate) fn may_miss(&self) -> bool {
        let stretches = self.stretches();
        let mut told = stretches.iter().filter(|stretch| stretch.until.is_none()).peekable();
        told.peek().is_some() && told.all(|stretch| matches!(stretch.takes, Takes::Matching(_)))
    }

    /// Whether no device takes what is recorded of this request now.
    pub(crate) fn misses(&self, facts: &RequestFacts<'_>) -> bool {
        let stretches = self.stretches();
        let mut told = stretches.iter().filter(|stretch| stretch.until.is_none());
        !told.any(|stretch| stretch.takes.takes(facts))
    }
}
