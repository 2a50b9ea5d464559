//! Asking GitHub: who a token belongs to, and what that user belongs to. Every answer is bounded and read as JSON.

use std::time::Duration;

use tresor_engine::Cx;
use tresor_env::outgoing::{Ask, Base, OutgoingAnswer, OutgoingError, OutgoingRequest};
use tresor_model::fault::{Failure, Side};
use tresor_model::{Body, Fault, Refusal};
use tresor_secret::SecretString;
use tresor_wire::json::{JsonLimits, decode_value};
use zeroize::Zeroizing;

use crate::config::Config;

/// Where github.com answers.
const GITHUB: &str = "https://api.github.com";
/// How long one answer may take.
const TIME_MAX: Duration = Duration::from_secs(10);
/// How large one answer may be.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How many names come on one page, and how many pages are asked for.
const PAGE: usize = 100;
const PAGES_MAX: usize = 20;

/// What was asked does not admit the caller.
const BAD_TOKEN: &str = "GitHub does not take this token";

/// Refuses the address of a server that a token would be sent to in the clear: only the machine itself may be asked
/// without TLS.
pub(crate) fn check_base(base_url: &str) -> Result<(), Fault> {
    let fits = base_url.is_empty() || Base::parse(base_url).is_some_and(Base::is_private);
    let refusal = "base_url must be https://HOST/PATH (http:// only on the machine itself), or empty for github.com";
    if fits { Ok(()) } else { Err(Fault::invalid(refusal)) }
}

/// Says to the caller that GitHub could not be asked, and to the log why.
fn unanswered(cause: OutgoingError) -> Fault {
    let public = match cause {
        OutgoingError::TooSlow => "GitHub took too long to answer",
        OutgoingError::TooLarge => "GitHub's answer is larger than expected",
        OutgoingError::Unsendable | OutgoingError::Unreached(_) | OutgoingError::Failed(_) => {
            "GitHub could not be asked"
        }
    };
    Fault::Failure(Failure { cause: cause.into(), side: Side::Upstream, public: Some(public.into()) })
}

/// Says that GitHub answered something else than was expected.
fn unexpected(what: &str) -> Fault {
    Fault::Failure(Failure {
        cause: format!("GitHub answered {what}").into(),
        side: Side::Upstream,
        public: Some("GitHub answered something unexpected".into()),
    })
}

async fn ask(cx: &Cx<'_>, config: &Config, path: &str, token: Option<&SecretString>) -> Result<OutgoingAnswer, Fault> {
    let base = if config.base_url.is_empty() { GITHUB } else { config.base_url.trim_end_matches('/') };
    let plain = |value: &str| Zeroizing::new(value.to_owned());
    let mut headers = vec![
        ("accept".into(), plain("application/vnd.github+json")),
        ("x-github-api-version".into(), plain("2022-11-28")),
    ];
    if let Some(token) = token {
        headers.push(("authorization".into(), Zeroizing::new(format!("Bearer {}", token.expose().trim()))));
    }
    let request = OutgoingRequest {
        ask: Ask::Get,
        url: format!("{base}/{path}"),
        headers,
        time_max: TIME_MAX,
        body_bytes_max: BODY_BYTES_MAX,
    };
    match cx.outgoing.ask(request).await {
        // What cannot be sent in a header is no token.
        Err(OutgoingError::Unsendable) if token.is_some() => Err(Fault::invalid(BAD_TOKEN)),
        answer => answer.map_err(unanswered),
    }
}

fn read(answer: &OutgoingAnswer) -> Result<Body, Fault> {
    match answer.status {
        200 => decode_value(&answer.body, &JsonLimits::default()).map_err(|_| unexpected("no JSON")),
        // Whose token it is decides; what GitHub says of it is not repeated.
        401 | 403 => Err(Fault::invalid(BAD_TOKEN)),
        429 => Err(Refusal::Unavailable("GitHub takes no more requests now, try again later".into()).into()),
        status => Err(unexpected(&format!("status {status}"))),
    }
}

