//! `static-roles` and `static-creds`: users of AWS whose key is made anew now and then.
//!
//! A rotation makes room (a user has two keys at most: the one in use stays), makes a key, tries it, and only then is it the
//! one in use; the one before stays valid until the next rotation. A role without a key is the intent of its first one: a
//! crash leaves it, and it is finished when the engine is called. Deliberately absent: changing whose key it is.

use std::time::Duration;

use tresor_credential::{Rotation, Schedule};
use tresor_engine::outside::{Failed, Outside};
use tresor_engine::retries::RetriesShown;
use tresor_engine::{Cx, Data, Happened, Keys, Nothing, View};
use tresor_model::{Fault, Timestamp};
use tresor_record::{Part, Record};
use tresor_secret::SecretString;
use tresor_wire::input::{Input, Seconds};
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use crate::Aws;
use crate::creds::doors;
use crate::iam::Iam;
use crate::query::{AwsError, Doors};
use crate::roles::{Page, is_name};
use crate::root::{Access, Root};
use crate::sts::{Assumed, Limits};

const ROLES: &str = "static-role/";
/// Where those who listen know roles and keys from.
const ROLES_PATH: &str = "static-roles";
const CREDS_PATH: &str = "static-creds";
/// How the engine is called for a role.
pub(crate) const WAKE: &str = "static-role/";
/// A shorter period has no role.
const PERIOD_MIN: Duration = Duration::from_secs(60);
/// A shorter window has no schedule.
const WINDOW_MIN: Duration = Duration::from_secs(3600);
/// How many keys AWS lets a user have.
const KEYS_MAX: usize = 2;
/// How long after a role was written its first key is made, if a crash came between.
const FIRST: Duration = Duration::from_secs(120);
/// How often a new key is tried, which not every part of AWS knows at once, and how long the pause is.
const TRIES: u32 = 15;
const PAUSE: Duration = Duration::from_secs(2);

/// Whose key it is, and how it is reached.
#[derive(Part)]
struct Owner {
    username: String,
    /// What nobody else ever has; empty before AWS was asked.
    id: String,
    /// A role of another account that is assumed first; empty: none.
    role_arn: String,
    session: String,
    external_id: String,
}

/// A key in use.
#[derive(Part)]
struct Used {
    access_key: String,
    secret_key: SecretString,
}

/// A static role.
#[derive(Record)]
#[record(kind = "aws-static-role", version = 1)]
struct StaticRole {
    owner: Owner,
    period: Duration,
    schedule: String,
    window: Duration,
    used: Option<Used>,
    /// When the next key is made.
    due: Timestamp,
}

impl StaticRole {
    fn load(view: &mut View<'_>, name: &str) -> Result<Option<Self>, Fault> {
        if !is_name(name) {
            return Ok(None);
        }
        let Some(bytes) = view.read(&format!("{ROLES}{name}"))? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }

    /// Stores it, to be called for at a time.
    fn store(&self, view: &mut View<'_>, name: &str, at: Timestamp) -> Result<(), Fault> {
        view.write(&format!("{ROLES}{name}"), &self.encode())?;
        view.wake(&format!("{WAKE}{name}"), at)
    }

    /// When it is rotated.
    fn rotation(&self) -> Result<Rotation, Fault> {
        if self.schedule.is_empty() {
            if self.period < PERIOD_MIN {
                return Err(Fault::invalid("role rotation period out of range: must be greater than 60.00 seconds"));
            }
            return Ok(Rotation::Every(self.period));
        }
        let schedule = Schedule::parse(&self.schedule);
        let schedule = schedule.map_err(|error| Fault::invalid(format!("invalid rotation_schedule: {error}")))?;
        let window = (!self.window.is_zero()).then_some(self.window);
        if window.is_some_and(|window| window < WINDOW_MIN) {
            return Err(Fault::invalid("rotation_window must be an hour at least"));
        }
        Ok(Rotation::Scheduled(schedule, window))
    }

    fn show(self, view: &mut View<'_>, name: String) -> Result<Shown, Fault> {
        let there = |text: String| Some(text).filter(|text| !text.is_empty());
        let is_scheduled = !self.schedule.is_empty();
        Ok(Shown {
            retries: view.retries(&format!("{WAKE}{name}"))?.into(),
            name,
            id: self.owner.id,
            username: self.owner.username,
            rotation_period: (!is_scheduled).then_some(self.period),
            rotation_schedule: there(self.schedule),
            rotation_window: Some(self.window).filter(|window| is_scheduled && !window.is_zero()),
            assume_role_arn: there(self.owner.role_arn),
            assume_role_session_name: there(self.owner.session),
            external_id: there(self.owner.external_id),
        })
    }
}

