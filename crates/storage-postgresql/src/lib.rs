//! The store in a table of PostgreSQL: a batch is one statement, fenced by who writes and by the store's version.
//!
//! One process writes at a time. A session holds a lock, so that a second server refuses to start; and every statement that
//! writes or reads also looks at the row that says whose the store is, so that a process which lost the lock, or a
//! statement that hung, changes nothing and shows nothing. Values that are overwritten stay in memory as long as a snapshot
//! needs them. Deliberately absent: several nodes that share a table (`ha_enabled`), and everything that is known of what is
//! stored.

mod export;
mod history;
mod install;
mod keeper;
mod lane;
mod link;
mod readers;
mod settings;
mod store;
mod table;
mod trouble;
mod writer;

pub use settings::Settings;
pub use store::{PostgresStore, Probed};
pub use table::{Table, WrongTable};
