//! A secrets engine that exists for tests: what it hands out are accounts of a service outside the server.
//!
//! The service lives in the test's process, by a name that `config` says; a test makes it refuse, break off, hang, or answer
//! late. What is there is what a real database would still have after our server is gone. In no release binary.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tresor_engine::{
    Class, Cx, Data, Descriptor, Engine, EngineFactory, Failed, Instance, LeaseClaim, Leased, MountFacts, Mounted,
    Nothing, Outside, Routes, UnderLease,
};
use tresor_env::Signal;
use tresor_model::{Fault, Map, map};
use tresor_secret::SecretBytes;
use tresor_wire::input::{Input, Seconds};

/// How it is made.
pub const FACTORY: EngineFactory =
    EngineFactory { kind: "lending", class: Class::Secret, make, reshapes: EngineFactory::keeps_its_shape };

static SERVICES: Mutex<BTreeMap<String, Arc<Service>>> = Mutex::new(BTreeMap::new());

/// The service of this name.
pub fn service(name: &str) -> Arc<Service> {
    let mut services = SERVICES.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(services.entry(name.to_owned()).or_default())
}

/// A service of this name in the place of one that there was, if there was one.
pub fn service_anew(name: &str) -> Arc<Service> {
    let mut services = SERVICES.lock().unwrap_or_else(PoisonError::into_inner);
    services.remove(name);
    Arc::clone(services.entry(name.to_owned()).or_default())
}

/// What the service does with what it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Does {
    /// It.
    #[default]
    Everything,
    /// It says no, and has done nothing.
    Refuses,
    /// Nobody reaches it.
    IsDown,
    /// It does it, and the connection breaks before it says so.
    BreaksOff,
    /// It does a part, and says no to the rest.
    Half,
    /// It does it, and never says so.
    Silent,
    /// It does it, and says so when it is told to do everything.
    Slowly,
    /// Nothing for now; what it was asked waits, and comes true when a test says so, whether or not anybody waits for it.
    Hangs,
}

/// A service with accounts.
#[derive(Default)]
pub struct Service(Signal<Inside>);

#[derive(Default)]
struct Inside {
    does: Does,
    /// When it does as it pleases: of how many things in a hundred it refuses, breaks off or leaves hanging each, and by what
    /// it chooses.
    mood: Option<(u64, u64)>,
    accounts: BTreeSet<String>,
    passwords: BTreeMap<String, Vec<String>>,
    waiting: BTreeSet<String>,
    /// Accounts that are not let go of: it answers for them as if nobody reached it.
    withheld: BTreeSet<String>,
    /// Whether it says no when it is asked to remove what it does not know.
    is_pedantic: bool,
    /// The lives that renewals gave accounts, in order.
    lengthened: BTreeMap<String, Vec<Duration>>,
    /// How many renewals hang.
    hanging: u64,
    asked: u64,
}

impl Service {
    /// From now on it does this.
    pub fn is_told(&self, does: Does) {
        self.0.update(|inside| (inside.does, inside.mood) = (does, None));
    }

    /// From now on it fails in one way or another with so many in a hundred things that it is asked.
    pub fn fails(&self, percent: u64, seed: u64) {
        self.0.update(|inside| inside.mood = Some((percent, seed)));
    }

    /// The accounts that there are.
    pub fn accounts(&self) -> BTreeSet<String> {
        self.0.read(|inside| inside.accounts.clone())
    }

    /// What waits to come true.
    pub fn waiting(&self) -> usize {
        self.0.read(|inside| inside.waiting.len())
    }

    /// How often it was asked anything.
    pub fn asked(&self) -> u64 {
        self.0.read(|inside| inside.asked)
    }

    /// How many renewals hang; they go on when it is told to do everything.
    pub fn hanging(&self) -> u64 {
        self.0.read(|inside| inside.hanging)
    }

    /// The lives that renewals gave an account, in order.
    pub fn lengthened(&self, account: &str) -> Vec<Duration> {
        self.0.read(|inside| inside.lengthened.get(account).cloned().unwrap_or_default())
    }

