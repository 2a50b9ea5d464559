//! `listener "tcp"`, and `listener "unix"`, which is one without TLS at a socket in the file system.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::NamedGroup;
use tresor_env::net::LocalSocket;
use tresor_hcl::{Block, Value};
use tresor_http::{ForwardedFor, ListenerOrigins, Numbers, WantedHeaders};
use tresor_model::request::Withheld;
use tresor_wire::json::JsonLimits;

use super::ConfigError;
use super::acme::{Acme, AcmeConfig};
use super::load::Source;
use super::numbers::{read_in_flight, read_telemetry};
use super::pages::Pages;
use super::proxies::Proxies;
use crate::proxied::ProxyProtocol;
use crate::tls;

/// A listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where it listens.
    pub place: Place,
    /// Where other nodes are listened for; the port behind the API's when absent.
    pub cluster_address: Option<SocketAddr>,
    /// Its certificate; `None` is plain HTTP.
    pub tls: Option<ListenerTls>,
    /// The largest body.
    pub request_bytes_max: usize,
    /// How long the head of a request may take to arrive.
    pub header_timeout: Duration,
    /// How long the body of a request may take to arrive.
    pub body_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// How long an answer may stand still because its reader does not read.
    pub write_timeout: Duration,
    /// How long a request may take; the server's bound when absent.
    pub request_time_max: Option<Duration>,
    /// What it keeps from those who need no token.
    pub withheld: Withheld,
    /// What everybody may read through it, in every state of the node and without a record.
    pub opened: Vec<&'static str>,
    /// Headers that an operator wants in its answers.
    pub headers: WantedHeaders,
    /// Bounds of what is sent as JSON.
    pub json: JsonLimits,
    /// The proxies that are believed about where requests come from.
    pub forwarded_for: Option<ForwardedFor>,
    /// The load balancers that say so of connections.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// The namespace below which all of its requests are; empty for the root namespace, else ending in a slash.
    pub chroot: String,
    /// What it does about `sys/metrics`.
    pub numbers: Numbers,
    /// Whose pages may ask through it, whatever is stored for all listeners.
    pub origins: Option<ListenerOrigins>,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At a port.
    Tcp(SocketAddr),
    /// At a socket in the file system.
    Local(LocalSocket),
}

impl Place {
    /// The address, where it is one that other machines could reach.
    #[must_use]
    pub const fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Local(_) => None,
        }
    }

    /// What the configuration calls it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
            Self::Local(_) => "unix",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Local(socket) => socket.path.display().fmt(f),
        }
    }
}

impl Listener {
    /// A listener without TLS that says nothing of itself.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self {
            place: Place::Tcp(address),
            cluster_address: None,
            tls: None,
            request_bytes_max: 32 * 1024 * 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: IDLE_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            request_time_max: None,
            withheld: Withheld::default(),
            opened: Vec::new(),
            headers: WantedHeaders::default(),
            json: JsonLimits::default(),
            forwarded_for: None,
            proxy_protocol: None,
            chroot: String::new(),
            numbers: Numbers::default(),
            origins: None,
        }
    }
}

/// How long a connection waits for its next request by default: longer than clients keep theirs, so that it is they
/// who close, and no request runs into a connection that is just being closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// The TLS side of a listener.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// Where its certificate comes from.
    pub source: CertificateSource,
    /// The oldest version offered.
    pub version_min: TlsVersion,
    /// The newest version offered.
    pub version_max: TlsVersion,
    /// Certificates that clients must have one of, PEM.
    pub client_ca_file: Option<PathBuf>,
    /// Clients must present a certificate of that authority.
    pub require_client_certificate: bool,
    /// Clients are not even asked for one.
    pub disable_client_certificates: bool,
    /// The cipher suites of TLS 1.2 that are offered; all that there are when absent. Those of 1.3 are always offered.
    pub cipher_suites: Option<Vec<String>>,
    /// The groups of key exchange that are offered, the preferred one first; the usual ones when absent.
    pub key_exchanges: Option<Vec<NamedGroup>>,
}

