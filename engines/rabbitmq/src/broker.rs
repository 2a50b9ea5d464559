//! A broker's management API: making users, saying what they may, and deleting them.
//!
//! Plain calls on the door to servers of others. Names become parts of addresses only as escaped segments, and none is a
//! step upwards. What the broker answers is read as bounded JSON, of which its `reason` alone is shown. Deliberately
//! absent: AMQP, trying again, and any knowledge of leases.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_env::Outgoing;
use tresor_env::outgoing::{Ask, OutgoingError, OutgoingRequest, escaped};
use tresor_model::fault::{Failure, Side};
use tresor_model::{Fault, Map};
use tresor_record::Part;
use tresor_secret::SecretString;
use tresor_wire::json::{self, JsonLimits};
use zeroize::Zeroizing;

use crate::roles::Rights;

/// How long one call may take.
const TIME_MAX: Duration = Duration::from_secs(10);
/// What is asked for answers by less.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// More of what a broker says is shown to nobody.
const REASON_CHARS_MAX: usize = 300;

/// Where a broker is, and who manages it.
#[derive(Part)]
pub(crate) struct Access {
    /// Where its API is, `http://HOST:15672`.
    pub(crate) uri: String,
    pub(crate) username: String,
    pub(crate) password: SecretString,
}

impl Access {
    /// As it is, for a record of its own.
    pub(crate) fn duplicate(&self) -> Self {
        let password = SecretString::new(self.password.expose().clone());
        Self { uri: self.uri.clone(), username: self.username.clone(), password }
    }
}

/// Why a broker did not do what it was asked.
#[derive(Debug)]
pub(crate) enum BrokerError {
    /// Nobody knows what it would have said.
    Unanswered(OutgoingError),
    /// It does not know the configured user, or not with that password.
    Unknown,
    /// It says no.
    Refused { status: u16, reason: String },
    /// It answered something else than a broker does.
    Unexpected(&'static str),
}

impl BrokerError {
    /// Whether the call that failed certainly did nothing.
    pub(crate) const fn is_certain(&self) -> bool {
        match self {
            Self::Unanswered(cause) => matches!(cause, OutgoingError::Unsendable | OutgoingError::Unreached(_)),
            Self::Unknown => true,
            Self::Refused { status, .. } => *status < 500,
            Self::Unexpected(_) => false,
        }
    }

    /// As what is wrong with whoever asks, and not with what was asked for.
    pub(crate) fn ours(self) -> Fault {
        let public = Some(self.to_string().into());
        Fault::Failure(Failure { cause: self.into(), side: Side::Upstream, public })
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered(cause) => write!(f, "the broker could not be asked: {cause}"),
            Self::Unknown => f.write_str("the broker refuses the configured username and password"),
            Self::Refused { status, reason } if reason.is_empty() => {
                write!(f, "the broker answered with status {status}")
            }
            Self::Refused { reason, .. } => write!(f, "the broker says: {reason}"),
            Self::Unexpected(what) => write!(f, "the broker answered {what}"),
        }
    }
}

impl std::error::Error for BrokerError {}

/// What the broker says no to is the operator's to mend; who does not answer is the broker.
impl From<BrokerError> for Fault {
    fn from(error: BrokerError) -> Self {
        let public = match &error {
            BrokerError::Unknown => return Self::invalid(error.to_string()),
            BrokerError::Refused { status, .. } if *status < 500 => return Self::invalid(error.to_string()),
            BrokerError::Refused { .. } => "the broker failed",
            BrokerError::Unanswered(OutgoingError::TooSlow) => "the broker took too long to answer",
            BrokerError::Unanswered(_) => "the broker could not be asked",
            BrokerError::Unexpected(_) => "the broker answered something unexpected",
        };
        Self::Failure(Failure { cause: error.into(), side: Side::Upstream, public: Some(public.into()) })
    }
}

/// A user to make.
pub(crate) struct NewUser {
    pub(crate) name: String,
    pub(crate) password: SecretString,
    pub(crate) rights: Rights,
}

/// A broker, as its manager asks it.
pub(crate) struct Broker {
    outgoing: Arc<dyn Outgoing>,
    base: String,
    authorization: Zeroizing<String>,
}

