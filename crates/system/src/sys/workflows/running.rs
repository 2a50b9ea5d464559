//! Running a workflow: an act without a transaction (`tresor_engine::outside`), of which each request is one of its own, by
//! whoever asked and with all that they may do and no more. The answer is made in another transaction, so it can be wrapped like
//! any other.
//!
//! Invariants: the token that a request is made by is no part of what is kept of it; a workflow that is run for somebody without
//! a token has none, and runs no other workflow; how deep workflows run each other, how many requests all of them make, and how
//! long, is bounded. Deliberately absent: what texts mean (`tresor-profile`).

use std::sync::Arc;
use std::time::Duration;

use tresor_core::workflows;
use tresor_core::{Errands, Handles};
use tresor_engine::{Cx, Data, Failed, Outside, Widened};
use tresor_env::BoxFuture;
use tresor_model::request::Inline;
use tresor_model::{Connection, Errand, Fault, Map, Path, Refusal, Request, RequestId};
use tresor_profile::{Door, History, Made, ProfileError, Run, Trouble, Who, Workflow};
use tresor_secret::TokenSecret;
use tresor_wire::input::Input;
use tresor_wire::output::Output;

use crate::sys::Sys;

/// How deep workflows can run each other.
const DEPTH_MAX: u8 = 5;
/// How many requests a workflow, and all that it runs, can make.
const REQUESTS_MAX: usize = 256;
/// The namespace of a request, below that of its workflow.
const NAMESPACE: &str = "x-vault-namespace";

const ABSENT: &str = "workflow does not exist";
const TOO_DEEP: &str = "too much workflow recursion";

/// A workflow to run.
#[derive(Input)]
pub(super) struct Execute {
    /// Its path.
    #[input(path)]
    path: String,
    /// What its `input` asks for.
    #[input(rest)]
    sent: Map,
}

/// What running one was like.
#[derive(Output)]
pub(super) struct Traced {
    /// Requests and answers, by flow and request.
    #[output(secret)]
    history: Map,
    /// Why it ended before its end.
    error: Option<String>,
    /// Its output.
    #[output(secret)]
    response: Option<Map>,
}

pub(super) async fn execute(sys: &Sys, cx: Cx<'_>, input: Execute) -> Result<Outside<Data<Map>>, Fault> {
    let begun = begin(sys, cx, &input, false)?;
    let target = begun.target();
    Ok(Outside::new(target, begun.output(), |_, _, output: &Map| Ok(Data(output.duplicate()))))
}

pub(super) async fn execute_for_anybody(sys: &Sys, cx: Cx<'_>, input: Execute) -> Result<Outside<Data<Map>>, Fault> {
    let begun = begin(sys, cx, &input, true)?;
    let target = begun.target();
    Ok(Outside::new(target, begun.output(), |_, _, output: &Map| Ok(Data(output.duplicate()))))
}

pub(super) async fn trace(sys: &Sys, cx: Cx<'_>, input: Execute) -> Result<Outside<Data<Traced>>, Fault> {
    let begun = begin(sys, cx, &input, false)?;
    let target = begun.target();
    Ok(Outside::new(target, begun.traced(), |_, _, traced: &Traced| {
        let Traced { history, error, response } = traced;
        let response = response.as_ref().map(Map::duplicate);
        Ok(Data(Traced { history: history.duplicate(), error: error.clone(), response }))
    }))
}

/// A workflow about to run.
struct Begun {
    workflow: Workflow,
    input: Option<Map>,
    errands: Arc<Errands>,
    door: ErrandDoor,
}

/// Looks up a workflow, and what was sent to it. Whoever has no token is not told which ones there are.
fn begin(sys: &Sys, mut cx: Cx<'_>, input: &Execute, is_public: bool) -> Result<Begun, Fault> {
    let Handles { errands, settings, .. } = &sys.handles;
    if is_public && !settings.has_public_workflows {
        return Err(Fault::denied());
    }
    let (namespace, space) = (cx.mount.namespace.clone(), sys.space(&cx)?);
    let request = cx.caller.held.request(Widened::assertion());
    let request = request.ok_or_else(|| Fault::internal("a workflow that nobody asked for"))?;
    // Who came without a token could otherwise lend what a workflow brings along to others.
    if request.errand.as_ref().is_some_and(|errand| errand.is_public) {
        return Err(Fault::denied());
    }
    let record = workflows::read(cx.view.widen(Widened::assertion()), &namespace, &input.path)?;
    let record = match record {
        Some(record) if !is_public || record.is_public => record,
        _ if is_public => return Err(Fault::denied()),
        _ => return Err(Refusal::Absent(ABSENT.into()).into()),
    };
    let errand = match &request.errand {
        None => Errand::first(is_public, REQUESTS_MAX),
        Some(around) if around.depth >= DEPTH_MAX => return Err(Fault::invalid(TOO_DEEP)),
        Some(around) => around.within(is_public),
    };
    let workflow = Workflow::parse(&record.text).map_err(Fault::internal)?;
    let taken = workflow.input(&input.sent).map_err(|error| Fault::invalid(error.to_string()))?;
    // The token that is lent to its requests; nobody's where nobody is asked for one.
    let token = if is_public { None } else { cx.caller.held.token(Widened::assertion()) };
    let token = token.map(|token| TokenSecret::parse(token.expose())).transpose().map_err(Fault::internal)?;
    let most = request.connection.request_time_max.unwrap_or(settings.request_time_max);
    let door = ErrandDoor {
        errands: Arc::clone(errands),
        id: request.id.clone(),
        namespace: space.path.clone(),
        token,
        is_inline: matches!(request.inline, Inline::Done),
        connection: request.connection.clone(),
        errand,
        until: errands.elapsed()?.saturating_add(most),
    };
    Ok(Begun { workflow, input: taken, errands: Arc::clone(errands), door })
}

