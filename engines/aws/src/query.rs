//! Asking a service of AWS: a signed form, one XML answer, and trying again what may be tried again.
//!
//! Address, action and version are ours alone, and an answer has to be the one to that action. Messages of AWS are shown,
//! cut to a line; they name users, actions and resources, never keys. Deliberately absent: which actions there are.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tresor_engine::outside::Failed;
use tresor_env::outgoing::{Ask, Base, OutgoingError, OutgoingRequest, escaped};
use tresor_env::{Clock, Outgoing};
use tresor_model::Fault;
use tresor_model::fault::{Failure, Side};
use tresor_sigv4::xml::Element;
use tresor_sigv4::{FORM, Keys, Posted, Scope};
use zeroize::Zeroizing;

use crate::machine::{self, Machine};

/// How long one answer may take.
const TIME_MAX: Duration = Duration::from_secs(10);
/// How large it may be.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// More of a message is shown to nobody.
const MESSAGE_CHARS_MAX: usize = 400;
/// How long the first pause between two tries is; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(200);

/// What AWS says when it is asked too often.
const THROTTLED: [&str; 6] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestLimitExceeded",
    "TooManyRequestsException",
];

/// Where a service is.
pub(crate) struct Endpoint {
    /// `https://iam.amazonaws.com`.
    pub(crate) address: String,
    pub(crate) region: String,
    pub(crate) service: &'static str,
}

/// What a service is asked.
pub(crate) struct Form {
    action: &'static str,
    body: Zeroizing<String>,
    /// Whether asking twice is as good as once.
    is_repeatable: bool,
}

impl Form {
    /// An action that changes nothing when it is done a second time.
    pub(crate) fn new(action: &'static str, version: &str) -> Self {
        let body = Zeroizing::new(format!("Action={action}&Version={version}"));
        Self { action, body, is_repeatable: true }
    }

    /// It makes something each time.
    pub(crate) fn once(mut self) -> Self {
        self.is_repeatable = false;
        self
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.body.push_str(&format!("&{}={}", escaped(name), &*Zeroizing::new(escaped(value))));
        self
    }

    /// With a value, where there is one.
    pub(crate) fn with_some(self, name: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.with(name, value) }
    }
}

/// Why AWS did not do what it was asked.
#[derive(Debug)]
pub(crate) enum AwsError {
    /// Nobody knows what it would have said.
    Unanswered(OutgoingError),
    /// It says no, in its own words.
    Refused { status: u16, code: String, message: String },
    /// It answered something else than was asked for.
    Unexpected(&'static str),
    /// There are no keys to ask with, for this reason.
    Keyless(String),
}

impl AwsError {
    /// Whether it says that what was named is not there.
    pub(crate) fn is_absence(&self) -> bool {
        self.has_code("NoSuchEntity")
    }

    pub(crate) fn has_code(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == wanted)
    }

    /// Whether the keys are to blame: these are none, or may not do this.
    pub(crate) fn is_about_keys(&self) -> bool {
        let codes =
            ["InvalidClientTokenId", "SignatureDoesNotMatch", "AccessDenied", "AccessDeniedException", "AuthFailure"];
        matches!(self, Self::Keyless(_)) || codes.iter().any(|code| self.has_code(code))
    }

    /// Whether a later try may go better.
    fn passes(&self) -> bool {
        match self {
            Self::Unanswered(OutgoingError::Unsendable | OutgoingError::TooLarge)
            | Self::Unexpected(_)
            | Self::Keyless(_) => false,
            Self::Unanswered(_) => true,
            Self::Refused { status, code, .. } => *status >= 500 || THROTTLED.contains(&code.as_str()),
        }
    }

    /// Whether it certainly did nothing.
    fn is_certain(&self) -> bool {
        match self {
            Self::Unanswered(cause) => matches!(cause, OutgoingError::Unsendable | OutgoingError::Unreached(_)),
            Self::Refused { status, .. } => *status < 500,
            Self::Unexpected(_) => false,
            Self::Keyless(_) => true,
        }
    }

    /// As the end of an act that had made something before, or not.
    pub(crate) fn ends_act(self, has_made: bool) -> Failed {
        match (self.is_certain(), has_made) {
            (true, false) => Failed::nothing_done(self.into()),
            (true, true) => Failed::partly_done(self.into()),
            (false, _) => Failed::in_doubt(self.into()),
        }
    }
}

impl AwsError {
    /// As what is wrong with whoever asks, and not with what was asked for.
    pub(crate) fn ours(self) -> Fault {
        let public = Some(self.to_string().into());
        Fault::Failure(Failure { cause: self.into(), side: Side::Upstream, public })
    }
}

