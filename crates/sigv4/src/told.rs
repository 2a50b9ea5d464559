//! Keys that a container's agent, or the machine's metadata, tells whoever runs there.
//!
//! Of the machine's metadata only the second version is asked, which wants a token of its own first: the first one also
//! answers whoever can make a program ask a URL. Both addresses are link-local, and another one of a container's agent must be
//! TLS, this very machine, or one of the agents that are known. Deliberately absent: going on with the first version, and where
//! addresses come from.

use std::borrow::Cow;
use std::time::Duration;

use tresor_env::Outgoing;
use tresor_env::outgoing::{Ask, Base, OutgoingRequest, escaped};
use tresor_wire::json::{self, JsonLimits};
use zeroize::Zeroizing;

use crate::Keys;

/// Where the agent of a container is, which a relative path is asked of.
pub const AGENT: &str = "http://169.254.170.2";
/// Hosts of agents that keys are taken from without TLS.
const AGENTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];
/// Where the metadata of a machine is.
pub const METADATA: &str = "http://169.254.169.254";
/// Below what it has keys.
const ROLES: &str = "latest/meta-data/iam/security-credentials/";
/// How long its token is good for, in seconds.
const TOKEN_SECONDS: &str = "60";
/// How long an answer may take: whoever answers is a hop away, and elsewhere nobody does.
const TIME_MAX: Duration = Duration::from_secs(2);
/// How large it may be.
const BODY_BYTES_MAX: usize = 16 * 1024;

type Header = (&'static str, Zeroizing<String>);

/// Asks once; the text of an answer with status 200.
async fn ask(
    outgoing: &dyn Outgoing,
    ask: Ask,
    url: String,
    header: Option<Header>,
) -> Result<Zeroizing<String>, String> {
    let headers = header.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect();
    let request = OutgoingRequest { ask, url, headers, time_max: TIME_MAX, body_bytes_max: BODY_BYTES_MAX };
    let answer = outgoing.ask(request).await.map_err(|error| error.to_string())?;
    if answer.status != 200 {
        return Err(format!("it answered with status {}", answer.status));
    }
    let text = std::str::from_utf8(&answer.body).map_err(|_| "its answer is no text".to_owned())?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// The keys in an answer.
fn read(answer: &str) -> Option<Keys> {
    let said = json::decode(answer.as_bytes(), &JsonLimits::default()).ok()?;
    let part = |name: &str| said.text(name).filter(|text| !text.is_empty());
    let copy = |text: &str| Zeroizing::new(text.to_owned());
    Some(Keys::new(part("AccessKeyId")?, copy(part("SecretAccessKey")?), part("Token").map(copy)))
}

/// Keys of a container, whose agent is shown a token where there is one.
///
/// # Errors
/// Why there are none.
pub async fn by_container(
    outgoing: &dyn Outgoing,
    url: String,
    token: Option<Zeroizing<String>>,
) -> Result<Keys, String> {
    if !is_heard_by_nobody_else(&url) {
        return Err("the address must be https://, of this machine, or of a known agent".to_owned());
    }
    let answer = ask(outgoing, Ask::Get, url, token.map(|token| ("authorization", token))).await?;
    read(&answer).ok_or_else(|| "its answer has no keys".to_owned())
}

fn is_heard_by_nobody_else(url: &str) -> bool {
    Base::parse(url).is_some_and(|base| {
        let authority = base.authority();
        let host = authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        base.is_private() || AGENTS.contains(&host.map_or(authority, |(host, _)| host))
    })
}

/// Keys of the role that the machine has whose metadata is there.
///
/// # Errors
/// Why there are none.
pub async fn by_machine(outgoing: &dyn Outgoing, base: &str) -> Result<Keys, String> {
    let base = base.trim_end_matches('/');
    let life = ("x-aws-ec2-metadata-token-ttl-seconds", Zeroizing::new(TOKEN_SECONDS.to_owned()));
    let put = Ask::Put(Zeroizing::new(Vec::new()));
    let token = ask(outgoing, put, format!("{base}/latest/api/token"), Some(life)).await?;
    let with_token = || Some(("x-aws-ec2-metadata-token", token.clone()));
    let roles = ask(outgoing, Ask::Get, format!("{base}/{ROLES}"), with_token()).await?;
    let role = roles.lines().next().map(str::trim).filter(|role| !role.is_empty());
    let role = role.ok_or_else(|| "the machine has no role".to_owned())?;
    let answer = ask(outgoing, Ask::Get, format!("{base}/{ROLES}{}", escaped(role)), with_token()).await?;
    read(&answer).ok_or_else(|| "its answer has no keys".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_from_nobody_whom_others_hear() {
        for (url, expected) in [
            ("https://agent.example.com/keys", true),
            ("http://127.0.0.1:8080/keys", true),
            ("http://169.254.170.23/v1/credentials", true),
            ("http://[fd00:ec2::23]/v1/credentials", true),
            ("http://[fd00:ec2::23]:80/v1/credentials", true),
            ("http://169.254.170.2:80/x", true),
            ("http://agent.example.com/keys", false),
            ("http://169.254.170.2@example.com/", false),
            ("169.254.170.2", false),
        ] {
            assert_eq!(is_heard_by_nobody_else(url), expected, "{url}");
        }
    }
}