fn forget(view: &mut View<'_>, name: &str) -> Result<(), Fault> {
    view.delete(&format!("{ROLES}{name}"))?;
    view.retry_by(&format!("{WAKE}{name}"), "")?;
    view.no_wake(&format!("{WAKE}{name}"))
}

/// A static role by name.
#[derive(Input)]
pub(crate) struct ByName {
    /// The role.
    #[input(path)]
    name: String,
}

/// A static role to write; what is not sent stays.
#[derive(Input)]
pub(crate) struct Write {
    /// The role.
    #[input(path)]
    name: String,
    /// The user of AWS; cannot be changed.
    username: Option<String>,
    /// How long a key is in use.
    rotation_period: Option<Seconds>,
    /// When a key is made, as five fields in UTC; instead of a period.
    rotation_schedule: Option<String>,
    /// How long after that it may begin.
    rotation_window: Option<Seconds>,
    /// The rotation policy by which it is tried again when that fails; an empty one takes it away.
    rotation_policy: Option<String>,
    /// A role that is assumed to reach the user, which may be of another account.
    assume_role_arn: Option<String>,
    /// How that session is called.
    assume_role_session_name: Option<String>,
    /// What that role wants to hear.
    external_id: Option<String>,
}

/// A static role.
#[derive(Output)]
pub(crate) struct Shown {
    /// The role.
    name: String,
    /// What AWS knows the user by.
    id: String,
    /// The user of AWS.
    username: String,
    /// How long a key is in use.
    #[output(optional)]
    rotation_period: Option<Duration>,
    /// When a key is made.
    #[output(optional)]
    rotation_schedule: Option<String>,
    /// How long after that it may begin.
    #[output(optional)]
    rotation_window: Option<Duration>,
    /// A role that is assumed to reach the user.
    #[output(optional)]
    assume_role_arn: Option<String>,
    /// How that session is called.
    #[output(optional)]
    assume_role_session_name: Option<String>,
    /// What that role wants to hear.
    #[output(optional)]
    external_id: Option<String>,
    /// How that is tried again.
    #[output(flatten)]
    retries: RetriesShown,
}

/// The key in use.
#[derive(Output)]
pub(crate) struct CredsShown {
    /// The access key.
    access_key: String,
    /// Its secret key.
    #[output(secret)]
    secret_key: String,
    /// When the next one is made.
    expiration: String,
}

/// A key that was made and works.
struct Made {
    id: String,
    keys: tresor_sigv4::Keys,
}

/// What is asked for a role: whose key, by whom, and which key is in use.
struct Rotating {
    owner: Owner,
    access: Access,
    doors: Doors,
    used: Option<String>,
}

impl Rotating {
    fn new(cx: &Cx<'_>, access: Access, role: &StaticRole) -> Self {
        let owner = Owner {
            username: role.owner.username.clone(),
            id: role.owner.id.clone(),
            role_arn: role.owner.role_arn.clone(),
            session: role.owner.session.clone(),
            external_id: role.owner.external_id.clone(),
        };
        Self { owner, access, doors: doors(cx), used: role.used.as_ref().map(|used| used.access_key.clone()) }
    }

    /// IAM, as whoever may manage the user.
    async fn iam(&self) -> Result<Iam, AwsError> {
        let own = self.access.keys();
        if self.owner.role_arn.is_empty() {
            return Ok(self.access.iam(&self.doors, own));
        }
        let session = if self.owner.session.is_empty() { "tresor" } else { &self.owner.session };
        let (arn, external_id) = (self.owner.role_arn.as_str(), self.owner.external_id.as_str());
        let role = Assumed { arn, session, external_id, tags: Vec::new() };
        let given = self.access.sts(&self.doors, own).assume_role(&role, &Limits::default(), None).await?;
        Ok(self.access.iam(&self.doors, given.keys))
    }

