//! Keys of a role that is assumed by a web identity: a token in a file, which somebody signs whom the role believes, and who
//! puts another one there before it ends (a cluster of Kubernetes does, for service accounts).
//!
//! The token is all that is shown, and whoever has it has the role: it goes by TLS, or to this very machine. Deliberately absent:
//! where the file is, a memory of keys, and other ways to assume a role, which want keys first.

use std::borrow::Cow;

use tresor_env::Outgoing;
use zeroize::Zeroizing;

use crate::sts::{self, NotAssumed};
use crate::{FORM, Keys};

/// What is asked.
const ACTION: &str = "AssumeRoleWithWebIdentity";
/// What a session is called when nobody says it.
pub const SESSION: &str = "tresor";

/// A role that is assumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its ARN.
    pub arn: String,
    /// What its session is called.
    pub session: String,
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
    let base = sts::private(endpoint)?;
    let parts = [("RoleArn", role.arn.as_str()), ("RoleSessionName", &role.session), ("WebIdentityToken", token)];
    let headers = vec![(Cow::Borrowed("content-type"), Zeroizing::new(FORM.to_owned()))];
    sts::ask(outgoing, base, ACTION, sts::form(ACTION, &parts), headers, &[token]).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]
    use tresor_env::doubles::TestDoors;
    use tresor_env::outgoing::Ask;

    use super::*;
    use crate::sts::endpoint;

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