    /// The passwords that an account has had, in order.
    pub fn passwords(&self, account: &str) -> Vec<String> {
        self.0.read(|inside| inside.passwords.get(account).cloned().unwrap_or_default())
    }

    /// There is an account that nobody of us made.
    pub fn has(&self, account: &str) {
        self.0.update(|inside| inside.accounts.extend([account.to_owned()]));
    }

    /// Whoever asks for the end of this account reaches nobody, whatever it does for others.
    pub fn withholds(&self, account: &str) {
        self.0.update(|inside| inside.withheld.extend([account.to_owned()]));
    }

    /// From now on it says no when it is asked to remove what it does not know.
    pub fn is_pedantic(&self) {
        self.0.update(|inside| inside.is_pedantic = true);
    }

    /// What waits never comes true.
    pub fn forgets(&self) {
        self.0.update(|inside| inside.waiting.clear());
    }

    /// What waits comes true.
    pub fn comes_true(&self) {
        self.0.update(|inside| {
            let waiting = std::mem::take(&mut inside.waiting);
            inside.accounts.extend(waiting);
        });
    }

    async fn create(self: Arc<Self>, account: String) -> Result<(), Failed> {
        let down = || Fault::upstream("connection refused");
        let does = self.asks(|inside| match inside.does {
            Does::Everything | Does::BreaksOff | Does::Silent | Does::Half | Does::Slowly => {
                inside.accounts.extend([account.clone()])
            }
            Does::Hangs => inside.waiting.extend([account.clone()]),
            Does::Refuses | Does::IsDown => {}
        });
        match does {
            Does::Everything | Does::Slowly => Ok(()),
            Does::Refuses => Err(Failed::nothing_done(Fault::invalid("the service says no"))),
            Does::IsDown => Err(Failed::nothing_done(down())),
            Does::BreaksOff => Err(Fault::upstream("connection reset").into()),
            Does::Half => Err(Failed::partly_done(Fault::invalid("the service says no to the rest"))),
            Does::Silent => std::future::pending().await,
            Does::Hangs => {
                self.0.wait_for(|inside| inside.accounts.contains(&account).then_some(())).await;
                Ok(())
            }
        }
    }

    async fn lengthen(&self, account: &str, life: Duration) -> Result<(), Fault> {
        let does = self.asks(|inside| match inside.does {
            Does::Everything | Does::BreaksOff | Does::Silent | Does::Slowly => {
                inside.lengthened.entry(account.to_owned()).or_default().push(life)
            }
            Does::Hangs => inside.hanging += 1,
            Does::Refuses | Does::IsDown | Does::Half => {}
        });
        match does {
            Does::Everything | Does::Slowly => Ok(()),
            Does::Refuses | Does::Half => Err(Fault::invalid("the service says no")),
            Does::IsDown => Err(Fault::upstream("connection refused")),
            Does::BreaksOff => Err(Fault::upstream("connection reset")),
            Does::Silent => std::future::pending().await,
            Does::Hangs => {
                self.0.wait_for(|inside| (inside.does == Does::Everything).then_some(())).await;
                self.0.update(|inside| {
                    inside.hanging -= 1;
                    inside.lengthened.entry(account.to_owned()).or_default().push(life);
                });
                Ok(())
            }
        }
    }

    async fn remove(&self, account: &str, was_taken_back: bool) -> Result<(), Fault> {
        let (mut is_withheld, mut is_unknown) = (false, false);
        let does = self.asks(|inside| {
            is_withheld = inside.withheld.contains(account);
            is_unknown = inside.is_pedantic && !was_taken_back && !inside.accounts.contains(account);
            if !is_withheld && matches!(inside.does, Does::Everything | Does::Silent | Does::Slowly) {
                inside.accounts.remove(account);
            }
        });
        match does {
            _ if is_withheld => Err(Fault::upstream("no entry")),
            _ if is_unknown => Err(Fault::invalid("there is no such account, or not yet")),
            Does::Everything => Ok(()),
            Does::Slowly => {
                self.0.wait_for(|inside| (inside.does == Does::Everything).then_some(())).await;
                Ok(())
            }
            Does::Refuses | Does::Half => Err(Fault::invalid("the account owns something")),
            Does::IsDown => Err(Fault::upstream("connection refused")),
            Does::BreaksOff => Err(Fault::upstream("connection reset")),
            Does::Silent | Does::Hangs => std::future::pending().await,
        }
    }

