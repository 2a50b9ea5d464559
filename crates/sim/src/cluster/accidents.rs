//! What happens to the nodes, and how everything runs again.
//!
//! Deliberately absent: what happens to members ([`members`](super::members)).

use std::time::Duration;

use serde_json::Value;
use tresor_env::Clock;
use tresor_harness::cluster::ip;
use tresor_harness::{ROOT, assembly};

use super::Life;

/// How far back a loss of power may take records with it that were not synced.
const UNSYNCED: Duration = Duration::from_secs(2);

impl Life {
    /// Something happens to the cluster.
    pub(super) async fn happen(&mut self) {
        let running: Vec<usize> =
            self.world.running().into_iter().filter(|node| !self.world.is_paused(*node)).collect();
        let all_run = running.len() == self.count;
        let may_fall = running.len() > 1 && !self.is_parted;
        let leader = self.world.leader().filter(|node| running.contains(node) && self.random.chance(60));
        let victim = leader.or_else(|| self.random.pick(&running).copied());
        let Some(victim) = victim else { return self.mend().await };
        match self.random.below(16) {
            0 | 1 if may_fall => {
                self.end(victim).await;
                self.drop_errand(victim);
                self.report.crashes += 1;
                self.say(format!("n{victim} was killed"));
            }
            2 if may_fall => {
                self.forget(victim);
                self.drop_errand(victim);
                let now = self.world.now();
                self.records.excuse(now.saturating_sub(UNSYNCED), now);
                self.world.lose_power(victim).await;
                self.report.crashes += 1;
                self.say(format!("n{victim} lost its power"));
            }
            3 if may_fall && running.len() * 2 > self.count + 1 => {
                self.say(format!("n{victim} is told to stop"));
                self.drop_errand(victim);
                self.world.stop(victim).await;
                self.report.stops += 1;
            }
            4 | 5 if may_fall && all_run => {
                self.is_parted = true;
                self.report.partitions += 1;
                self.part(victim);
            }
            6 => {
                let asked = assembly::request("PUT", "sys/step-down", ROOT, &Value::Null);
                let asking = self.world.sending(victim, asked);
                self.asides.spawn(async move { drop(asking.await) });
                self.say(format!("n{victim} is asked to let another lead"));
            }
            7 | 8 if may_fall => {
                self.world.pause(victim);
                self.report.pauses += 1;
                self.say(format!("n{victim} stands still"));
            }
            9 if may_fall && all_run => self.lose_disk(victim).await,
            10 | 11 => self.change_members(victim),
            // Set ahead, the clock that counts would count; while nobody is active, whoever leads next may have it already.
            12 if self.world.active().is_some_and(|active| active != victim) => self.set_clock(victim),
            _ => self.mend().await,
        }
    }

    /// Sets a wall clock: seconds or minutes before or behind the time of the world.
    pub(super) fn set_clock(&mut self, node: usize) {
        let by = self.random.next() % if self.random.chance(50) { 20_000 } else { 300_000 };
        let by = Duration::from_millis(by);
        let (now, is_ahead) = (self.world.clock.wall(), self.random.chance(50));
        self.world.clock_of(node).jump_wall_to(if is_ahead { now.plus(by) } else { now.less(by) });
        self.report.clocks_set += 1;
        self.say(format!("the clock of n{node} is {by:?} {}", if is_ahead { "ahead" } else { "behind" }));
    }

    /// Parts a node from all others, or from some, or in one direction only.
    fn part(&mut self, node: usize) {
        match self.random.below(4) {
            0 => {
                for other in (0..self.count).filter(|other| *other != node) {
                    self.world.fabric.cut(ip(node), ip(other));
                }
                self.say(format!("n{node} is not heard any more"));
            }
            1 => {
                for other in (0..self.count).filter(|other| *other != node) {
                    self.world.fabric.cut(ip(other), ip(node));
                }
                self.say(format!("n{node} hears nothing any more"));
            }
            2 => {
                let other = (node + 1) % self.count;
                self.world.fabric.part(&[ip(node)], &[ip(other)]);
                self.say(format!("n{node} and n{other} are parted, and reach the others"));
            }
            _ => {
                self.world.part(&[node]);
                self.say(format!("n{node} is parted from the others"));
            }
        }
    }

    /// Whether anything is in the way of what a node would hear of the others.
    pub(super) fn is_disturbed(&self, node: usize) -> bool {
        let running = self.world.running();
        let runs = |node: usize| running.contains(&node) && !self.world.is_paused(node);
        let others_are_members = self.outside.keys().all(|other| *other == node);
        self.is_parted || !others_are_members || !(0..self.count).all(runs)
    }

    /// Everything runs again; nodes that are outside come back by themselves.
    pub(super) async fn mend(&mut self) {
        self.world.fabric.heal();
        self.is_parted = false;
        let running = self.world.running();
        running.iter().filter(|node| self.world.is_paused(**node)).for_each(|node| self.world.resume(*node));
        let down: Vec<usize> = (0..self.count).filter(|node| !running.contains(node)).collect();
        for node in &down {
            self.world.start(*node).await;
        }
        for node in down.iter().filter(|node| self.is_at_home(**node)) {
            self.world.unseal(*node).await;
        }
        self.say(format!("everything runs again; {down:?} were down"));
    }
}
