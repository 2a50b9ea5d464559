//! The checker of audit: no answer without its two records.
//!
//! The file device tails the local log, so a record in its file was in the log; requests are told apart by the port
//! that they came from. Deliberately absent: what records show (the checker of secrets looks at the bytes).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Which records of a request there are.
#[derive(Default)]
struct Found {
    request: bool,
    response: bool,
}

/// The answered requests, by port, that lack a record in the file of the device.
pub(crate) fn unrecorded(file: &[u8], answered: &BTreeSet<u16>) -> Vec<u16> {
    let mut found: BTreeMap<u16, Found> = BTreeMap::new();
    for line in file.split(|byte| *byte == b'\n') {
        // A line that a crash tore is followed by a whole one.
        let Ok(record) = serde_json::from_slice::<Value>(line) else { continue };
        let port = record.pointer("/request/remote_port").and_then(Value::as_u64);
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { continue };
        let entry = found.entry(port).or_default();
        match record.pointer("/type").and_then(Value::as_str) {
            Some("request") => entry.request = true,
            Some("response") => entry.response = true,
            _ => {}
        }
    }
    answered
        .iter()
        .copied()
        .filter(|port| !found.get(port).is_some_and(|found| found.request && found.response))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_record_is_noticed_and_a_torn_line_is_not_in_the_way() {
        let line = |kind: &str, port: u16| format!("{{\"type\":\"{kind}\",\"request\":{{\"remote_port\":{port}}}}}\n");
        let file = [
            line("request", 7),
            "{\"type\":\"resp".to_owned(),
            "\n".to_owned(),
            line("response", 7),
            line("request", 8),
        ];
        assert_eq!(unrecorded(file.concat().as_bytes(), &BTreeSet::from([7, 8, 9])), [8, 9]);
    }
}