/// Where a listener's certificate comes from.
#[derive(Clone, Debug)]
pub enum CertificateSource {
    /// An operator puts it there.
    Files(CertificateFiles),
    /// The listener gets it for itself.
    Acme(AcmeConfig),
}

/// A certificate in files.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// How often it is looked whether the files were replaced; they are read again at a signal only when absent.
    pub reload_interval: Option<Duration>,
}

/// A version of TLS that is offered at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

/// How often it is looked whether a certificate was replaced, where that is wanted, and at most.
const RELOAD_INTERVAL: Duration = Duration::from_secs(60);
const RELOAD_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// How long a client may stop reading by default.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Keys of the reference that have no effect here and are harmless to ignore.
const IGNORED: [&str; 6] = [
    "tls_prefer_server_cipher_suites",
    "disable_replication_status_endpoints",
    "purpose",
    "profiling",
    "disable_request_limiter",
    "require_request_header",
];

pub(super) fn read_listener(source: &mut Source<'_>, block: &Block<'_>) -> Result<Listener, ConfigError> {
    let is_local = match block.labels.as_slice() {
        ["tcp"] => false,
        ["unix"] => true,
        [other] => {
            let text = format!("listener `{other}` is not available: `tcp` and `unix` are");
            return Err(source.error(block.position, text));
        }
        _ => return Err(source.error(block.position, "`listener` takes one type")),
    };
    let mut address = if is_local { String::new() } else { "127.0.0.1:8200".to_owned() };
    let mut socket = LocalSocket { path: PathBuf::new(), mode: None, user: None, group: None };
    let mut address_position = block.position;
    let (mut disabled, mut certificate, mut key) = (false, None, None);
    let (mut version_min, mut version_max) = (TlsVersion::Tls12, TlsVersion::Tls13);
    let (mut client_ca, mut require, mut no_certificates) = (None, false, false);
    let mut listener = Listener::at(SocketAddr::from(([127, 0, 0, 1], 8200)));
    let mut proxies = Proxies::new();
    let mut pages = Pages::default();
    let mut acme = Acme::new();
    let (mut suites, mut key_exchanges) = (None, None);
    let (mut auto_reload, mut reload_interval) = (false, RELOAD_INTERVAL);
    for item in &block.object.items {
        let Some(name) = item.keys.first() else { continue };
        let value = &item.value;
        match name.name.as_str() {
            "address" => {
                address = source.address("address", value)?;
                address_position = value.position;
            }
            "cluster_address" => {
                let wrong = || source.error(value.position, "`cluster_address` must be an IP address and a port");
                let parsed = parse_address(&source.address("cluster_address", value)?);
                listener.cluster_address = Some(parsed.ok_or_else(wrong)?);
            }
            "socket_mode" if is_local => {
                let mode = source.text("socket_mode", value)?;
                let wrong = || source.error(value.position, "`socket_mode` is octal, such as \"0660\"");
                let parsed = u32::from_str_radix(&mode, 8).ok().filter(|mode| *mode <= 0o777);
                socket.mode = if mode.is_empty() { None } else { Some(parsed.ok_or_else(wrong)?) };
            }
            "socket_user" if is_local => socket.user = owner(source, "socket_user", value, "/etc/passwd")?,
            "socket_group" if is_local => socket.group = owner(source, "socket_group", value, "/etc/group")?,
            "chroot_namespace" => {
                let path = source.text("chroot_namespace", value)?;
                let wrong = || source.error(value.position, "`chroot_namespace` is the path of a namespace");
                let whole = format!("{}/", path.trim_matches('/'));
                let parsed = tresor_model::Path::from_decoded(&whole).map_err(|_| wrong())?;
                listener.chroot = if whole == "/" { String::new() } else { parsed.as_str().to_owned() };
            }
            "tls_disable" => disabled = source.flag("tls_disable", value)?,
            "tls_cert_file" => certificate = Some(PathBuf::from(source.text("tls_cert_file", value)?)),
            "tls_key_file" => key = Some(PathBuf::from(source.text("tls_key_file", value)?)),
            "tls_min_version" => version_min = version(source, "tls_min_version", value)?,
            "tls_max_version" => version_max = version(source, "tls_max_version", value)?,
            "tls_client_ca_file" => client_ca = Some(PathBuf::from(source.text("tls_client_ca_file", value)?)),
            "tls_require_and_verify_client_cert" => {
                require = source.flag("tls_require_and_verify_client_cert", value)?
            }
            "tls_disable_client_certs" => no_certificates = source.flag("tls_disable_client_certs", value)?,
            "max_request_size" => {
                let size = value.as_integer("max_request_size").map_err(|error| source.wrong(&error))?;
                // As in the reference: zero is the default, below zero there is no bound.
                if size != 0 {
                    listener.request_bytes_max = usize::try_from(size).unwrap_or(usize::MAX);
                }
            }
            "http_read_header_timeout" => {
                listener.header_timeout = source.duration("http_read_header_timeout", value)?
            }
            "http_read_timeout" => listener.body_timeout = source.duration("http_read_timeout", value)?,
            "http_idle_timeout" => listener.idle_timeout = source.duration("http_idle_timeout", value)?,
            // 0 is the reference's way to say `no bound`: there is always one.
            "http_write_timeout" => {
                let bound = source.duration("http_write_timeout", value)?;
                listener.write_timeout = if bound.is_zero() { WRITE_TIMEOUT } else { bound };
            }
            // As in the reference: zero is the default.
            "max_request_duration" => {
                let bound = source.duration("max_request_duration", value)?;
                listener.request_time_max = Some(bound).filter(|bound| !bound.is_zero());
            }
            "redact_addresses" => listener.withheld.addresses = source.flag("redact_addresses", value)?,
            "redact_cluster_name" => listener.withheld.cluster = source.flag("redact_cluster_name", value)?,
            "redact_version" => listener.withheld.version = source.flag("redact_version", value)?,
            "max_json_depth" => set(source, "max_json_depth", value, &mut listener.json.depth_max)?,
            "max_json_string_value_length" => {
                set(source, "max_json_string_value_length", value, &mut listener.json.string_bytes_max)?;
            }
            "max_json_object_entry_count" => {
                set(source, "max_json_object_entry_count", value, &mut listener.json.entries_max)?;
            }
            "max_json_array_element_count" => {
                set(source, "max_json_array_element_count", value, &mut listener.json.elements_max)?;
            }
            "max_request_json_strings" => {
                set(source, "max_request_json_strings", value, &mut listener.json.strings_max)?;
            }
            "max_request_json_memory" => {
                set(source, "max_request_json_memory", value, &mut listener.json.text_bytes_max)?;
            }
            "tls_cipher_suites" => suites = Some(cipher_suites(source, value)?),
            "tls_key_exchange_preferences" => key_exchanges = key_exchange_preferences(source, value)?,
            "tls_auto_reload" => auto_reload = source.flag("tls_auto_reload", value)?,
            "tls_auto_reload_interval" => {
                reload_interval = source.duration("tls_auto_reload_interval", value)?;
                if reload_interval < RELOAD_INTERVAL_MIN {
                    return Err(source.error(value.position, "`tls_auto_reload_interval` is at least one second"));
                }
            }
            "custom_response_headers" => want(source, value, &mut listener.headers)?,
            "telemetry" => read_telemetry(source, value, &mut listener)?,
            "inflight_requests_logging" => read_in_flight(source, value, &mut listener)?,
            cors if cors.starts_with("cors_") => pages.read(source, name, value)?,
            // As in the reference they are off; they are opened for the whole server.
            unauthenticated @ ("disable_unauthed_rekey_endpoints" | "disable_unauthed_generate_root_endpoints") => {
                if !source.flag(unauthenticated, value)? {
                    let text = format!(
                        "`{unauthenticated}` is not available: `enable_unauthenticated_access` at top level opens these"
                    );
                    return Err(source.error(name.position, text));
                }
            }
            proxied if proxies.read(source, proxied, value)? => {}
            fetched if acme.read(source, fetched, value)? => {}
            forwarded if forwarded.starts_with("x_forwarded_for_client_cert") => {
                return Err(source.error(name.position, format!("`{forwarded}` is not available: nothing looks at it")));
            }
            ignored if IGNORED.contains(&ignored) => source.ignored(ignored, name.position),
            unknown => source.unknown(unknown, name.position),
        }
    }
    (listener.forwarded_for, listener.proxy_protocol) = proxies.judged(source)?;
    listener.origins = pages.judged(source, block.position)?;
    if is_local {
        if !Path::new(&address).is_absolute() {
            return Err(source.error(address_position, "`address` of a `unix` listener must be the path of its socket"));
        }
        socket.path = PathBuf::from(address);
        listener.place = Place::Local(socket);
        // Nobody listens to it on the way.
        return Ok(listener);
    }
    let wrong = || source.error(address_position, "`address` must be an IP address and a port");
    listener.place = Place::Tcp(parse_address(&address).ok_or_else(wrong)?);
    if disabled {
        return Ok(listener);
    }
    if version_min > version_max {
        return Err(source.error(block.position, "`tls_min_version` is later than `tls_max_version`"));
    }
    if require && no_certificates {
        return Err(source.error(
            block.position,
            "`tls_require_and_verify_client_cert` and `tls_disable_client_certs` exclude each other",
        ));
    }
    let none = |source: &Source<'_>| {
        let text = "`tls_cert_file` and `tls_key_file` are required, or `tls_acme_domains`, or `tls_disable = true`";
        source.error(block.position, text)
    };
    let certificate_source = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            acme.unused(source);
            let reload_interval = auto_reload.then_some(reload_interval);
            CertificateSource::Files(CertificateFiles { certificate, key, reload_interval })
        }
        (None, None) => CertificateSource::Acme(acme.judged(source)?.ok_or_else(|| none(source))?),
        _ => return Err(none(source)),
    };
    listener.tls = Some(ListenerTls {
        source: certificate_source,
        version_min,
        version_max,
        client_ca_file: client_ca,
        require_client_certificate: require,
        disable_client_certificates: no_certificates,
        cipher_suites: suites,
        key_exchanges,
    });
    Ok(listener)
}

