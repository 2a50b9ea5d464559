//! Traces: how long each step of a request took, told to whoever collects that, where an operator wants it.
//!
//! Off unless a tracer is configured; then a request costs nothing for it but a look at whether there is one. A trace goes on
//! from a client's own (`traceparent`, W3C Trace Context). Invariant: of a request it says what it is about by mount and
//! operation, and how it ended; no path, no name, no address and no token is ever in one. Deliberately absent: how traces leave.

use std::sync::Arc;
use std::time::Duration;

use tresor_env::Entropy;
use tresor_model::{Fault, Request, Timestamp};

/// Where clients say which trace a request belongs to.
const TRACEPARENT: &str = "traceparent";

/// Takes traces of requests that are over. It never waits.
pub trait Tracer: Send + Sync {
    /// Whether a trace that begins with this id is wanted.
    fn wants(&self, trace_id: [u8; 16]) -> bool;
    /// Takes one.
    fn take(&self, trace: Trace);
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was done.
    Done,
    /// It was refused: the caller's to mend.
    Refused,
    /// It failed: ours to mend.
    Failed,
}

/// One step of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it is called.
    pub name: &'static str,
    /// When it began, counted from the request's beginning.
    pub after: Duration,
    /// How long it took.
    pub took: Duration,
}

/// The trace of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Which trace it belongs to.
    pub trace_id: [u8; 16],
    /// What it is in that trace.
    pub span_id: [u8; 8],
    /// What led to it there.
    pub parent_id: Option<[u8; 8]>,
    /// When it began.
    pub began: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// The id that answers, logs and records show.
    pub request_id: String,
    /// Its steps.
    pub steps: Vec<Step>,
    /// The mount that it was about, by its path.
    pub mount: String,
    /// The kind of that mount.
    pub mount_type: String,
    /// What was done there.
    pub operation: &'static str,
    /// How it ended.
    pub end: End,
    began_at: Duration,
}

/// A trace that is being made, or none.
pub(crate) struct Tracing(Option<Box<(Trace, Arc<dyn Tracer>)>>);

impl Tracing {
    /// Begins one where somebody wants it; `at` is a moment of the monotonic clock.
    pub(crate) fn begin(
        tracer: Option<&Arc<dyn Tracer>>,
        request: &Request,
        began: Timestamp,
        at: Duration,
        entropy: &dyn Entropy,
    ) -> Self {
        let Some(tracer) = tracer else { return Self(None) };
        let given = request.headers.get(TRACEPARENT).and_then(|values| parse(values.first()?));
        let (trace_id, parent_id) = match given {
            // Whoever began the trace decided whether it is wanted.
            Some((_, _, false)) => return Self(None),
            Some((trace_id, parent_id, true)) => (trace_id, Some(parent_id)),
            None => {
                let mut trace_id = [0; 16];
                entropy.fill(&mut trace_id);
                if !tracer.wants(trace_id) {
                    return Self(None);
                }
                (trace_id, None)
            }
        };
        let mut span_id = [0; 8];
        entropy.fill(&mut span_id);
        let trace = Trace {
            trace_id,
            span_id,
            parent_id,
            began,
            took: Duration::ZERO,
            request_id: request.id.as_str().to_owned(),
            steps: Vec::new(),
            mount: String::new(),
            mount_type: String::new(),
            operation: "",
            end: End::Done,
            began_at: at,
        };
        Self(Some(Box::new((trace, Arc::clone(tracer)))))
    }

    /// A moment that a step begins at; none is asked for where there is no trace.
    pub(crate) fn moment(&self, now: impl FnOnce() -> Duration) -> Duration {
        if self.0.is_some() { now() } else { Duration::ZERO }
    }

    /// A step that began at a moment is over; the moment it is over at is asked for only where there is a trace.
    pub(crate) fn step(&mut self, name: &'static str, began: Duration, now: impl FnOnce() -> Duration) {
        if let Some(traced) = &mut self.0 {
            let (after, took) = (began.saturating_sub(traced.0.began_at), now().saturating_sub(began));
            traced.0.steps.push(Step { name, after, took });
        }
    }

    /// What the request is about.
    pub(crate) fn about(&mut self, what: impl FnOnce() -> (String, String, &'static str)) {
        if let Some(traced) = &mut self.0 {
            (traced.0.mount, traced.0.mount_type, traced.0.operation) = what();
        }
    }

    /// The request is over.
    pub(crate) fn end<T>(self, outcome: &Result<T, Fault>, now: impl FnOnce() -> Duration) {
        let Some(traced) = self.0 else { return };
        let (mut trace, tracer) = *traced;
        trace.took = now().saturating_sub(trace.began_at);
        trace.end = match outcome {
            Ok(_) => End::Done,
            Err(Fault::Refusal(_)) => End::Refused,
            Err(Fault::Failure(_)) => End::Failed,
        };
        tracer.take(trace);
    }
}

/// Trace, span and whether it is wanted: `00-<32 hex>-<16 hex>-<2 hex>`.
fn parse(text: &str) -> Option<([u8; 16], [u8; 8], bool)> {
    let mut parts = text.trim().splitn(4, '-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // A later version may have more behind the flags.
    let flags = flags.get(..2).filter(|_| version != "00" || flags.len() == 2)?;
    if version.len() != 2 || version == "ff" {
        return None;
    }
    let trace_id: [u8; 16] = bytes(trace)?;
    let span_id: [u8; 8] = bytes(span)?;
    let flags: [u8; 1] = bytes(flags)?;
    let is_valid = trace_id != [0; 16] && span_id != [0; 8];
    is_valid.then_some((trace_id, span_id, flags[0] & 1 == 1))
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if hex.len() != N * 2 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_on_from_what_a_client_says_when_it_says_it_well() {
        let known = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parsed = parse(known);
        assert_eq!(parsed.map(|(trace, span, wanted)| (trace[0], span[7], wanted)), Some((0x0a, 0x31, true)));
        assert_eq!(parse(&known.replace("-01", "-00")).map(|(_, _, wanted)| wanted), Some(false));
        assert!(parse(&known.replace("00-0a", "01-0a")).is_some());
        for wrong in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c8031-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b716920333ü-01",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