impl Begun {
    /// Whose room it takes: one for each depth, so that those which wait for what they run keep nobody from running.
    fn target(&self) -> String {
        let Errand { depth, is_public, .. } = &self.door.errand;
        let whose = if *is_public { "workflows for anybody" } else { "workflows" };
        format!("{whose} {depth}")
    }

    async fn run(&self, history: &mut History) -> Result<Option<Map>, ProfileError> {
        let of_node = |fault| ProfileError { place: "workflow".into(), trouble: Trouble::Failed(fault) };
        let (entropy, now) = (self.errands.entropy().map_err(of_node)?, self.errands.now().map_err(of_node)?);
        let run = Run { door: &self.door, machine: None, entropy: &*entropy, now };
        self.workflow.run(&run, self.input.as_ref(), history).await
    }

    async fn output(self) -> Result<Map, Failed> {
        let output = self.run(&mut History::default()).await;
        output.map(Option::unwrap_or_default).map_err(|error| Failed::nothing_done(told(error)))
    }

    async fn traced(self) -> Result<Traced, Failed> {
        let mut history = History::default();
        let outcome = self.run(&mut history).await;
        let (response, error) = match outcome {
            Ok(response) => (response, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let history = Map::new().with("requests", history.requests).with("responses", history.responses);
        Ok(Traced { history, error, response })
    }
}

/// What whoever ran it is told: in the words of the request that failed, and where that stands.
fn told(ProfileError { place, trouble }: ProfileError) -> Fault {
    match trouble {
        Trouble::Failed(fault) => fault.of_part(&place),
        other => Fault::invalid(format!("{place}: {other}")),
    }
}

/// Requests of a workflow, by whoever runs it.
struct ErrandDoor {
    errands: Arc<Errands>,
    id: RequestId,
    namespace: String,
    token: Option<TokenSecret>,
    /// Whether that token is of a login in the headers: nothing can hang on it.
    is_inline: bool,
    connection: Connection,
    errand: Errand,
    /// Until when there is time.
    until: Duration,
}

impl Door for ErrandDoor {
    fn ask(&self, made: Made) -> BoxFuture<'_, Result<Map, Fault>> {
        Box::pin(async move {
            let request = self.request(made)?;
            let id = request.id.clone();
            let response = self.errands.make(request).await?;
            tresor_profile::answered(response, &id)
        })
    }
}

impl ErrandDoor {
    fn request(&self, made: Made) -> Result<Request, Fault> {
        let left = self.until.saturating_sub(self.errands.elapsed()?);
        if left.is_zero() {
            return Err(Refusal::Unavailable("the time of the workflow is over".into()).into());
        }
        if !self.errand.takes_one() {
            return Err(Fault::invalid(format!(
                "a workflow, and all that it runs, make at most {REQUESTS_MAX} requests"
            )));
        }
        let Made { name: (flow, request), verb, path, who, data, mut headers, wrap_ttl } = made;
        let is_inline = self.is_inline && matches!(who, Who::Runner);
        let token = match who {
            Who::Runner => self.token.as_ref().map(|token| TokenSecret::parse(token.expose())),
            Who::Nobody => None,
            Who::Token(token) => Some(TokenSecret::parse(token.expose())),
        };
        let path = Path::from_decoded(&path).map_err(|error| Fault::invalid(error.to_string()))?;
        let connection = Connection { request_time_max: Some(left), ..self.connection.clone() };
        // Which request it is part of, audit records say by this.
        let id = RequestId::new(format!("{}.{flow}.{request}", self.id));
        let path = if verb.is_of_directory() { path.into_directory() } else { path };
        Ok(Request {
            namespace: below(&self.namespace, headers.remove(NAMESPACE))?,
            body: data,
            token: token.transpose().map_err(|error| Fault::invalid(error.to_string()))?,
            wrap_ttl,
            inline: if is_inline { Inline::Done } else { Inline::Not },
            headers,
            errand: Some(self.errand.clone()),
            ..Request::new(id, verb, path, connection)
        })
    }
}

/// The namespace that a header names, which is below the workflow's or that itself.
fn below(namespace: &str, header: Option<Vec<String>>) -> Result<String, Fault> {
    match header.as_deref() {
        None | Some([]) => Ok(namespace.to_owned()),
        Some([one]) => {
            let one = one.trim_matches('/');
            if one.split('/').any(|part| part == "..") {
                return Err(Fault::invalid("a request of a workflow goes to its namespace, or below"));
            }
            Ok(if one.is_empty() { namespace.to_owned() } else { format!("{namespace}{one}/") })
        }
        Some(_) => Err(Fault::invalid("a request has one namespace")),
    }
}
