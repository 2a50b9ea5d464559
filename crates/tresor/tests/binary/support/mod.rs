//! Processes, a plain HTTP client that can also misbehave, and waiting with a bound.

pub(crate) mod cluster;
pub(crate) mod hosts;
mod http;
mod load;
mod process;
mod production;

pub(crate) use http::{Answer, Http, read_answer};
pub(crate) use load::under_load;
pub(crate) use process::{Cli, Finished, Server, binary, command};
pub(crate) use production::{Keys, Production};

use std::time::{Duration, Instant};

/// The longest that anything here is waited for: generous, since machines that run tests are busy.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// Asks until there is an answer, or fails with what was waited for.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + BOUND;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(3));
    }
}
