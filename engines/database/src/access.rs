//! Sessions at a server as whoever we are configured to be: let in by the first password that works, kept for whoever comes
//! next, and opened anew where the server has closed one.
//!
//! Deliberately absent: what is said to a kind of server.

use std::time::Duration;

use tresor_secret::SecretString;

use crate::Doors;
use crate::pool::{Limits, Place, Pool};
use crate::target::Trouble;

/// How long whoever comes waits for others to be done with the connections there may be.
const PLACE_MAX: Duration = Duration::from_secs(20);

/// A connection to a server.
pub(crate) trait Session: Sized + Send {
    /// Where that is and how it proves itself.
    type Way: Send + Sync;

    /// As whom a way leads there, when nobody says.
    fn user(way: &Self::Way) -> &str;

    /// Opens one, as whoever the way says or as somebody else.
    fn open(
        doors: &Doors,
        way: &Self::Way,
        who: Option<(&str, &SecretString)>,
    ) -> impl Future<Output = Result<Self, Trouble>> + Send;

    /// Itself, unless it was closed while it waited for so long.
    fn still_there(self, waited: Duration) -> impl Future<Output = Option<Self>> + Send;

    /// Whether it may be used again.
    fn is_usable(&self) -> bool;
}

/// What is done over a connection.
pub(crate) trait Work<S>: Copy + Send {
    /// Does it. [`Trouble::Unreachable`] says that nothing came to the server.
    fn by(self, session: &mut S) -> impl Future<Output = Result<(), Trouble>> + Send;
}

/// Sessions of one configuration.
pub(crate) struct Access<S: Session> {
    doors: Doors,
    way: S::Way,
    /// The passwords by which we may be let in, the likeliest first.
    passwords: Vec<SecretString>,
    pool: Pool<S>,
}

impl<S: Session> Access<S> {
    pub(crate) fn new(doors: Doors, way: S::Way, passwords: Vec<SecretString>, limits: Limits) -> Self {
        Self { doors, way, passwords, pool: Pool::new(limits) }
    }

    /// A session of somebody.
    pub(crate) async fn session(&self, username: &str, password: &SecretString) -> Result<S, Trouble> {
        let opened = S::open(&self.doors, &self.way, Some((username, password))).await;
        opened.map_err(|trouble| trouble.without(&[password.expose()]))
    }

    /// A session of somebody, by the first password that lets them in; nothing where there is none to try.
    async fn session_by(&self, username: &str, passwords: &[SecretString]) -> Option<Result<S, Trouble>> {
        let mut refused = None;
        for password in passwords {
            match self.session(username, password).await {
                Err(trouble @ Trouble::NoEntry(_)) => refused = Some(Err(trouble)),
                other => return Some(other),
            }
        }
        refused
    }

    /// As who we are configured to be, by the first password that lets us in.
    pub(crate) async fn own_session(&self) -> Result<S, Trouble> {
        match self.session_by(S::user(&self.way), &self.passwords).await {
            Some(opened) => opened.map_err(|trouble| trouble.without(&self.known())),
            // None is configured: it may stand in the URL, or the server asks for none.
            None => S::open(&self.doors, &self.way, None).await,
        }
    }

    /// Does something as somebody else, who may have any of these passwords, over a connection that nobody keeps.
    pub(crate) async fn run_as(
        &self,
        username: &str,
        passwords: &[SecretString],
        secrets: &[&str],
        work: impl Work<S>,
    ) -> Result<(), Trouble> {
        let opened = self.session_by(username, passwords).await;
        let mut session = opened.unwrap_or_else(|| Err(Trouble::NoEntry("no password of it is known".into())))?;
        work.by(&mut session).await.map_err(|trouble| trouble.without(secrets))
    }

    fn known(&self) -> Vec<&str> {
        self.passwords.iter().map(|password| password.expose().as_str()).collect()
    }

    /// A connection in the place of one that is closed.
    async fn anew(&self, place: &mut Place<'_, S>) -> Result<S, Trouble> {
        place.begin_anew();
        self.own_session().await
    }

    /// Does something over a connection of our own; these secrets are not repeated when it fails.
    pub(crate) async fn run(&self, secrets: &[&str], work: impl Work<S>) -> Result<(), Trouble> {
        let now = self.doors.clock.monotonic();
        let Some(mut place) = self.doors.within(PLACE_MAX, self.pool.place(now)).await else {
            return Err(Trouble::Unreachable("all connections that there may be are in use".into()));
        };
        let kept = match place.waited.take() {
            Some((session, waited)) => session.still_there(waited).await,
            None => None,
        };
        let was_kept = kept.is_some();
        let mut session = match kept {
            Some(session) => session,
            None => self.anew(&mut place).await?,
        };
        let mut done = work.by(&mut session).await;
        // It was closed while it waited, and nothing came to the server.
        if was_kept && matches!(done, Err(Trouble::Unreachable(_))) {
            session = self.anew(&mut place).await?;
            done = work.by(&mut session).await;
        }
        if session.is_usable() {
            place.give_back(session, self.doors.clock.monotonic());
        }
        done.map_err(|trouble| {
            let mut every = self.known();
            every.extend(secrets);
            trouble.without(&every)
        })
    }
}
