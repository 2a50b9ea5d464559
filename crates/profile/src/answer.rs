//! Answers as later values find them: as a client sees them, and always with `data`.

use tresor_model::{Body, Fault, Map, RequestId, Response, Shape};
use tresor_wire::{envelope, json};

/// What is kept of an answer. Of one that is no JSON, nothing is.
///
/// # Errors
/// When it is larger than what is read as JSON.
pub fn answered(mut response: Response, id: &RequestId) -> Result<Map, Fault> {
    response.shape = match response.shape {
        Shape::Raw { .. } | Shape::Stream { .. } | Shape::Messages(_) => Shape::Nothing,
        // What the server says of itself has no envelope; here it has.
        Shape::Flat(data) | Shape::Health { report: data, .. } | Shape::Mirrored(data) => Shape::Enveloped(data),
        shape => shape,
    };
    let text = envelope::of(&response, id);
    let read = json::decode(text.expose().as_bytes(), &json::JsonLimits::default());
    let mut answer = read.map_err(|_| Fault::invalid("the answer is too large to be kept"))?;
    if answer.get("data").is_none_or(|data| *data == Body::Null) {
        answer.insert("data", Map::new());
    }
    Ok(answer)
}
