//! `telemetry`: how numbers are called, which there are, and who is sent them.
//!
//! A collector that this server cannot send to is refused by name: who configures it relies on what would not arrive.
//! Deliberately absent: how often; and bounds of labels, which each number has by itself.

use std::time::Duration;

use tresor_hcl::{Item, Value};
use tresor_metrics::{Dialect, Naming};

use super::ConfigError;
use super::load::Source;

/// Keys that have no effect here: numbers are looked up when they are read, and each has a bound of its own.
const IGNORED: [&str; 6] = [
    "usage_gauge_period",
    "maximum_gauge_cardinality",
    "lease_metrics_epsilon",
    "num_lease_metrics_buckets",
    "add_lease_metrics_namespace_labels",
    "add_mount_point_rollback_metrics",
];

/// A `telemetry` stanza.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// How numbers are called, and which there are.
    pub naming: Naming,
    /// Who is sent them.
    pub collectors: Vec<Collector>,
    /// Who is sent traces.
    pub traces: Option<TracesConfig>,
}

/// Whom traces are sent to, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracesConfig {
    /// Where OTLP is taken over HTTP.
    pub endpoint: String,
    /// Of the numbers that a trace's id begins with, those up to this are wanted.
    pub wanted_below: u64,
}

/// Whom numbers are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Host and port.
    pub address: String,
    /// The way there.
    pub way: Way,
    /// How they are spelled.
    pub dialect: Dialect,
}

/// The way to a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Datagrams, of which some may be lost.
    Datagrams,
    /// A connection.
    Stream,
}

/// What of a stanza is judged when all of it was read.
struct Read {
    naming: Naming,
    allowed: Vec<String>,
    blocked: Vec<String>,
    has_host: bool,
    has_host_label: bool,
    statsd: Option<String>,
    statsite: Option<String>,
    dogstatsd: Option<String>,
    tags: Vec<String>,
    traces: Option<String>,
    traces_wanted_below: u64,
}

/// Reads a `telemetry` stanza; `host` is the machine's name.
pub(super) fn read_telemetry(
    source: &mut Source<'_>,
    stanza: &Item,
    host: &str,
) -> Result<TelemetryConfig, ConfigError> {
    let object = stanza.value.as_object("telemetry").map_err(|error| source.wrong(&error))?;
    let mut read = Read {
        naming: Naming::default(),
        allowed: Vec::new(),
        blocked: Vec::new(),
        has_host: true,
        has_host_label: false,
        statsd: None,
        statsite: None,
        dogstatsd: None,
        tags: Vec::new(),
        traces: None,
        traces_wanted_below: u64::MAX,
    };
    for item in &object.items {
        let Some(key) = item.keys.first() else { continue };
        let (name, value) = (key.name.as_str(), &item.value);
        match name {
            "metrics_prefix" => {
                read.naming.prefix = Some(source.text(name, value)?)
                    .filter(|prefix| !prefix.is_empty())
                    .unwrap_or_else(|| Naming::default().prefix);
            }
            "disable_hostname" => read.has_host = !source.flag(name, value)?,
            "enable_hostname_label" => read.has_host_label = source.flag(name, value)?,
            "filter_default" => read.naming.passes_by_default = source.flag(name, value)?,
            "prefix_filter" => filters(source, value, &mut read)?,
            "prometheus_retention_time" => {
                read.naming.has_prometheus = source.duration(name, value)? != Duration::ZERO;
            }
            "statsd_address" => read.statsd = address(source, name, value)?,
            "statsite_address" => read.statsite = address(source, name, value)?,
            "dogstatsd_addr" => read.dogstatsd = address(source, name, value)?,
            "dogstatsd_tags" => {
                read.tags = value.as_string_list(name).map_err(|error| source.wrong(&error))?;
                if read.tags.iter().any(|tag| tag.is_empty() || tag.contains(['|', '#', ',', '\n'])) {
                    return Err(source.error(value.position, "`dogstatsd_tags` lists tags such as \"env:prod\""));
                }
            }
            "otlp_traces_endpoint" => read.traces = endpoint(source, name, value)?,
            "otlp_traces_ratio" => read.traces_wanted_below = ratio(source, name, value)?,
            refused if refused.starts_with("circonus_") || refused.starts_with("stackdriver_") => {
                let text = format!("`{refused}` is not available: statsd, statsite, dogstatsd and Prometheus are");
                return Err(source.error(key.position, text));
            }
            ignored if IGNORED.contains(&ignored) => source.ignored(ignored, key.position),
            unknown => source.unknown(unknown, key.position),
        }
    }
    Ok(read.judged(host))
}

