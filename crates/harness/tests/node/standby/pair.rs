//! Two nodes on one log, and the door between them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde_json::Value;
use tresor_core::cluster::{About, Cluster, ClusterError, Contact, Forwarded, Member, Message, Needed, Standing};
use tresor_core::{Elsewhere, Node, Settings};
use tresor_crypto::shamir::Threshold;
use tresor_env::doubles::TestDoors;
use tresor_env::tasks::{NotComputed, WorkerPanicked, Workers};
use tresor_env::{BoxFuture, Signal};
use tresor_harness::{Answer, ROOT, assembly};
use tresor_http::Options;
use tresor_model::request::Connection;
use tresor_secret::{TokenSecret, UnsealShare};
use tresor_server::NodeService;
use tresor_storage::machine_suite::{entry, transfer};
use tresor_storage::{Batch, Machine, MemoryMachine, Snapshot, Store, StoreError, Watcher};

/// What becomes of a batch on its way to the other node.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Way {
    /// It comes as it is.
    Whole,
    /// Its note is damaged.
    NoteDamaged,
    /// It does not come; the whole state does.
    AsState,
}

/// What becomes of a message to the leader.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Fate {
    /// It arrives, and its answer too.
    Arrives,
    /// It is not sent.
    Unreachable,
    /// It arrives; its answer does not.
    AnswerLost,
}

/// What both nodes share: the log, and who leads.
pub(crate) struct Group {
    machines: [MemoryMachine; 2],
    way: Mutex<Way>,
    pub(crate) fate: Mutex<Fate>,
    /// Whether a leader is confirmed by a majority.
    pub(crate) has_quorum: AtomicBool,
    /// The nodes that take no batches, and the one that cannot be read.
    takes_nothing: Mutex<Vec<usize>>,
    unreadable: Mutex<Option<usize>>,
    leads: Signal<Option<usize>>,
    handlers: Mutex<BTreeMap<usize, Arc<dyn Forwarded>>>,
    /// How many messages were sent to the leader.
    pub(crate) forwarded: AtomicUsize,
    pub(crate) stepped_down: AtomicUsize,
}

impl Group {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            machines: [MemoryMachine::new(), MemoryMachine::new()],
            way: Mutex::new(Way::Whole),
            fate: Mutex::new(Fate::Arrives),
            has_quorum: AtomicBool::new(true),
            takes_nothing: Mutex::default(),
            unreadable: Mutex::default(),
            leads: Signal::new(Some(0)),
            handlers: Mutex::default(),
            forwarded: AtomicUsize::new(0),
            stepped_down: AtomicUsize::new(0),
        })
    }

    pub(crate) fn set_way(&self, way: Way) {
        *self.way.lock().unwrap() = way;
    }

    pub(crate) fn set_fate(&self, fate: Fate) {
        *self.fate.lock().unwrap() = fate;
    }

    /// These nodes' stores take no batches from now on.
    pub(crate) fn take_nothing(&self, nodes: &[usize]) {
        *self.takes_nothing.lock().unwrap() = nodes.to_vec();
    }

    /// A node's store cannot be read from now on, or none's.
    pub(crate) fn is_unreadable(&self, node: Option<usize>) {
        *self.unreadable.lock().unwrap() = node;
    }

    /// Lets a node lead from now on, or none.
    pub(crate) fn let_lead(&self, leader: Option<usize>) {
        self.leads.update(|leads| *leads = leader);
    }

    fn leader(&self) -> Option<usize> {
        self.leads.read(|leads| *leads)
    }
}

/// One node's end of the group: its store, and its door.
struct End {
    group: Arc<Group>,
    me: usize,
}

impl End {
    fn own(&self) -> &MemoryMachine {
        &self.group.machines[self.me]
    }

    fn standing_under(&self, leader: Option<usize>) -> Standing {
        match leader {
            Some(leader) if leader == self.me => Standing::Leads { term: 1 },
            Some(leader) => Standing::Follows(contact(leader)),
            None => Standing::Leaderless,
        }
    }
}

pub(crate) fn contact(node: usize) -> Contact {
    Contact {
        name: format!("node{node}"),
        key: [u8::try_from(node).unwrap(); 32],
        cluster_address: format!("10.0.0.{node}:8201"),
        api_address: format!("https://node{node}.example:8200/"),
    }
}

