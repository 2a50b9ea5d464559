//! A cluster of whole nodes under clients, while everything happens to its nodes that happens to nodes.
//!
//! They are killed, lose power or their disks, stop, stand still, are parted, lead in turn, are removed and join; their clocks
//! differ. Clients ask any node, as behind a balancer that knows nothing. What they saw is checked: versions of a secret are in
//! the order of time, whichever node was asked, but for reads that chose to be stale, and these are not older than the last token
//! or lease that was made; what was acknowledged is there, and what was removed is not; a token is good
//! from its creation on until its end, revocation or last use, at every node; a namespace that was sealed is shown by none; what was handed out is taken back once; every
//! answer has its records; caches are what is stored. Deliberately absent: disks that fail and live on (`sim` without
//! `--cluster` has them).

mod accidents;
mod clients;
mod members;
mod names;
mod records;
mod tokens;
mod vault;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tresor_env::Tasks;
use tresor_env::doubles::Weather;
use tresor_harness::ROOT;
use tresor_harness::cluster::{STEP, World, block_on};

use self::clients::{Ask, Flight, KEYS};
use self::members::Outside;
use self::names::Names;
use self::records::{Answered, Records};
use self::tokens::{PACES, Token};
use self::vault::Vault;
use crate::random::Random;
use crate::run::{Failure, Outcome, Report, last_lines, logging};
use crate::versions::{Seen, Versions};

/// How many steps of the clock a life has, and one in which the members change.
const STEPS: (usize, usize) = (1600, 5000);
/// How many requests run at once at most.
const FLIGHTS_MAX: usize = 6;
/// How long what is under way at the end may take.
const LAST_WAIT: Duration = Duration::from_secs(30);
/// How long nodes that are outside at the end may take to be members again.
const LAST_JOIN: Duration = Duration::from_secs(120);

/// A fault that is planted to see that the checkers find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlantedInCluster {
    /// None: the cluster as it is.
    #[default]
    Nothing,
    /// Some reads are taken to have shown the version before.
    StaleRead,
    /// Reads that chose to be stale are taken to have shown nothing.
    TooStaleRead,
    /// A write is taken to be acknowledged that never was.
    LostWrite,
    /// What was refused because of another version is taken to have been written.
    WrittenTwice,
    /// Some writes are taken to have been refused because of a later version.
    RefusedForNothing,
    /// Names that are listed are taken not to be.
    HiddenName,
    /// Tokens are taken to end at once.
    ImmortalTokens,
    /// Tokens with a limited use are taken to be used up from the beginning.
    OverusedTokens,
    /// Something is taken to be handed out that never was.
    Forgotten,
    /// An answer is taken to have been given that has no records.
    SkippedRecord,
    /// A namespace that was sealed is taken to be opened by nobody.
    OpenedByNobody,
}

struct Life {
    planted: PlantedInCluster,
    world: World,
    count: usize,
    random: Random,
    flights: Vec<Flight>,
    /// What is asked of the cluster and whose answer says nothing.
    asides: Tasks,
    /// Counted over all starts and ends.
    events: u64,
    written: u64,
    versions: BTreeMap<usize, Versions>,
    /// What was acknowledged that no read does without: when it began and when it ended.
    indispensable: Vec<(u64, u64)>,
    names: Names,
    tokens: Vec<Token>,
    handed_out: u64,
    vault: Vault,
    records: Records,
    /// How much time there was a leader, without what leaders may lack of the time of those before them.
    led: Duration,
    /// Who led last.
    leader: Option<usize>,
    is_parted: bool,
    /// Nodes that do not vote now, and what becomes of them.
    outside: BTreeMap<usize, Outside>,
    /// Whether the members change in this life.
    changes: bool,
    history: Vec<String>,
    report: Report,
}