impl Read {
    fn judged(self, host: &str) -> TelemetryConfig {
        let mut naming = self.naming;
        naming.host_label = self.has_host_label.then(|| host.to_owned());
        // Of two that are the same, the one that leaves out counts, so it comes last.
        naming.beginnings = self.allowed.into_iter().map(|text| (text, true)).collect();
        naming.beginnings.extend(self.blocked.into_iter().map(|text| (text, false)));
        let in_names = (self.has_host && !self.has_host_label).then(|| host.to_owned());
        let plain = Dialect::Statsd { host: in_names };
        let tagged = Dialect::Dogstatsd { tags: self.tags };
        let collectors = [
            (self.statsd, Way::Datagrams, plain.clone()),
            (self.statsite, Way::Stream, plain),
            (self.dogstatsd, Way::Datagrams, tagged),
        ];
        let collectors = collectors
            .into_iter()
            .filter_map(|(address, way, dialect)| Some(Collector { address: address?, way, dialect }))
            .collect();
        let wanted_below = self.traces_wanted_below;
        let traces = self.traces.map(|endpoint| TracesConfig { endpoint, wanted_below });
        TelemetryConfig { naming, collectors, traces }
    }
}

/// `+vault.token` is there, `-vault.expire` is not.
fn filters(source: &mut Source<'_>, value: &Value, read: &mut Read) -> Result<(), ConfigError> {
    for rule in value.as_string_list("prefix_filter").map_err(|error| source.wrong(&error))? {
        match (rule.strip_prefix('+'), rule.strip_prefix('-')) {
            (Some(text), _) => read.allowed.push(text.to_owned()),
            (_, Some(text)) => read.blocked.push(text.to_owned()),
            _ => {
                let text = "`prefix_filter` lists beginnings of names with `+` or `-` in front";
                return Err(source.error(value.position, text));
            }
        }
    }
    Ok(())
}

/// Where OTLP is taken: the address of a collector, to which the usual path is added unless it has one.
fn endpoint(source: &Source<'_>, key: &str, value: &Value) -> Result<Option<String>, ConfigError> {
    let text = source.text(key, value)?;
    let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https")) else {
        let nothing = text.is_empty().then_some(None);
        return nothing.ok_or_else(|| source.error(value.position, format!("`{key}` is an address of http or https")));
    };
    let has_path = rest.trim_end_matches('/').contains('/');
    let path = if has_path { "" } else { "/v1/traces" };
    Ok(Some(format!("{scheme}://{}{path}", rest.trim_end_matches('/'))))
}

/// A part of all, such as `0.1`, as what of all numbers lies below.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "it is from 0 to 1"
)]
fn ratio(source: &Source<'_>, key: &str, value: &Value) -> Result<u64, ConfigError> {
    let ratio: Option<f64> = source.text(key, value)?.parse().ok();
    let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
    let ratio = ratio.ok_or_else(|| source.error(value.position, format!("`{key}` is a number from 0 to 1")))?;
    Ok((ratio * u64::MAX as f64) as u64)
}

