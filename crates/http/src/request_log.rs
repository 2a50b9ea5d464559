//! A line of the log for each answered request, where an operator wants one.
//!
//! It says what audit devices say in the clear: where from, which path, which status. Deliberately absent: query, headers,
//! bodies, and whatever says who asked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tracing::Level;
use tresor_env::Clock;
use tresor_model::{Connection, RequestId};

/// The longest path that is shown whole.
const PATH_BYTES_MAX: usize = 1024;

/// The level that answered requests are logged at; clones share it, so it can be changed while they run.
#[derive(Clone, Debug, Default)]
pub struct RequestLog(Arc<AtomicU8>);

const LEVELS: [Level; 5] = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];

impl RequestLog {
    /// Logs at this level from now on; nothing, or no level, is not at all.
    pub fn set_level(&self, level: Option<&str>) {
        let level = level.and_then(|level| level.parse::<Level>().ok());
        let number = level.and_then(|level| LEVELS.iter().position(|known| *known == level)).map_or(0, |at| at + 1);
        self.0.store(u8::try_from(number).unwrap_or(0), Ordering::Relaxed);
    }

    /// A request that is to be logged when it is answered.
    pub(crate) fn begin(&self, clock: &dyn Clock, connection: &Connection) -> Option<Logging> {
        let number = usize::from(self.0.load(Ordering::Relaxed));
        let level = *LEVELS.get(number.checked_sub(1)?)?;
        let address = SocketAddr::new(connection.peer_address, connection.peer_port);
        Some(Logging { level, address, began: clock.monotonic() })
    }
}

/// One such request.
pub(crate) struct Logging {
    level: Level,
    address: SocketAddr,
    began: Duration,
}

impl Logging {
    pub(crate) fn end(self, clock: &dyn Clock, id: &RequestId, method: &str, path: &str, status: u16) {
        let duration = format!("{}us", clock.monotonic().saturating_sub(self.began).as_micros());
        let path: String = path.chars().take(PATH_BYTES_MAX).collect();
        macro_rules! log {
            ($level:expr) => {
                tracing::event!(
                    $level,
                    request_id = %id,
                    client_address = %self.address,
                    request_method = method,
                    request_path = path,
                    status_code = status,
                    duration,
                    "completed_request"
                )
            };
        }
        match self.level {
            Level::ERROR => log!(Level::ERROR),
            Level::WARN => log!(Level::WARN),
            Level::INFO => log!(Level::INFO),
            Level::DEBUG => log!(Level::DEBUG),
            Level::TRACE => log!(Level::TRACE),
        }
    }
}