fn text<'b>(body: &'b Body, name: &str) -> Option<&'b str> {
    body.as_map()?.get(name)?.as_str()
}

fn number(body: &Body) -> Option<u64> {
    match body.as_map()?.get("id")? {
        Body::Number(number) => number.as_i64().and_then(|number| u64::try_from(number).ok()),
        _ => None,
    }
}

/// The number of the configured organisation, which anybody may ask for.
pub(crate) async fn organization_id(cx: &Cx<'_>, config: &Config) -> Result<u64, Fault> {
    let unset = |reason: &str| {
        Fault::invalid(format!("unable to fetch the organization_id, you must manually set it in the config: {reason}"))
    };
    let is_name = config.organization.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if !is_name {
        return Err(Fault::invalid("organization is no name that GitHub gives"));
    }
    let answer = ask(cx, config, &format!("orgs/{}", config.organization), None).await;
    let answer = answer.map_err(|fault| unset(&fault.to_string()))?;
    let organization = read(&answer).map_err(|_| unset("GitHub does not know it"))?;
    number(&organization).filter(|id| *id > 0).ok_or_else(|| unset("GitHub's answer has none"))
}

/// The name of the user that a token belongs to.
pub(crate) async fn user(cx: &Cx<'_>, config: &Config, token: &SecretString) -> Result<String, Fault> {
    let user = read(&ask(cx, config, "user", Some(token)).await?)?;
    let name = text(&user, "login").filter(|name| !name.is_empty() && name.len() <= 256);
    name.map(str::to_owned).ok_or_else(|| unexpected("a user without a name"))
}

/// All entries of a list, page by page.
async fn all(cx: &Cx<'_>, config: &Config, path: &str, token: &SecretString) -> Result<Vec<Body>, Fault> {
    let mut entries = Vec::new();
    for page in 1..=PAGES_MAX {
        // The first page goes without its number, as GitHub's own clients ask for it.
        let number = if page == 1 { String::new() } else { format!("&page={page}") };
        let path = format!("{path}?per_page={PAGE}{number}");
        let Body::List(more) = read(&ask(cx, config, &path, Some(token)).await?)? else {
            return Err(unexpected("no list"));
        };
        let is_last = more.len() < PAGE;
        entries.extend(more);
        if is_last {
            return Ok(entries);
        }
    }
    // Who belongs to more is let in by these, or not at all: belonging only gives.
    Ok(entries)
}

/// Whether the user of a token belongs to the configured organisation.
pub(crate) async fn belongs(cx: &Cx<'_>, config: &Config, token: &SecretString) -> Result<bool, Fault> {
    let organizations = all(cx, config, "user/orgs", token).await?;
    Ok(organizations.iter().any(|organization| number(organization) == Some(config.organization_id)))
}

/// The names and slugs of the teams of the configured organisation that the user of a token belongs to.
pub(crate) async fn teams(cx: &Cx<'_>, config: &Config, token: &SecretString) -> Result<Vec<String>, Fault> {
    let teams = all(cx, config, "user/teams", token).await?;
    let of_organization = teams.iter().filter(|team| {
        let organization = team.as_map().and_then(|team| team.get("organization"));
        organization.and_then(number) == Some(config.organization_id)
    });
    let names = of_organization.flat_map(|team| [text(team, "name"), text(team, "slug")]);
    Ok(names.flatten().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_nowhere_in_the_clear() {
        for good in ["", "https://github.example.com/api/v3", "http://127.0.0.1:8080", "http://localhost/api/v3/"] {
            assert!(check_base(good).is_ok(), "{good}");
        }
        for bad in ["github.example.com", "http://github.example.com", "https://user:pass@example.com/"] {
            assert!(check_base(bad).is_err(), "{bad}");
        }
    }
}
