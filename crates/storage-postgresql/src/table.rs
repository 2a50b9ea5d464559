//! The names of the tables, and every statement about them.
//!
//! `TABLE` has a row per value: generation, key, the version that wrote it, the value. `TABLE_state` has one row: the format,
//! whose the store is, how often that process connected, the generation that counts, and the store's version. A state
//! that is taken over is another generation. Deliberately absent: text of anybody else in a statement but the names.

use std::fmt;

/// The format of what lies in the tables.
pub(crate) const FORMAT: i32 = 1;
/// Whoever makes tables holds this lock: PostgreSQL refuses one of two that make the same one at once.
pub(crate) const ONE_AT_A_TIME: i64 = 1_414_681_426;
/// The longest name of a table of which another is made.
const NAME_BYTES_MAX: usize = 57;

/// The name of a table, perhaps with that of its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    schema: Option<String>,
    name: String,
}

/// A name that no table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a table is named by `NAME` or `SCHEMA.NAME`, each of 1 to 57 letters, digits and underscores")]
pub struct WrongTable;

impl Table {
    /// Reads `NAME` or `SCHEMA.NAME`.
    ///
    /// # Errors
    /// [`WrongTable`].
    pub fn parse(text: &str) -> Result<Self, WrongTable> {
        let (schema, name) = match text.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, text),
        };
        let is_name = |name: &str| {
            (1..=NAME_BYTES_MAX).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if !is_name(name) || schema.is_some_and(|schema| !is_name(schema)) {
            return Err(WrongTable);
        }
        Ok(Self { schema: schema.map(str::to_owned), name: name.to_owned() })
    }

    fn quoted(&self, suffix: &str) -> String {
        let schema = self.schema.as_ref().map(|schema| format!("\"{schema}\".")).unwrap_or_default();
        format!("{schema}\"{}{suffix}\"", self.name)
    }

    /// Values.
    pub(crate) fn data(&self) -> String {
        self.quoted("")
    }

    /// The one row.
    pub(crate) fn state(&self) -> String {
        self.quoted("_state")
    }

    /// Makes what is missing; of several that do so at once, one after the other. Values are sealed and do not shrink, so nothing
    /// is lost with the time that compressing takes.
    pub(crate) fn making(&self) -> String {
        format!(
            "SELECT pg_advisory_xact_lock({ONE_AT_A_TIME}); \
             CREATE TABLE IF NOT EXISTS {data} (generation bigint NOT NULL, key bytea NOT NULL, version bigint NOT NULL, \
             value bytea NOT NULL, PRIMARY KEY (generation, key)); \
             ALTER TABLE {data} ALTER COLUMN value SET STORAGE EXTERNAL; \
             CREATE TABLE IF NOT EXISTS {state} (id smallint PRIMARY KEY CHECK (id = 1), format integer NOT NULL, \
             owner bigint NOT NULL, epoch bigint NOT NULL, generation bigint NOT NULL, version bigint NOT NULL)",
            data = self.data(),
            state = self.state(),
        )
    }

    /// Whether both tables are there.
    pub(crate) fn are_there(&self) -> String {
        let literal = |quoted: String| format!("'{quoted}'");
        format!(
            "SELECT to_regclass({}) IS NOT NULL AND to_regclass({}) IS NOT NULL",
            literal(self.data()),
            literal(self.state())
        )
    }

    /// Writes the first state, where there is neither one nor any value; whether it did.
    pub(crate) fn beginning(&self) -> String {
        format!(
            "INSERT INTO {} (id, format, owner, epoch, generation, version) SELECT 1, {FORMAT}, 0, 0, 1, 0 \
             WHERE NOT EXISTS (SELECT 1 FROM {}) ON CONFLICT (id) DO NOTHING",
            self.state(),
            self.data(),
        )
    }

    /// Whether there is a value of the state that counts.
    pub(crate) fn has_values(&self) -> String {
        format!(
            "SELECT EXISTS (SELECT 1 FROM {} t JOIN {} s ON t.generation = s.generation)",
            self.data(),
            self.state()
        )
    }

    /// Takes the lock that a second process does not get, until the session ends.
    pub(crate) fn locking(&self) -> String {
        // The front is `TRSR`, the rest the number of the table.
        format!("SELECT pg_try_advisory_lock((1414681426::bigint << 32) | '{}'::regclass::oid::bigint)", self.state())
    }

    /// Whether a session has that lock, as a word: `true`, or `false` also where there is no table yet.
    pub(crate) fn is_locked(&self) -> String {
        format!(
            "SELECT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE l.locktype = 'advisory' \
             AND d.datname = current_database() AND l.classid = 1414681426 AND l.objid = to_regclass('{}')::oid \
             AND l.objsubid = 1 AND l.granted)::text",
            self.state()
        )
    }

    /// Makes the store ours: `$1` is whose it is from now on.
    pub(crate) fn taking(&self) -> String {
        format!("UPDATE {} SET owner = $1, epoch = epoch + 1 WHERE id = 1 RETURNING {CLAIM}", self.state())
    }

    /// Goes on with the store if it is ours: whatever was sent before does nothing from now on.
    pub(crate) fn going_on(&self) -> String {
        format!("UPDATE {} SET epoch = epoch + 1 WHERE id = 1 AND owner = $1 RETURNING {CLAIM}", self.state())
    }

    /// What the one row says; refused where values could not be read.
    pub(crate) fn looking(&self) -> String {
        format!(
            "SELECT {CLAIM}, owner FROM {} WHERE id = 1 AND (SELECT true FROM {} LIMIT 1) IS NOT false",
            self.state(),
            self.data()
        )
    }

    /// A batch, and what it overwrites. `$1` owner, `$2` epoch, `$3` version, `$4` keys and `$5` values to be written, `$6`
    /// keys to be deleted.
    ///
    /// All parts see what was there before, and what writes does nothing unless the fence lets it.
    pub(crate) fn writing(&self) -> String {
        format!(
            "WITH fence AS (UPDATE {state} SET version = $3::bigint WHERE id = 1 AND owner = $1::bigint \
             AND epoch = $2::bigint AND version = $3::bigint - 1 RETURNING generation), \
             old AS (SELECT t.key, t.version, t.value FROM {state} s JOIN {data} t ON t.generation = s.generation \
             WHERE s.id = 1 AND t.key = ANY($4::bytea[] || $6::bytea[])), \
             put AS (INSERT INTO {data} (generation, key, version, value) \
             SELECT fence.generation, u.key, $3::bigint, u.value \
             FROM fence, unnest($4::bytea[], $5::bytea[]) AS u(key, value) \
             ON CONFLICT (generation, key) DO UPDATE SET version = excluded.version, value = excluded.value), \
             gone AS (DELETE FROM {data} t USING fence WHERE t.generation = fence.generation AND t.key = ANY($6::bytea[])) \
             SELECT (SELECT count(*) FROM fence), old.key, old.version, old.value \
             FROM (VALUES (1)) AS one LEFT JOIN old ON true",
            state = self.state(),
            data = self.data(),
        )
    }

    /// Lets another generation count. `$1` owner, `$2` epoch, `$3` version before, `$4` version after, `$5` generation.
    pub(crate) fn switching(&self) -> String {
        format!(
            "UPDATE {} SET version = $4, generation = $5 WHERE id = 1 AND owner = $1 AND epoch = $2 AND version = $3",
            self.state()
        )
    }

    /// A value, with whose the store is and how far it is. `$1` key, `$2` generation.
    pub(crate) fn finding(&self) -> String {
        self.about("t.value")
    }

    /// The same without the value.
    pub(crate) fn dating(&self) -> String {
        self.about("NULL::bytea")
    }

    fn about(&self, value: &str) -> String {
        format!(
            "SELECT s.owner, s.version, t.version, {value} FROM {} s LEFT JOIN {} t ON t.generation = $2 AND t.key = $1 \
             WHERE s.id = 1",
            self.state(),
            self.data(),
        )
    }

    /// The next values of a generation in the order of their keys, some MiB of them. `$1` generation, `$2` the last key.
    pub(crate) fn paging(&self) -> String {
        format!(
            "SELECT key, version, value FROM (SELECT key, version, value, octet_length(value) AS bytes, \
             sum(octet_length(value)) OVER (ORDER BY key) AS so_far FROM (SELECT key, version, value FROM {} \
             WHERE generation = $1 AND key > $2 ORDER BY key LIMIT 500) AS page) AS sized \
             WHERE so_far - bytes < 2097152 ORDER BY key",
            self.data()
        )
    }

    /// Values of a generation that does not count yet. `$1` owner, `$2` generation, `$3` keys, `$4` versions, `$5` values.
    pub(crate) fn bringing(&self) -> String {
        format!(
            "INSERT INTO {} (generation, key, version, value) SELECT $2::bigint, u.key, u.version, u.value \
             FROM {} s, unnest($3::bytea[], $4::bigint[], $5::bytea[]) AS u(key, version, value) \
             WHERE s.id = 1 AND s.owner = $1::bigint",
            self.data(),
            self.state(),
        )
    }

    /// One generation besides the one that counts and those among `$1`.
    pub(crate) fn straying(&self) -> String {
        format!(
            "SELECT generation FROM (\
             (SELECT generation FROM {data} WHERE generation < ({now}) AND generation <> ALL($1::bigint[]) LIMIT 1) UNION ALL \
             (SELECT generation FROM {data} WHERE generation > ({now}) AND generation <> ALL($1::bigint[]) LIMIT 1)) AS found",
            now = format_args!("SELECT generation FROM {} WHERE id = 1", self.state()),
            data = self.data(),
        )
    }

    /// Deletes some values of a generation (`$2`) that does not count, while the store is ours (`$1`).
    pub(crate) fn clearing(&self) -> String {
        format!(
            "DELETE FROM {data} WHERE (generation, key) IN (SELECT t.generation, t.key FROM {data} t \
             WHERE t.generation = $2::bigint LIMIT 1000) AND EXISTS \
             (SELECT 1 FROM {state} WHERE id = 1 AND owner = $1::bigint AND generation <> $2::bigint)",
            data = self.data(),
            state = self.state(),
        )
    }
}

/// What the one row says of a store.
pub(crate) const CLAIM: &str = "format, epoch, generation, version";

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        for (text, quoted) in [("a", "\"a_state\""), ("My.Table_1", "\"My\".\"Table_1_state\"")] {
            let table = Table::parse(text).map(|table| (table.state(), table.to_string()));
            assert_eq!(table, Ok((quoted.to_owned(), text.to_owned())));
        }
        for wrong in ["", ".", "a.", "a.b.c", "a\"b", "a'b", "a b", "a;", &"x".repeat(58)] {
            assert_eq!(Table::parse(wrong), Err(WrongTable), "{wrong}");
        }
    }
}
