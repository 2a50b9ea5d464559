//! The configuration of one audit device: what the core stores behind the barrier and the broker is opened with.
//!
//! Deliberately absent: the storing itself, and the options that only one kind of device knows (`file.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use tresor_env::Entropy;
use zeroize::Zeroizing;

use crate::broker::Options;
use crate::coverage::Takes;
use crate::error::AuditError;
use crate::shape::{Exclusion, Format, Shaping};
use crate::sink::SinkKind;

/// Length of a salt in bytes.
pub const SALT_BYTES: usize = 32;

/// The key of one device's HMACs; a device that is enabled anew gets a new one.
pub struct DeviceSalt(Zeroizing<[u8; SALT_BYTES]>);

impl DeviceSalt {
    /// A new salt.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; SALT_BYTES]);
        entropy.fill(&mut *bytes);
        Self(bytes)
    }

    /// A stored salt.
    #[must_use]
    pub fn from_bytes(bytes: [u8; SALT_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for storing behind the barrier and for the device's own redactor.
    #[must_use]
    pub fn expose(&self) -> &[u8; SALT_BYTES] {
        &self.0
    }
}

/// One audit device as enabled.
pub struct DeviceConfig {
    /// Its path below `sys/audit/`, ending in a slash.
    pub path: String,
    /// Its kind, such as `file`.
    pub kind: String,
    /// What the operator says of it.
    pub description: String,
    /// Its options as sent.
    pub options: BTreeMap<String, String>,
    /// Not replicated.
    pub local: bool,
    /// The server's configuration declares it, not somebody through the API.
    pub declared: bool,
    /// The key of its HMACs.
    pub salt: DeviceSalt,
}

/// The options that every kind of device has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatOptions {
    /// Handles of tokens are hashed; default true.
    pub hmac_accessor: bool,
    /// Nothing is hashed; default false.
    pub log_raw: bool,
    /// Of the answers to list requests only the number of entries is shown; default false.
    pub elide_list_responses: bool,
    /// Put in front of each line; empty by default.
    pub prefix: String,
}

impl FormatOptions {
    /// What shows least, for a device whose stored options no longer make sense.
    pub(crate) const fn strictest() -> Self {
        Self { hmac_accessor: true, log_raw: false, elide_list_responses: false, prefix: String::new() }
    }
}

/// What a device shows, of which records, and how: what its options say beside where it writes.
pub(crate) struct Rules {
    pub(crate) format: FormatOptions,
    pub(crate) shaping: Shaping,
    pub(crate) takes: Takes,
}

impl Rules {
    /// What shows least of everything, for a device whose stored options no longer make sense.
    pub(crate) fn strictest() -> Self {
        Self { format: FormatOptions::strictest(), shaping: Shaping::default(), takes: Takes::All }
    }
}

const COMMON_OPTIONS: &[&str] = &[
    "elide_list_responses",
    "exclude",
    "fallback",
    "filter",
    "format",
    "hmac_accessor",
    "log_raw",
    "prefix",
    "require_delivery",
    "skip_test",
];

const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
const WRITE_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// The longest accepted prefix, in bytes.
const PREFIX_BYTES_MAX: usize = 256;

impl DeviceConfig {
    /// Reads the common options and refuses unknown ones.
    ///
    /// # Errors
    /// [`AuditError::InvalidOption`] naming the option.
    pub(crate) fn rules(
        &self,
        kind: &dyn SinkKind,
        options: &Options,
        prefix_allowed: bool,
    ) -> Result<Rules, AuditError> {
        let known = |name: &str| COMMON_OPTIONS.contains(&name) || kind.option_names().contains(&name);
        if let Some(unknown) = self.options.keys().find(|name| !known(name)) {
            return Err(AuditError::option(format!("unknown option `{}`", unknown.escape_default())));
        }
        let spelled = match self.option("format") {
            None | Some("" | "json") => Format::Json,
            Some("jsonx") => Format::Jsonx,
            Some(_) => return Err(AuditError::option("unknown `format`; use `json` or `jsonx`")),
        };
        self.switch("skip_test", false)?;
        self.switch("require_delivery", false)?;
        let format = FormatOptions {
            hmac_accessor: self.switch("hmac_accessor", true)?,
            log_raw: self.switch("log_raw", false)?,
            elide_list_responses: self.switch("elide_list_responses", false)?,
            prefix: self.prefix(prefix_allowed)?,
        };
        let exclusions = Exclusion::parse_all(self.option("exclude").unwrap_or_default())?;
        let shaping = Shaping { header: kind.header(self, options)?, exclusions, format: spelled };
        Ok(Rules { format, shaping, takes: self.takes()? })
    }

