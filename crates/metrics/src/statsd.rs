//! Numbers as collectors are sent them: lines of statsd, statsite and dogstatsd.
//!
//! What happened is sent as what is new since the last time. A time goes out by its bucket, with how many of them there
//! were as the rate of a sample, so what is sent is bounded however much happened, and the collector's percentiles come
//! out right within an eighth. Deliberately absent: the way to the collector.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::{Naming, Reading, TimerReading, Value};

/// How lines are spelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Values of labels are parts of the name, and so is the machine's name in what is so now, where there is one.
    Statsd {
        /// The machine's name.
        host: Option<String>,
    },
    /// Labels are tags.
    Dogstatsd {
        /// Tags of every line, such as `env:prod`.
        tags: Vec<String>,
    },
}

/// What is sent to one collector.
pub struct Statsd {
    dialect: Dialect,
    naming: Naming,
    counters: BTreeMap<String, u64>,
    timers: BTreeMap<String, TimerReading>,
}

impl Statsd {
    /// Lines for a collector that was sent nothing yet.
    #[must_use]
    pub const fn new(dialect: Dialect, naming: Naming) -> Self {
        Self { dialect, naming, counters: BTreeMap::new(), timers: BTreeMap::new() }
    }

    /// The lines of what is so now and of what is new, each with its end, put together in packets of at most so many
    /// bytes (a longer line has one of its own).
    pub fn packets(&mut self, readings: &[Reading], bytes_max: usize) -> Vec<String> {
        let mut packets: Vec<String> = Vec::new();
        for reading in readings {
            for line in self.lines(reading) {
                match packets.last_mut().filter(|packet| packet.len() + line.len() <= bytes_max) {
                    Some(packet) => packet.push_str(&line),
                    None => packets.push(line),
                }
            }
        }
        packets
    }

    fn lines(&mut self, reading: &Reading) -> Vec<String> {
        let (name, tags) = self.named(reading);
        let key = format!("{name}{tags}");
        match &reading.value {
            Value::Gauge(value) => vec![format!("{name}:{value}|g{tags}\n")],
            Value::Counter(counter) => {
                let before = self.counters.insert(key, counter.total).unwrap_or(0);
                let new = counter.total.saturating_sub(before);
                if new == 0 { Vec::new() } else { vec![format!("{name}:{new}|c{tags}\n")] }
            }
            Value::Timer(timer) => {
                let new = timer.since(self.timers.get(&key));
                self.timers.insert(key, timer.clone());
                new.into_iter().map(|(millis, times)| format!("{name}:{millis}|ms{}{tags}\n", sampled(times))).collect()
            }
        }
    }

    fn named(&self, reading: &Reading) -> (String, String) {
        match &self.dialect {
            Dialect::Statsd { host } => {
                let is_gauge = matches!(reading.value, Value::Gauge(_));
                let host = host.as_ref().filter(|_| is_gauge);
                let name = host.map_or_else(|| reading.name.clone(), |host| format!("{host}.{}", reading.name));
                let mut whole = plain(&self.naming.whole(&name));
                for (_, value) in &reading.labels {
                    // Writing to a string does not fail.
                    let _ = write!(whole, ".{}", plain(value));
                }
                (whole, String::new())
            }
            Dialect::Dogstatsd { tags } => {
                let own = reading.labels.iter().map(|(name, value)| format!("{name}:{}", tag(value)));
                let all: Vec<String> = tags.iter().cloned().chain(own).collect();
                let tags = if all.is_empty() { String::new() } else { format!("|#{}", all.join(",")) };
                (plain(&self.naming.whole(&reading.name)), tags)
            }
        }
    }
}

/// The rate of a sample that stands for so many; nothing for one.
#[expect(clippy::cast_precision_loss, reason = "a collector reads a few digits of it")]
fn sampled(times: u64) -> String {
    if times <= 1 { String::new() } else { format!("|@{}", 1.0 / times as f64) }
}

/// A name without what would end it.
fn plain(name: &str) -> String {
    name.chars().map(|char| if matches!(char, ':' | '|' | '@' | '#') || char <= ' ' { '_' } else { char }).collect()
}

/// A tag's value without what would end it.
fn tag(value: &str) -> String {
    value.chars().map(|char| if matches!(char, ',' | '|' | '#') || char <= ' ' { '_' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Counter, Timer};

    #[test]
    fn what_is_new_is_sent_once_in_packets_of_a_size() {
        let (counter, timer) = (Counter::default(), Timer::default());
        let read = || {
            let now = Duration::from_secs(1);
            [
                Reading::gauge("raft.peers", 3).with("peer", "a:b c"),
                Reading::new("quota.violation", Value::Counter(counter.read(now))),
                Reading::new("core.handle_request", Value::Timer(timer.read(now))),
            ]
        };
        let statsd = Dialect::Statsd { host: Some("node-1".to_owned()) };
        let dogs = Dialect::Dogstatsd { tags: vec!["env:prod".to_owned()] };
        let (mut plain, mut tagged) = (Statsd::new(statsd, Naming::default()), Statsd::new(dogs, Naming::default()));
        assert_eq!(plain.packets(&read(), 1400), ["vault.node-1.raft.peers.a_b_c:3|g\n"]);
        assert_eq!(tagged.packets(&read(), 1400), ["vault.raft.peers:3|g|#env:prod,peer:a:b_c\n"]);
        counter.add(5);
        (0..4).for_each(|_| timer.observe(Duration::from_nanos(1_048_576)));
        timer.observe(Duration::from_secs(1));
        let lines = plain.packets(&read(), 1400).concat();
        let mut lines = lines.lines();
        assert_eq!(lines.nth(1), Some("vault.quota.violation:5|c"));
        assert_eq!(lines.next(), Some("vault.core.handle_request:1.179648|ms|@0.25"));
        assert!(
            lines.next().is_some_and(|line| line.starts_with("vault.core.handle_request:") && line.ends_with("|ms"))
        );
        assert_eq!(plain.packets(&read(), 1400).concat().lines().count(), 1, "it was sent before");
        counter.add(1);
        assert_eq!(tagged.packets(&read(), 60).len(), 4, "each line has a packet of its own");
    }
}
