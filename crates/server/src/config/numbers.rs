//! What a listener says of numbers: who may read them through it, or that it serves nothing else.
//!
//! Deliberately absent: what numbers there are, and who is sent them (`telemetry` at top level).

use tresor_hcl::Value;
use tresor_http::Numbers;

use super::ConfigError;
use super::listener::Listener;
use super::load::Source;

/// Reads the `telemetry` of a listener.
pub(super) fn read_telemetry(
    source: &mut Source<'_>,
    value: &Value,
    listener: &mut Listener,
) -> Result<(), ConfigError> {
    let object = value.as_object("telemetry").map_err(|error| source.wrong(&error))?;
    let (mut is_refused, mut is_only, mut path) = (false, false, None);
    for item in &object.items {
        let Some(name) = item.keys.first() else { continue };
        let value = &item.value;
        match name.name.as_str() {
            "unauthenticated_metrics_access" => {
                if source.flag("unauthenticated_metrics_access", value)? {
                    listener.opened.push("sys/metrics");
                }
            }
            "disallow_metrics" => is_refused = source.flag("disallow_metrics", value)?,
            "metrics_only" => is_only = source.flag("metrics_only", value)?,
            "metrics_path" => {
                let read = source.text("metrics_path", value)?;
                if !read.starts_with('/')
                    || !read.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#%".contains(&byte))
                {
                    return Err(source.error(value.position, "`metrics_path` is a path such as \"/metrics\""));
                }
                path = Some((read, value.position));
            }
            unknown => source.unknown(unknown, name.position),
        }
    }
    listener.numbers = match (is_refused, is_only, path) {
        (true, true, _) => {
            return Err(source.error(value.position, "`disallow_metrics` and `metrics_only` exclude each other"));
        }
        (_, false, Some((_, position))) => {
            return Err(source.error(position, "`metrics_path` goes with `metrics_only = true`"));
        }
        (true, false, None) => Numbers::Refused,
        (false, false, None) => Numbers::Served,
        (false, true, path) => Numbers::only_at(&path.map(|(path, _)| path).unwrap_or_default()),
    };
    Ok(())
}

/// Reads the `inflight_requests_logging` of a listener.
pub(super) fn read_in_flight(
    source: &mut Source<'_>,
    value: &Value,
    listener: &mut Listener,
) -> Result<(), ConfigError> {
    const KEY: &str = "unauthenticated_in_flight_requests_access";
    let object = value.as_object("inflight_requests_logging").map_err(|error| source.wrong(&error))?;
    for item in &object.items {
        let Some(name) = item.keys.first() else { continue };
        if name.name != KEY {
            source.unknown(&name.name, name.position);
        } else if source.flag(KEY, &item.value)? {
            listener.opened.push("sys/in-flight-req");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::parse;

    fn read(keys: &str) -> Result<Listener, String> {
        let text = format!(
            "storage \"inmem\" {{}}\nlistener \"tcp\" {{\n tls_disable = true\n telemetry {{\n{keys}\n}}\n}}\n"
        );
        let parsed = parse(&[("a.hcl".into(), text)], &|_| None).map_err(|error| error.to_string());
        parsed.map(|mut config| config.listeners.remove(0))
    }

    #[test]
    fn a_listener_has_numbers_as_others_or_none_or_nothing_else() {
        assert_eq!(read("").unwrap().numbers, Numbers::Served);
        assert_eq!(read("disallow_metrics = true").unwrap().numbers, Numbers::Refused);
        let only =
            read("metrics_only = true\nmetrics_path = \"/metrics\"\nunauthenticated_metrics_access = true").unwrap();
        assert_eq!((only.numbers, only.opened), (Numbers::only_at("/metrics"), vec!["sys/metrics"]));
        for (wrong, said) in [
            ("metrics_only = true\ndisallow_metrics = true", "exclude each other"),
            ("metrics_path = \"/metrics\"", "a.hcl:5:16: `metrics_path` goes with"),
            ("metrics_only = true\nmetrics_path = \"metrics\"", "is a path such as"),
        ] {
            let refused = read(wrong).unwrap_err();
            assert!(refused.contains(said), "{wrong}: {refused}");
        }
    }
}
