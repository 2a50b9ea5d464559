//! The table of who stands in for whom, and every statement about it.
//!
//! Row 0 is the lock: who has it, in which term, until when. Every other row is a process, with what it says of itself and when
//! it was heard. Every time is the database's. Taking the lock and making the store ours is one statement, so no process ever
//! has the one without the other. Deliberately absent: what a process says of itself, which is opaque here.

use crate::table::{CLAIM, ONE_AT_A_TIME, Table};

/// For how long a process that is not heard any more is remembered, in seconds.
const REMEMBERED: u32 = 60;

/// A lock, and the store that whoever has it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LockTable<'t> {
    pub(crate) lock: &'t Table,
    pub(crate) store: &'t Table,
}

impl LockTable<'_> {
    /// Makes what is missing; of several that do so at once, one after the other.
    pub(crate) fn making(&self) -> String {
        format!(
            "SELECT pg_advisory_xact_lock({ONE_AT_A_TIME}); \
             CREATE TABLE IF NOT EXISTS {lock} (id bigint PRIMARY KEY, holder bigint NOT NULL, term bigint NOT NULL, \
             until timestamptz NOT NULL, contact bytea NOT NULL)",
            lock = self.lock.data(),
        )
    }

    /// Whether it is there.
    pub(crate) fn is_there(&self) -> String {
        format!("SELECT to_regclass('{}') IS NOT NULL", self.lock.data())
    }

    /// Writes the lock that nobody has, where there is none. Its term goes on from how often the store was taken, so that one
    /// that was lost gives no term twice.
    pub(crate) fn beginning(&self) -> String {
        format!(
            "INSERT INTO {} (id, holder, term, until, contact) SELECT 0, 0, epoch, '-infinity', '' FROM {} WHERE id = 1 \
             ON CONFLICT (id) DO NOTHING",
            self.lock.data(),
            self.store.state()
        )
    }

    /// Keeps out a server that wants the store to itself, until the session ends; false when there is one.
    pub(crate) fn sharing(&self) -> String {
        self.store.locking().replace("pg_try_advisory_lock(", "pg_try_advisory_lock_shared(")
    }

    /// Says that a process is there, and keeps the lock where it has it. `$1` who, `$2` what it says of itself, `$3` its term,
    /// `$4` for how many milliseconds it is kept.
    ///
    /// What was kept is in the last column; what is shown of the lock is of before.
    pub(crate) fn announcing(&self) -> String {
        format!(
            "WITH kept AS (UPDATE {lock} SET until = {until} WHERE id = 0 AND holder = $1::bigint AND term = $3::bigint \
             RETURNING id), \
             me AS (INSERT INTO {lock} (id, holder, term, until, contact) \
             VALUES ($1::bigint, 0, 0, clock_timestamp(), $2::bytea) \
             ON CONFLICT (id) DO UPDATE SET until = excluded.until, contact = excluded.contact) \
             {looking}",
            lock = self.lock.data(),
            until = until("$4"),
            looking = self.looking("(SELECT count(*) FROM kept)"),
        )
    }

    /// Looks, and says that a process (`$1`) is not there any more.
    pub(crate) fn parting(&self) -> String {
        format!(
            "WITH gone AS (DELETE FROM {} WHERE id = $1::bigint AND id <> 0) {}",
            self.lock.data(),
            self.looking("0::bigint")
        )
    }

    fn looking(&self, kept: &str) -> String {
        format!(
            "SELECT id, holder, term, contact, (extract(epoch FROM greatest(until, clock_timestamp() - interval '1 day') \
             - clock_timestamp()) * 1000)::bigint, {kept} FROM {} \
             WHERE id = 0 OR until > clock_timestamp() - interval '{REMEMBERED} seconds'",
            self.lock.data()
        )
    }

    /// Takes the lock if nobody has it, and the store with it. `$1` who, `$2` for how many milliseconds.
    ///
    /// Of two that try, the second waits for the first, and finds that somebody has it.
    pub(crate) fn taking(&self) -> String {
        format!(
            "WITH taken AS (UPDATE {lock} SET holder = $1::bigint, term = term + 1, until = {until} WHERE id = 0 AND \
             (until < clock_timestamp() OR holder = $1::bigint) RETURNING term) \
             UPDATE {store} AS s SET owner = $1::bigint, epoch = s.epoch + 1 FROM taken WHERE s.id = 1 \
             RETURNING {claim}, taken.term",
            lock = self.lock.data(),
            until = until("$2"),
            store = self.store.state(),
            claim = CLAIM.split(", ").map(|name| format!("s.{name}")).collect::<Vec<_>>().join(", "),
        )
    }

    /// Gives the lock back. `$1` who, `$2` its term.
    pub(crate) fn giving_back(&self) -> String {
        format!(
            "UPDATE {} SET holder = 0, until = '-infinity' WHERE id = 0 AND holder = $1::bigint AND term = $2::bigint",
            self.lock.data()
        )
    }

    /// Deletes processes that are forgotten.
    pub(crate) fn forgetting(&self) -> String {
        format!(
            "DELETE FROM {} WHERE id <> 0 AND until < clock_timestamp() - interval '{REMEMBERED} seconds'",
            self.lock.data()
        )
    }
}

fn until(milliseconds: &str) -> String {
    format!("clock_timestamp() + {milliseconds}::bigint * interval '1 millisecond'")
}