impl fmt::Display for AwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered(cause) => write!(f, "AWS could not be asked: {cause}"),
            Self::Refused { status, code, .. } if code.is_empty() => write!(f, "AWS answered with status {status}"),
            Self::Refused { code, message, .. } => write!(f, "AWS says {code}: {message}"),
            Self::Unexpected(what) => write!(f, "AWS answered {what}"),
            Self::Keyless(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for AwsError {}

/// What AWS says no to is the operator's to mend; who does not answer is AWS.
impl From<AwsError> for Fault {
    fn from(error: AwsError) -> Self {
        let public = match &error {
            AwsError::Refused { code, .. } if THROTTLED.contains(&code.as_str()) => {
                "AWS is asked too often, try again later"
            }
            AwsError::Keyless(_) => return Self::invalid(error.to_string()),
            AwsError::Refused { status, .. } if *status < 500 => return Self::invalid(error.to_string()),
            AwsError::Refused { .. } => "AWS failed",
            AwsError::Unanswered(OutgoingError::TooSlow) => "AWS took too long to answer",
            AwsError::Unanswered(_) => "AWS could not be asked",
            AwsError::Unexpected(_) => "AWS answered something unexpected",
        };
        Self::Failure(Failure { cause: error.into(), side: Side::Upstream, public: Some(public.into()) })
    }
}

/// What asking takes.
#[derive(Clone)]
pub(crate) struct Doors {
    pub(crate) outgoing: Arc<dyn Outgoing>,
    pub(crate) clock: Arc<dyn Clock>,
    /// What the machine gives, where this mount may have it.
    pub(crate) machine: Option<Arc<Machine>>,
}

/// By whose keys AWS is asked.
pub(crate) enum Whose {
    /// These.
    Own(Keys),
    /// Those that the machine gives.
    Machine,
}

impl From<Keys> for Whose {
    fn from(keys: Keys) -> Self {
        Self::Own(keys)
    }
}

/// Who asks: by which keys, and how often again.
pub(crate) struct Client {
    pub(crate) doors: Doors,
    pub(crate) keys: Whose,
    pub(crate) retries: u32,
}

impl Client {
    /// Asks, and again where that is right.
    pub(crate) async fn ask(&self, endpoint: &Endpoint, form: &Form) -> Result<Element, AwsError> {
        let mut tries = 0;
        loop {
            let error = match self.ask_once(endpoint, form).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let may_go_on = error.passes() && (form.is_repeatable || error.is_certain());
            if tries >= self.retries || !may_go_on {
                return Err(error);
            }
            self.doors.clock.sleep(PAUSE * 2_u32.pow(tries.min(6))).await;
            tries += 1;
        }
    }

    async fn keys(&self) -> Result<&Keys, AwsError> {
        match (&self.keys, &self.doors.machine) {
            (Whose::Own(keys), _) => Ok(keys),
            (Whose::Machine, Some(machine)) => machine.keys().await,
            (Whose::Machine, None) => Err(machine::keyless(machine::NOT_THE_SERVERS)),
        }
    }

    async fn ask_once(&self, endpoint: &Endpoint, form: &Form) -> Result<Element, AwsError> {
        let base = Base::parse(&endpoint.address).ok_or(AwsError::Unanswered(OutgoingError::Unsendable))?;
        let body = Zeroizing::new(form.body.as_bytes().to_vec());
        let scope = Scope { region: &endpoint.region, service: endpoint.service };
        let keys = self.keys().await?;
        let posted = Posted { media: FORM, target: None, body: &body };
        let headers = tresor_sigv4::headers(keys, scope, base.authority(), posted, self.doors.clock.wall());
        let url = format!("{}/", base.as_str());
        let request =
            OutgoingRequest { ask: Ask::Post(body), url, headers, time_max: TIME_MAX, body_bytes_max: BODY_BYTES_MAX };
        let answer = self.doors.outgoing.ask(request).await.map_err(AwsError::Unanswered)?;
        let said = Element::parse(&answer.body);
        match (answer.status, said) {
            (200, Some(said)) if said.name().strip_suffix("Response") == Some(form.action) => Ok(said),
            (200, _) => Err(AwsError::Unexpected("something else than was asked for")),
            (status, said) => Err(refused(status, said.as_ref())),
        }
    }
}

/// What an answer of refusal says.
fn refused(status: u16, said: Option<&Element>) -> AwsError {
    let text = |name: &str| {
        // What stands for AWS in tests says it one element deeper.
        let error = said.and_then(|said| said.at(&["Error"]).or_else(|| said.at(&["Errors", "Error"])));
        let text = error.and_then(|error| error.text_at(&[name])).unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        line.chars().filter(|letter| !letter.is_control()).take(MESSAGE_CHARS_MAX).collect::<String>()
    };
    AwsError::Refused { status, code: text("Code"), message: text("Message") }
}
