//! A new key for the configured user, tried before it is used, and then the old one deleted: by order
//! (`config/rotate-root`), or by itself when its time has come.
//!
//! Three steps, each after the one before is known to stand: a note that a rotation began, which is the intent; the new key,
//! made and tried, and stored; the old key, deleted by a call of its own, as often as it takes. A crash before the second
//! leaves the old key in use, and a new one whose secret nobody has: the note makes that one be deleted. Deliberately
//! absent: making room where a user has two keys already, since the second is somebody's.

use std::time::Duration;

use tresor_engine::outside::{Failed, Left, Outside};
use tresor_engine::{Answer, Cx, Data, Happened, Nothing, View};
use tresor_model::{Fault, Timestamp};
use tresor_record::{Part, Record};
use tresor_sigv4::Keys;
use tresor_wire::input::EmptyInput;
use tresor_wire::output::Output;

use crate::Aws;
use crate::creds::doors;
use crate::iam::Iam;
use crate::query::AwsError;
use crate::root::{Access, Root};

/// The name that this engine is called by to end a rotation.
const WAKE: &str = "root";
/// And to begin one.
pub(crate) const WAKE_DUE: &str = "root-due";
/// The least time between two rotations.
pub(crate) const PERIOD_MIN: Duration = Duration::from_secs(10);
/// Where the note lies.
const NOTE: &str = "rotation";
/// How long after its beginning a rotation is over, whatever became of it.
const OVER: Duration = Duration::from_secs(120);
/// What clocks may differ by.
const SKEW: Duration = Duration::from_secs(300);
/// How often a new key is tried, which not every part of AWS knows at once, and how long the pause is.
const TRIES: u32 = 15;
const PAUSE: Duration = Duration::from_secs(2);

/// A key that has to go.
#[derive(Part)]
struct Former {
    user: String,
    key: String,
}

/// A rotation that is not over.
#[derive(Record)]
#[record(kind = "aws-rotation", version = 1)]
struct Note {
    began: Timestamp,
    /// The key that was in use, once there is another.
    former: Option<Former>,
}

impl Note {
    fn load(view: &mut View<'_>) -> Result<Option<Self>, Fault> {
        let Some(bytes) = view.read(NOTE)? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }

    /// Notes it, and when it is looked at.
    fn store(&self, view: &mut View<'_>, looked_at: Timestamp) -> Result<(), Fault> {
        view.write(NOTE, &self.encode())?;
        view.wake(WAKE, looked_at)
    }
}

/// It is over.
fn forget(view: &mut View<'_>) -> Result<(), Fault> {
    view.delete(NOTE)?;
    view.no_wake(WAKE)
}

/// The key that is in use from now on.
#[derive(Output)]
pub(crate) struct Shown {
    /// The new access key.
    access_key: String,
}

/// A key that was made and works.
struct Tried {
    user: String,
    keys: Keys,
}

/// Makes a key and tries it.
async fn make(access: &Access, iam: &Iam, as_new: impl Fn(Keys) -> Iam) -> Result<Tried, Failed> {
    let nothing_done = |error: AwsError| Failed::nothing_done(error.into());
    let user = iam.user("").await.map_err(nothing_done)?.name;
    let known = iam.keys(&user).await.map_err(nothing_done)?;
    if known.iter().any(|key| key.id != access.access_key) {
        let text = "the configured user has another key, and AWS allows two: delete it before the key is rotated";
        return Err(Failed::nothing_done(Fault::invalid(text)));
    }
    let keys = iam.create_key(&user).await.map_err(|error| error.ends_act(false))?;
    let new = as_new(keys.duplicate());
    let mut last = AwsError::Unexpected("nothing");
    for _ in 0..TRIES {
        match new.user("").await {
            Ok(_) => return Ok(Tried { user, keys }),
            Err(error) => last = error,
        }
        iam.client.doors.clock.sleep(PAUSE).await;
    }
    match iam.delete_key(&user, &keys.access_key).await {
        Ok(()) => Err(Failed::nothing_done(last.into())),
        Err(_) => Err(Failed::partly_done(last.into())),
    }
}

/// Sets when the key is rotated next.
pub(crate) fn plan_next(view: &mut View<'_>, root: &Root, now: Timestamp) -> Result<(), Fault> {
    match root.rotation()? {
        Some(rotation) => view.wake(WAKE_DUE, rotation.due(root.counts_since.unwrap_or(now), now).max(now)),
        None => view.no_wake(WAKE_DUE),
    }
}

