//! Clusters of server processes: nodes that find together, and what is asked of them until it is answered.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Answer, Cli, Http, Production, Server, until};

/// A node that is to join one of these.
pub(crate) fn node(number: usize, leaders: &[&Server], more: &str) -> Production {
    let production = Production::raft();
    let joins =
        leaders.iter().map(|leader| format!("retry_join {{ leader_api_addr = \"http://{}\" }}\n", leader.address));
    let joins: String = joins.collect();
    let configured = std::fs::read_to_string(production.config()).unwrap();
    let storage = format!("storage \"raft\" {{\n  node_id = \"node-{number}\"\n{joins}");
    production.configure(&configured.replacen("storage \"raft\" {\n", &storage, 1));
    production.configure_more(more);
    production
}

pub(crate) const STATIC: &str = "seal \"static\" {\n  current_key_id = \"k\"\n  current_key = \"env://KEY\"\n}";
pub(crate) const KEY: [(&str, &str); 1] = [("KEY", "542a91c2aff86797e8dfa16adf86dcbea5706410791b319798936a1b08e4ef8b")];

/// Names and votes of the members, as one of them sees it.
pub(crate) fn members(http: &Http) -> Option<Vec<(String, bool)>> {
    let answer = http.try_send("GET", "sys/storage/raft/configuration", "").filter(|answer| answer.status == 200)?;
    let servers = answer.at("/data/config/servers");
    let member = |server: &Value| Some((server["node_id"].as_str()?.to_owned(), server["voter"].as_bool()?));
    let mut members = servers.as_array()?.iter().map(member).collect::<Option<Vec<_>>>()?;
    members.sort();
    Some(members)
}

pub(crate) fn all_vote() -> Vec<(String, bool)> {
    (1..=3).map(|number| (format!("node-{number}"), true)).collect()
}

pub(crate) fn is_open(http: &Http) -> bool {
    http.try_send("GET", "sys/seal-status", "").is_some_and(|status| status.at("/sealed") == Value::Bool(false))
}

/// A request that is sent until it is answered well; it may be done more than once.
pub(crate) fn insist(http: &Http, method: &str, path: &str, body: &str) -> Answer {
    let is_done = |answer: &Answer| (200..300).contains(&answer.status);
    until(path, || http.try_send(method, path, body).filter(is_done))
}

/// Where servers live, and how they are started: each in a directory of its own on this host, unless it says otherwise.
pub(crate) trait Places {
    /// Where one listens.
    fn address(&self, _at: usize) -> SocketAddr {
        free_address()
    }

    /// Does something with one's directory before its first start.
    fn prepare(&self, _at: usize, _home: &Production) {}

    /// Starts one.
    fn start(&self, _at: usize, home: &Production) -> Server {
        home.start_with(&KEY)
    }
}

/// Nothing out of the ordinary.
pub(crate) struct Here;

impl Places for Here {}

/// Three servers that open by themselves, each at an address that it keeps, with secrets at `kv/`.
pub(crate) struct Three<'p> {
    places: &'p dyn Places,
    pub(crate) homes: Vec<Production>,
    pub(crate) servers: Vec<Option<Server>>,
    pub(crate) root: String,
}

/// An address where nothing listens, nor at the port behind it, which is the cluster's. It is given once, and lies below the
/// ports that systems give to connections, of which each test makes many before its server listens.
pub(crate) fn free_address() -> SocketAddr {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    until("two free ports", || {
        let at = (std::process::id() + GIVEN.fetch_add(1, Ordering::Relaxed)) % 10_000;
        let port = u16::try_from(12_000 + 2 * at).ok()?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?.local_addr().ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port + 1)).ok()?;
        Some(address)
    })
}