impl Store for End {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        if *self.group.unreadable.lock().unwrap() == Some(self.me) {
            return Err(StoreError::Stopped { name: "double".to_owned(), why: "it is not readable".to_owned() });
        }
        self.own().snapshot()
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        if self.group.leader() != Some(self.me) {
            return Err(StoreError::Elsewhere { name: "double".to_owned() });
        }
        if self.group.takes_nothing.lock().unwrap().contains(&self.me) {
            return Err(StoreError::Stopped { name: "double".to_owned(), why: "it takes nothing".to_owned() });
        }
        let index = batch.version.0;
        let (way, other) = (*self.group.way.lock().unwrap(), &self.group.machines[1 - self.me]);
        let mut noted = batch.clone();
        if let Some(last) = noted.note.last_mut().filter(|_| way == Way::NoteDamaged) {
            *last ^= 1;
        }
        self.own().apply(&entry(1, index, batch))?;
        if way != Way::AsState {
            other.apply(&entry(1, index, noted))?;
            return Ok(());
        }
        let mut export = self.own().export()?;
        let chunks = std::iter::from_fn(|| export.next().transpose()).collect::<Result<_, _>>()?;
        transfer(export.state(), chunks, other)
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.own().watch(watcher);
    }

    fn syncs(&self) -> u64 {
        0
    }
}

impl Cluster for End {
    fn is_enabled(&self) -> bool {
        true
    }

    fn me(&self) -> Contact {
        contact(self.me)
    }

    fn standing(&self) -> Standing {
        self.standing_under(self.group.leader())
    }

    fn changed(&self, known: Standing) -> BoxFuture<'_, Standing> {
        Box::pin(self.group.leads.wait_for(move |leader| {
            let standing = self.standing_under(*leader);
            (standing != known).then_some(standing)
        }))
    }

    fn confirm(&self, _: Needed, _: Duration) -> BoxFuture<'_, Result<u64, ClusterError>> {
        let is_confirmed = self.group.has_quorum.load(Ordering::Relaxed) && self.group.leader().is_some();
        Box::pin(std::future::ready(if is_confirmed { Ok(0) } else { Err(ClusterError::NoLeader) }))
    }

    fn ask_leader(&self, about: About, message: Message, _: Duration) -> BoxFuture<'_, Result<Message, ClusterError>> {
        Box::pin(async move {
            if about != About::Request {
                return Err(ClusterError::NotLeader);
            }
            let leader = self.group.leader().ok_or(ClusterError::NoLeader)?;
            let fate = *self.group.fate.lock().unwrap();
            if leader == self.me {
                return Err(ClusterError::NotLeader);
            }
            if fate == Fate::Unreachable {
                return Err(ClusterError::Unreachable("the double".to_owned()));
            }
            self.group.forwarded.fetch_add(1, Ordering::Relaxed);
            let handler = Arc::clone(self.group.handlers.lock().unwrap().get(&leader).unwrap());
            let answer = handler.answer(&contact(self.me).cluster_address, message).await;
            if fate == Fate::AnswerLost { Err(ClusterError::Uncertain) } else { Ok(answer) }
        })
    }

    fn answer_with(&self, handler: Arc<dyn Forwarded>) {
        self.group.handlers.lock().unwrap().insert(self.me, handler);
    }

    fn step_down(&self) -> BoxFuture<'_, Result<(), ClusterError>> {
        self.group.stepped_down.fetch_add(1, Ordering::Relaxed);
        self.group.let_lead(Some(1 - self.me));
        Box::pin(std::future::ready(Ok(())))
    }

    fn members(&self) -> Vec<Member> {
        let leader = self.group.leader();
        let member = |node| Member {
            contact: contact(node),
            is_voter: true,
            is_leader: leader == Some(node),
            heard_ago: None,
            matched: None,
            version: None,
        };
        vec![member(0), member(1)]
    }
}

/// Workers that do at once what they are given, unless they hang.
#[derive(Default)]
pub(crate) struct Hanging(pub(crate) AtomicBool);

impl Workers for Hanging {
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, Result<(), WorkerPanicked>> {
        if self.0.load(Ordering::Relaxed) {
            return Box::pin(async move {
                let _kept = work;
                std::future::pending().await
            });
        }
        work();
        Box::pin(std::future::ready(Ok(())))
    }