pub(crate) async fn rotate(_engine: &Aws, cx: Cx<'_>, _input: EmptyInput) -> Result<Outside<Data<Shown>>, Fault> {
    begin(cx, |access_key| Data(Shown { access_key: access_key.to_owned() }))
}

/// Begins the rotation that is due, or says when it comes next.
pub(crate) fn due(mut cx: Cx<'_>) -> Result<Outside<Nothing>, Fault> {
    let Some(root) = Root::load(&mut cx.view)? else { return Ok(Outside::done(Nothing)) };
    let Some(rotation) = root.rotation()? else { return Ok(Outside::done(Nothing)) };
    let due = rotation.due(root.counts_since.unwrap_or(Timestamp::EPOCH), cx.now);
    if !rotation.is_open(due, cx.now) {
        // Not due yet, or not any more before that.
        cx.view.wake(WAKE_DUE, due)?;
        return Ok(Outside::done(Nothing));
    }
    // Unless it is done by then; the one before may not be over, either.
    let again = rotation.again(due, cx.now, OVER);
    cx.view.wake(WAKE_DUE, again)?;
    if Note::load(&mut cx.view)?.is_some() {
        return Ok(Outside::done(Nothing));
    }
    begin(cx, |_access_key| Nothing)
}

fn begin<T: Answer + 'static>(mut cx: Cx<'_>, answer: fn(&str) -> T) -> Result<Outside<T>, Fault> {
    let access = Root::with_own_key(&mut cx.view)?.access;
    if Note::load(&mut cx.view)?.is_some() {
        return Err(Fault::invalid("the key is being rotated already: its old key is not deleted yet"));
    }
    let began = cx.now;
    Note { began, former: None }.store(&mut cx.view, began.plus(OVER))?;
    let (doors, old) = (doors(&cx), access.access_key.clone());
    let iam = access.iam(&doors, access.keys());
    let act = async move { make(&access, &iam, |keys| access.iam(&doors, keys)).await };
    let settle = move |view: &mut View<'_>, now: Timestamp, tried: &Tried| {
        let mut root = Root::with_own_key(view)?;
        if root.access.access_key != old {
            return Err(Fault::invalid("another key was configured while this one was rotated"));
        }
        let keys = tried.keys.duplicate();
        (root.access.access_key, root.access.secret_key) = (keys.access_key, keys.secret_key);
        root.counts_since = Some(now);
        root.store(view)?;
        view.rotated(WAKE_DUE)?;
        plan_next(view, &root, now)?;
        Note { began, former: Some(Former { user: tried.user.clone(), key: old.clone() }) }.store(view, now)?;
        view.tell(|| Happened::new("aws/root-rotate", "config/rotate-root"));
        Ok(answer(&tried.keys.access_key))
    };
    Ok(Outside::new("", act, settle).if_failed(|view, now, failed| {
        view.tell(|| Happened::new("aws/root-rotate-fail", "config/rotate-root").without_change());
        if failed.left == Left::Nothing {
            forget(view)?;
        }
        let rotation = Root::load(view)?.map(|root| root.rotation()).transpose()?.flatten();
        rotation.map_or(Ok(()), |rotation| view.not_rotated(WAKE_DUE, now, rotation.next(now)))
    }))
}

/// Ends a rotation: deletes the key that is not in use any more, or one that a rotation made and never used.
pub(crate) fn awake(mut cx: Cx<'_>) -> Result<Outside<Nothing>, Fault> {
    let note = Note::load(&mut cx.view)?;
    let access = Root::load(&mut cx.view)?.map(|root| root.access).filter(|access| !access.access_key.is_empty());
    let (Some(Note { began, former }), Some(access)) = (note, access) else {
        forget(&mut cx.view)?;
        return Ok(Outside::done(Nothing));
    };
    let iam = access.iam(&doors(&cx), access.keys());
    let act = async move {
        match former {
            Some(Former { user, key }) => iam.delete_key(&user, &key).await,
            None => clear(&iam, &access.access_key, began).await,
        }
        .map_err(|error| Failed::nothing_done(error.into()))
    };
    Ok(Outside::new("", act, |view, _now, ()| forget(view).map(|()| Nothing)))
}

/// Deletes what a rotation made that nobody heard the end of.
async fn clear(iam: &Iam, used: &str, began: Timestamp) -> Result<(), AwsError> {
    let user = iam.user("").await?.name;
    let (from, to) = (began.less(SKEW).seconds(), began.plus(OVER + SKEW).seconds());
    for key in iam.keys(&user).await? {
        if key.id != used && (from..=to).contains(&key.created) {
            iam.delete_key(&user, &key.id).await?;
        }
    }
    Ok(())
}
