//! A server that comes to rest gives back the code that it no longer runs.
//!
//! Starting, opening and every burst of work leave code in memory that may not be run again for days, and that is most of what
//! an idle server would have. Deliberately absent: how it is given back (`tresor-pages`).

use std::time::Duration;

use tresor_env::{Doors, Tasks};

/// How long a server is looked at before it is at rest.
const LOOK: Duration = Duration::from_secs(5);
/// The processor's time within [`LOOK`] below which it is.
const AT_REST_MAX: Duration = Duration::from_millis(25);

/// Looks, from now on, whether the server has come to rest.
pub(crate) fn watch(doors: &Doors, tasks: &Tasks) {
    let clock = doors.clock.clone();
    tasks.spawn(async move {
        let mut rest = Rest { used: Duration::ZERO, is_due: true };
        loop {
            clock.sleep(LOOK).await;
            if rest.has_come(processor_time()) {
                give_back();
            }
        }
    });
}

fn give_back() {
    match tresor_pages::give_back() {
        Ok(bytes) => tracing::debug!(kib = bytes >> 10, "at rest: code was given back to the kernel"),
        Err(error) => tracing::debug!(%error, "code cannot be given back to the kernel"),
    }
}

/// What the process has used of the processors.
fn processor_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(used).unwrap_or_default()
}

/// Whether a server has come to rest since it last worked.
struct Rest {
    /// The processor's time at the last look.
    used: Duration,
    /// Whether it has worked since it last came to rest.
    is_due: bool,
}

impl Rest {
    /// Told of the processor's time so far, once each [`LOOK`].
    fn has_come(&mut self, used: Duration) -> bool {
        let within = used.saturating_sub(self.used);
        self.used = used;
        if within > AT_REST_MAX {
            self.is_due = true;
            return false;
        }
        std::mem::take(&mut self.is_due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_comes_once_after_each_time_of_work() {
        let mut rest = Rest { used: Duration::ZERO, is_due: true };
        let looks = [300, 301, 302, 350, 375, 380, 381, 900, 901].map(Duration::from_millis);
        let comes = looks.map(|used| rest.has_come(used));
        assert_eq!(comes, [false, true, false, false, true, false, false, false, true]);
    }

    #[test]
    fn a_server_that_never_worked_comes_to_rest_once() {
        let mut rest = Rest { used: Duration::ZERO, is_due: true };
        assert_eq!([(); 3].map(|()| rest.has_come(Duration::from_millis(20))), [true, false, false]);
    }
}
