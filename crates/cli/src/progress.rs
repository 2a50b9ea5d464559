//! How far something is that takes long: one line on a terminal's standard error, gone when it is done.
//!
//! Where there is no terminal nothing is written. Deliberately absent: guesses of when it ends.

use std::future::Future;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::io::Io;

/// What is over before this is not shown.
const QUICK: Duration = Duration::from_secs(1);
const BEAT: Duration = Duration::from_millis(250);

/// Waits for something. `moved` counts the bytes that went over the wire, where that says how far it is.
pub(crate) async fn watched<T>(
    io: &mut Io<'_>,
    what: &str,
    moved: Option<&AtomicU64>,
    done: impl Future<Output = T>,
) -> T {
    if !io.errors_is_terminal {
        return done.await;
    }
    let begun = Instant::now();
    let mut done = std::pin::pin!(done);
    let mut line = Line { out: &mut *io.errors, is_shown: false };
    loop {
        tokio::select! {
            biased;
            result = &mut done => return result,
            () = tokio::time::sleep(BEAT) => {}
        }
        if begun.elapsed() >= QUICK {
            line.show(&told(what, begun.elapsed(), moved.map(|moved| moved.load(Ordering::Relaxed))));
        }
    }
}

fn told(what: &str, passed: Duration, moved: Option<u64>) -> String {
    let seconds = passed.as_secs();
    match moved {
        Some(bytes) => format!("{what}: {} MiB, {seconds} s", bytes >> 20),
        None => format!("{what}: {seconds} s"),
    }
}

/// A line that is written over itself, and taken back at the end.
struct Line<'o> {
    out: &'o mut dyn Write,
    is_shown: bool,
}

impl Line<'_> {
    fn show(&mut self, text: &str) {
        self.is_shown = true;
        // A terminal that went away is its own affair.
        let _ = write!(self.out, "\r\u{1b}[K{text}").and_then(|()| self.out.flush());
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(self.out, "\r\u{1b}[K").and_then(|()| self.out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_over_itself_and_taken_back() {
        let mut written = Vec::new();
        let mut line = Line { out: &mut written, is_shown: false };
        line.show(&told("saving", Duration::from_secs(2), Some(5 << 20)));
        line.show(&told("saving", Duration::from_secs(3), None));
        drop(line);
        drop(Line { out: &mut written, is_shown: false });
        assert_eq!(String::from_utf8_lossy(&written), "\r\u{1b}[Ksaving: 5 MiB, 2 s\r\u{1b}[Ksaving: 3 s\r\u{1b}[K");
    }
}
