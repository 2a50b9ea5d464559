//! What the process may do on this machine, and the key that is to open its store.

use rustix::process::{Resource, getrlimit};
use tresor_core::StaticKeySource as _;

use super::Check;
use crate::config::{SealWay, ServerConfig};
use crate::process::lock_memory;
use crate::static_seal::ConfiguredKeys;

/// Fewer open files are soon used up by connections.
const OPEN_FILES_MIN: u64 = 4096;
/// A clock of before this was never set: 2026-01-01.
const RELEASED_SECONDS: u64 = 1_767_225_600;

pub(super) fn look(config: Option<&ServerConfig>) -> Vec<Check> {
    vec![open_files(), memory(config), clock(), user()]
}

fn open_files() -> Check {
    const NAME: &str = "Open Files";
    const ADVICE: &str = "LimitNOFILE=65536 in the service's unit, or `ulimit -n 65536`: each connection takes one";
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < OPEN_FILES_MIN => Check::warn(NAME, format!("at most {limit}"), ADVICE),
        Some(limit) => Check::ok(NAME, format!("at most {limit}")),
        None => Check::ok(NAME, "without a limit"),
    }
}

/// Tries what the server does at its start; this process ends at once.
fn memory(config: Option<&ServerConfig>) -> Check {
    const NAME: &str = "Locked Memory";
    if config.is_some_and(|config| config.disable_mlock) {
        let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
        let is_on = swaps.lines().count() > 1;
        return match is_on {
            true => Check::warn(
                NAME,
                "disable_mlock is set, and swap is on: keys may be written to it",
                "swap off, or encrypted; or give the server the right to lock memory and remove disable_mlock",
            ),
            false => Check::ok(NAME, "disable_mlock is set, and there is no swap"),
        };
    }
    match lock_memory() {
        Ok(()) => Check::ok(NAME, "the server may lock its memory"),
        Err(error) => {
            let (what, advice) = error.split_once("\n\n").unwrap_or((&error, ""));
            Check::fail(NAME, what, advice)
        }
    }
}

fn clock() -> Check {
    const NAME: &str = "Clock";
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let shown = tresor_wire::time::rfc3339(tresor_model::Timestamp::from_seconds(i64::try_from(now).unwrap_or(0)));
    if now < RELEASED_SECONDS {
        let advice = "set the clock, and let it be kept by a time service: tokens and leases end by it";
        return Check::fail(NAME, format!("it is {shown}, which is before this release was made"), advice);
    }
    Check::ok(NAME, format!("it is {shown}"))
}

fn user() -> Check {
    const NAME: &str = "User";
    match rustix::process::geteuid() {
        user if user.is_root() => Check::warn(
            NAME,
            "this is root: what follows is what root may do, and what root leaves behind the server's user may not touch",
            "run it as the user that the server runs as",
        ),
        user => Check::ok(NAME, format!("user id {}", user.as_raw())),
    }
}

/// What is to open the store.
pub(super) fn seal(config: &ServerConfig) -> Check {
    let seal = match config.seal.as_ref().map(|seal| &seal.way) {
        None => return Check::ok("Shamir", "the store is opened by shares that people enter after every start"),
        Some(SealWay::Static(seal)) => seal,
        Some(SealWay::AwsKms(seal)) => {
            return Check::ok("AWS KMS", format!("the key `{}` in {}; it was not asked", seal.key_id, seal.region));
        }
        Some(SealWay::Transit(seal)) => {
            return Check::ok("Transit", format!("the key `{}` of {}; it was not asked", seal.key_id(), seal.address));
        }
        Some(seal) => {
            return Check::ok(
                "Key Service",
                format!("the key `{}` of `{}`; it was not asked", seal.key_id(), seal.kind()),
            );
        }
    };
    let variables = |name: &str| std::env::var_os(name);
    match (ConfiguredKeys { config: seal.clone(), variables }).read() {
        Ok(_) => Check::ok(
            "Static Key",
            format!(
                "the key `{}` can be read from {}; it was not tried on the store",
                seal.current.id, seal.current.place
            ),
        ),
        Err(error) => Check::fail(
            "Static Key",
            error.to_string(),
            "the server starts, and stays sealed until shares open it; the key is 32 bytes in a file of mode 0600",
        ),
    }
}