/// The number of a user or group, which may be given by its name; empty for none.
fn owner(source: &Source<'_>, key: &str, value: &Value, known: &str) -> Result<Option<u32>, ConfigError> {
    let named = source.text(key, value)?;
    if named.is_empty() {
        return Ok(None);
    }
    if let Ok(number) = named.parse() {
        return Ok(Some(number));
    }
    // The system's own list: names that only a directory service knows are given by number.
    let list = std::fs::read_to_string(known).unwrap_or_default();
    let number = list.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(named.as_str())).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    let unknown = || source.error(value.position, format!("`{key}`: `{named}` is not in {known}; give its number"));
    number.map(Some).ok_or_else(unknown)
}

/// A bound of what is sent as JSON; zero is the default.
fn set<T: TryFrom<i64>>(source: &Source<'_>, key: &str, value: &Value, bound: &mut T) -> Result<(), ConfigError> {
    let number = value.as_integer(key).map_err(|error| source.wrong(&error))?;
    if number != 0 {
        let wrong = || source.error(value.position, format!("`{key}` is a number above zero"));
        *bound =
            Some(number).filter(|number| *number > 0).and_then(|number| T::try_from(number).ok()).ok_or_else(wrong)?;
    }
    Ok(())
}

/// `custom_response_headers`: names and values, by the status of the answers that they are wanted in.
fn want(source: &Source<'_>, value: &Value, wanted: &mut WantedHeaders) -> Result<(), ConfigError> {
    let by_status = value.as_object("custom_response_headers").map_err(|error| source.wrong(&error))?;
    for status in &by_status.items {
        let Some(of_status) = status.keys.first() else { continue };
        let headers = status.value.as_object(&of_status.name).map_err(|error| source.wrong(&error))?;
        for header in &headers.items {
            let Some(name) = header.keys.first() else { continue };
            let values = header.value.as_string_list(&name.name).map_err(|error| source.wrong(&error))?;
            let added = wanted.add(&of_status.name, &name.name, &values);
            added.map_err(|error| {
                source.error(name.position, format!("a header of `custom_response_headers` {error}"))
            })?;
        }
    }
    Ok(())
}

