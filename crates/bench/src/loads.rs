//! The loads, as one table. Whoever brings a feature that costs something else adds its row here.
//!
//! Every engine that gives leased secrets asks a service of others, so the one that is measured here asks one that answers at once
//! (`broker.rs`); with a real one, `credentials.rs` measures accounts of a database. Deliberately absent: logins by a password, whose cost
//! is that of its hash.

use serde_json::{Value, json};

use crate::connection::request;

/// How many secrets there are to read, and names in the directory that is listed.
pub(crate) const NAMES: usize = 1000;
/// How many secrets are written in turn.
const WRITTEN: usize = 10_000;

/// One load.
pub(crate) struct Load {
    /// How it is called on the command line.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) about: &'static str,
    /// How many connections ask, each again as soon as it has its answer.
    pub(crate) clients: usize,
    /// What is asked.
    pub(crate) kind: Kind,
    /// Whether the requests come at the given pace instead of as fast as possible.
    pub(crate) is_paced: bool,
    /// Who records it.
    pub(crate) audit: Audit,
    /// What is to be reached, in answers per second, where a bare server gives [`BARE_RATE`].
    pub(crate) goal: Option<f64>,
    /// The same load with an audit device, for one without.
    pub(crate) audited: Option<&'static str>,
}

/// What the bare server gave on the machine that the goals were set on.
pub(crate) const BARE_RATE: f64 = 50_000.0;

/// The audit devices of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audit {
    /// One file device.
    File,
    /// One that leaves out what listings show.
    Elided,
    /// None.
    Off,
}

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A secret of so many bytes is read.
    Read(usize),
    /// A secret of 1 KiB is written.
    Write,
    /// [`NAMES`] names are listed.
    List,
    /// A token is made.
    CreateToken,
    /// The caller's own token is shown.
    LookupSelf,
    /// Nine are read, one is written.
    Mixed,
    /// A role and its secret become a token.
    Login,
    /// A user of a broker is made, under a lease.
    Lease,
    /// Something is wrapped.
    Wrap,
    /// Something is wrapped, and then taken out again.
    Unwrap,
    /// The node says how it is: nobody asks who wants to know, and nothing is read or recorded, so that this is what
    /// HTTP and TLS cost.
    Health,
    /// The bare server answers: what HTTP and TLS can be had for on this machine.
    Bare,
}

const fn load(name: &'static str, about: &'static str, clients: usize, kind: Kind) -> Load {
    Load { name, about, clients, kind, is_paced: false, audit: Audit::File, goal: None, audited: None }
}

impl Load {
    const fn goal(self, goal: f64) -> Self {
        Self { goal: Some(goal), ..self }
    }

    const fn unaudited(self, audited: &'static str) -> Self {
        Self { audit: Audit::Off, audited: Some(audited), ..self }
    }

    const fn elided(self) -> Self {
        Self { audit: Audit::Elided, ..self }
    }

    const fn paced(self) -> Self {
        Self { is_paced: true, ..self }
    }
}

