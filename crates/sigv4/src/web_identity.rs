//! Keys of a role that is assumed by a web identity: a token in a file, which somebody signs whom the role believes, and who
//! puts another one there before it ends (a cluster of Kubernetes does, for service accounts).
//!
//! The token is all that is shown, and whoever has it has the role: it goes by TLS, or to this very machine. Deliberately absent:
//! where the file is, a memory of keys, and other ways to assume a role, which want keys first.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use tresor_env::Outgoing;
use tresor_env::outgoing::{Ask, Base, OutgoingRequest, escaped};
use zeroize::Zeroizing;

use crate::xml::Element;
use crate::{FORM, Keys};

const VERSION: &str = "2011-06-15";
/// What a session is called when nobody says it.
pub const SESSION: &str = "tresor";
/// How long an answer may take.
const TIME_MAX: Duration = Duration::from_secs(10);
/// How large it may be.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// More of a message is shown to nobody.
const MESSAGE_CHARS_MAX: usize = 400;

/// A role that is assumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its ARN.
    pub arn: String,
    /// What its session is called.
    pub session: String,
}

/// Why there are no keys.
#[derive(Debug, PartialEq, Eq)]
pub enum NotAssumed {
    /// Others could hear the token.
    Overheard,
    /// The file has no token.
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

/// Keys of a role, by the text of the file that holds the token.
///
/// # Errors
/// Why there are none; no text has the token in it.
pub async fn assume(
    outgoing: &dyn Outgoing,
    endpoint: &str,
    role: &Role,
    file: Zeroizing<String>,
) -> Result<Keys, NotAssumed> {
    let token = file.trim();
    if token.is_empty() {
        return Err(NotAssumed::NoToken);
    }
    if !Base::parse(endpoint).is_some_and(|base| base.is_private()) {
        return Err(NotAssumed::Overheard);
    }
    let request = OutgoingRequest {
        ask: Ask::Post(form(role, token)),
        url: format!("{}/", endpoint.trim_end_matches('/')),
        headers: vec![(Cow::Borrowed("content-type"), Zeroizing::new(FORM.to_owned()))],
        time_max: TIME_MAX,
        body_bytes_max: BODY_BYTES_MAX,
    };
    let answer = outgoing.ask(request).await.map_err(|error| NotAssumed::Unanswered(error.to_string()))?;
    let said = Element::parse(&answer.body);
    if answer.status == 200 {
        let keys = said.as_ref().filter(|said| said.name() == "AssumeRoleWithWebIdentityResponse").and_then(keys);
        return keys.ok_or_else(|| NotAssumed::Unanswered("its answer has no keys".to_owned()));
    }
    let part = |name| said.as_ref().and_then(|said| said.text_at(&["Error", name])).unwrap_or_default();
    let words = format!("status {} {}: {}", answer.status, part("Code"), part("Message"));
    let words = words.trim_end_matches([' ', ':']).replace(token, "[token]");
    let words: String = words.chars().filter(|letter| !letter.is_control()).take(MESSAGE_CHARS_MAX).collect();
    Err(if answer.status >= 500 { NotAssumed::Unanswered(words) } else { NotAssumed::Refused(words) })
}

fn form(role: &Role, token: &str) -> Zeroizing<Vec<u8>> {
    let parts = [("RoleArn", role.arn.as_str()), ("RoleSessionName", &role.session), ("WebIdentityToken", token)];
    let parts = parts.map(|(name, value)| (name, Zeroizing::new(escaped(value))));
    let head = format!("Action=AssumeRoleWithWebIdentity&Version={VERSION}");
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

fn keys(said: &Element) -> Option<Keys> {
    let part = |name| {
        let way = ["AssumeRoleWithWebIdentityResult", "Credentials", name];
        said.text_at(&way).filter(|text| !text.is_empty())
    };
    let copy = |text: &str| Zeroizing::new(text.to_owned());
    let token = part("SessionToken")?;
    Some(Keys::new(part("AccessKeyId")?, copy(part("SecretAccessKey")?), Some(copy(token))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]
    use tresor_env::doubles::TestDoors;

    use super::*;

    const ANSWER: &str = "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
        <AssumeRoleWithWebIdentityResult><Credentials><SessionToken>T</SessionToken><SecretAccessKey>S</SecretAccessKey>\
        <Expiration>2026-01-01T01:00:00Z</Expiration><AccessKeyId>A</AccessKeyId></Credentials>\
        </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";

    async fn asked(status: u16, said: &str, endpoint: &str, file: &str) -> (Result<[String; 3], NotAssumed>, String) {
        let doors = TestDoors::new(1);
        let heard = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let (said, hears) = (said.to_owned(), std::sync::Arc::clone(&heard));
        doors.outgoing.answer(move |request| {
            let Ask::Post(body) = &request.ask else { panic!("it is posted") };
            assert!(request.headers.iter().all(|(name, _)| name == "content-type"), "it is not signed");
            *hears.lock().unwrap() = format!("{} {}", request.url, String::from_utf8_lossy(body));
            Ok((status, said.clone().into_bytes()))
        });
        let role = Role { arn: "arn:aws:iam::1:role/x y".to_owned(), session: SESSION.to_owned() };
        let found = assume(&*doors.doors.outgoing, endpoint, &role, Zeroizing::new(file.to_owned())).await;
        let found = found.map(|keys| {
            let session = keys.session_token.map(|token| token.expose().clone()).unwrap_or_default();
            [keys.access_key, keys.secret_key.expose().clone(), session]
        });
        let heard = heard.lock().unwrap().clone();
        (found, heard)
    }

    #[tokio::test]
    async fn a_token_is_exchanged_for_the_keys_of_a_role() {
        let (found, heard) = asked(200, ANSWER, &endpoint("eu-central-1"), " ey.J-0 \n").await;
        assert_eq!(found.unwrap(), ["A", "S", "T"]);
        assert_eq!(
            heard,
            "https://sts.eu-central-1.amazonaws.com/ Action=AssumeRoleWithWebIdentity&Version=2011-06-15\
             &RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fx%20y&RoleSessionName=tresor&WebIdentityToken=ey.J-0"
        );
        assert_eq!(endpoint("cn-north-1"), "https://sts.cn-north-1.amazonaws.com.cn");
    }

    #[tokio::test]
    async fn cld_01_what_is_refused_or_answered_amiss_is_an_error_without_the_token() {
        let (refusal, token) = (
            "<ErrorResponse><Error><Code>InvalidIdentityToken</Code><Message>no canary</Message></Error></ErrorResponse>",
            "canary",
        );
        let at = endpoint("us-east-1");
        let refused = NotAssumed::Refused("status 400 InvalidIdentityToken: no [token]".to_owned());
        assert_eq!(asked(400, refusal, &at, token).await.0, Err(refused));
        let unanswered = |text: &str| Err(NotAssumed::Unanswered(text.to_owned()));
        assert_eq!(asked(503, "busy", &at, token).await.0, unanswered("status 503"));
        for nonsense in ["", "{}", "<AssumeRoleResponse/>", &ANSWER.replace("AccessKeyId", "Other")] {
            assert_eq!(asked(200, nonsense, &at, token).await.0, unanswered("its answer has no keys"), "{nonsense}");
        }
        // Nobody is asked at all.
        assert_eq!(asked(200, ANSWER, &at, " \n").await, (Err(NotAssumed::NoToken), String::new()));
        let overheard = (Err(NotAssumed::Overheard), String::new());
        assert_eq!(asked(200, ANSWER, "http://sts.example", token).await, overheard);
        assert_eq!(asked(200, ANSWER, "sts.example", token).await, overheard);
    }
}