    fn takes(&self) -> Result<Takes, AuditError> {
        let is_fallback = self.switch("fallback", false)?;
        match self.option("filter").unwrap_or_default() {
            "" if is_fallback => Ok(Takes::Rest),
            "" => Ok(Takes::All),
            _ if is_fallback => Err(AuditError::option("a fallback device cannot have a `filter`")),
            filter => {
                Takes::filter(filter).map_err(|error| AuditError::option(format!("`filter` is no expression: {error}")))
            }
        }
    }

    /// Whether the device is enabled without a test of it.
    pub(crate) fn skips_test(&self) -> bool {
        self.switch("skip_test", false).unwrap_or(false)
    }

    /// Whether requests wait until the device has taken their records.
    pub(crate) fn requires_delivery(&self) -> bool {
        self.switch("require_delivery", false).unwrap_or(true)
    }

    /// The text of an option.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    pub(crate) fn switch(&self, name: &'static str, default: bool) -> Result<bool, AuditError> {
        switch(&self.options, name, default)
    }

    /// How long a peer may take for one write.
    pub(crate) fn write_timeout(&self) -> Result<Duration, AuditError> {
        self.write_timeout_or(WRITE_TIMEOUT)
    }

    /// The same, with another default.
    pub(crate) fn write_timeout_or(&self, default: Duration) -> Result<Duration, AuditError> {
        match self.option("write_timeout").unwrap_or_default() {
            "" => Ok(default),
            text => tresor_wire::duration::parse_go(text)
                .filter(|timeout| !timeout.is_zero() && *timeout <= WRITE_TIMEOUT_MAX)
                .ok_or(AuditError::option("`write_timeout` must be a duration of at most 60s")),
        }
    }

    /// A prefix puts bytes of the caller's choice into a file of the server (PLG-01): off unless the server's
    /// configuration allows it, and then printable and not the start of a script.
    fn prefix(&self, allowed: bool) -> Result<String, AuditError> {
        let prefix = self.option("prefix").unwrap_or_default();
        if prefix.is_empty() {
            return Ok(String::new());
        }
        if !allowed {
            return Err(AuditError::option("audit log prefixing is not allowed by the server's configuration"));
        }
        if prefix.len() > PREFIX_BYTES_MAX {
            return Err(AuditError::option(format!("`prefix` is longer than {PREFIX_BYTES_MAX} bytes")));
        }
        if prefix.chars().any(|character| character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')) {
            return Err(AuditError::option("`prefix` must be printable"));
        }
        if prefix.starts_with("#!") || prefix.starts_with('\u{feff}') {
            return Err(AuditError::option("`prefix` must not look like the start of a script"));
        }
        Ok(prefix.to_owned())
    }
}

fn switch(options: &BTreeMap<String, String>, name: &'static str, default: bool) -> Result<bool, AuditError> {
    match options.get(name).map(String::as_str) {
        None => Ok(default),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(_) => Err(AuditError::option(format!("`{name}` must be true or false"))),
    }
}

/// Whether a device with these options gets what no other device takes.
#[must_use]
pub fn is_fallback(options: &BTreeMap<String, String>) -> bool {
    switch(options, "fallback", false).unwrap_or(false)
}
