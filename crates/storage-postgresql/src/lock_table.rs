//! The table of who stands in for whom, and every statement about it.
//!
//! Row 0 is the lock: who has it, in which term, until when. Every other row is a process, with what it says of itself and when
//! it was heard. Every time is the database's. Taking the lock and making the store ours is one statement, so no process ever
//! has the one without the other. That a process is there its session says, by a lock of PostgreSQL's own that ends with it.
//! Deliberately absent: what a process says of itself, which is opaque here.

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

    /// Says, until the session ends, that a process is there, and by which lock it shares the store. In the transaction in which is
    /// asked whether [others](Self::others) do by another one.
    pub(crate) fn marking(&self, process: i64) -> String {
        format!(
            "SELECT pg_advisory_xact_lock({ONE_AT_A_TIME}); SELECT pg_advisory_lock_shared('{process}'::bigint); \
             SELECT pg_advisory_lock_shared({store}, {lock})",
            store = signed(&number(&self.store.state())),
            lock = signed(&number(&self.lock.data())),
        )
    }

    /// Whether others share the store by another lock, as a word: then two could believe that they write.
    pub(crate) fn others(&self) -> String {
        format!(
            "SELECT EXISTS (SELECT 1 FROM {HELD} AND l.objsubid = 2 AND l.classid::bigint = {store} \
             AND l.objid::bigint <> {lock})::text",
            store = number(&self.store.state()),
            lock = number(&self.lock.data()),
        )
    }

    /// Says that a process is there, and keeps the lock where it has it. `$1` who, `$2` what it says of itself, `$3` its term,
    /// `$4` for how many milliseconds it is kept.
    ///
    /// It is not kept for a process whose store was taken from it. Whether it was kept is in the last column but one; what is shown
    /// of the lock is of before.
    pub(crate) fn announcing(&self) -> String {
        format!(
            "WITH kept AS (UPDATE {lock} SET until = {until} WHERE id = 0 AND holder = $1::bigint AND term = $3::bigint \
             AND EXISTS (SELECT 1 FROM {store} WHERE id = 1 AND owner = $1::bigint) RETURNING id), \
             me AS (INSERT INTO {lock} (id, holder, term, until, contact) \
             VALUES ($1::bigint, 0, 0, clock_timestamp(), $2::bytea) \
             ON CONFLICT (id) DO UPDATE SET until = excluded.until, contact = excluded.contact) \
             {looking}",
            lock = self.lock.data(),
            store = self.store.state(),
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
             - clock_timestamp()) * 1000)::bigint, {kept}, CASE WHEN id = 0 THEN {is_there} ELSE true END FROM {} \
             WHERE id = 0 OR until > clock_timestamp() - interval '{REMEMBERED} seconds'",
            self.lock.data(),
            is_there = is_there("holder"),
        )
    }

    /// Takes the lock if nobody has it, and the store with it. `$1` who, `$2` for how many milliseconds, `$3` whoever is taken for
    /// gone: it loses the lock before its end, if it is not there at the moment.
    ///
    /// Of two that try, the second waits for the first, and finds that somebody has it.
    pub(crate) fn taking(&self) -> String {
        format!(
            "WITH taken AS (UPDATE {lock} SET holder = $1::bigint, term = term + 1, until = {until} WHERE id = 0 AND \
             (until < clock_timestamp() OR holder = $1::bigint OR (holder = $3::bigint AND NOT {is_there})) RETURNING term) \
             UPDATE {store} AS s SET owner = $1::bigint, epoch = s.epoch + 1 FROM taken WHERE s.id = 1 \
             RETURNING {claim}, taken.term",
            lock = self.lock.data(),
            until = until("$2"),
            is_there = is_there("$3::bigint"),
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

/// The locks that sessions have in this database.
const HELD: &str = "pg_locks l JOIN pg_database d ON d.oid = l.database WHERE l.locktype = 'advisory' AND l.granted \
                    AND d.datname = current_database()";

/// Whether a session marks a process as there.
fn is_there(process: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM {HELD} AND l.objsubid = 1 AND l.classid::bigint = (({process} >> 32) & 4294967295) \
         AND l.objid::bigint = ({process} & 4294967295))"
    )
}

/// The number of a table.
fn number(table: &str) -> String {
    format!("'{table}'::regclass::oid::bigint")
}

/// A number of 32 bits as half of a lock's name.
fn signed(number: &str) -> String {
    format!("(({number} + 2147483648) % 4294967296 - 2147483648)::integer")
}

fn until(milliseconds: &str) -> String {
    format!("clock_timestamp() + {milliseconds}::bigint * interval '1 millisecond'")
}
