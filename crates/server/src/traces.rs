//! Traces leave: OTLP over HTTP, as JSON, a batch at a time.
//!
//! Nobody waits for a collector: what does not fit into a bounded queue is lost, and what cannot be delivered too; the log says
//! when that begins and when it ends. The format is written here, by the specification of OTLP 1.0, because it is a page of JSON and
//! the house has an HTTP client; the libraries for it bring a second stack. Deliberately absent: metrics and logs, which have
//! their own ways, and trying again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tresor_core::traces::{End, Trace, Tracer};
use tresor_env::{Doors, Entropy, Tasks};
use tresor_model::{Body, Map, map};
use tresor_wire::json::encode_map;

use crate::config::TracesConfig;

/// How many traces may wait.
const QUEUE_MAX: usize = 2048;
/// How many leave together.
const BATCH_MAX: usize = 256;
/// How long the first of a batch waits for more.
const GATHER: Duration = Duration::from_secs(1);
/// How long a delivery may take.
const SENDING_MAX: Duration = Duration::from_secs(5);
/// A span of what a client asked for, and one within.
const KIND_SERVER: u64 = 2;
const KIND_INTERNAL: u64 = 1;
/// The status of what failed.
const STATUS_ERROR: u64 = 2;

/// Takes traces as far as there is room.
pub(crate) struct Queue {
    traces: mpsc::Sender<Trace>,
    /// Of the numbers that a trace id begins with, those below this are wanted.
    wanted_below: u64,
}

impl Tracer for Queue {
    fn wants(&self, trace_id: [u8; 16]) -> bool {
        let [a, b, c, d, e, f, g, h, ..] = trace_id;
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) <= self.wanted_below
    }

    fn take(&self, trace: Trace) {
        // Lost where there is no room: nobody waits.
        let _ = self.traces.try_send(trace);
    }
}

/// A tracer, and what delivers its traces from now on.
pub(crate) fn start(config: &TracesConfig, doors: &Doors, tasks: &Tasks) -> Arc<dyn Tracer> {
    let (traces, waiting) = mpsc::channel(QUEUE_MAX);
    tasks.spawn(deliver(config.endpoint.clone(), waiting, doors.clone()));
    Arc::new(Queue { traces, wanted_below: config.wanted_below })
}

async fn deliver(endpoint: String, mut waiting: mpsc::Receiver<Trace>, doors: Doors) {
    let client = match reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build() {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "no HTTP client: traces are lost"),
    };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut is_failing = false;
    while let Some(first) = waiting.recv().await {
        let mut batch = vec![first];
        let mut enough = doors.clock.sleep(GATHER);
        while batch.len() < BATCH_MAX {
            tokio::select! {
                more = waiting.recv() => match more {
                    Some(more) => batch.push(more),
                    None => break,
                },
                () = &mut enough => break,
            }
        }
        let mut bytes = Vec::new();
        encode_map(&spelled(&batch, &host, &*doors.entropy), &mut bytes);
        let sent = client.post(&endpoint).header("content-type", "application/json").body(bytes);
        let sent = sent.timeout(SENDING_MAX).send().await.and_then(reqwest::Response::error_for_status);
        match sent {
            Err(error) if !is_failing => {
                tracing::warn!(error = %error.without_url(), "traces cannot be delivered to their collector");
                is_failing = true;
            }
            Err(_) => {}
            Ok(_) if is_failing => {
                tracing::info!("traces are delivered again");
                is_failing = false;
            }
            Ok(_) => {}
        }
    }
}

/// An `ExportTraceServiceRequest`.
fn spelled(batch: &[Trace], host: &str, entropy: &dyn Entropy) -> Map {
    let spans: Vec<Body> = batch.iter().flat_map(|trace| spans(trace, entropy)).map(Body::from).collect();
    let resource = vec![
        attribute("service.name", "tresor"),
        attribute("service.version", env!("CARGO_PKG_VERSION")),
        attribute("host.name", host),
    ];
    let of_scope = map! { "scope" => map! { "name" => "tresor" }, "spans" => spans };
    let of_resource = map! {
        "resource" => map! { "attributes" => resource },
        "scopeSpans" => vec![Body::from(of_scope)],
    };
    map! { "resourceSpans" => vec![Body::from(of_resource)] }
}

/// The span of a request, and those of its steps.
fn spans(trace: &Trace, entropy: &dyn Entropy) -> Vec<Map> {
    let at = |after: Duration| trace.began.plus(after).nanos().to_string();
    let (trace_id, span_id) = (hex::encode(trace.trace_id), hex::encode(trace.span_id));
    let end = match trace.end {
        End::Done => "done",
        End::Refused => "refused",
        End::Failed => "failed",
    };
    let attributes = vec![
        attribute("tresor.request_id", &trace.request_id),
        attribute("tresor.mount", &trace.mount),
        attribute("tresor.mount_type", &trace.mount_type),
        attribute("tresor.operation", trace.operation),
        attribute("tresor.end", end),
    ];
    let mut whole = map! {
        "traceId" => trace_id.as_str(),
        "spanId" => span_id.as_str(),
        "name" => format!("{} {}", trace.operation, trace.mount).trim(),
        "kind" => KIND_SERVER,
        "startTimeUnixNano" => at(Duration::ZERO),
        "endTimeUnixNano" => at(trace.took),
        "attributes" => attributes,
    };
    if let Some(parent) = trace.parent_id {
        whole.insert("parentSpanId".to_owned(), Body::from(hex::encode(parent)));
    }
    if trace.end == End::Failed {
        whole.insert("status".to_owned(), Body::from(map! { "code" => STATUS_ERROR }));
    }
    let mut all = vec![whole];
    all.extend(trace.steps.iter().map(|step| {
        let mut own = [0; 8];
        entropy.fill(&mut own);
        map! {
            "traceId" => trace_id.as_str(),
            "spanId" => hex::encode(own),
            "parentSpanId" => span_id.as_str(),
            "name" => step.name,
            "kind" => KIND_INTERNAL,
            "startTimeUnixNano" => at(step.after),
            "endTimeUnixNano" => at(step.after + step.took),
        }
    }));
    all
}

fn attribute(key: &str, value: &str) -> Body {
    Body::from(map! { "key" => key, "value" => map! { "stringValue" => value } })
}