    /// The user's next key, made and tried.
    async fn make(&self) -> Result<Made, Failed> {
        let nothing_done = |error: AwsError| Failed::nothing_done(error.into());
        let iam = self.iam().await.map_err(nothing_done)?;
        let user = iam.user(&self.owner.username).await.map_err(nothing_done)?;
        if user.name != self.owner.username || !(self.owner.id.is_empty() || self.owner.id == user.id) {
            return Err(Failed::nothing_done(Fault::invalid("the user of that name is another one than before")));
        }
        let known = iam.keys(&user.name).await.map_err(nothing_done)?;
        let spare = known.iter().find(|key| Some(&key.id) != self.used.as_ref());
        if let Some(spare) = spare.filter(|_| known.len() >= KEYS_MAX) {
            iam.delete_key(&user.name, &spare.id).await.map_err(|error| error.ends_act(false))?;
        }
        let keys = iam.create_key(&user.name).await.map_err(|error| error.ends_act(false))?;
        let as_new = self.access.sts(&self.doors, keys.duplicate());
        let mut last = AwsError::Unexpected("nothing");
        for _ in 0..TRIES {
            match as_new.identity().await {
                Ok(()) => return Ok(Made { id: user.id, keys }),
                Err(error) => last = error,
            }
            self.doors.clock.sleep(PAUSE).await;
        }
        match iam.delete_key(&user.name, &keys.access_key).await {
            Ok(()) => Err(nothing_done(last)),
            Err(_) => Err(Failed::partly_done(last.into())),
        }
    }

    /// Deletes the key in use; one that is gone is deleted.
    async fn clear(&self) -> Result<(), AwsError> {
        match &self.used {
            Some(used) => self.iam().await?.delete_key(&self.owner.username, used).await,
            None => Ok(()),
        }
    }
}

/// The key that was made is the one in use.
fn promote(view: &mut View<'_>, now: Timestamp, name: &str, made: &Made) -> Result<StaticRole, Fault> {
    let role = StaticRole::load(view, name)?;
    let mut role = role.ok_or_else(|| Fault::invalid("the static role was deleted while its key was made"))?;
    let keys = made.keys.duplicate();
    role.owner.id.clone_from(&made.id);
    role.used = Some(Used { access_key: keys.access_key, secret_key: keys.secret_key });
    role.due = role.rotation()?.next(now);
    role.store(view, name, role.due)?;
    view.rotated(&format!("{WAKE}{name}"))?;
    Ok(role)
}

pub(crate) async fn list(_engine: &Aws, mut cx: Cx<'_>, input: Page) -> Result<Keys, Fault> {
    Ok(Keys(cx.view.names(ROLES, input.after.as_deref(), input.limit.0)?))
}

pub(crate) async fn read(_engine: &Aws, mut cx: Cx<'_>, input: ByName) -> Result<Option<Data<Shown>>, Fault> {
    let role = StaticRole::load(&mut cx.view, &input.name)?;
    role.map(|role| role.show(&mut cx.view, input.name).map(Data)).transpose()
}

pub(crate) async fn write(_engine: &Aws, mut cx: Cx<'_>, input: Write) -> Result<Outside<Data<Shown>>, Fault> {
    if !is_name(&input.name) {
        return Err(Fault::invalid("invalid role name"));
    }
    let name = input.name;
    let known = StaticRole::load(&mut cx.view, &name)?;
    let missing = |field: &str| Fault::invalid(format!("missing {field:?} parameter"));
    let mut role = match known {
        Some(role) if input.username.as_ref().is_some_and(|sent| *sent != role.owner.username) => {
            return Err(Fault::invalid("the username of a static role cannot be changed"));
        }
        Some(role) => role,
        None => StaticRole {
            owner: Owner {
                username: input.username.filter(|sent| !sent.is_empty()).ok_or_else(|| missing("username"))?,
                id: String::new(),
                role_arn: String::new(),
                session: String::new(),
                external_id: String::new(),
            },
            period: Duration::ZERO,
            schedule: String::new(),
            window: Duration::ZERO,
            used: None,
            due: cx.now,
        },
    };
    let sent_schedule = input.rotation_schedule.filter(|sent| !sent.is_empty());
    match (input.rotation_period, sent_schedule) {
        (Some(_), Some(_)) => {
            return Err(Fault::invalid("only one of rotation_period and rotation_schedule can be set"));
        }
        (Some(period), None) => (role.period, role.schedule, role.window) = (period.0, String::new(), Duration::ZERO),
        (None, Some(schedule)) => (role.period, role.schedule) = (Duration::ZERO, schedule),
        (None, None) if role.period.is_zero() && role.schedule.is_empty() => return Err(missing("rotation_period")),
        (None, None) => {}
    }
    if let Some(window) = input.rotation_window {
        role.window = window.0;
    }
    if !role.window.is_zero() && role.schedule.is_empty() {
        return Err(Fault::invalid("rotation_window needs a rotation_schedule"));
    }
    for (place, sent) in [
        (&mut role.owner.role_arn, input.assume_role_arn),
        (&mut role.owner.session, input.assume_role_session_name),
        (&mut role.owner.external_id, input.external_id),
    ] {
        if let Some(sent) = sent {
            *place = sent;
        }
    }
    let rotation = role.rotation()?;
    cx.view.retry_anew(&format!("{WAKE}{name}"), input.rotation_policy.as_deref())?;
    if role.used.is_some() {
        role.due = rotation.next(cx.now);
        role.store(&mut cx.view, &name, role.due)?;
        cx.view.tell(|| Happened::named("aws/static-role-update", ROLES_PATH, &name));
        return Ok(Outside::done(Data(role.show(&mut cx.view, name)?)));
    }
    let access = Root::usable(&mut cx)?.access;
    let rotating = Rotating::new(&cx, access, &role);
    let now = cx.now;
    role.store(&mut cx.view, &name, now.plus(FIRST))?;
    let (settled, failed) = (name.clone(), name);
    let act = async move { rotating.make().await };
    let settle = move |view: &mut View<'_>, now: Timestamp, made: &Made| {
        let role = promote(view, now, &settled, made)?;
        view.tell(|| Happened::named("aws/static-role-create", ROLES_PATH, &settled));
        role.show(view, settled.clone()).map(Data)
    };
    Ok(Outside::new("", act, settle).if_failed(move |view, _now, _failed| {
        view.tell(|| Happened::named("aws/rotate-fail", CREDS_PATH, &failed).without_change());
        forget(view, &failed)
    }))
}

