//! Where a route answers: in which namespaces, and on which node of a cluster.
//!
//! Deliberately absent: who may call it, which is the route's own.

use crate::route::Effect;

/// In which namespaces a route answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswersIn {
    /// In every one.
    Every,
    /// In the root namespace and in those with a seal of their own: it is about the keys of either.
    Sealable,
    /// In the root namespace and in the one that the configuration names as administrative: it is about the whole server,
    /// and may be left to others.
    Administration,
    /// In the root namespace: it is about the whole server.
    Root,
}

/// On which node of a cluster an operation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On any that has everything that was acknowledged.
    Any,
    /// On the one that was asked: it is about that one.
    Asked,
    /// On the one that leads.
    Leader,
}

impl Place {
    /// What follows from the effect, when nothing else is said.
    pub(crate) const fn of(effect: Effect) -> Self {
        match effect {
            Effect::Reads => Self::Any,
            Effect::Writes => Self::Leader,
        }
    }
}