/// How long a process may take to hear the leader's time, which is told every 5 s.
const YOUNG: Duration = Duration::from_secs(10);
/// What a leader may lack that has not heard it.
const LACKS: Duration = Duration::from_secs(6);
/// What `led` begins with, so that what is lacked can be taken off it.
const LED_BEFORE: Duration = Duration::from_secs(1000);

/// Runs one seed.
///
/// # Errors
/// [`Failure`] when a checker finds something.
pub fn run_cluster(seed: u64, planted: PlantedInCluster) -> Outcome {
    let mut random = Random::new(seed);
    let count = if random.chance(75) { 3 } else { 5 };
    let (lines, mut history): (Arc<Mutex<Vec<u8>>>, Vec<String>) = (Arc::default(), Vec::new());
    let lived = logging(&lines, || {
        block_on(async {
            let world = World::new(count, seed).await;
            let mut life = Life {
                planted,
                world,
                count,
                random,
                flights: Vec::new(),
                asides: Tasks::new(),
                events: 0,
                written: 0,
                versions: BTreeMap::new(),
                indispensable: Vec::new(),
                names: Names::default(),
                tokens: Vec::new(),
                handed_out: 0,
                vault: Vault::default(),
                records: Records::default(),
                led: LED_BEFORE,
                leader: None,
                is_parted: false,
                outside: BTreeMap::new(),
                changes: false,
                history: vec![format!("{count} nodes")],
                report: Report::default(),
            };
            let lived = life.live().await;
            history = std::mem::take(&mut life.history);
            lived.map(|()| life.report)
        })
    });
    match lived {
        Ok(report) => Ok((report, history)),
        Err(problem) => {
            history.extend(last_lines(&lines));
            Err(Failure { seed, problem, history })
        }
    }
}

impl Life {
    async fn live(&mut self) -> Result<(), String> {
        self.begin_world().await;
        let steps = if self.changes { STEPS.1 } else { STEPS.0 };
        for _ in 0..steps {
            if self.flights.len() < FLIGHTS_MAX && self.random.chance(20) {
                self.begin();
            }
            if self.random.below(120) == 0 {
                self.happen().await;
            }
            self.step().await?;
        }
        self.mend().await;
        // From now on every request must be answered.
        self.world.fabric.set_weather(Weather::default());
        let until = self.world.now() + LAST_JOIN;
        while !self.outside.is_empty() {
            if self.world.now() > until {
                return Err(format!("nodes never come to vote again: {:?}", self.outside));
            }
            self.step().await?;
        }
        let until = self.world.now() + LAST_WAIT;
        while !self.flights.is_empty() {
            if self.world.now() > until {
                return Err(format!("{} requests never end", self.flights.len()));
            }
            self.step().await?;
        }
        self.check().await
    }

    /// What there is from the beginning, and what the world is like.
    async fn begin_world(&mut self) {
        for (path, body) in [
            ("sys/mounts/kv", json!({ "type": "kv-v2" })),
            ("sys/mounts/flat", json!({ "type": "kv-v1" })),
            ("sys/mounts/made", json!({ "type": "leasing" })),
            ("sys/audit/first", json!({ "type": "file", "options": { "file_path": records::DEVICE_FILE } })),
        ] {
            self.world.prepare(0, "POST", path, body).await;
        }
        self.make_vault().await;
        // By then all nodes have opened the device.
        self.world.pass(Duration::from_secs(2)).await;
        self.changes = self.random.chance(50);
        if self.random.chance(50) {
            for node in 0..self.count {
                let pace = PACES.0 + self.random.next() % (PACES.1 - PACES.0 + 1);
                self.world.set_pace(node, pace);
            }
            self.say("clocks go at their own paces".to_owned());
        }
        if self.random.chance(50) {
            (1..self.count).for_each(|node| self.set_clock(node));
        }
        if self.random.chance(50) {
            let delay_max = Duration::from_millis(self.random.next() % 30);
            let breaks_per_million = u32::try_from(self.random.below(300)).unwrap_or_default();
            self.world.fabric.set_weather(Weather { delay_max, breaks_per_million, ..Weather::default() });
            self.say(format!(
                "messages take up to {delay_max:?}, {breaks_per_million} of a million break a connection"
            ));
        }
    }

