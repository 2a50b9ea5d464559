//! What the server sends elsewhere: the audit devices that the configuration declares, its numbers and its traces. Can the files
//! be written to, and does somebody listen?
//!
//! Who does not now may later, and the server starts all the same and delivers when it can: so this is doubtful and no fault.
//! Nothing is sent. Deliberately absent: what is spoken over a connection, TLS included.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::Duration;

use super::{Check, storage};
use crate::auditing::referred_to;
use crate::config::{AuditConfig, ServerConfig, Way};

/// How long a listener is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many addresses of a name are tried.
const ADDRESSES_MAX: usize = 4;
const LISTEN: &str = "see that it runs and that a firewall lets this machine through; until then records wait for it";

/// The declared devices.
pub(super) fn audit(config: &ServerConfig) -> Vec<Check> {
    if config.audit_devices.is_empty() {
        return vec![Check::ok(
            "Devices",
            "none is declared; they can be enabled through the API, and are not known here",
        )];
    }
    config.audit_devices.iter().flat_map(device).collect()
}

fn device(AuditConfig { device, .. }: &AuditConfig) -> Vec<Check> {
    let name = format!("Device {}", device.path);
    let option = |name: &str| device.options.get(name).map_or("", String::as_str);
    let mut checks: Vec<Check> = device.options.values().flat_map(|value| unreadable(&name, value)).collect();
    checks.extend(match (device.kind.as_str(), option("socket_type")) {
        ("file", _) => {
            Some(file(&name, if option("file_path").is_empty() { option("path") } else { option("file_path") }))
        }
        ("syslog", _) if option("address").is_empty() => Some(local(&name, &tresor_audit::syslog::PLACES)),
        ("syslog", _) | ("socket", "unix") => Some(local(&name, &[option("address")])),
        ("socket", "udp") => Some(resolved(&name, option("address"))),
        ("socket", _) => Some(reached(&name, option("address"))),
        // What a reference leads to may be a secret: of the address, only host and port are told.
        ("http", _) => match option("uri") {
            place if place.contains("://") && !place.starts_with("http") => {
                referred_to(place).map(|uri| server(&name, uri.lines().next().unwrap_or_default()))
            }
            uri => Some(server(&name, uri)),
        },
        _ => None,
    });
    checks
}

/// The variables and files that an option names, and that cannot be read.
fn unreadable(name: &str, value: &str) -> Vec<Check> {
    let places = value.split('"').filter(|part| part.starts_with("env://") || part.starts_with("file://"));
    let missing = places.filter(|place| referred_to(place).is_none()).map(|place| {
        let advice =
            "set the variable for the server, or let its user read the file; the device does nothing before that";
        Check::warn(name, format!("{place} cannot be read"), advice)
    });
    missing.collect()
}

fn file(name: &str, named: &str) -> Check {
    if ["stdout", "stderr", "discard"].iter().any(|word| named.eq_ignore_ascii_case(word)) {
        return Check::ok(name, format!("records go to {}", named.to_ascii_lowercase()));
    }
    let path = Path::new(named);
    let writable = match path.exists() {
        true => rustix::fs::access(path, rustix::fs::Access::WRITE_OK).map_err(std::io::Error::from),
        false => storage::existing(path).map_or(Ok(()), |ancestor| storage::may_write(&ancestor)),
    };
    match writable {
        Ok(()) => Check::ok(name, format!("{named} can be written to")),
        Err(error) => {
            let advice = "give file and directory to the server's user (chown); until then records wait for it";
            Check::warn(name, format!("{named} cannot be written to: {error}"), advice)
        }
    }
}

/// A socket of this machine, for datagrams or for a stream.
fn local(name: &str, places: &[&str]) -> Check {
    let listens = |place: &&&str| {
        let is_reached = UnixDatagram::unbound().is_ok_and(|socket| socket.connect(place).is_ok());
        is_reached || UnixStream::connect(place).is_ok()
    };
    match places.iter().find(listens) {
        Some(place) => Check::ok(name, format!("somebody listens at {place}")),
        None => Check::warn(name, format!("nobody listens at {}", places.join(", ")), LISTEN),
    }
}

/// A server that is named by a URL.
fn server(name: &str, url: &str) -> Check {
    let parsed = reqwest::Url::parse(url).ok();
    let place = parsed.and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
    place.map_or_else(|| Check::warn(name, "its address is none", "https://HOST/PATH"), |place| reached(name, &place))
}

fn addresses(place: &str) -> Result<Vec<SocketAddr>, String> {
    let found: Vec<SocketAddr> =
        place.to_socket_addrs().map_err(|error| error.to_string())?.take(ADDRESSES_MAX).collect();
    if found.is_empty() { Err("the name has no address".to_owned()) } else { Ok(found) }
}

fn unresolved(name: &str, place: &str, error: &str) -> Check {
    Check::warn(name, format!("{place}: {error}"), "a name that this machine's resolver knows (`getent hosts` asks it)")
}

fn resolved(name: &str, place: &str) -> Check {
    match addresses(place) {
        Ok(found) => Check::ok(name, format!("{place} has {} addresses; datagrams are not answered", found.len())),
        Err(error) => unresolved(name, place, &error),
    }
}

fn reached(name: &str, place: &str) -> Check {
    let found = match addresses(place) {
        Ok(found) => found,
        Err(error) => return unresolved(name, place, &error),
    };
    let mut last = String::new();
    for address in found {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return Check::ok(name, format!("somebody listens at {place}")),
            Err(error) => last = error.to_string(),
        }
    }
    Check::warn(name, format!("{place} does not answer: {last}"), LISTEN)
}

/// Collectors of numbers and of traces.
pub(super) fn telemetry(config: &ServerConfig) -> Vec<Check> {
    let collector = |collector: &crate::config::Collector| match collector.way {
        Way::Datagrams => resolved("Numbers", &collector.address),
        Way::Stream => reached("Numbers", &collector.address),
    };
    let mut checks: Vec<Check> = config.telemetry.collectors.iter().map(collector).collect();
    checks.extend(config.telemetry.traces.iter().map(|traces| server("Traces", &traces.endpoint)));
    if checks.is_empty() {
        checks.push(Check::ok("Collectors", "nothing is sent; whoever wants numbers asks for them (sys/metrics)"));
    }
    checks
}
