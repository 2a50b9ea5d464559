//! Oddities that clients depend on, each with its reason; none leaks inward.

use tresor_model::request::INLINE_FAILED;
use tresor_model::{Fault, Refusal};

/// The text of an error as clients know it.
pub(crate) fn error_text(fault: &Fault) -> String {
    match fault {
        // The reference prints a denial as a list of one error; clients look for the words within.
        Fault::Refusal(Refusal::Denied) => "1 error occurred:\n\t* permission denied\n\n".to_owned(),
        other => other.to_string(),
    }
}

/// The form that a collector of numbers means that says it in a header, where the address says nothing.
pub(crate) fn format_of_numbers(accept: &[String]) -> Option<&'static str> {
    let is_open_metrics =
        accept.first().is_some_and(|first| first.trim_start().starts_with("application/openmetrics-text"));
    let is_asked = is_open_metrics || accept.iter().any(|accept| accept.contains("prometheus/telemetry"));
    is_asked.then_some("prometheus")
}

/// A client compares the whole body of an empty 404 with this text, byte for byte.
pub(crate) const NOTHING: &[u8] = br#"{"errors":[]}"#;

/// A client compares the whole header, so there is no charset.
pub(crate) const JSON: &str = "application/json";

/// Whether a login in the headers failed, and not what came with it: clients tell these apart by a header.
pub(crate) fn is_of_inline_login(fault: &Fault) -> bool {
    matches!(fault, Fault::Refusal(refusal) if refusal.to_string().starts_with(INLINE_FAILED))
}
