//! Numbers as Prometheus reads them: its text format, version 0.0.4.
//!
//! Names are those that dashboards know: parts joined by underscores. Deliberately absent: the suffixes that its style
//! asks of new names, which nobody's dashboards have.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::{Reading, Value};

/// The text; `prefix` stands before each name.
#[must_use]
pub fn text(readings: &[Reading], prefix: &str) -> String {
    // All numbers of a name stand together, below one line that says what they are.
    let mut families: BTreeMap<String, Vec<&Reading>> = BTreeMap::new();
    for reading in readings {
        families.entry(spelled(prefix, &reading.name)).or_default().push(reading);
    }
    let mut text = String::new();
    for (name, family) in &families {
        let kind = match family.first().map(|reading| &reading.value) {
            Some(Value::Gauge(_)) | None => "gauge",
            Some(Value::Counter(_)) => "counter",
            Some(Value::Timer(_)) => "summary",
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {name}\n# TYPE {name} {kind}");
        for reading in family {
            write(&mut text, name, reading);
        }
    }
    text
}

fn write(text: &mut String, name: &str, reading: &Reading) {
    let of = |more: Option<(&'static str, String)>| labels(&reading.labels, more);
    let _ = match &reading.value {
        Value::Gauge(value) => writeln!(text, "{name}{} {value}", of(None)),
        Value::Counter(counter) => writeln!(text, "{name}{} {}", of(None), counter.total),
        Value::Timer(timer) => {
            for (quantile, value) in timer.quantiles {
                let _ = writeln!(text, "{name}{} {value}", of(Some(("quantile", quantile.to_string()))));
            }
            writeln!(text, "{name}_sum{0} {1}\n{name}_count{0} {2}", of(None), timer.sum, timer.count)
        }
    };
}

fn labels(labels: &[(&'static str, String)], more: Option<(&'static str, String)>) -> String {
    let spelled: Vec<String> = labels
        .iter()
        .chain(&more)
        .map(|(name, value)| {
            let value = value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
            format!("{name}=\"{value}\"")
        })
        .collect();
    if spelled.is_empty() { String::new() } else { format!("{{{}}}", spelled.join(",")) }
}

/// A name that Prometheus takes.
fn spelled(prefix: &str, name: &str) -> String {
    let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}_{name}") };
    name.chars().map(|char| if char.is_ascii_alphanumeric() || char == ':' { char } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Counter, Timer};

    #[test]
    fn every_kind_of_number_is_spelled_as_it_is_read() {
        let (counter, timer) = (Counter::default(), Timer::default());
        counter.add(2);
        timer.observe(Duration::from_nanos(1_048_576));
        let now = Duration::from_secs(20);
        let readings = [
            Reading::gauge("raft-storage.peers", 3).with("peer", "a\"b\\c\nd"),
            Reading::new("quota.violation", Value::Counter(counter.read(now))),
            Reading::gauge("raft-storage.peers", 4),
            Reading::new("core.handle_request", Value::Timer(timer.read(now))),
        ];
        let expected = "\
# HELP vault_core_handle_request vault_core_handle_request
# TYPE vault_core_handle_request summary
vault_core_handle_request{quantile=\"0.5\"} 1.179648
vault_core_handle_request{quantile=\"0.9\"} 1.179648
vault_core_handle_request{quantile=\"0.99\"} 1.179648
vault_core_handle_request_sum 1.048576
vault_core_handle_request_count 1
# HELP vault_quota_violation vault_quota_violation
# TYPE vault_quota_violation counter
vault_quota_violation 2
# HELP vault_raft_storage_peers vault_raft_storage_peers
# TYPE vault_raft_storage_peers gauge
vault_raft_storage_peers{peer=\"a\\\"b\\\\c\\nd\"} 3
vault_raft_storage_peers 4
";
        assert_eq!(text(&readings, "vault"), expected);
    }
}
