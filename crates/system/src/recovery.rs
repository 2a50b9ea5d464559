//! What a server in recovery mode answers: making a recovery token by shares, and `sys/raw` to whoever has it.
//!
//! The same shapes as `sys/generate-root` and `sys/raw` have. Deliberately absent: everything else (SEA-11).

use tresor_core::shareholders::recovery::{Recovery, commit};
use tresor_core::shareholders::{Entered, OTP_CHARACTERS};
use tresor_engine::Answer;
use tresor_model::{Fault, Map, Refusal, Request, Response, Shape, Verb};
use tresor_secret::SecretString;
use tresor_wire::input::{Fields, Input, PathParameters};
use tresor_wire::output::Output;

use crate::always::parse_share;
use crate::sys::generate_root::{Begin, Enter, Progressed, concealment};
use crate::sys::raw;

const ATTEMPT: &str = "sys/generate-recovery-token/attempt";
const UPDATE: &str = "sys/generate-recovery-token/update";
const RAW: &str = "sys/raw";

/// Answers a request.
///
/// # Errors
/// As it says.
pub async fn answer(recovery: &Recovery, request: Request) -> Result<Response, Fault> {
    if let Some(refusal) = request.refusal {
        return Err(refusal.into());
    }
    let nothing = || SecretString::new(String::new());
    match (request.path.trimmed(), request.verb) {
        (ATTEMPT, Verb::Read) => flat(standing(recovery, &nothing())?),
        (ATTEMPT, Verb::Write) => {
            let now = recovery.now();
            let (concealment, made_up) =
                concealment(decode::<Begin>(request.body, None, Vec::new())?, now, || recovery.one_time_password())?;
            recovery.begin(concealment)?;
            flat(standing(recovery, &made_up)?)
        }
        (ATTEMPT, Verb::Delete) => {
            recovery.cancel();
            Ok(Response::default())
        }
        (UPDATE, Verb::Write) => {
            let input: Enter = decode(request.body, None, Vec::new())?;
            let (key, nonce) = input.checked()?;
            let entered = recovery.enter(&nonce, parse_share(&key)?).await?;
            let mut shown = standing(recovery, &nothing())?;
            if let Entered::Enough((token, fingerprint)) = entered {
                shown.complete(nonce, &token, fingerprint);
            }
            flat(shown)
        }
        (path, verb) if path == RAW || path.starts_with("sys/raw/") => {
            let name = path.get(RAW.len()..).unwrap_or_default().trim_start_matches('/').to_owned();
            let asked = format!("{verb:?} {name} ({})", request.id);
            let barrier = recovery.open(request.token.as_ref(), &asked)?;
            let mut txn = barrier.begin().map_err(Fault::internal)?;
            let (sent, query) = (request.body, request.from_query);
            let response = match verb {
                Verb::Read => shaped(raw::show(&mut txn, &decode(sent, Some(name), query)?)?),
                Verb::List => shaped(raw::names(&mut txn, &decode(sent, Some(name), query)?)?),
                Verb::Write => raw::put(&mut txn, &decode(sent, Some(name), query)?).map(|()| Response::default()),
                Verb::Delete => raw::remove(&mut txn, &decode(sent, Some(name), query)?).map(|()| Response::default()),
                _ => Err(Refusal::Unsupported.into()),
            }?;
            if matches!(verb, Verb::Write | Verb::Delete) {
                commit(&barrier, txn).await?;
            }
            Ok(response)
        }
        _ => Err(Refusal::NoRoute(request.path.as_str().to_owned()).into()),
    }
}

fn decode<In: Input>(body: Map, path: Option<String>, from_query: Vec<String>) -> Result<In, Fault> {
    let path: PathParameters = path.map(|path| ("path", path)).into_iter().collect();
    let fields = Fields { path, from_query, body };
    In::decode(fields).map(|(input, _)| input).map_err(|error| Fault::invalid(error.to_string()))
}

fn flat(report: Progressed) -> Result<Response, Fault> {
    Ok(Response { shape: Shape::Flat(report.into_map()), ..Response::default() })
}

fn shaped(answer: impl Answer) -> Result<Response, Fault> {
    Ok(Response { shape: answer.into_reply().shape, ..Response::default() })
}

fn standing(recovery: &Recovery, otp: &SecretString) -> Result<Progressed, Fault> {
    Ok(Progressed::of(recovery.standing()?, otp, OTP_CHARACTERS))
}
