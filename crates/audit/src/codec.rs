//! Entries as bytes: what is sealed into the local log, and back.
//!
//! Lengths are varints, times are nanoseconds, the layout's version comes first; nothing is left out, so that a
//! record means the same when a device asks for it days later. Encoding counts first and then fills one buffer of
//! the exact size, so that no half-grown copy of a secret stays behind in freed memory. Deliberately absent:
//! tolerance; bytes that do not decode to their last one are damage.

mod decode;
mod encode;

pub use decode::EncodedMap;
pub(crate) use decode::decode;
pub(crate) use encode::{encode_request, encode_response};

const VERSION: u8 = 1;

/// How deep bodies may nest; the decoder of requests stops far earlier.
const DEPTH_MAX: usize = 512;

/// What stands for a value below that.
const TOO_DEEP: &str = "nested too deeply to be recorded";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::borrow::Cow;
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;
    use tresor_env::Timestamp;
    use tresor_model::{Body, Operation, TokenType, map};
    use zeroize::Zeroizing;

    use super::*;
    use crate::body::Fields;
    use crate::entry::{
        AnswerBody, AuditedHeader, AuthFacts, Clear, GrantingPolicy, Handle, MountFacts, NamespaceFacts, PolicyResults,
        RequestFacts, ResponseEntry, ResponseFacts, Sensitive,
    };

    fn sample() -> Zeroizing<Vec<u8>> {
        let body = map! { "a" => vec!["b"], "n" => 3, "t" => true, "z" => Body::Null, "m" => map! { "x" => "y" } };
        let results = PolicyResults { allowed: true, granting_policies: vec![GrantingPolicy::default()] };
        let policies = ["p".to_owned()];
        let metadata = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let auth = AuthFacts {
            client_token: Some(Sensitive("t")),
            policies: Cow::Borrowed(&policies),
            policy_results: Some(results),
            metadata: Some(Cow::Borrowed(&metadata)),
            token_type: Some(TokenType::Batch),
            token_issue_time: Some(Timestamp::EPOCH),
            ..AuthFacts::default()
        };
        let request = RequestFacts {
            id: "r".into(),
            operation: Operation::Patch,
            mount: MountFacts::default(),
            client_token: None,
            client_token_accessor: Some(Handle("h")),
            namespace: NamespaceFacts::default(),
            path: "p".into(),
            body: Fields::Borrowed(&body),
            clear_keys: Cow::Borrowed(&policies),
            remote_address: Clear::default(),
            remote_port: 65_535,
            wrap_ttl: Some(Duration::new(1, 2)),
            headers: vec![AuditedHeader { name: "x".into(), values: Cow::Borrowed(&policies), hashed: true }],
            client_certificate_serial_number: "17".into(),
        };
        let response = ResponseFacts {
            auth: Some(auth.clone()),
            body: AnswerBody::Raw { content_type: "text/plain".into(), bytes: &[255] },
            ..ResponseFacts::default()
        };
        encode_response(&ResponseEntry {
            time: Timestamp::from_nanos(-1),
            auth: &auth,
            request: &request,
            response: &response,
            error: "e".into(),
        })
    }

    #[test]
    fn an_entry_comes_back_as_it_was_and_its_buffer_never_grew() {
        let bytes = sample();
        assert_eq!(bytes.capacity(), bytes.len());
        let entry = decode(&bytes).unwrap();
        let again = encode_response(&ResponseEntry {
            time: entry.time,
            auth: &entry.auth,
            request: &entry.request,
            response: entry.response.as_ref().unwrap(),
            error: entry.error.clone(),
        });
        assert_eq!(*again, *bytes);
    }

    #[test]
    fn a_cut_entry_is_none() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_none(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(mut bytes: Vec<u8>, at: prop::sample::Index, byte: u8) {
            drop(decode(&bytes));
            bytes.insert(0, VERSION);
            drop(decode(&bytes));
            let mut flipped = sample();
            let at = at.index(flipped.len());
            flipped[at] = byte;
            drop(decode(&flipped));
        }
    }
}
