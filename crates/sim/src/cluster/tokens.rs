//! Whether tokens were good as long as they were to be: until they are revoked, used up or have ended, and no longer.
//!
//! Lives are promised by clocks that differ, so an end has an earliest and a latest moment in the time of the world.
//! Deliberately absent: what tokens may do.

use std::time::Duration;

/// How fast the slowest and the fastest clock of a host go, in millionths.
pub(super) const PACES: (u64, u64) = (900_000, 1_100_000);
/// How much earlier an end may come: clocks drift apart between two tellings of the leader's time.
const EARLY: Duration = Duration::from_millis(1200);
/// How much later: the next whole second, and what a node lacks of the leader's time that has just been started.
const LATE: Duration = Duration::from_secs(8);

/// What is known of a token. Moments are numbers of events, or in the time of the world.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) id: String,
    /// When it ends at the earliest, and at the latest in time that had a leader; nothing when it outlives the world.
    ends: Option<(Duration, Duration)>,
    /// How often it can be used.
    uses: Option<u64>,
    /// How often somebody tried, and how often that went well.
    tried: u64,
    used: u64,
    revoking: Option<u64>,
    revoked: Option<u64>,
}

/// A moment.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    /// In the order of events.
    pub(super) event: u64,
    /// In the time of the world.
    pub(super) time: Duration,
    /// In how much of that there was a leader: only that passes for certain.
    pub(super) led: Duration,
}

/// The shortest and the longest that a span by a host's clock takes. A new leader's time may go a 64th faster.
fn bounds(span: Duration) -> (Duration, Duration) {
    let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let scaled = |pace: u64| Duration::from_nanos(nanos / pace * 1_000_000);
    let shortest = scaled(PACES.1);
    ((shortest - shortest / 64).saturating_sub(EARLY), scaled(PACES.0))
}

impl Token {
    /// One that was made between two moments, to live so long and be used so often.
    pub(super) fn new(id: String, life: Option<Duration>, uses: Option<u64>, asked: Moment, made: Moment) -> Self {
        let mut token = Self { id, ends: None, uses, tried: 0, used: 0, revoking: None, revoked: None };
        if let Some(life) = life {
            token.ends = Some((Duration::ZERO, Duration::ZERO));
            token.lives_on(life, asked, made);
        }
        token
    }

    /// It was renewed between two moments.
    pub(super) fn lives_on(&mut self, life: Duration, asked: Moment, renewed: Moment) {
        let (shortest, longest) = bounds(life);
        // Ends move in steps of a 64th.
        let latest = renewed.led + longest + longest / 64 + LATE;
        self.ends = self.ends.map(|(first, last)| (first.max(asked.time + shortest), last.max(latest)));
    }

    /// Somebody asks for its end to be moved, and may never learn whether and when it was: it can be nearer, or as far away
    /// as the request is under way.
    pub(super) fn may_live_on(&mut self, life: Duration, asked: Moment, patience: Duration) {
        let (shortest, longest) = bounds(life);
        let (first, last) = self.ends.unwrap_or((Duration::MAX, Duration::MAX));
        let latest = asked.led + patience + longest + longest / 64 + LATE;
        self.ends = Some((first.min(asked.time + shortest), last.max(latest)));
    }

    pub(super) fn begin_to_revoke(&mut self, event: u64) {
        self.revoking.get_or_insert(event);
    }

    pub(super) fn was_revoked(&mut self, event: u64) {
        self.revoked.get_or_insert(event);
    }

    /// Somebody tries it.
    pub(super) fn begin_to_use(&mut self) {
        self.tried += 1;
    }

    /// It was taken, or not; text when it must be otherwise.
    pub(super) fn was_used(&mut self, started: Moment, ended: Moment, is_good: bool) -> Result<(), String> {
        self.used += u64::from(is_good);
        let is_short = self.ends.is_some_and(|(earliest, _)| earliest <= ended.time);
        let is_spent = self.uses.is_some_and(|uses| self.tried > uses);
        let is_revoked = self.revoking.is_some_and(|revoking| revoking <= ended.event);
        if is_good && self.revoked.is_some_and(|revoked| revoked < started.event) {
            return Err("a token was good after its revocation".to_owned());
        }
        if is_good && self.uses.is_some_and(|uses| self.used > uses) {
            return Err("a token was used more often than it can be".to_owned());
        }
        if is_good && self.ends.is_some_and(|(_, latest)| latest < started.led) {
            return Err(format!("a token was good after its end, {:?}", self.ends));
        }
        if !is_good && !is_revoked && !is_spent && !is_short {
            return Err(format!("a token was not good that was made before, and ends {:?}", self.ends));
        }
        Ok(())
    }

    /// As if it had been promised to end at once.
    pub(super) fn ends_at_once(&mut self) {
        self.ends = self.ends.map(|_| (Duration::ZERO, Duration::ZERO));
    }

    /// As if it could never be used, when it cannot be used for ever.
    pub(super) fn is_spent(&mut self) {
        self.uses = self.uses.map(|_| 0);
    }
}
