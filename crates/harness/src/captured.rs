//! What the log says on this thread, at its most talkative, for tests that look through it. Deliberately absent: the
//! server's own format and levels.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing::Dispatch;
use tracing::subscriber::{DefaultGuard, NoSubscriber};

/// The bytes of a log.
#[derive(Clone, Default)]
struct Bytes(Arc<Mutex<Vec<u8>>>);

/// A log that is captured while this lives.
pub struct Captured {
    bytes: Bytes,
    _on_this_thread: DefaultGuard,
    /// With one subscriber alone in the process, a thread without any that comes first to a line of code silences that
    /// line for everybody, and tests run on threads of one process.
    _other: Dispatch,
}

impl Captured {
    /// Captures from now on what this thread logs.
    #[must_use]
    pub fn start() -> Self {
        let other = Dispatch::new(NoSubscriber::new());
        let bytes = Bytes::default();
        let writer = bytes.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        Self { bytes, _on_this_thread: tracing::subscriber::set_default(subscriber), _other: other }
    }

    /// Everything so far.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.0.lock().unwrap().clone()
    }
}

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
