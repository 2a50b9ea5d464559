//! What can go wrong between this process and the server, and what it means to whoever asked.
//!
//! Deliberately absent: any value that was sent. What the server says of a row that it refuses (its detail) is not shown.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use tresor_postgresql::{NotLetIn, ends_connection, with_causes};
use tresor_storage::StoreError;

/// Why something was not done, or not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The connection broke, or the server does not answer: what was asked may have been done.
    Broken(String),
    /// The server is not reached: nothing was asked.
    Unreachable(String),
    /// The server says no: nothing was done.
    Refused(String),
    /// Its disk is full: nothing was done.
    Full,
    /// The store is another process's.
    Taken,
    /// Others share the store by another lock: two that believe that they write would take it from each other.
    Fenced,
    /// What lies there is none of ours.
    Damaged(String),
}

const FENCED: &str = "other servers share it by another `ha_table`, which is to be the same in all of them";

impl Trouble {
    /// What the driver says.
    pub(crate) fn of(error: &Error) -> Self {
        match error.as_db_error() {
            Some(refusal) if ends_connection(refusal.code()) => Self::Broken(refusal.message().to_owned()),
            Some(refusal) if *refusal.code() == SqlState::DISK_FULL => Self::Full,
            Some(refusal) => Self::Refused(refusal.message().to_owned()),
            None => Self::Broken(with_causes(error)),
        }
    }

    pub(crate) fn late() -> Self {
        Self::Broken("it does not answer".to_owned())
    }

    /// As an error of the store, when nothing was done.
    pub(crate) fn of_store(self, name: &str) -> StoreError {
        let name = name.to_owned();
        match self {
            Self::Broken(why) | Self::Unreachable(why) | Self::Refused(why) => StoreError::Unreachable { name, why },
            Self::Full => StoreError::NoSpace { name },
            Self::Taken => StoreError::Taken { name },
            Self::Fenced => StoreError::Unreachable { name, why: FENCED.to_owned() },
            Self::Damaged(what) => StoreError::Damaged { name, what },
        }
    }
}

impl From<NotLetIn> for Trouble {
    fn from(why: NotLetIn) -> Self {
        Self::Unreachable(why.to_string())
    }
}
