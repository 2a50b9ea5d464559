//! The process and the machine around a node, as endpoints show them: a door of the assembly.
//!
//! Deliberately absent: anything that a request depends on. A node in a test has none of it ([`Nowhere`]).

use std::collections::BTreeMap;

use tresor_model::{ByteStream, Map};

/// What the process is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runtime {
    /// How much of its memory is in the machine's.
    pub resident_bytes: u64,
    /// How many tasks there are.
    pub tasks: u64,
    /// How many threads run tasks.
    pub threads: u64,
}

/// Why the log was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogChangeError {
    /// There is no such level.
    #[error("invalid level provided: unknown log level")]
    NoSuchLevel,
    /// There is no such logger.
    #[error("logger not found")]
    NoSuchLogger,
    /// There is no such format of lines.
    #[error("invalid log_format: `standard` or `json`")]
    NoSuchFormat,
    /// As many watch the log as may.
    #[error("too many watch the log already")]
    TooMany,
    /// The log is nowhere that it could be watched.
    #[error("the log cannot be watched here")]
    NotWatched,
}

/// The process and the machine around a node.
pub trait Process: Send + Sync {
    /// The machine, as far as the process may look at it.
    fn host(&self) -> Map;
    /// The configuration, without what is secret in it.
    fn configuration(&self) -> Map;
    /// What the process is like.
    fn runtime(&self) -> Runtime;
    /// The parts that log, and the level of each.
    fn log_levels(&self) -> BTreeMap<String, String>;
    /// Changes the level of one part, or of all; without a level, to what is configured.
    ///
    /// # Errors
    /// When there is no such level or part.
    fn set_log_level(&self, logger: Option<&str>, level: Option<&str>) -> Result<(), LogChangeError>;
    /// What is logged from now on, from a level up.
    ///
    /// # Errors
    /// When there is no such level or format, or too many watch.
    fn watch_log(&self, level: &str, format: &str) -> Result<ByteStream, LogChangeError>;
}

/// No process that could be looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl Process for Nowhere {
    fn host(&self) -> Map {
        Map::new()
    }

    fn configuration(&self) -> Map {
        Map::new()
    }

    fn runtime(&self) -> Runtime {
        Runtime::default()
    }

    fn log_levels(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn set_log_level(&self, logger: Option<&str>, _level: Option<&str>) -> Result<(), LogChangeError> {
        if logger.is_some() { Err(LogChangeError::NoSuchLogger) } else { Ok(()) }
    }

    fn watch_log(&self, _level: &str, _format: &str) -> Result<ByteStream, LogChangeError> {
        Err(LogChangeError::NotWatched)
    }
}