    async fn set_password(self: Arc<Self>, account: String, password: String) -> Result<(), Failed> {
        let does = self.asks(|inside| {
            if matches!(inside.does, Does::Everything | Does::BreaksOff | Does::Silent) {
                inside.passwords.entry(account).or_default().push(password);
            }
        });
        match does {
            Does::Everything => Ok(()),
            Does::Silent | Does::Hangs => std::future::pending().await,
            Does::BreaksOff => Err(Fault::upstream("connection reset").into()),
            _ => Err(Failed::nothing_done(Fault::invalid("the service says no"))),
        }
    }

    fn asks(&self, change: impl FnOnce(&mut Inside)) -> Does {
        let mut does = Does::default();
        self.0.update(|inside| {
            inside.asked += 1;
            if let Some((percent, state)) = inside.mood.as_mut() {
                inside.does = chosen(*percent, state);
            }
            does = inside.does;
            change(inside);
        });
        does
    }
}

/// What is done by chance (a splitmix64): of those that fail, each way is as likely.
fn chosen(percent: u64, state: &mut u64) -> Does {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let number = mixed ^ (mixed >> 31);
    if number % 100 >= percent {
        return Does::Everything;
    }
    match (number >> 32) % 5 {
        0 => Does::Refuses,
        1 => Does::IsDown,
        2 => Does::BreaksOff,
        3 => Does::Half,
        _ => Does::Hangs,
    }
}

/// The engine.
pub struct Lending;

fn make(_facts: &MountFacts) -> Result<Arc<dyn Mounted>, Fault> {
    Ok(Instance::mount(Lending))
}

/// Which service.
#[derive(Input)]
struct WriteConfig {
    /// Its name.
    service: String,
}

/// What to hand out.
#[derive(Input)]
struct Ask {
    /// The role.
    #[input(path)]
    role: String,
    /// Its life.
    #[input(query)]
    ttl: Option<Seconds>,
}

/// A password to change now and then.
#[derive(Input)]
struct Rotate {
    /// The account.
    #[input(path)]
    account: String,
    /// How often.
    every: Seconds,
}

/// An account.
#[derive(Input)]
struct ByAccount {
    /// Its name.
    #[input(path)]
    account: String,
}

impl Engine for Lending {
    fn descriptor() -> &'static Descriptor {
        &Descriptor { kind: "lending", class: Class::Secret, summary: "Hands out accounts of a service." }
    }

    fn routes() -> Routes<Self> {
        Routes::new()
            .at("config", "Which service.")
            .write(configure)
            .at("creds/{role...}", "Makes an account.")
            .generate(hand_out)
            .at("fixed/{account}", "An account whose password changes now and then.")
            .write(rotate)
            .read(in_use)
            .done()
    }

    async fn renew<'a>(&'a self, _cx: Cx<'a>, lease: Leased<'a>, ttl: Option<Duration>) -> Result<(), Fault> {
        let Some(ttl) = ttl else { return Ok(()) };
        let (name, account) = told(&lease)?;
        service(&name).lengthen(&account, ttl).await
    }

    async fn revoke<'a>(&'a self, _cx: Cx<'a>, lease: Leased<'a>) -> Result<(), Fault> {
        let (name, account) = told(&lease)?;
        service(&name).remove(&account, lease.was_taken_back).await
    }

    async fn awake<'a>(&'a self, mut cx: Cx<'a>, name: &'a str) -> Result<Outside<Nothing>, Fault> {
        plan(&mut cx, name.to_owned())
    }
}

