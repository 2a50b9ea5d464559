//! The contract of audit devices: take redacted lines in order, or say how many were taken and why no more.
//!
//! A sink is told again what it did not take, and after a crash, a restart or a broken connection may be told again what
//! it took: delivery is at least once, in order, never out of it. A sink may hang; whoever calls it can let go of it at
//! any await. Deliberately absent: retries and cursors (`tail.rs`), and anything unredacted.

use std::borrow::Cow;
use std::sync::Arc;

use tresor_env::{BoxFuture, Doors};

use crate::broker::Options;
use crate::device::DeviceConfig;
use crate::error::AuditError;
use crate::record::Lines;
use crate::shape::Header;

/// Why a sink did not take records; a text for operators, without paths.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SinkError(pub Cow<'static, str>);

impl From<std::io::Error> for SinkError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string().into())
    }
}

/// What a sink did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// How many of the records were taken, all their lines, from the first on.
    pub taken: usize,
    /// How many bytes of lines taken earlier may not have arrived either, counted backwards from the last one taken.
    pub doubtful_bytes: u64,
    /// Why.
    pub error: SinkError,
}

impl Undelivered {
    /// Nothing was taken, and what was taken earlier has arrived.
    #[must_use]
    pub fn nothing(error: impl Into<SinkError>) -> Self {
        Self { taken: 0, doubtful_bytes: 0, error: error.into() }
    }
}

impl From<SinkError> for Undelivered {
    fn from(error: SinkError) -> Self {
        Self::nothing(error)
    }
}

/// Where one device's records go.
pub trait AuditSink: Send + Sync {
    /// Takes the lines, in order. Those that were not taken are offered again, beginning with the first of them.
    fn deliver(&self, lines: Arc<Lines>) -> BoxFuture<'_, Result<(), Undelivered>>;

    /// How many of the bytes taken last may still be on the way and lost with it: the device's durable place stays so
    /// far behind. None for a sink that keeps what it takes.
    fn unconfirmed_bytes_max(&self) -> u64 {
        0
    }

    /// Completes when everything taken so far survives a power loss, as far as the sink can say.
    fn sync(&self) -> BoxFuture<'_, Result<(), SinkError>>;

    /// Finds out whether lines would be taken now, before the device is enabled; `line` is one to try with.
    fn probe(&self, line: Arc<Lines>) -> BoxFuture<'_, Result<(), SinkError>> {
        let _ = line;
        Box::pin(async { Ok(()) })
    }

    /// Ends in good order; whether everything taken has certainly arrived, however much may be on the way otherwise.
    fn farewell(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { false })
    }

    /// How many lines it could only take in part, each marked as such.
    fn cut_lines(&self) -> u64 {
        0
    }

    /// Lets go of what it holds open, as log rotation asks for by SIGHUP.
    fn reopen(&self);
}

/// A kind of device, such as `file`.
pub trait SinkKind: Send + Sync {
    /// Its name in `type`.
    fn name(&self) -> &'static str;

    /// The names of the options that only this kind knows.
    fn option_names(&self) -> &'static [&'static str];

    /// What syslog wants in front of each line of such a device.
    ///
    /// # Errors
    /// [`AuditError::InvalidOption`] naming the option.
    fn header(&self, config: &DeviceConfig, options: &Options) -> Result<Option<Header>, AuditError> {
        let _ = (config, options);
        Ok(None)
    }

    /// Checks the options, without a look at where they lead.
    ///
    /// # Errors
    /// [`AuditError::InvalidOption`] with a text for the caller.
    fn check(&self, config: &DeviceConfig, options: &Options) -> Result<(), AuditError>;

    /// Checks the options and opens the sink, so that what is enabled exists at once.
    ///
    /// # Errors
    /// [`AuditError::InvalidOption`] with a text for the caller.
    fn open(&self, doors: &Doors, config: &DeviceConfig, options: &Options) -> Result<Arc<dyn AuditSink>, AuditError>;
}
