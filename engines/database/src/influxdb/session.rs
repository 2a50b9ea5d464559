//! One question at a time, as somebody: a POST to `/query`, so that no address holds a password.
//!
//! Deliberately absent: what is answered, but for refusals.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_env::Outgoing;
use tresor_env::outgoing::{Ask, OutgoingError, OutgoingRequest};
use tresor_model::Body;
use tresor_secret::SecretString;
use tresor_wire::json::{JsonLimits, decode};
use zeroize::Zeroizing;

use crate::target::Trouble;
use crate::{Doors, access};

/// What is asked for answers by less.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// More of what a server says is shown to nobody.
const REASON_CHARS_MAX: usize = 300;
/// What everybody may ask.
const HARMLESS: &str = "SHOW DATABASES";

/// The way to a server.
pub(super) struct Way {
    pub(super) outgoing: Arc<dyn Outgoing>,
    /// Where it takes questions.
    pub(super) url: String,
    pub(super) user: String,
    /// How long one question may take.
    pub(super) time_max: Duration,
}

/// Somebody who was let in.
pub(super) struct Session {
    outgoing: Arc<dyn Outgoing>,
    url: String,
    time_max: Duration,
    authorization: Zeroizing<String>,
    /// Whether whoever this is, is not let in any more.
    is_out: bool,
}

impl access::Session for Session {
    type Way = Way;

    fn user(way: &Way) -> &str {
        &way.user
    }

    async fn open(_doors: &Doors, way: &Way, who: Option<(&str, &SecretString)>) -> Result<Self, Trouble> {
        let (user, password) = who.ok_or_else(|| Trouble::Senseless("password cannot be empty".into()))?;
        let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
        let mut session = Self {
            outgoing: Arc::clone(&way.outgoing),
            url: way.url.clone(),
            time_max: way.time_max,
            authorization: Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes()))),
            is_out: false,
        };
        match session.ask(HARMLESS).await {
            Err(Trouble::Unreachable(why)) if session.is_out => Err(Trouble::NoEntry(why)),
            Err(Trouble::Refused(why)) => Err(Trouble::Unreachable(why)),
            asked => asked.map(|()| session).map_err(unchanged),
        }
    }

    async fn still_there(self, _waited: Duration) -> Option<Self> {
        Some(self)
    }

    fn is_usable(&self) -> bool {
        !self.is_out
    }
}

impl Session {
    /// Lets the server do one text, of one statement or several. Refused: the first of them was not done.
    pub(super) async fn ask(&mut self, text: &str) -> Result<(), Trouble> {
        let headers = vec![
            ("authorization".into(), self.authorization.clone()),
            ("content-type".into(), Zeroizing::new("application/x-www-form-urlencoded".to_owned())),
        ];
        let (url, time_max) = (self.url.clone(), self.time_max);
        let ask = Ask::Post(form(text));
        let request = OutgoingRequest { ask, url, headers, time_max, body_bytes_max: BODY_BYTES_MAX };
        let answer = self.outgoing.ask(request).await.map_err(|error| match error {
            OutgoingError::Unreached(why) => Trouble::Unreachable(why),
            OutgoingError::Unsendable => Trouble::Senseless(error.to_string()),
            other => Trouble::Broken(other.to_string()),
        })?;
        let said = decode(&answer.body, &JsonLimits::default());
        let why = said
            .as_ref()
            .ok()
            .and_then(|said| said.text("error"))
            .map_or_else(|| format!("it answered with status {}", answer.status), shown);
        match answer.status {
            200 => done(&said.map_err(|_| Trouble::Broken("it answers something else than InfluxDB does".into()))?),
            401 => {
                self.is_out = true;
                Err(Trouble::Unreachable(why))
            }
            403 => Err(Trouble::Forbidden(why)),
            400..=499 => Err(Trouble::Refused(why)),
            _ => Err(Trouble::Broken(why)),
        }
    }
}

/// What came of each statement, up to the first that failed; those behind it were not begun.
fn done(said: &tresor_model::Map) -> Result<(), Trouble> {
    let results = said.get("results").and_then(Body::as_list);
    let results = results.ok_or_else(|| Trouble::Broken("it answers something else than InfluxDB does".into()))?;
    let errors = results.iter().map(|result| result.as_map().and_then(|result| result.text("error")));
    match errors.enumerate().find_map(|(before, error)| Some((before, shown(error?)))) {
        None => Ok(()),
        Some((0, why)) => Err(Trouble::Refused(why)),
        Some((_, why)) => Err(Trouble::Partly(why)),
    }
}

fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(REASON_CHARS_MAX).collect()
}

/// `q=` and a text, in the spelling of forms.
fn form(text: &str) -> Zeroizing<Vec<u8>> {
    // A buffer that grows leaves copies behind.
    let mut out = Zeroizing::new(Vec::with_capacity(2 + text.len() * 3));
    out.extend_from_slice(b"q=");
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(byte);
        } else {
            out.push(b'%');
            for half in [byte >> 4, byte & 0xf] {
                out.push(if half < 10 { b'0' + half } else { b'A' + half - 10 });
            }
        }
    }
    out
}

/// What an answer that does not come means while nothing was asked for that would change anything.
pub(super) fn unchanged(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Broken(why) => Trouble::Unreachable(why),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_value_of_a_form() {
        let spelled = form("SET \"a&b\" = 'ü+1'");
        assert_eq!(String::from_utf8_lossy(&spelled), "q=SET%20%22a%26b%22%20%3D%20%27%C3%BC%2B1%27");
    }
}
