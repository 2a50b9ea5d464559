//! Answers as later values find them: as a client sees them, and always with `data`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_model::{Body, Fault, Map, RequestId, Response, Shape};
use tresor_wire::{envelope, json};

/// What is kept of an answer. One without the envelope is in `data`: its fields if it is a map of JSON, else its media type and its
/// bytes as text, in base64 where they are none, by the names that the reference has for them.
///
/// # Errors
/// When it is larger than what is read as JSON, or has no end that could be waited for.
pub fn answered(mut response: Response, id: &RequestId) -> Result<Map, Fault> {
    response.shape = match response.shape {
        Shape::Stream { .. } | Shape::Messages(_) => {
            return Err(Fault::invalid("the answer is a stream, of which nothing can be kept here"));
        }
        Shape::Raw { content_type, bytes } => Shape::Enveloped(raw(content_type.into_owned(), bytes)),
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

fn raw(content_type: String, bytes: Vec<u8>) -> Map {
    if content_type == "application/json"
        && let Ok(map) = json::decode(&bytes, &json::JsonLimits::default())
    {
        return map;
    }
    let text = String::from_utf8(bytes).unwrap_or_else(|error| STANDARD.encode(error.as_bytes()));
    Map::new().with("http_content_type", content_type).with("http_raw_body", text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing step ends the test")]
    use super::*;

    fn data(content_type: &'static str, bytes: &[u8]) -> String {
        let shape = Shape::Raw { content_type: content_type.into(), bytes: bytes.to_vec() };
        let response = Response { shape, ..Response::default() };
        let answer = answered(response, &RequestId::new("id".to_owned())).unwrap();
        let mut text = Vec::new();
        json::encode(answer.get("data").unwrap(), &mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn an_answer_without_the_envelope_is_in_data_whatever_it_is() {
        assert_eq!(data("application/json", br#"{"a": [1]}"#), r#"{"a":[1]}"#);
        let text = r#"{"http_content_type":"text/plain","http_raw_body":"a 1"}"#;
        assert_eq!(data("text/plain", b"a 1"), text);
        assert_eq!(
            data("application/json", b"[1]"),
            r#"{"http_content_type":"application/json","http_raw_body":"[1]"}"#
        );
        assert_eq!(data("x/y", &[255]), r#"{"http_content_type":"x/y","http_raw_body":"/w=="}"#);
    }
}
