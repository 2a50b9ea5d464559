//! The contract of audit devices: take redacted records in order, or say why not.
//!
//! A sink is told again what it refused, and after a crash may be told again what it took: delivery is at least once,
//! in order, never out of it. Deliberately absent: retries and cursors (`tail.rs`), and anything unredacted.

use std::borrow::Cow;
use std::sync::Arc;

use tresor_env::{BoxFuture, Doors};

use crate::broker::Options;
use crate::device::DeviceConfig;
use crate::error::AuditError;
use crate::record::AuditRecord;

/// Why a sink did not take records; a text for operators, without paths.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SinkError(pub Cow<'static, str>);

impl From<std::io::Error> for SinkError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string().into())
    }
}

/// Where one device's records go.
pub trait AuditSink: Send + Sync {
    /// Takes all of the records, in order. On an error none counts as taken and all are offered again.
    fn deliver<'a>(&'a self, records: &'a [AuditRecord]) -> BoxFuture<'a, Result<(), SinkError>>;

    /// Completes when everything taken so far survives a power loss, as far as the sink can say.
    fn sync(&self) -> BoxFuture<'_, Result<(), SinkError>>;

    /// Lets go of what it holds open, as log rotation asks for by SIGHUP.
    fn reopen(&self);
}

/// A kind of device, such as `file`.
pub trait SinkKind: Send + Sync {
    /// Its name in `type`.
    fn name(&self) -> &'static str;

    /// The names of the options that only this kind knows.
    fn option_names(&self) -> &'static [&'static str];

    /// Checks the options and opens the sink, so that what is enabled exists at once.
    ///
    /// # Errors
    /// [`AuditError::InvalidOption`] with a text for the caller.
    fn open(&self, doors: &Doors, config: &DeviceConfig, options: &Options) -> Result<Arc<dyn AuditSink>, AuditError>;
}