impl Broker {
    pub(crate) fn new(outgoing: &Arc<dyn Outgoing>, access: &Access) -> Self {
        let pair = Zeroizing::new(format!("{}:{}", access.username, access.password.expose()));
        Self {
            outgoing: Arc::clone(outgoing),
            base: access.uri.trim_end_matches('/').to_owned(),
            authorization: Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes()))),
        }
    }

    /// Asks, and gives what was answered with a status of success.
    async fn ask(&self, ask: Ask, path: &str) -> Result<Zeroizing<Vec<u8>>, BrokerError> {
        let headers = vec![
            ("authorization".into(), self.authorization.clone()),
            ("content-type".into(), Zeroizing::new("application/json".to_owned())),
        ];
        let url = format!("{}/api/{path}", self.base);
        let request = OutgoingRequest { ask, url, headers, time_max: TIME_MAX, body_bytes_max: BODY_BYTES_MAX };
        let answer = self.outgoing.ask(request).await.map_err(BrokerError::Unanswered)?;
        match answer.status {
            200..=299 => Ok(answer.body),
            401 => Err(BrokerError::Unknown),
            status => Err(BrokerError::Refused { status, reason: reason(&answer.body) }),
        }
    }

    async fn put(&self, path: &str, what: Map) -> Result<(), BrokerError> {
        let mut body = Zeroizing::new(Vec::new());
        json::encode_map(&what, &mut body);
        self.ask(Ask::Put(body), path).await.map(drop)
    }

    /// Whether the configured user may manage users.
    pub(crate) async fn verify(&self) -> Result<(), BrokerError> {
        let answer = self.ask(Ask::Get, "whoami").await?;
        let known = json::decode(&answer, &JsonLimits::default()).map_err(|_| BrokerError::Unexpected("no JSON"))?;
        // Older brokers say one text with commas.
        let is_manager = match known.get("tags") {
            Some(tags) if tags.as_list().is_some() => {
                tags.as_list().unwrap_or_default().iter().any(|tag| tag.as_str() == Some(MANAGER))
            }
            Some(tags) => tags.as_str().is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == MANAGER)),
            None => return Err(BrokerError::Unexpected("something that no broker says")),
        };
        let reason = || "the configured user lacks the tag administrator".to_owned();
        if is_manager { Ok(()) } else { Err(BrokerError::Refused { status: 403, reason: reason() }) }
    }

    /// Makes a user that may nothing but what its tags say. One of this name that is there is nobody's to change: the broker
    /// would give it the new password, and the end of the lease would delete it.
    pub(crate) async fn make(&self, user: &NewUser) -> Result<(), BrokerError> {
        match self.ask(Ask::Get, &format!("users/{}", escaped(&user.name))).await {
            Err(BrokerError::Refused { status: 404, .. }) => {}
            Ok(_) => {
                let reason = format!("there is a user {:?} already", user.name);
                return Err(BrokerError::Refused { status: 400, reason });
            }
            Err(other) => return Err(other),
        }
        let tags = user.rights.tags.as_str();
        let account = Map::new().with("password", user.password.expose().as_str()).with("tags", tags);
        self.put(&format!("users/{}", escaped(&user.name)), account).await
    }

    /// Lets a user do what it may.
    pub(crate) async fn grant(&self, user: &NewUser) -> Result<(), BrokerError> {
        let name = escaped(&user.name);
        let rights = &user.rights;
        for (vhost, granted) in &rights.vhosts {
            let granted = Map::new()
                .with("configure", granted.configure.as_str())
                .with("write", granted.write.as_str())
                .with("read", granted.read.as_str());
            self.put(&format!("permissions/{}/{name}", escaped(vhost)), granted).await?;
        }
        for (vhost, exchanges) in &rights.vhost_topics {
            for (exchange, granted) in exchanges {
                let granted = Map::new()
                    .with("exchange", exchange.as_str())
                    .with("write", granted.write.as_str())
                    .with("read", granted.read.as_str());
                self.put(&format!("topic-permissions/{}/{name}", escaped(vhost)), granted).await?;
            }
        }
        Ok(())
    }

    /// Deletes a user; one that is not there is deleted.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), BrokerError> {
        match self.ask(Ask::Delete, &format!("users/{}", escaped(name))).await {
            Err(BrokerError::Refused { status: 404, .. }) => Ok(()),
            other => other.map(drop),
        }
    }
}

/// The tag of users that may manage users.
const MANAGER: &str = "administrator";

/// Whether a name can be a segment of an address without leading elsewhere.
pub(crate) fn is_segment(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".."
}

/// What a broker says of a refusal, in its own words.
fn reason(body: &[u8]) -> String {
    let said = json::decode(body, &JsonLimits::default()).unwrap_or_default();
    // Its words may be a list of them.
    let listed = said.get("reason").and_then(|reason| reason.as_list());
    let listed = listed.map(|words| words.iter().filter_map(|word| word.as_str()).collect::<Vec<_>>().join(" "));
    let text = said.text("reason").map(str::to_owned).or(listed.filter(|text| !text.is_empty()));
    let text = text.or_else(|| said.text("error").map(str::to_owned)).unwrap_or_default();
    text.chars().filter(|letter| !letter.is_control()).take(REASON_CHARS_MAX).collect()
}
