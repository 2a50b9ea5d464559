//! Listeners: can their ports be had, are their certificates whole, for how long, and who can listen to them.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tresor_model::Timestamp;

use super::Check;
use crate::config::{AcmeConfig, CertificateFiles, CertificateSource, Listener, ListenerTls, Place, ServerConfig};
use crate::{acme, tls, validity};

/// A certificate that ends within this time is to be renewed now.
const RENEWAL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Each listener; `runs` says whether a server has the store open, and so, surely, its ports.
pub(super) fn look(config: &ServerConfig, runs: bool) -> Vec<Check> {
    let numbered = config.listeners.iter().enumerate();
    numbered.map(|(number, listener)| Check::group(&format!("Listener {}", number + 1), of(listener, runs))).collect()
}

fn of(listener: &Listener, runs: bool) -> Vec<Check> {
    let address = match &listener.place {
        Place::Tcp(address) => *address,
        Place::Local(socket) => return vec![local(&socket.path)],
    };
    let mut checks = vec![port("Port", address, runs)];
    match &listener.tls {
        None if address.ip().is_loopback() => {
            checks.push(Check::ok("TLS", "off, and only this machine reaches the port"));
        }
        None => checks.push(Check::warn(
            "TLS",
            format!("off, and {address} is reached by other machines: tokens and secrets can be read on the way"),
            "tls_cert_file and tls_key_file, unless something in front of the server does TLS and nobody goes around it",
        )),
        Some(settings) => checks.extend(certificate(settings)),
    }
    checks
}

/// Whether a socket in the file system can be had: what lies there may be one that a server left or listens at, and nothing else.
fn local(path: &Path) -> Check {
    const NAME: &str = "Socket";
    match (std::fs::symlink_metadata(path), path.parent().map(std::fs::metadata)) {
        (Ok(found), _) if found.file_type().is_socket() => Check::ok(NAME, format!("{} is a socket", path.display())),
        (Ok(_), _) => Check::fail(NAME, format!("{} is something else", path.display()), "another path, or remove it"),
        (Err(_), Some(Ok(above))) if above.is_dir() => Check::ok(NAME, format!("{} is free", path.display())),
        (Err(_), _) => Check::fail(
            NAME,
            format!("{} has no folder to lie in", path.display()),
            "make the folder, for its user alone",
        ),
    }
}

/// Whether a port can be had. One that is in use is what a running server looks like.
pub(super) fn port(name: &str, address: SocketAddr, runs: bool) -> Check {
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse && runs => {
            Check::ok(name, format!("{address} is in use, and a server runs on this storage"))
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let advice = "end what uses it (`ss -ltnp` names it), or choose another port";
            Check::fail(name, format!("{address} is in use"), advice)
        }
        Err(error) => {
            let advice = match error.kind() {
                ErrorKind::PermissionDenied => "a port from 1024 on, or setcap cap_net_bind_service=+ep on the binary",
                ErrorKind::AddrNotAvailable => "the address of an interface of this machine, or 0.0.0.0",
                _ => "another address",
            };
            Check::fail(name, format!("{address}: {error}"), advice)
        }
    }
}

fn certificate(settings: &ListenerTls) -> Vec<Check> {
    let mut checks = match &settings.source {
        CertificateSource::Files(files) => of_files(settings, files),
        CertificateSource::Acme(acme) => fetched(acme),
    };
    checks.extend(settings.client_ca_file.iter().flat_map(|file| dates("Dates of the Clients' Authority", file)));
    checks
}

fn of_files(settings: &ListenerTls, files: &CertificateFiles) -> Vec<Check> {
    let provider = tls::provider(settings);
    let configured =
        tls::certificate(files, &provider).and_then(|certificate| tls::configure(settings, provider, certificate));
    let mut checks = vec![match configured {
        Ok(_) => Check::ok("Certificate and Key", format!("{} and its key go together", files.certificate.display())),
        Err(error) => Check::fail("Certificate and Key", error, "the listener does not start before this is mended"),
    }];
    checks.extend(dates("Dates", &files.certificate));
    checks.extend(key_mode(&files.key));
    checks
}

/// What a listener got for itself until now. Of what it is still to get nothing can be said before it asks.
fn fetched(config: &AcmeConfig) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, file) in acme::kept(config, &tresor_env_os::doors()) {
        let found = dates("Dates", &file);
        if found.is_empty() {
            let text = format!("{name} has none yet: the server gets it from {} when it starts", config.directory);
            checks.push(Check::warn("Certificate", text, "see the server's log if it stays so"));
        }
        checks.extend(found);
        checks.extend(key_mode(&file));
    }
    checks
}

/// A check for each certificate in a file that can be read.
fn dates(name: &str, file: &Path) -> Vec<Check> {
    let Ok(found) = CertificateDer::pem_file_iter(file) else { return Vec::new() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp::from_seconds(i64::try_from(now.as_secs()).unwrap_or(0));
    found.flatten().map(|certificate| date(name, file, validity::of(&certificate), now)).collect()
}

fn date(name: &str, file: &Path, dates: Option<(Timestamp, Timestamp)>, now: Timestamp) -> Check {
    let file = file.display();
    let shown = tresor_wire::time::rfc3339;
    let Some((from, until)) = dates else {
        return Check::warn(
            name,
            format!("{file}: its dates cannot be read"),
            "look at it by `openssl x509 -noout -dates`",
        );
    };
    if until < now {
        let advice = "renew it, then send the server SIGHUP: clients refuse the connection";
        Check::fail(name, format!("{file} ended at {}", shown(until)), advice)
    } else if now < from {
        let advice = "wait, or set this machine's clock: clients refuse the connection";
        Check::fail(name, format!("{file} begins at {}", shown(from)), advice)
    } else if until < now.plus(RENEWAL) {
        Check::warn(name, format!("{file} ends at {}", shown(until)), "renew it, then send the server SIGHUP")
    } else {
        Check::ok(name, format!("{file} is good until {}", shown(until)))
    }
}

fn key_mode(file: &Path) -> Option<Check> {
    let mode = std::fs::metadata(file).ok()?.permissions().mode() & 0o7777;
    let file = file.display();
    Some(match mode & 0o027 {
        0 => Check::ok("Private Key", format!("{file} has the mode {mode:04o}")),
        _ => Check::warn(
            "Private Key",
            format!("{file} has the mode {mode:04o}: others can read or change it"),
            "chmod 0600",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::Outcome;

    #[test]
    fn a_certificate_is_renewed_before_it_ends() {
        let day = |number: i64| Timestamp::from_seconds(number * 86_400);
        let outcome = |from, until| date("x", Path::new("f"), Some((day(from), day(until))), day(100)).outcome;
        assert_eq!(outcome(1, 99), Outcome::Fail);
        assert_eq!(outcome(101, 500), Outcome::Fail);
        assert_eq!(outcome(1, 129), Outcome::Warn);
        assert_eq!(outcome(1, 131), Outcome::Ok);
    }
}