impl<'p> Three<'p> {
    pub(crate) fn start(places: &'p dyn Places) -> Self {
        let mut three = Self { places, homes: Vec::new(), servers: Vec::new(), root: String::new() };
        for number in 1..=3 {
            let first = three.servers.first().and_then(Option::as_ref);
            let home = node(number, &first.into_iter().collect::<Vec<_>>(), STATIC);
            let configured = std::fs::read_to_string(home.config()).unwrap();
            home.configure(&configured.replace("127.0.0.1:0", &places.address(number - 1).to_string()));
            places.prepare(number - 1, &home);
            let server = places.start(number - 1, &home);
            if number == 1 {
                let body = json!({ "recovery_shares": 1, "recovery_threshold": 1 });
                three.root = server.http().post("sys/init", &body).expect(200).text_at("/root_token");
            }
            three.homes.push(home);
            three.servers.push(Some(server));
        }
        until("three voters", || (members(&three.http(0))? == all_vote()).then_some(()));
        until("all to open", || (0..3).all(|at| is_open(&three.http(at))).then_some(()));
        insist(&three.http(0), "POST", "sys/mounts/kv", &json!({ "type": "kv-v1" }).to_string());
        three
    }

    /// The same where they share a store, which is configured like this.
    pub(crate) fn sharing(places: &'p dyn Places, storage: &dyn Fn(&Production) -> String) -> Self {
        let mut three = Self { places, homes: Vec::new(), servers: Vec::new(), root: String::new() };
        for at in 0..3 {
            let home = Production::new();
            home.configure(&format!(
                "{}listener \"tcp\" {{\n  address = \"{}\"\n  tls_disable = true\n}}\ndisable_mlock = true\n{STATIC}\n",
                storage(&home),
                places.address(at)
            ));
            let server = places.start(at, &home);
            if at == 0 {
                let body = json!({ "recovery_shares": 1, "recovery_threshold": 1 });
                three.root = server.http().post("sys/init", &body).expect(200).text_at("/root_token");
            }
            three.homes.push(home);
            three.servers.push(Some(server));
        }
        until("all to open", || (0..3).all(|at| is_open(&three.http(at))).then_some(()));
        insist(&three.http(0), "POST", "sys/mounts/kv", &json!({ "type": "kv-v1" }).to_string());
        three
    }

    pub(crate) fn server(&self, at: usize) -> &Server {
        self.servers[at].as_ref().unwrap()
    }

    pub(crate) fn http(&self, at: usize) -> Http {
        self.server(at).http().with_token(&self.root)
    }

    pub(crate) fn cli(&self, at: usize) -> Cli<'_> {
        Cli::new(self.homes[at].home(), self.server(at).address, &self.root)
    }

    /// Ends a server as an operator does.
    pub(crate) fn stop(&mut self, at: usize) {
        let mut server = self.servers[at].take().unwrap();
        server.signal(Signal::TERM);
        assert!(server.wait().success());
    }

    pub(crate) fn start_again(&mut self, at: usize) {
        self.servers[at] = Some(self.places.start(at, &self.homes[at]));
    }

    /// Waits until one serves.
    pub(crate) fn serves(&self, at: usize) {
        until("it to serve", || {
            self.http(at).try_send("GET", "sys/health?standbyok=true", "").filter(|health| health.status == 200)
        });
    }

    /// Which one leads, as all that run see it.
    pub(crate) fn leader(&self) -> usize {
        let running: Vec<_> = (0..3).filter(|at| self.servers[*at].is_some()).collect();
        until("a leader", || self.leader_seen_by(&running))
    }

    /// Which one leads now, if these agree on it.
    pub(crate) fn leader_seen_by(&self, nodes: &[usize]) -> Option<usize> {
        let told = |at: &usize| self.http(*at).get("sys/leader").text_at("/leader_address");
        let mut told: Vec<String> = nodes.iter().map(told).collect();
        told.dedup();
        let [leader] = told.as_slice() else { return None };
        (0..3).find(|at| self.servers[*at].as_ref().is_some_and(|it| format!("http://{}", it.address) == *leader))
    }
}
