//! The `syslog` device: each line as a message to the syslog daemon of this machine.
//!
//! A message is what RFC 3164 wants of a process on the same machine: `<priority>time tag[pid]: line`, severity `info`, the
//! record's own time in UTC. How messages get to the daemon, and that none is lost with it, is the socket's (`socket.rs`).
//! Deliberately absent: daemons elsewhere; a `socket` device or the daemon itself speaks to those.

use std::path::PathBuf;
use std::sync::Arc;

use tresor_env::Doors;

use crate::broker::Options;
use crate::device::DeviceConfig;
use crate::error::AuditError;
use crate::shape::Header;
use crate::sink::{AuditSink, SinkKind};
use crate::socket::{SocketSink, Target};

/// Where daemons listen.
pub const PLACES: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
/// The severity of every message: `info`.
const SEVERITY: u8 = 6;
/// The longest tag that RFC 3164 knows.
const TAG_BYTES_MAX: usize = 32;

/// The facilities with their numbers.
const FACILITIES: [(&str, u8); 20] = [
    ("KERN", 0),
    ("USER", 1),
    ("MAIL", 2),
    ("DAEMON", 3),
    ("AUTH", 4),
    ("SYSLOG", 5),
    ("LPR", 6),
    ("NEWS", 7),
    ("UUCP", 8),
    ("CRON", 9),
    ("AUTHPRIV", 10),
    ("FTP", 11),
    ("LOCAL0", 16),
    ("LOCAL1", 17),
    ("LOCAL2", 18),
    ("LOCAL3", 19),
    ("LOCAL4", 20),
    ("LOCAL5", 21),
    ("LOCAL6", 22),
    ("LOCAL7", 23),
];

/// Makes `syslog` devices.
#[derive(Clone, Copy, Default)]
pub struct SyslogSinkKind;

impl SinkKind for SyslogSinkKind {
    fn name(&self) -> &'static str {
        "syslog"
    }

    fn option_names(&self) -> &'static [&'static str] {
        &["address", "facility", "tag", "write_timeout"]
    }

    fn header(&self, config: &DeviceConfig, options: &Options) -> Result<Option<Header>, AuditError> {
        let named = config.option("facility").filter(|name| !name.is_empty()).unwrap_or("AUTH");
        let facility = FACILITIES.iter().find(|(name, _)| name.eq_ignore_ascii_case(named));
        let (_, facility) = facility.ok_or(AuditError::option(
            "`facility` must be one of KERN, USER, MAIL, DAEMON, AUTH, SYSLOG, LPR, NEWS, UUCP, CRON, AUTHPRIV, FTP, LOCAL0 to LOCAL7",
        ))?;
        let tag = config.option("tag").filter(|tag| !tag.is_empty()).unwrap_or("vault");
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/');
        if tag.len() > TAG_BYTES_MAX || !tag.bytes().all(is_plain) {
            return Err(AuditError::option("`tag` must be at most 32 letters, digits and `_-./`"));
        }
        let priority = facility * 8 + SEVERITY;
        Ok(Some(Header { priority, tag: tag.to_owned(), process_id: options.process_id }))
    }

    fn check(&self, config: &DeviceConfig, options: &Options) -> Result<(), AuditError> {
        self.header(config, options)?;
        config.write_timeout().map(drop)
    }

    fn open(&self, doors: &Doors, config: &DeviceConfig, options: &Options) -> Result<Arc<dyn AuditSink>, AuditError> {
        self.check(config, options)?;
        let places = match config.option("address").unwrap_or_default() {
            "" => PLACES.map(PathBuf::from).to_vec(),
            path => vec![PathBuf::from(path)],
        };
        Ok(Arc::new(SocketSink::new(doors, Target::Syslog(places), config.write_timeout()?)))
    }
}
