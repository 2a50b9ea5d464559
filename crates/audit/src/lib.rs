//! Audit: every request and every answer goes to a local sealed log first; devices are told from there.
//!
//! A request is recorded before its effect and its answer before it leaves ([`Broker`]); what a request waits for is
//! one append to the local log ([`log`]), never a device. Devices tail the log ([`AuditSink`]), each through its own
//! [`Redactor`] with its own salt and options, so that a hung device delays nothing and a returning one misses
//! nothing. Two witnesses carry the promise in types: [`Audited`] is the only thing that leaves the server, and a
//! sink is handed only [`Lines`], which only a redactor can write.
//!
//! Deliberately absent: knowledge of routes (which are unaudited is declared by them), the storage of device
//! configurations (the core's, behind the barrier), and any way to drop a record.

mod body;
pub mod broker;
mod codec;
mod coverage;
pub mod device;
mod document;
pub mod entry;
pub mod error;
mod expression;
pub mod file;
mod filter;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod http;
pub mod log;
mod numbers;
pub mod record;
pub mod redact;
mod shape;
pub mod sink;
pub mod socket;
pub mod syslog;
mod tail;
mod way;
pub mod witness;

pub use body::Fields;
pub use broker::{
    Broker, DeviceStanding, EncodedResponse, Numbers, Options, References, StandardOutput, Standing, check,
};
pub use codec::EncodedMap;
pub use device::{DeviceConfig, DeviceSalt, FormatOptions};
pub use entry::{
    Admission, AnswerBody, AuditedHeader, AuthFacts, Clear, Entry, GrantingPolicy, Handle, Head, HeldRequest,
    MountFacts, NamespaceFacts, PolicyResults, RequestEntry, RequestFacts, ResponseEntry, ResponseFacts, Sensitive,
    WrapFacts, WrittenResponse,
};
pub use error::{AuditError, Unrecorded};
pub use file::FileSinkKind;
pub use filter::Filter;
pub use http::HttpSinkKind;
pub use log::{Durability, LogOptions, LogStanding};
pub use record::Lines;
pub use redact::Redactor;
pub use shape::Header;
pub use sink::{AuditSink, SinkError, SinkKind, Undelivered};
pub use socket::SocketSinkKind;
pub use syslog::SyslogSinkKind;
pub use tail::Prepared;
pub use witness::{Audited, Exempt};