/// Every load, in the order in which they run.
pub(crate) const LOADS: &[Load] = &[
    load("bare", "the yardstick: a bare HTTP and TLS server, 256 B, 64 clients", 64, Kind::Bare).goal(BARE_RATE),
    load("health", "the floor: `sys/health`, 64 clients", 64, Kind::Health),
    load("kv-read-256", "KV v2 read, 256 B, 64 clients, ordinary token", 64, Kind::Read(256)).goal(30_000.0),
    load("kv-read-unaudited", "the same without an audit device", 64, Kind::Read(256)).unaudited("kv-read-256"),
    load("kv-read-1k", "KV v2 read, 1 KiB, 64 clients, ordinary token", 64, Kind::Read(1024)),
    load("kv-read-single", "KV v2 read, 256 B, 1 client, ordinary token", 1, Kind::Read(256)),
    load("kv-read-paced", "the same at a fixed pace, 64 clients", 64, Kind::Read(256)).paced(),
    load("kv-write", "KV v2 durable write, 1 KiB, 64 clients", 64, Kind::Write).goal(15_000.0),
    load("kv-write-unaudited", "the same without an audit device", 64, Kind::Write).unaudited("kv-write"),
    load("kv-write-single", "KV v2 durable write, 1 KiB, 1 client", 1, Kind::Write).goal(3_000.0),
    load("kv-mixed", "nine reads (256 B) to one write (1 KiB), 64 clients, ordinary token", 64, Kind::Mixed),
    load("kv-mixed-unaudited", "the same without an audit device", 64, Kind::Mixed).unaudited("kv-mixed"),
    load("list-1000", "list of 1,000 keys, 64 clients, ordinary token", 64, Kind::List).goal(2_500.0),
    load("list-1000-elided", "the same with `elide_list_responses`", 64, Kind::List).elided().goal(5_000.0),
    load("token-create", "token creation, leased, 64 clients", 64, Kind::CreateToken).goal(12_000.0),
    load("token-lookup-self", "look-up of the caller's own token, 64 clients", 64, Kind::LookupSelf).goal(30_000.0),
    load("approle-login", "AppRole login, a leased token, 64 clients", 64, Kind::Login),
    load("secret-lease", "RabbitMQ user under a lease, of a broker that answers at once, 64 clients", 64, Kind::Lease),
    load("wrap", "wrapping of one value, 64 clients, ordinary token", 64, Kind::Wrap),
    load("wrap-unwrap", "the same, and unwrapped: two requests that count as one, 64 clients", 64, Kind::Unwrap),
];

/// Who asks.
#[derive(Default)]
pub(crate) struct Tokens {
    /// The root token.
    pub(crate) root: String,
    /// A token with one small policy.
    pub(crate) ordinary: String,
    /// The body of a login.
    pub(crate) login: String,
}

/// Requests, ready to be sent: of each ten, nine come from the first list and one from the second, if there is one.
pub(crate) struct Prepared {
    common: Vec<Vec<u8>>,
    rare: Vec<Vec<u8>>,
    /// Whether what was answered is unwrapped.
    unwraps: bool,
}

impl Prepared {
    /// Prepares what a load asks.
    pub(crate) fn new(kind: Kind, tokens: &Tokens) -> Self {
        let ordinary = tokens.ordinary.as_str();
        let (common, rare) = match kind {
            Kind::Read(bytes) => (reads(bytes, ordinary), Vec::new()),
            Kind::Write => (writes(ordinary), Vec::new()),
            Kind::List => (vec![request("GET", "kv/metadata/r256?list=true", ordinary, "")], Vec::new()),
            Kind::LookupSelf => (vec![request("GET", "auth/token/lookup-self", ordinary, "")], Vec::new()),
            Kind::Mixed => (reads(256, ordinary), writes(ordinary)),
            Kind::Health | Kind::Bare => (vec![request("GET", "sys/health", ordinary, "")], Vec::new()),
            Kind::CreateToken => {
                let body = json!({ "policies": ["bench"], "ttl": "24h" }).to_string();
                (vec![request("POST", "auth/token/create", &tokens.root, &body)], Vec::new())
            }
            Kind::Login => (vec![request("POST", "auth/approle/login", "", &tokens.login)], Vec::new()),
            Kind::Lease => (vec![request("GET", "rabbitmq/creds/bench", ordinary, "")], Vec::new()),
            Kind::Wrap | Kind::Unwrap => (vec![wrap(ordinary)], Vec::new()),
        };
        Self { common, rare, unwraps: kind == Kind::Unwrap }
    }

    /// What is asked next because of an answer, as a part of the same: nothing, or a request; none that could be made is an error.
    pub(crate) fn next(&self, body: impl FnOnce() -> Vec<u8>) -> Result<Option<Vec<u8>>, String> {
        if !self.unwraps {
            return Ok(None);
        }
        let answer: Value = serde_json::from_slice(&body()).map_err(|error| error.to_string())?;
        let token = answer.pointer("/wrap_info/token").and_then(Value::as_str).ok_or("nothing was wrapped")?;
        Ok(Some(request("POST", "sys/wrapping/unwrap", token, "")))
    }