    fn compute(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, Result<(), NotComputed>> {
        work();
        Box::pin(std::future::ready(Ok(())))
    }

    fn tidy_up(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}

/// A node.
pub(crate) struct Peer {
    pub(crate) doors: TestDoors,
    pub(crate) workers: Arc<Hanging>,
    pub(crate) node: Arc<Node>,
    service: NodeService,
}

impl Peer {
    fn on(group: &Arc<Group>, me: usize, elsewhere: Elsewhere) -> Self {
        let end = Arc::new(End { group: Arc::clone(group), me });
        let (mut doors, workers) = (TestDoors::new(u64::try_from(me).unwrap() + 1), Arc::new(Hanging::default()));
        doors.doors.workers = workers.clone();
        let settings = Settings { elsewhere, ..assembly::settings() };
        let node = assembly::node_in(end.clone(), &doors.doors, end, settings).unwrap();
        Self { service: NodeService::new(Arc::clone(&node)), doors, workers, node }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, token: &str, body: Value) -> Answer {
        self.call_with(method, path, token, body, &[]).await
    }

    /// The same with more headers.
    pub(crate) async fn call_with(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: Value,
        headers: &[(&'static str, &'static str)],
    ) -> Answer {
        let peer_address = std::net::Ipv4Addr::LOCALHOST.into();
        let connection = Connection::plain(peer_address, 40_000);
        let mut request = assembly::request(method, path, token, &body);
        for (name, value) in headers {
            request.headers_mut().insert(*name, http::HeaderValue::from_static(value));
        }
        assembly::exchange(&self.service, &*self.doors.doors.clock, connection, &Options::default(), request).await
    }

    /// Gives background work its turn.
    pub(crate) async fn pass(&self, seconds: u64) {
        self.doors.clock.advance(Duration::from_secs(seconds));
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
    }

    /// How many lines an audit device of it has.
    pub(crate) fn audited(&self, path: &str) -> Vec<String> {
        let bytes = self.doors.disk.dump().remove(std::path::Path::new(path)).unwrap_or_default();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }
}

/// Two nodes, both unsealed; the first leads.
pub(crate) struct Pair {
    pub(crate) group: Arc<Group>,
    pub(crate) leader: Peer,
    pub(crate) standby: Peer,
}

impl Pair {
    pub(crate) async fn start() -> Self {
        Self::start_with(Elsewhere::PassOn).await
    }

    /// The same, where requests that run elsewhere are treated so.
    pub(crate) async fn start_with(elsewhere: Elsewhere) -> Self {
        let group = Group::new();
        let (leader, standby) = (Peer::on(&group, 0, elsewhere), Peer::on(&group, 1, elsewhere));
        let root = TokenSecret::parse(ROOT).unwrap();
        let initialized = leader.node.initialize(Threshold::new(1, 1).unwrap(), Some(root)).await.unwrap();
        for peer in [&leader, &standby] {
            let share = initialized.shares.first().unwrap().expose().to_vec();
            peer.node.enter_share(UnsealShare::new(share)).await.unwrap();
        }
        Self { group, leader, standby }
    }

    pub(crate) fn forwarded(&self) -> usize {
        self.group.forwarded.swap(0, Ordering::Relaxed)
    }

    /// Asks both; they answer the same, but for what names the request, and for what is left of a time: a node that follows
    /// goes on from what the leader told last, which it does every few seconds.
    pub(crate) async fn compare(&self, method: &str, path: &str, token: &str, step: &str) {
        let (mut answers, mut left) = (Vec::new(), Vec::new());
        for peer in [&self.leader, &self.standby] {
            let answer = peer.call(method, path, token, Value::Null).await;
            let mut body = answer.json;
            if let Some(body) = body.as_object_mut() {
                body.remove("request_id");
                let data = body.get_mut("data").and_then(Value::as_object_mut);
                left.extend(data.and_then(|data| data.remove("ttl")).and_then(|ttl| ttl.as_u64()));
            }
            answers.push((answer.status, body));
        }
        assert_eq!(answers.first(), answers.last(), "{step}: {method} {path}");
        let is_so = left.is_empty() || matches!(*left, [leader, standby] if leader.abs_diff(standby) <= 5);
        assert!(is_so, "{step}: {method} {path}: {left:?} seconds are left");
    }
}
