//! What must hold for any bytes that a stranger, or a damaged disk, can hand to a parser: one function per target.
//!
//! The same functions run over the corpora and over generated input on every `cargo test` (`tests/`), and under the
//! coverage-guided fuzzer (`fuzz/`). A target that finds something panics. Ids such as FZ-02 are rows of the security
//! bank. Deliberately absent: TLS and HTTP framing, which are other people's parsers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a target says by panicking that it found something"
)]

mod audit;
mod cel;
mod config;
mod directory;
mod document;
mod duration;
mod fields;
mod filter;
mod frames;
mod http_request;
mod json;
mod kmip;
mod path;
mod policy;
mod record;
mod routes;
mod seal;
mod share;
mod snapshot;
mod workflow;

pub use audit::{audit_entry, audit_log};
pub use cel::cel;
pub use config::config;
pub use directory::{directory, ldif};
pub use document::hcl;
pub use duration::duration;
pub use fields::fields;
pub use filter::filter;
pub use frames::frames;
pub use http_request::http_request;
pub use json::json;
pub use kmip::kmip;
pub use path::path;
pub use policy::policy;
pub use record::record;
pub use routes::routes;
pub use seal::seal;
pub use share::share;
pub use snapshot::snapshot;
pub use workflow::workflow;

/// A target.
pub struct Target {
    /// Its name, which is also that of its corpus.
    pub name: &'static str,
    /// Runs one input; panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Pieces that its inputs are made of, for those who make some up.
    pub words: &'static [&'static str],
    /// How many inputs a test makes up: fewer where one run is dear.
    pub cases: u32,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "audit_entry", run: audit_entry, words: audit::WORDS, cases: 400 },
    Target { name: "audit_log", run: audit_log, words: audit::WORDS, cases: 60 },
    Target { name: "cel", run: cel, words: cel::WORDS, cases: 1000 },
    Target { name: "config", run: config, words: config::WORDS, cases: 400 },
    Target { name: "directory", run: directory, words: directory::WORDS, cases: 1000 },
    Target { name: "duration", run: duration, words: duration::WORDS, cases: 1000 },
    Target { name: "fields", run: fields, words: fields::WORDS, cases: 500 },
    Target { name: "filter", run: filter, words: filter::WORDS, cases: 1000 },
    Target { name: "frames", run: frames, words: frames::WORDS, cases: 1000 },
    Target { name: "hcl", run: hcl, words: document::WORDS, cases: 500 },
    Target { name: "http_request", run: http_request, words: http_request::WORDS, cases: 400 },
    Target { name: "json", run: json, words: json::WORDS, cases: 500 },
    Target { name: "kmip", run: kmip, words: kmip::WORDS, cases: 1000 },
    Target { name: "ldif", run: ldif, words: directory::WORDS, cases: 1000 },
    Target { name: "path", run: path, words: path::WORDS, cases: 1000 },
    Target { name: "policy", run: policy, words: policy::WORDS, cases: 400 },
    Target { name: "record", run: record, words: record::WORDS, cases: 500 },
    Target { name: "routes", run: routes, words: routes::WORDS, cases: 40 },
    Target { name: "seal", run: seal, words: record::WORDS, cases: 300 },
    Target { name: "share", run: share, words: share::WORDS, cases: 500 },
    Target { name: "snapshot", run: snapshot, words: snapshot::WORDS, cases: 500 },
    Target { name: "workflow", run: workflow, words: workflow::WORDS, cases: 500 },
];