    /// Lets a little time pass.
    async fn step(&mut self) -> Result<(), String> {
        self.world.pass(STEP).await;
        if let Some(active) = self.world.active() {
            self.led += STEP;
            let since = self.world.runs_since(active).unwrap_or_default();
            if self.leader.replace(active) != Some(active) && self.world.now() < since + YOUNG {
                self.led = self.led.saturating_sub(LACKS);
            }
        }
        self.land()?;
        self.tend_members().await
    }

    fn say(&mut self, what: String) {
        let now = self.world.now().as_millis();
        self.history.push(format!("{now} ms: {what}"));
    }

    async fn check(&mut self) -> Result<(), String> {
        let until = self.world.now() + LAST_WAIT;
        while self.world.active().is_none() && self.world.now() < until {
            self.world.pass(STEP).await;
        }
        // What was handed out ends meanwhile, and is taken back.
        self.world.pass(Duration::from_secs(5)).await;
        if self.planted == PlantedInCluster::LostWrite {
            let (started, ended) = (self.events + 1, self.events + 2);
            self.events = ended;
            let lost = Seen { started, ended, version: 1_000_000, number: 0, is_write: true };
            self.versions.entry(0).or_default().note(lost)?;
        }
        self.open_vault().await;
        for node in 0..self.count {
            let asks = (0..KEYS).map(|key| Ask::Read { key, is_stale: false });
            let tokens = (0..self.tokens.len()).map(|token| Ask::Use { token });
            for ask in asks.chain([Ask::List]).chain(tokens).collect::<Vec<_>>() {
                let answer = self.ask(node, ask).await.map_err(|problem| format!("at the end: {problem}"))?;
                if answer.status >= 500 {
                    return Err(format!("at the end n{node} does not answer: {answer:?}"));
                }
            }
            let stale = self.world.node(node).stale_caches().map_err(|fault| fault.for_operators())?;
            if !stale.is_empty() {
                return Err(format!("caches of n{node} are stale: {stale:?}"));
            }
        }
        self.check_leases().await?;
        self.check_records().await
    }

    /// What was handed out was taken back, once.
    async fn check_leases(&mut self) -> Result<(), String> {
        let until = self.world.now() + LAST_WAIT;
        let handed_out = self.handed_out + u64::from(self.planted == PlantedInCluster::Forgotten) * 1000;
        loop {
            let sums = self.world.call(0, "GET", "made/sums", ROOT, Value::Null).await;
            let (left, revoked, twice) = (sums.at("/data/any_left"), sums.at("/data/revoked"), sums.at("/data/twice"));
            if twice.as_u64() != Some(0) {
                return Err(format!("something was taken back more than once: {sums:?}"));
            }
            if *left == json!(false) && revoked.as_u64().is_some_and(|revoked| revoked >= handed_out) {
                return Ok(());
            }
            if self.world.now() > until {
                return Err(format!("{handed_out} were handed out, and not all were taken back: {sums:?}"));
            }
            self.world.pass(Duration::from_millis(500)).await;
        }
    }

    /// Every answer has its records on some node, at the latest when its device has tried again.
    async fn check_records(&mut self) -> Result<(), String> {
        if self.planted == PlantedInCluster::SkippedRecord {
            let answered = Answered { asked: Duration::MAX, at: Duration::MAX, node: 0 };
            self.records.answered(u16::MAX, answered);
        }
        let mut missing = Vec::new();
        for seconds in [2, 2, 31, 31] {
            self.world.pass(Duration::from_secs(seconds)).await;
            missing = self.records.missing((0..self.count).map(|node| &**self.world.disk(node)));
            if missing.is_empty() {
                return Ok(());
            }
        }
        Err(format!("answers have no audit records: {missing:?}"))
    }
}