/// A host and a port; whether the host has an address is asked when something is sent.
fn address(source: &Source<'_>, key: &str, value: &Value) -> Result<Option<String>, ConfigError> {
    let text = source.text(key, value)?;
    if text.is_empty() {
        return Ok(None);
    }
    let is_address = text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if is_address { Ok(Some(text)) } else { Err(source.error(value.position, format!("`{key}` is a host and a port"))) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::PathBuf;

    use super::*;
    use crate::config::{ServerConfig, parse};

    fn read(stanza: &str) -> Result<ServerConfig, ConfigError> {
        let text =
            format!("storage \"inmem\" {{}}\nlistener \"tcp\" {{ tls_disable = true }}\ntelemetry {{\n{stanza}\n}}\n");
        parse(&[(PathBuf::from("a.hcl"), text)], &|_| None)
    }

    #[test]
    fn every_key_of_the_stanza_has_its_effect_or_is_said_to_have_none() {
        let config = read(
            "metrics_prefix = \"safe\"\nfilter_default = false\nprefix_filter = [\"+safe.core\", \"-safe.core.act\"]\n\
             statsd_address = \"127.0.0.1:8125\"\nstatsite_address = \"site:8126\"\ndogstatsd_addr = \"dog:8127\"\n\
             dogstatsd_tags = [\"env:prod\"]\ndisable_hostname = true\nprometheus_retention_time = \"0\"\n\
             usage_gauge_period = \"5m\"\nmoon = 1",
        )
        .unwrap();
        let naming = &config.telemetry.naming;
        assert_eq!((naming.prefix.as_str(), naming.passes_by_default, naming.has_prometheus), ("safe", false, false));
        assert_eq!(naming.beginnings, [("safe.core".to_owned(), true), ("safe.core.act".to_owned(), false)]);
        let ways: Vec<_> = config.telemetry.collectors.iter().map(|one| (one.address.as_str(), one.way)).collect();
        let expected = [("127.0.0.1:8125", Way::Datagrams), ("site:8126", Way::Stream), ("dog:8127", Way::Datagrams)];
        assert_eq!(ways, expected);
        assert_eq!(config.telemetry.collectors[0].dialect, Dialect::Statsd { host: None });
        assert_eq!(config.telemetry.collectors[2].dialect, Dialect::Dogstatsd { tags: vec!["env:prod".to_owned()] });
        assert!(config.warnings.iter().any(|warning| warning.contains("`usage_gauge_period` has no effect")));
        assert!(config.warnings.iter().any(|warning| warning.contains("unknown key `moon`")));
        // The machine's name is in the names that are sent, or a label of all.
        let named = read("statsd_address = \"a:1\"").unwrap().telemetry;
        assert!(matches!(&named.collectors[0].dialect, Dialect::Statsd { host: Some(host) } if !host.is_empty()));
        let labelled = read("statsd_address = \"a:1\"\nenable_hostname_label = true").unwrap().telemetry;
        assert_eq!(labelled.collectors[0].dialect, Dialect::Statsd { host: None });
        assert!(labelled.naming.host_label.is_some());
        let traced = |stanza: &str| read(stanza).unwrap().telemetry.traces.map(|to| (to.endpoint, to.wanted_below));
        let whole = Some(("http://a:4318/v1/traces".to_owned(), u64::MAX));
        assert_eq!(traced("otlp_traces_endpoint = \"http://a:4318/\""), whole);
        let half = traced("otlp_traces_endpoint = \"https://a/b\"\notlp_traces_ratio = \"0.5\"").unwrap();
        assert_eq!((half.0.as_str(), half.1 >> 60), ("https://a/b", 8));
        assert_eq!(traced(""), None);
        for (wrong, said) in [
            ("otlp_traces_endpoint = \"a:4318\"", "`otlp_traces_endpoint` is an address of http or https"),
            ("otlp_traces_ratio = \"2\"", "`otlp_traces_ratio` is a number from 0 to 1"),
            ("circonus_api_token = \"x\"", "`circonus_api_token` is not available"),
            ("stackdriver_project_id = \"x\"", "`stackdriver_project_id` is not available"),
            ("statsd_address = \"nowhere\"", "`statsd_address` is a host and a port"),
            ("prefix_filter = [\"vault\"]", "`prefix_filter` lists"),
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(said), "{wrong}: {error}");
        }
    }
}
