//! Keys of roles that are assumed by other keys, one after the other.
//!
//! Deliberately absent: where the first keys come from, and a memory of any.

use std::fmt;

use tresor_env::{Outgoing, Timestamp};

use crate::chain::AssumedRole;
use crate::sts::{self, NotAssumed};
use crate::{FORM, Keys, Posted, Scope};

/// What is asked.
const ACTION: &str = "AssumeRole";

/// The security token service, as it is asked.
#[derive(Clone, Debug)]
pub struct Sts {
    /// Where it is.
    pub endpoint: String,
    /// The region that signatures are for.
    pub region: String,
}

impl Sts {
    /// That of a region, or what is said to be elsewhere.
    #[must_use]
    pub fn of(region: &str, elsewhere: Option<String>) -> Self {
        Self { endpoint: elsewhere.unwrap_or_else(|| sts::endpoint(region)), region: region.to_owned() }
    }
}

/// Which role has no keys, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Its ARN.
    pub arn: String,
    /// Why.
    pub why: NotAssumed,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the role `{}` is not assumed: {}", self.arn, self.why)
    }
}

/// The keys of the last role, each assumed by those of the one before; the first keys, where there is no role.
///
/// # Errors
/// At which role it ended; no text has keys in it.
pub async fn through(
    outgoing: &dyn Outgoing,
    sts: &Sts,
    first: Keys,
    roles: &[AssumedRole],
    now: Timestamp,
) -> Result<Keys, Stopped> {
    let mut keys = first;
    for role in roles {
        let found = assume(outgoing, sts, &keys, role, now).await;
        keys = found.map_err(|why| Stopped { arn: role.role.arn.clone(), why })?;
    }
    Ok(keys)
}

async fn assume(
    outgoing: &dyn Outgoing,
    sts: &Sts,
    keys: &Keys,
    assumed: &AssumedRole,
    now: Timestamp,
) -> Result<Keys, NotAssumed> {
    let base = sts::private(&sts.endpoint)?;
    let seconds = assumed.seconds.map(|seconds| seconds.to_string());
    let mut parts = vec![("RoleArn", assumed.role.arn.as_str()), ("RoleSessionName", &assumed.role.session)];
    parts.extend(assumed.external_id.as_deref().map(|id| ("ExternalId", id)));
    parts.extend(seconds.as_deref().map(|seconds| ("DurationSeconds", seconds)));
    let form = sts::form(ACTION, &parts);
    let posted = Posted { media: FORM, target: None, body: &form };
    let scope = Scope { region: &sts.region, service: "sts" };
    let headers = crate::headers(keys, scope, base.authority(), posted, now);
    // What goes along is in no error, whatever STS repeats.
    let token = headers.iter().find(|(name, _)| name == "x-amz-security-token");
    let token = token.map(|(_, value)| value.clone()).unwrap_or_default();
    sts::ask(outgoing, base, ACTION, form, headers, &[&token]).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]
    use std::sync::{Arc, Mutex};

    use tresor_env::doubles::TestDoors;
    use tresor_env::outgoing::Ask;
    use zeroize::Zeroizing;

    use super::*;
    use crate::web_identity::Role;

    const NOON: Timestamp = Timestamp::from_seconds(1_440_938_160);

    fn role(name: &str) -> AssumedRole {
        let role = Role { arn: format!("arn:aws:iam::1:role/{name}"), session: "s".to_owned() };
        AssumedRole { role, external_id: None, seconds: None }
    }

    fn first() -> Keys {
        Keys::new("FIRST", Zeroizing::new("canary-secret".to_owned()), Some(Zeroizing::new("canary-token".to_owned())))
    }

    /// Asks a fake of STS, which names the keys of a role after it; what it heard, and what came of it.
    async fn asked(endpoint: &str, roles: &[AssumedRole]) -> (Vec<String>, Result<String, Stopped>) {
        let doors = TestDoors::new(1);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        doors.outgoing.answer(move |request| {
            let Ask::Post(body) = &request.ask else { panic!("it is posted") };
            let header = |name: &str| {
                let found = request.headers.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| value.to_string()).unwrap_or_default()
            };
            let form = String::from_utf8_lossy(body).into_owned();
            let signed = header("authorization");
            let signed = signed.split_once("Credential=").and_then(|(_, rest)| rest.split_once(','));
            let signed = signed.map_or(String::new(), |(scope, _)| scope.to_owned());
            hears.lock().unwrap().push(format!("{} {signed} {} {form}", request.url, header("x-amz-security-token")));
            let name = form.split("role%2F").nth(1).and_then(|rest| rest.split('&').next()).unwrap_or_default();
            if name == "closed" {
                let token = header("x-amz-security-token");
                let said = format!("<E><Error><Code>AccessDenied</Code><Message>not {token}</Message></Error></E>");
                return Ok((403, said.into_bytes()));
            }
            let keys = format!(
                "<AccessKeyId>{name}</AccessKeyId><SecretAccessKey>S</SecretAccessKey><SessionToken>of-{name}</SessionToken>"
            );
            let said = format!(
                "<AssumeRoleResponse><AssumeRoleResult><Credentials>{keys}</Credentials></AssumeRoleResult></AssumeRoleResponse>"
            );
            Ok((200, said.into_bytes()))
        });
        let sts = Sts { endpoint: endpoint.to_owned(), region: "eu-west-1".to_owned() };
        let found = through(&*doors.doors.outgoing, &sts, first(), roles, NOON).await;
        let heard = heard.lock().unwrap().clone();
        (heard, found.map(|keys| keys.access_key))
    }

    #[tokio::test]
    async fn each_role_is_assumed_by_the_keys_of_the_one_before() {
        let second = AssumedRole { external_id: Some("x y".to_owned()), seconds: Some(900), ..role("two") };
        let endpoint = sts::endpoint("eu-west-1");
        let (heard, found) = asked(&endpoint, &[role("one"), second]).await;
        assert_eq!(found.as_deref(), Ok("two"));
        let head = "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2F";
        let scope = "20150830/eu-west-1/sts/aws4_request";
        assert_eq!(
            heard,
            [
                format!("{endpoint}/ FIRST/{scope} canary-token {head}one&RoleSessionName=s"),
                format!(
                    "{endpoint}/ one/{scope} of-one {head}two&RoleSessionName=s&ExternalId=x%20y&DurationSeconds=900"
                ),
            ]
        );
        assert_eq!(asked(&endpoint, &[]).await, (Vec::new(), Ok("FIRST".to_owned())));
    }

    #[tokio::test]
    async fn cld_01_a_role_that_is_refused_ends_it_and_is_named_without_keys() {
        let (heard, found) = asked("http://127.0.0.1:1", &[role("closed"), role("two")]).await;
        assert_eq!(heard.len(), 1);
        let said = "the role `arn:aws:iam::1:role/closed` is not assumed: status 403 AccessDenied: not [token]";
        assert_eq!(found.unwrap_err().to_string(), said);
        let (heard, found) = asked("http://sts.example", &[role("one")]).await;
        assert_eq!((heard.len(), found.unwrap_err().why), (0, NotAssumed::Overheard));
    }
}