/// The service and the account that a lease is about.
fn told(lease: &Leased<'_>) -> Result<(String, String), Fault> {
    let recipe = String::from_utf8(lease.recipe.expose().clone()).map_err(Fault::internal)?;
    let (name, account) = recipe.rsplit_once(' ').unwrap_or((&recipe, ""));
    Ok((name.to_owned(), account.to_owned()))
}

fn named(cx: &mut Cx<'_>) -> Result<String, Fault> {
    let name = cx.view.read("config")?.ok_or_else(|| Fault::invalid("no service is configured"))?;
    String::from_utf8(name.to_vec()).map_err(Fault::internal)
}

async fn configure(_engine: &Lending, mut cx: Cx<'_>, input: WriteConfig) -> Result<Nothing, Fault> {
    cx.view.write("config", input.service.as_bytes())?;
    Ok(Nothing)
}

async fn hand_out(_engine: &Lending, mut cx: Cx<'_>, input: Ask) -> Result<Outside<UnderLease<Data<Map>>>, Fault> {
    let name = named(&mut cx)?;
    let mut bytes = [0_u8; 8];
    cx.entropy.fill(&mut bytes);
    let account = format!("v-{}-{:016x}", input.role.replace('/', "-"), u64::from_be_bytes(bytes));
    let password = cx.password("")?;
    let claim = LeaseClaim {
        kind: "account",
        recipe: SecretBytes::new(format!("{name} {account}").into_bytes()),
        ttl: input.ttl.map(|ttl| ttl.0).unwrap_or_default(),
        max_ttl: Duration::ZERO,
        renewable: true,
    };
    let act = service(&name).create(account.clone());
    let settle = move |_: &mut tresor_engine::View<'_>, _, (): &()| {
        Ok(Data(map! { "username" => account.clone(), "password" => password.expose().clone() }))
    };
    Ok(Outside::new(name, act, settle).with_lease(claim))
}

async fn rotate(_engine: &Lending, mut cx: Cx<'_>, input: Rotate) -> Result<Outside<Nothing>, Fault> {
    cx.view.write(&format!("every/{}", input.account), input.every.0.as_secs().to_string().as_bytes())?;
    // If nobody comes back to it, it is done then.
    let soon = cx.now.plus(Duration::from_secs(90));
    cx.view.wake_unless_settled(&input.account, soon)?;
    plan(&mut cx, input.account)
}

/// Stores the next password, sets it, and then counts on it. One that was stored before is set again.
fn plan(cx: &mut Cx<'_>, account: String) -> Result<Outside<Nothing>, Fault> {
    let name = named(cx)?;
    let next = format!("next/{account}");
    let password = match cx.view.read(&next)? {
        Some(stored) => String::from_utf8(stored.to_vec()).map_err(Fault::internal)?,
        None => {
            let mut bytes = [0_u8; 8];
            cx.entropy.fill(&mut bytes);
            format!("{:016x}", u64::from_be_bytes(bytes))
        }
    };
    cx.view.write(&next, password.as_bytes())?;
    let act = service(&name).set_password(account.clone(), password.clone());
    Ok(Outside::new(name, act, move |view, now, (): &()| {
        let every = view.read(&format!("every/{account}"))?.ok_or_else(|| Fault::internal("no period"))?;
        let every = String::from_utf8(every.to_vec()).map_err(Fault::internal)?.parse().map_err(Fault::internal)?;
        view.write(&format!("now/{account}"), password.as_bytes())?;
        view.delete(&next)?;
        view.wake(&account, now.plus(Duration::from_secs(every)))?;
        Ok(Nothing)
    }))
}

async fn in_use(_engine: &Lending, mut cx: Cx<'_>, input: ByAccount) -> Result<Option<Data<Map>>, Fault> {
    let Some(password) = cx.view.read(&format!("now/{}", input.account))? else { return Ok(None) };
    let password = String::from_utf8(password.to_vec()).map_err(Fault::internal)?;
    let next = cx.view.wakes_at(&input.account)?.map_or(0, |at| at.seconds());
    Ok(Some(Data(map! { "password" => password, "next" => next })))
}
