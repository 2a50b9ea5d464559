//! `sys/metrics` and `sys/in-flight-req`: the numbers of the node that is asked, and the requests that run on it.
//!
//! With a token here; for everybody, and without a record, on listeners that say so (`always.rs`). The same answers either
//! way. Deliberately absent: the numbers themselves (`tresor_core::metrics`).

use tresor_core::Running;
use tresor_engine::answer::Raw;
use tresor_engine::{Cx, Widened};
use tresor_metrics::{CounterReading, Naming, Reading, TimerReading, Value};
use tresor_model::{Body, Fault, Map, Number, Timestamp, Verb, map};
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::json::encode_map;
use tresor_wire::time::rfc3339;

use super::Sys;

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

/// How numbers are to be spelled.
#[derive(Input)]
pub(super) struct Format {
    /// `prometheus`, or nothing for JSON.
    #[input(query, default = "")]
    format: String,
}

pub(super) async fn read(sys: &Sys, mut cx: Cx<'_>, input: Format) -> Result<Raw, Fault> {
    let now = cx.now;
    let txn = cx.view.widen(Widened::assertion());
    let readings = sys.handles.metrics.readings(Some((&sys.handles, txn)))?;
    let (content_type, bytes) = spelled(&readings, sys.handles.metrics.naming(), &input.format, now)?;
    Ok(Raw { content_type, bytes })
}

pub(super) async fn running(sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Raw, Fault> {
    Ok(Raw { content_type: JSON, bytes: shown(sys.handles.metrics.running()) })
}

/// Numbers as they are asked for.
pub(crate) fn spelled(
    readings: &[Reading],
    naming: &Naming,
    format: &str,
    now: Timestamp,
) -> Result<(&'static str, Vec<u8>), Fault> {
    match format {
        "prometheus" if naming.has_prometheus => {
            Ok((PROMETHEUS, tresor_metrics::text(readings, &naming.prefix).into_bytes()))
        }
        "prometheus" => Err(Fault::invalid("prometheus is not enabled")),
        "" | "json" => {
            let mut bytes = Vec::new();
            encode_map(&summary(readings, naming, now), &mut bytes);
            Ok((JSON, bytes))
        }
        // What was sent is repeated nowhere.
        _ => Err(Fault::invalid("metric response format unknown: `prometheus`, or nothing for JSON")),
    }
}

/// The requests that run, by their ids.
pub(crate) fn shown(running: &Running) -> Vec<u8> {
    let entry = |request: tresor_core::RunningRequest| {
        let method = match request.verb {
            Verb::Read | Verb::Help => "GET",
            Verb::List => "LIST",
            Verb::Write => "POST",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
            #[allow(unreachable_patterns, reason = "more verbs come")]
            _ => "GET",
        };
        let shown = map! {
            "start_time" => rfc3339(request.began),
            "client_remote_address" => std::net::SocketAddr::new(request.address, request.port).to_string(),
            "request_path" => format!("/v1/{}", request.path),
            "request_method" => method,
            // Nobody is known when a request begins.
            "client_id" => "",
        };
        (request.id.to_string(), Body::from(shown))
    };
    let mut bytes = Vec::new();
    encode_map(&running.all().into_iter().map(entry).collect::<Map>(), &mut bytes);
    bytes
}

/// The numbers as clients know them in JSON: what is so now, and what happened of late.
fn summary(readings: &[Reading], naming: &Naming, now: Timestamp) -> Map {
    let (mut gauges, mut counters, mut samples) = (Vec::new(), Vec::new(), Vec::new());
    for reading in readings {
        let labels: Map =
            reading.labels.iter().map(|(name, value)| ((*name).to_owned(), Body::from(value.as_str()))).collect();
        let named = map! { "Name" => naming.whole(&reading.name), "Labels" => labels };
        match &reading.value {
            Value::Gauge(value) => gauges.push(Body::from(named.with("Value", float(*value)))),
            Value::Counter(counter) => counters.push(Body::from(counted(named, counter))),
            Value::Timer(timer) => samples.push(Body::from(timed(named, timer))),
        }
    }
    // As the reference prints it: in UTC, to the second.
    let timestamp = rfc3339(Timestamp::from_seconds(now.seconds())).replace('T', " ").replace('Z', " +0000 UTC");
    map! {
        "Timestamp" => timestamp,
        "Gauges" => gauges,
        "Points" => Vec::<Body>::new(),
        "Counters" => counters,
        "Samples" => samples,
    }
}

fn counted(named: Map, counter: &CounterReading) -> Map {
    let each = u64::from(counter.lately > 0);
    named
        .with("Count", counter.lately)
        .with("Rate", float(rate(whole(counter.lately), counter.window)))
        .with("Sum", counter.lately)
        .with("Min", each)
        .with("Max", each)
        .with("Mean", each)
        .with("Stddev", 0_u64)
}

fn timed(named: Map, timer: &TimerReading) -> Map {
    let (least, most, deviation) = timer.spread;
    let mean = if timer.lately == 0 { 0.0 } else { timer.sum_lately / whole(timer.lately) };
    named
        .with("Count", timer.lately)
        .with("Rate", float(rate(timer.sum_lately, timer.window)))
        .with("Sum", float(timer.sum_lately))
        .with("Min", float(least))
        .with("Max", float(most))
        .with("Mean", float(mean))
        .with("Stddev", float(deviation))
}

/// So much in each second.
fn rate(sum: f64, window: std::time::Duration) -> f64 {
    if window.is_zero() { 0.0 } else { sum / window.as_secs_f64() }
}

#[expect(clippy::cast_precision_loss, reason = "nobody has so many of anything")]
fn whole(count: u64) -> f64 {
    count as f64
}

fn float(value: f64) -> Body {
    Number::parse(&value.to_string()).map_or(Body::Null, Body::Number)
}