/// `tls_cipher_suites`: names of suites of TLS 1.2, separated by commas. Those that are not offered here, because they are weak,
/// are left out with a warning.
fn cipher_suites(source: &mut Source<'_>, value: &Value) -> Result<Vec<String>, ConfigError> {
    let text = source.text("tls_cipher_suites", value)?;
    let mut kept = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        // The name that it had before its hash was a part of it.
        let whole = if name.ends_with("_CHACHA20_POLY1305") { format!("{name}_SHA256") } else { name.to_owned() };
        if tls::offers(&whole) {
            kept.push(whole);
        } else {
            let (file, line) = (source.file.display(), value.position.line);
            source.warnings.push(format!("{file}:{line}: the cipher suite `{name}` is not offered, and left out"));
        }
    }
    if kept.is_empty() && !text.trim().is_empty() {
        return Err(source.error(value.position, "none of `tls_cipher_suites` is offered"));
    }
    Ok(kept)
}

/// `tls_key_exchange_preferences`: names of groups. Those that are not offered here are left out with a warning.
fn key_exchange_preferences(source: &mut Source<'_>, value: &Value) -> Result<Option<Vec<NamedGroup>>, ConfigError> {
    let names = value.as_string_list("tls_key_exchange_preferences").map_err(|error| source.wrong(&error))?;
    let mut kept = Vec::new();
    for name in &names {
        if let Some(group) = tls::group(name) {
            kept.push(group);
        } else {
            let (file, line) = (source.file.display(), value.position.line);
            source.warnings.push(format!("{file}:{line}: the key exchange `{name}` is not offered, and left out"));
        }
    }
    if kept.is_empty() && !names.is_empty() {
        return Err(source.error(value.position, "none of `tls_key_exchange_preferences` is offered"));
    }
    Ok((!kept.is_empty()).then_some(kept))
}

fn version(source: &Source<'_>, key: &str, value: &Value) -> Result<TlsVersion, ConfigError> {
    match source.text(key, value)?.as_str() {
        "tls12" => Ok(TlsVersion::Tls12),
        "tls13" => Ok(TlsVersion::Tls13),
        "tls10" | "tls11" => {
            Err(source.error(value.position, "TLS 1.0 and 1.1 are broken and not offered: `tls12` and `tls13` are"))
        }
        _ => Err(source.error(value.position, format!("`{key}` is `tls12` or `tls13`"))),
    }
}

/// An address; without a port it is 8200, and a bare port listens everywhere.
pub(crate) fn parse_address(text: &str) -> Option<SocketAddr> {
    let text = text.replace("localhost", "127.0.0.1");
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Some(port) = text.strip_prefix(':') {
        return port.parse().ok().map(|port| SocketAddr::from(([0, 0, 0, 0], port)));
    }
    text.trim_matches(['[', ']']).parse().ok().map(|ip| SocketAddr::new(ip, 8200))
}
