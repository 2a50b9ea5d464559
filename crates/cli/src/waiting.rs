//! Waiting for what the server does in the background, and saying how far it is whenever that changed.
//!
//! Unlike a line of progress this is said where nobody looks, too: a log keeps it. Deliberately absent: a bound, which is
//! for whoever waits.

use std::time::Duration;

use crate::context::Context;
use crate::envelope::Envelope;
use crate::failure::Failure;

/// How often the server is asked.
const PAUSE: Duration = Duration::from_millis(500);

/// Reads a path again and again until nothing is there, or until `step` finds nothing to say of it any more.
pub(crate) fn until_over(
    context: &mut Context<'_, '_>,
    path: &str,
    step: impl Fn(&Envelope) -> Result<Option<String>, Failure>,
) -> Result<(), Failure> {
    let mut said = String::new();
    while let Some(answer) = context.read(path, &[])? {
        let Some(now) = step(&answer)? else { return Ok(()) };
        if now != said {
            context.io.complain(&now);
            said = now;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// A number of what is counted only so far by the server.
pub(crate) fn counted(number: u64) -> String {
    const COUNTED_MAX: u64 = 10_000;
    if number >= COUNTED_MAX { format!("{COUNTED_MAX} or more") } else { number.to_string() }
}
