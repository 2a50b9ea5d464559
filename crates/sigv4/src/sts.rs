//! Asking AWS's security token service for the keys of a role: where it is, one form, and the keys or the refusal in its answer.
//!
//! Keys go along in one direction or the other, so it is asked by TLS, or on this very machine. Deliberately absent: trying again,
//! a memory of keys, and what is in the forms ([`web_identity`](crate::web_identity), [`assumed`](crate::assumed)).

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use tresor_env::Outgoing;
use tresor_env::outgoing::{Ask, Base, OutgoingRequest, escaped};
use zeroize::Zeroizing;

use crate::Keys;
use crate::xml::Element;

const VERSION: &str = "2011-06-15";
/// How long an answer may take.
const TIME_MAX: Duration = Duration::from_secs(10);
/// How large it may be.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// More of a message is shown to nobody.
const MESSAGE_CHARS_MAX: usize = 400;

/// Why there are no keys.
#[derive(Debug, PartialEq, Eq)]
pub enum NotAssumed {
    /// Others could hear what is said.
    Overheard,
    /// The file of the token has none.
    NoToken,
    /// STS does not answer, or not what it is asked.
    Unanswered(String),
    /// STS says no, in its own words.
    Refused(String),
}

impl fmt::Display for NotAssumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overheard => f.write_str("the address of STS must be https://, or of this machine"),
            Self::NoToken => f.write_str("the file of the token has none"),
            Self::Unanswered(why) | Self::Refused(why) => f.write_str(why),
        }
    }
}

/// Where STS is for a region.
#[must_use]
pub fn endpoint(region: &str) -> String {
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://sts.{region}.{suffix}")
}

/// The address of STS, if nobody else hears what is said there.
pub(crate) fn private(endpoint: &str) -> Result<Base<'_>, NotAssumed> {
    Base::parse(endpoint).filter(|base| base.is_private()).ok_or(NotAssumed::Overheard)
}

/// What is asked.
pub(crate) fn form(action: &str, parts: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    let parts = parts.iter().map(|(name, value)| (*name, Zeroizing::new(escaped(value))));
    let parts: Vec<_> = parts.collect();
    let head = format!("Action={action}&Version={VERSION}");
    // A buffer that grows leaves copies behind.
    let length = parts.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>() + head.len();
    let mut form = Zeroizing::new(Vec::with_capacity(length));
    form.extend_from_slice(head.as_bytes());
    for (name, value) in &parts {
        form.extend_from_slice(b"&");
        form.extend_from_slice(name.as_bytes());
        form.extend_from_slice(b"=");
        form.extend_from_slice(value.as_bytes());
    }
    form
}

/// Asks once for the keys that an action gives. Nothing of what is `withheld` is in an error.
pub(crate) async fn ask(
    outgoing: &dyn Outgoing,
    base: Base<'_>,
    action: &str,
    form: Zeroizing<Vec<u8>>,
    headers: Vec<(Cow<'static, str>, Zeroizing<String>)>,
    withheld: &[&str],
) -> Result<Keys, NotAssumed> {
    let request = OutgoingRequest {
        ask: Ask::Post(form),
        url: format!("{}/", base.as_str()),
        headers,
        time_max: TIME_MAX,
        body_bytes_max: BODY_BYTES_MAX,
    };
    let answer = outgoing.ask(request).await.map_err(|error| NotAssumed::Unanswered(error.to_string()))?;
    let said = Element::parse(&answer.body);
    if answer.status == 200 {
        let said = said.as_ref().filter(|said| said.name().strip_suffix("Response") == Some(action));
        let keys = said.and_then(|said| keys(said, &format!("{action}Result")));
        return keys.ok_or_else(|| NotAssumed::Unanswered("its answer has no keys".to_owned()));
    }
    let part = |name| said.as_ref().and_then(|said| said.text_at(&["Error", name])).unwrap_or_default();
    let words = format!("status {} {}: {}", answer.status, part("Code"), part("Message"));
    let words = words.trim_end_matches([' ', ':']).to_owned();
    let secrets = withheld.iter().filter(|secret| !secret.is_empty());
    let words = secrets.fold(words, |words, secret| words.replace(*secret, "[token]"));
    let words: String = words.chars().filter(|letter| !letter.is_control()).take(MESSAGE_CHARS_MAX).collect();
    Err(if answer.status >= 500 { NotAssumed::Unanswered(words) } else { NotAssumed::Refused(words) })
}

fn keys(said: &Element, result: &str) -> Option<Keys> {
    let part = |name| said.text_at(&[result, "Credentials", name]).filter(|text| !text.is_empty());
    let copy = |text: &str| Zeroizing::new(text.to_owned());
    let token = part("SessionToken")?;
    Some(Keys::new(part("AccessKeyId")?, copy(part("SecretAccessKey")?), Some(copy(token))))
}
