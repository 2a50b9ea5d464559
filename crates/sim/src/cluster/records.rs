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

/// What was answered, and what was written.
#[derive(Default)]
pub(super) struct Records {
    /// When and where each request was answered.
    wanted: BTreeMap<u16, (Duration, usize)>,
    /// What was on disks that are lost.
    lost_disks: Vec<u8>,
}

impl Records {
    /// A request was answered.
    pub(super) fn answered(&mut self, port: u16, now: Duration, node: usize) {
        self.wanted.insert(port, (now, node));
    }

    /// Something ended that may have taken along the records of what was answered from then on.
    pub(super) fn excuse(&mut self, since: Duration) {
        self.wanted.retain(|_, (at, _)| *at < since);
    }

    /// A disk will be lost; what is on it now counts.
    pub(super) fn keep(&mut self, disk: &MemoryDisk) {
        self.lost_disks.extend(file(disk));
    }

    /// When and where those were answered whose records are on none of these disks, nor on a lost one.
    pub(super) fn missing<'a>(&self, disks: impl Iterator<Item = &'a MemoryDisk>) -> Vec<(Duration, usize)> {
        let written: Vec<u8> = disks.flat_map(file).chain(self.lost_disks.iter().copied()).collect();
        let missing = unrecorded(&written, &self.wanted.keys().copied().collect());
        missing.iter().filter_map(|port| self.wanted.get(port).copied()).collect()
    }
}

fn file(disk: &MemoryDisk) -> Vec<u8> {
    let mut bytes = disk.dump().remove(Path::new(DEVICE_FILE)).unwrap_or_default();
    // What a crash tore is followed by a whole line.
    bytes.push(b'\n');
    bytes
}
