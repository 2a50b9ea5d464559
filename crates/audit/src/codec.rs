//! Entries as bytes: what is sealed into the local log, and back.
//!
//! Lengths are varints (the head's with room to spare, so that it is written in its place), times are nanoseconds, the layout's version comes first; nothing is left out, so that a
//! record means the same when a device asks for it days later. Who asks and for what (the head) comes first, then what
//! was recorded of it: that it was asked, that it was answered, or both. A buffer that has to grow is copied and wiped, so that no half-grown copy of a
//! secret stays behind in freed memory. Deliberately absent: tolerance; bytes that do not decode to their last one are
//! damage.

mod decode;
mod encode;

pub use decode::EncodedMap;
pub(crate) use decode::{decode, decode_asked, decode_caller, decode_request, split};
pub(crate) use encode::{encode_head, encode_request, encode_response};

const VERSION: u8 = 3;

/// How deep bodies may nest; the decoder of requests stops far earlier.
const DEPTH_MAX: usize = 512;

/// What stands for a value below that.
const TOO_DEEP: &str = "nested too deeply to be recorded";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use std::borrow::Cow;
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;
    use tresor_env::Timestamp;
    use tresor_model::{Body, Operation, TokenType, map};
    use tresor_secret::Wiped;

    use super::*;
    use crate::body::Fields;
    use crate::device::{DeviceSalt, FormatOptions};
    use crate::entry::{
        Admission, AnswerBody, AuditedHeader, AuthFacts, Clear, GrantingPolicy, Handle, Head, MountFacts,
        NamespaceFacts, PolicyResults, RequestEntry, RequestFacts, ResponseEntry, ResponseFacts, Sensitive,
    };
    use crate::redact::{Redactor, Shown};

    fn sample() -> Wiped<Vec<u8>> {
        sample_of("t")
    }

    /// The record of a request with this token.
    fn sample_of(token: &str) -> Wiped<Vec<u8>> {
        let body = map! { "a" => vec!["b"], "n" => 3, "t" => true, "z" => Body::Null, "m" => map! { "x" => "y" } };
        let results = PolicyResults { allowed: true, granting_policies: vec![GrantingPolicy::default()] };
        let policies = ["p".to_owned()];
        let metadata = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let auth = AuthFacts {
            client_token: Some(Sensitive(token)),
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
            forwarded_from: "10.0.0.2:8201".into(),
        };
        let response = ResponseFacts {
            auth: Some(auth.clone()),
            body: AnswerBody::Raw { content_type: "text/plain".into(), bytes: &[255] },
            ..ResponseFacts::default()
        };
        let head = Head::new(&auth, &request);
        let (time, admission) = (Timestamp::EPOCH, Admission::Ordinary);
        let request = Some(RequestEntry { time, head: &head, error: "r".into(), admission }.hold());
        let (time, error) = (Timestamp::from_nanos(-1), "e".into());
        encode_response(ResponseEntry { time, head, request, response: &response, error })
    }

    /// The records of one request, recorded apart and together.
    fn apart_and_together() -> ([Wiped<Vec<u8>>; 2], Wiped<Vec<u8>>) {
        let together = sample();
        let entries = decode(&together).unwrap();
        let [asked, answered] = entries.as_slice() else { panic!("{} entries", entries.len()) };
        let head = Head::new(&asked.auth, &asked.request);
        let (time, error) = (asked.time, asked.error.clone());
        let request = encode_request(&RequestEntry { time, head: &head, error, admission: Admission::Ordinary });
        let (time, error, response) = (answered.time, answered.error.clone(), answered.response.as_ref().unwrap());
        let answer = encode_response(ResponseEntry { time, head, request: None, response, error });
        ([request, answer], together.clone())
    }

    #[test]
    fn an_entry_comes_back_as_it_was() {
        let (apart, together) = apart_and_together();
        let [asked, answered] = apart.each_ref().map(|bytes| decode(bytes).unwrap().pop().unwrap());
        assert!(asked.response.is_none() && asked.error.as_str() == "r" && asked.time == Timestamp::EPOCH);
        let head = Head::new(&answered.auth, &answered.request);
        let (time, error) = (asked.time, asked.error.clone());
        let request = Some(RequestEntry { time, head: &head, error, admission: Admission::Ordinary }.hold());
        let (time, error, response) = (answered.time, answered.error.clone(), answered.response.as_ref().unwrap());
        assert_eq!(*encode_response(ResponseEntry { time, head, request, response, error }), *together);
    }

    #[test]
    fn all_records_of_a_request_are_shown_as_if_each_stood_alone() {
        let ([request, answer], both) = apart_and_together();
        for raw in [false, true] {
            let options =
                FormatOptions { log_raw: raw, hmac_accessor: true, elide_list_responses: false, prefix: String::new() };
            let redactor = Redactor::new(&DeviceSalt::from_bytes([7; 32]), options);
            let (mut alone, mut together, mut shown) = (Vec::new(), Vec::new(), Shown::default());
            let (other, longer) = (sample_of("s"), sample_of("tt"));
            for bytes in [&*both, &*other, &*request, &*answer, &*longer, &*both, &*other, &*request] {
                let entries = decode(bytes).unwrap();
                entries.iter().for_each(|entry| redactor.write_line(entry, &mut alone));
                let written = redactor.write_record(bytes, &|_| true, &mut shown, &mut together).unwrap();
                let answers = entries.iter().filter(|entry| entry.response.is_some()).count() as u64;
                assert_eq!((written.time, written.answers), (entries[0].time, answers));
                assert_eq!(written.requests, entries.len() as u64 - answers);
            }
            assert_eq!(String::from_utf8(together).unwrap(), String::from_utf8(alone).unwrap());
        }
    }

    #[test]
    fn what_a_device_does_not_take_leaves_no_trace_in_what_it_takes() {
        let ([request, answer], both) = apart_and_together();
        let other = sample_of("s");
        let records = [&*both, &*request, &*answer, &*other, &*both, &*request, &*answer];
        let plain =
            FormatOptions { log_raw: false, hmac_accessor: true, elide_list_responses: false, prefix: String::new() };
        let redactor = Redactor::new(&DeviceSalt::from_bytes([7; 32]), plain);
        // Every choice of which of them it takes.
        for choice in 0_u32..1 << records.len() {
            let is_taken = |at: usize| choice & (1 << at) != 0;
            let (mut alone, mut together, mut shown) = (Vec::new(), Vec::new(), Shown::default());
            for (at, bytes) in records.into_iter().enumerate() {
                let written = redactor.write_record(bytes, &|_| is_taken(at), &mut shown, &mut together).unwrap();
                assert_eq!(is_taken(at), written.requests + written.answers > 0);
                if is_taken(at) {
                    decode(bytes).unwrap().iter().for_each(|entry| redactor.write_line(entry, &mut alone));
                }
            }
            assert_eq!(String::from_utf8(together).unwrap(), String::from_utf8(alone).unwrap(), "{choice:b}");
        }
    }

    #[test]
    fn a_text_of_a_body_that_is_none_is_shown_all_the_same() {
        let mut bytes = sample();
        let at = bytes.windows(4).position(|four| four == b"x\x04\x01y").unwrap();
        bytes[at + 3] = 0xff;
        let options =
            FormatOptions { log_raw: true, hmac_accessor: true, elide_list_responses: false, prefix: String::new() };
        let (redactor, mut lines) = (Redactor::new(&DeviceSalt::from_bytes([7; 32]), options), Vec::new());
        assert!(redactor.write_record(&bytes, &|_| true, &mut Shown::default(), &mut lines).is_some());
        assert!(String::from_utf8(lines).unwrap().contains("{\"x\":\"\u{fffd}\"}"));
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
