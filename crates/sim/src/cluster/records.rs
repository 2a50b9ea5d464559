//! Every answer has its records in the file of some node's device: of the node that executed it.
//!
//! Requests are told apart by the port that they came from. A record is synced within a second, so what was answered shortly
//! before a node lost its power, or with a disk what its device had not written yet, is asked for no more. Deliberately absent:
//! what records show.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tresor_env::doubles::MemoryDisk;

use crate::records::unrecorded;

/// Where the device writes, on each node.
pub(super) const DEVICE_FILE: &str = "/audit/first.log";

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) asked: Duration,
    pub(super) at: Duration,
    pub(super) node: usize,
}

impl Answered {
    fn may_have_run(&self, from: Duration, to: Duration) -> bool {
        self.asked <= to && self.at >= from
    }
}

/// What was answered, and what was written.
#[derive(Default)]
pub(super) struct Records {
    /// When each request was asked, and when and where it was answered.
    wanted: BTreeMap<u16, Answered>,
    /// From when to when something may have been recorded that was lost.
    excuses: Vec<(Duration, Duration)>,
    /// What was on disks that are lost.
    lost_disks: Vec<u8>,
}

impl Records {
    /// A request was answered.
    pub(super) fn answered(&mut self, port: u16, answered: Answered) {
        if !self.excuses.iter().any(|(from, to)| answered.may_have_run(*from, *to)) {
            self.wanted.insert(port, answered);
        }
    }

    /// Something ended that may have taken along the records of what ran since then.
    pub(super) fn excuse(&mut self, since: Duration, now: Duration) {
        self.wanted.retain(|_, answered| !answered.may_have_run(since, now));
        self.excuses.push((since, now));
    }

    /// A disk will be lost; what is on it now counts.
    pub(super) fn keep(&mut self, disk: &MemoryDisk) {
        self.lost_disks.extend(file(disk));
    }

    /// Says of the requests whose records are on none of these disks, nor on a lost one, what there is.
    pub(super) fn missing<'a>(&self, disks: impl Iterator<Item = &'a MemoryDisk>) -> Vec<String> {
        let written: Vec<u8> = disks.flat_map(file).chain(self.lost_disks.iter().copied()).collect();
        let missing = unrecorded(&written, &self.wanted.keys().copied().collect());
        let text = String::from_utf8_lossy(&written);
        let told = |port: &u16| {
            let Answered { asked, at, node } = self.wanted.get(port)?;
            let of_it = format!("\"remote_port\":{port}}}");
            let there_is: Vec<&str> = text.lines().filter(|line| line.contains(&of_it)).collect();
            Some(format!("asked of n{node} at {asked:?}, answered at {at:?}, and recorded as {there_is:?}"))
        };
        missing.iter().filter_map(told).collect()
    }
}

fn file(disk: &MemoryDisk) -> Vec<u8> {
    let mut bytes = disk.dump().remove(Path::new(DEVICE_FILE)).unwrap_or_default();
    // What a crash tore is followed by a whole line.
    bytes.push(b'\n');
    bytes
}
