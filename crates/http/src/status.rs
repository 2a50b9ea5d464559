//! Faults to HTTP: the one place, exhaustive, so that a new kind of fault must be given its status here.

use http::StatusCode;
use tresor_model::fault::Side;
use tresor_model::{Fault, Refusal};

/// The status of a fault.
pub(crate) const fn of(fault: &Fault) -> StatusCode {
    match fault {
        Fault::Refusal(refusal) => match refusal {
            Refusal::Invalid(_) | Refusal::Unproven(_) => StatusCode::BAD_REQUEST,
            Refusal::Denied | Refusal::Foreign(_) => StatusCode::FORBIDDEN,
            Refusal::NoRoute(_) | Refusal::Absent(_) => StatusCode::NOT_FOUND,
            Refusal::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::Throttled(_) => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Redirect(_) => StatusCode::TEMPORARY_REDIRECT,
            Refusal::Elsewhere | Refusal::Sealed | Refusal::Uninitialized | Refusal::Unavailable(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        },
        Fault::Failure(failure) => match failure.side {
            Side::Ours => StatusCode::INTERNAL_SERVER_ERROR,
            Side::Upstream => StatusCode::BAD_GATEWAY,
        },
    }
}
