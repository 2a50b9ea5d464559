//! The store in a table of PostgreSQL: a batch is one statement, fenced by who writes and by the store's version.
//!
//! One process writes at a time. A session holds a lock, so that a second server refuses to start; and every statement that
//! writes or reads also looks at the row that says whose the store is, so that a process which lost the lock, or a
//! statement that hung, changes nothing and shows nothing. Values that are overwritten stay in memory as long as a snapshot
//! needs them. Where several processes share the store, a row with an end says which one writes ([`Lock`]); what keeps data
//! whole is the same fence, not that row or any clock. Deliberately absent: how processes talk to each other, and everything
//! that is known of what is stored.

mod aftermath;
mod export;
mod history;
mod install;
mod keeper;
mod lane;
mod link;
mod lock;
mod lock_table;
mod pin;
mod readers;
mod rounds;
mod settings;
mod standing;
mod store;
mod table;
mod trouble;
mod writer;

pub use lock::{Lock, Part, Process, Seen};
pub use settings::Settings;
pub use store::{PostgresStore, Probed};
pub use table::{Table, WrongTable};