    /// One of them, by a random number.
    pub(crate) fn pick(&self, random: u64) -> &[u8] {
        let is_rare = !self.rare.is_empty() && random.is_multiple_of(10);
        let list = if is_rare { &self.rare } else { &self.common };
        let at = usize::try_from((random >> 16) % list.len().max(1) as u64).unwrap_or(0);
        list.get(at).map_or(&[], Vec::as_slice)
    }
}

/// The path of a secret that is read.
pub(crate) fn read_path(bytes: usize, at: usize) -> String {
    format!("kv/data/r{bytes}/secret-{at:04}")
}

/// A body with a secret of about so many bytes.
pub(crate) fn secret(bytes: usize, at: usize) -> String {
    json!({ "data": { "password": format!("{at:08}").repeat(bytes / 8) } }).to_string()
}

/// Wraps a value for an hour.
fn wrap(token: &str) -> Vec<u8> {
    let plain = request("POST", "sys/wrapping/wrap", token, r#"{"value":"wrapped"}"#);
    let head = b"POST /v1/sys/wrapping/wrap HTTP/1.1\r\n";
    [head.as_slice(), b"X-Vault-Wrap-TTL: 1h\r\n", plain.get(head.len()..).unwrap_or_default()].concat()
}

fn reads(bytes: usize, token: &str) -> Vec<Vec<u8>> {
    (0..NAMES).map(|at| request("GET", &read_path(bytes, at), token, "")).collect()
}

fn writes(token: &str) -> Vec<Vec<u8>> {
    (0..WRITTEN)
        .map(|at| request("POST", &format!("kv/data/w/{:02}/secret-{at:05}", at % 100), token, &secret(1024, at)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_load_has_its_own_name_and_something_to_ask() {
        let tokens = Tokens { root: "r".to_owned(), ordinary: "o".to_owned(), login: "{}".to_owned() };
        let names: BTreeSet<_> = LOADS.iter().map(|load| load.name).collect();
        assert_eq!(names.len(), LOADS.len());
        for load in LOADS {
            assert!(!Prepared::new(load.kind, &tokens).pick(u64::MAX).is_empty(), "{}", load.name);
        }
    }

    #[test]
    fn a_load_without_audit_has_one_of_the_same_kind_with_it() {
        for load in LOADS {
            let audited = LOADS.iter().find(|other| Some(other.name) == load.audited);
            assert_eq!(
                audited.map(|audited| (audited.kind == load.kind, audited.audit)).unwrap_or((true, Audit::File)),
                (true, Audit::File),
                "{}",
                load.name
            );
            assert_eq!(audited.is_some(), load.audit == Audit::Off, "{}", load.name);
        }
    }

    #[test]
    fn what_was_wrapped_is_unwrapped_by_its_token() {
        let tokens = Tokens { ordinary: "o".to_owned(), ..Tokens::default() };
        let answer = || br#"{"wrap_info":{"token":"hvs.w","ttl":3600}}"#.to_vec();
        let unwrap = Prepared::new(Kind::Unwrap, &tokens);
        assert!(unwrap.pick(0).starts_with(b"POST /v1/sys/wrapping/wrap HTTP/1.1\r\nX-Vault-Wrap-TTL: 1h\r\nHost: "));
        let next = unwrap.next(answer).unwrap_or_default().unwrap_or_default();
        let next = String::from_utf8_lossy(&next).into_owned();
        assert!(
            next.starts_with("POST /v1/sys/wrapping/unwrap HTTP/1.1\r\n") && next.contains("X-Vault-Token: hvs.w\r\n")
        );
        assert!(unwrap.next(|| b"{}".to_vec()).is_err());
        assert_eq!(Prepared::new(Kind::Wrap, &tokens).next(answer), Ok(None));
    }

    #[test]
    fn one_of_ten_mixed_requests_writes() {
        let tokens = Tokens { root: "r".to_owned(), ordinary: "o".to_owned(), login: "{}".to_owned() };
        let mixed = Prepared::new(Kind::Mixed, &tokens);
        let writes = (0..1000_u64).filter(|random| mixed.pick(*random).starts_with(b"POST")).count();
        assert_eq!(writes, 100);
    }
}
