//! What happens to a process between two rounds: its disk fails, its power goes, it is killed, the clock jumps.
//!
//! One place for both kinds of life. Deliberately absent: what each of them makes of it.

use tresor_env::Timestamp;

use crate::model::SECOND;
use crate::random::Random;
use crate::world::World;

/// How likely each is, in hundredths.
pub(crate) struct Odds {
    /// The disk fails, the process is killed, and the next one finds a sound disk.
    pub(crate) disk_recovers: usize,
    /// The clock jumps and nothing else.
    pub(crate) clock_jumps: usize,
    /// One of how many steps of the disk is the last that it takes.
    pub(crate) disk_steps: u64,
}

/// The disk fails in so many of a hundred rounds; in those in which it does not recover, the power goes.
const DISK_FAILS: usize = 45;
/// The process goes, for one reason or another, in so many.
const CRASHES: usize = 60;

/// What happens in a round.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accident {
    /// The disk fails for a while, and the process is killed.
    DiskRecovers,
    /// The disk fails, and then the power goes.
    PowerLost,
    /// The process is killed.
    Killed,
    /// The clock jumps.
    ClockJumps,
    /// Nothing.
    None,
}

impl Accident {
    pub(crate) fn draw(random: &mut Random, odds: &Odds) -> Self {
        match random.below(100) {
            drawn if drawn < odds.disk_recovers => Self::DiskRecovers,
            drawn if drawn < DISK_FAILS => Self::PowerLost,
            drawn if drawn < CRASHES => Self::Killed,
            drawn if drawn < CRASHES + odds.clock_jumps => Self::ClockJumps,
            _ => Self::None,
        }
    }

    /// Whether the disk fails in this round.
    pub(crate) const fn fails_disk(self) -> bool {
        matches!(self, Self::DiskRecovers | Self::PowerLost)
    }

    /// Whether another process follows.
    pub(crate) const fn is_crash(self) -> bool {
        matches!(self, Self::DiskRecovers | Self::PowerLost | Self::Killed)
    }

    /// Lets some step soon be the last one that the disk takes, when it is to fail.
    pub(crate) fn begin(self, world: &World, random: &mut Random, odds: &Odds, history: &mut Vec<String>) {
        if self.fails_disk() {
            let step = world.doors.disk.steps() + 1 + random.next() % odds.disk_steps;
            world.doors.disk.fail_from_step(Some(step));
            history.push(format!("the disk fails from step {step}"));
        }
    }

    /// Ends the process, when it is to end; `keep` says how much of what was not synced the disk has when the power goes.
    pub(crate) async fn crash(self, world: &mut World, keep: impl FnMut(usize) -> usize, history: &mut Vec<String>) {
        match self {
            Self::DiskRecovers => {
                // The disk recovers; the process is replaced by its operator.
                world.doors.disk.fail_from_step(None);
                history.push("killed".to_owned());
                world.kill().await;
            }
            Self::PowerLost => {
                history.push("power lost".to_owned());
                world.lose_power(keep).await;
            }
            Self::Killed => {
                history.push("killed".to_owned());
                world.kill().await;
            }
            Self::ClockJumps | Self::None => {}
        }
    }
}

/// Lets the wall clock jump by up to so many seconds, some of them back.
pub(crate) fn jump_clock(world: &World, random: &mut Random, range: usize, back: i64, history: &mut Vec<String>) {
    let wall = world.doors.doors.clock.wall().nanos();
    let seconds = i64::try_from(random.below(range)).unwrap_or(0) - back;
    world.doors.clock.jump_wall_to(Timestamp::from_nanos(wall + seconds * SECOND));
    history.push(format!("the clock jumps by {seconds} s"));
}
