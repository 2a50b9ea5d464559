//! Between whoever waits for an order to be carried out and the background that does it: it is told that somebody waits, and
//! tells when some of what was under way has come to an end.
//!
//! Each is a number that grows: who looks first and waits then misses nothing that came in between. Deliberately absent: what
//! was ordered, and what became of it, which is stored.

use tresor_env::Signal;

/// What was told.
#[derive(Default)]
pub(crate) struct Hurry {
    wanted: Signal<u64>,
    ended: Signal<u64>,
}

fn grow(number: &mut u64) {
    *number = number.wrapping_add(1);
}

async fn after(signal: &Signal<u64>, seen: u64) {
    signal.wait_for(|number| (*number != seen).then_some(())).await;
}

impl Hurry {
    /// Somebody waits, or there is something to do that somebody waits for.
    pub(crate) fn want(&self) {
        self.wanted.update(grow);
    }

    /// How often that was told.
    pub(crate) fn wanted(&self) -> u64 {
        self.wanted.read(|number| *number)
    }

    /// Completes when it was told since then.
    pub(crate) async fn wanted_after(&self, seen: u64) {
        after(&self.wanted, seen).await;
    }

    /// Something came to an end.
    pub(crate) fn end(&self) {
        self.ended.update(grow);
    }

    /// How often that was told.
    pub(crate) fn ended(&self) -> u64 {
        self.ended.read(|number| *number)
    }

    /// Completes when it was told since then.
    pub(crate) async fn ended_after(&self, seen: u64) {
        after(&self.ended, seen).await;
    }
}