pub(crate) async fn delete(_engine: &Aws, mut cx: Cx<'_>, input: ByName) -> Result<Outside<Nothing>, Fault> {
    let Some(role) = StaticRole::load(&mut cx.view, &input.name)? else { return Ok(Outside::done(Nothing)) };
    let Ok(root) = Root::usable(&mut cx) else {
        removed(&mut cx.view, &input.name)?;
        return Ok(Outside::done(Nothing));
    };
    let rotating = Rotating::new(&cx, root.access, &role);
    let act = async move {
        match rotating.clear().await {
            // Whoever could delete its key is not known any more: the role goes all the same.
            Err(AwsError::Keyless(_)) => Ok(()),
            done => done.map_err(|error| Failed::nothing_done(error.into())),
        }
    };
    let name = input.name;
    Ok(Outside::new("", act, move |view, _now, ()| removed(view, &name).map(|()| Nothing)))
}

/// The role is deleted, and those who listen are told.
fn removed(view: &mut View<'_>, name: &str) -> Result<(), Fault> {
    view.tell(|| Happened::named("aws/static-role-delete", ROLES_PATH, name));
    forget(view, name)
}

pub(crate) async fn creds(_engine: &Aws, mut cx: Cx<'_>, input: ByName) -> Result<Option<Data<CredsShown>>, Fault> {
    let role = StaticRole::load(&mut cx.view, &input.name)?;
    let shown = role.and_then(|role| {
        let Used { access_key, secret_key } = role.used?;
        Some(Data(CredsShown { access_key, secret_key: secret_key.expose().clone(), expiration: rfc3339(role.due) }))
    });
    Ok(shown)
}

/// Makes the key that is due.
pub(crate) fn awake(mut cx: Cx<'_>, name: &str) -> Result<Outside<Nothing>, Fault> {
    let Some(mut role) = StaticRole::load(&mut cx.view, name)? else {
        forget(&mut cx.view, name)?;
        return Ok(Outside::done(Nothing));
    };
    let rotation = role.rotation()?;
    if role.used.is_some() && !rotation.is_open(role.due, cx.now) {
        // It is not time yet, or its window has closed.
        if role.due <= cx.now {
            role.due = rotation.next(cx.now);
        }
        role.store(&mut cx.view, name, role.due)?;
        return Ok(Outside::done(Nothing));
    }
    let access = Root::usable(&mut cx)?.access;
    let rotating = Rotating::new(&cx, access, &role);
    let (name, failing) = (name.to_owned(), name.to_owned());
    let act = async move { rotating.make().await };
    let settle = move |view: &mut View<'_>, now: Timestamp, made: &Made| {
        promote(view, now, &name, made)?;
        view.tell(|| Happened::named("aws/rotate", CREDS_PATH, &name));
        Ok(Nothing)
    };
    Ok(Outside::new("", act, settle).if_failed(move |view, now, _failed| {
        view.tell(|| Happened::named("aws/rotate-fail", CREDS_PATH, &failing).without_change());
        let Some(role) = StaticRole::load(view, &failing)? else { return Ok(()) };
        view.not_rotated(&format!("{WAKE}{failing}"), now, role.rotation()?.next(now))
    }))
}
