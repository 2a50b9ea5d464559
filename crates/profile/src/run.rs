//! Running a profile: one request after the other, by a door.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tresor_cel::{Bindings, Budget, Value as CelValue};
use tresor_credential::{Moment, Value as TemplateValue};
use tresor_env::{BoxFuture, Entropy, Timestamp};
use tresor_model::{Body, Fault, Map, Number, Verb};
use tresor_secret::{SecretString, Wiped};

use crate::VALUE_BYTES_MAX;
use crate::convert;
use crate::document::{Asked, Profile, Workflow, verb};
use crate::error::{ProfileError, Trouble, ValueError};
use crate::given::{From, Given, Source};
use crate::history::{History, selected, weight};
use crate::input;

/// What a program may work on: all of the history, which is counted as it is copied.
const CEL_INPUT_BYTES: u64 = 32 * 1024 * 1024;
const CEL_INPUT_STEPS: u64 = 4_000_000;
/// How many headers a request can have, with how many values each.
const HEADERS_MAX: usize = 32;

/// Who asks.
pub enum Who {
    /// Whoever runs the profile.
    Runner,
    /// Nobody: the document says that there is no token.
    Nobody,
    /// Whose token the document names.
    Token(SecretString),
}

/// A request that is to be made.
pub struct Made {
    /// The name of its block, and its own.
    pub name: (String, String),
    /// What is asked.
    pub verb: Verb,
    /// What is asked of, without a slash at its begin.
    pub path: String,
    /// By whom.
    pub who: Who,
    /// What is sent.
    pub data: Map,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, Vec<String>>,
    /// The answer is to be wrapped for so long, as a header of it says.
    pub wrap_ttl: Option<Duration>,
}

/// The header that asks for an answer to be wrapped.
const WRAP_TTL: &str = "x-vault-wrap-ttl";

/// Where requests are made.
pub trait Door: Send + Sync {
    /// Makes one; the answer is what a client would see.
    fn ask(&self, request: Made) -> BoxFuture<'_, Result<Map, Fault>>;
}

/// What a profile may see of the machine, if it may.
pub trait Machine: Send + Sync {
    /// A variable of the process.
    fn variable(&self, name: &str) -> Option<Wiped<String>>;

    /// What a file holds.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn file(&self, path: &Path) -> Result<Wiped<String>, String>;
}

/// What running takes besides the profile.
pub struct Run<'r> {
    /// Where requests are made.
    pub door: &'r dyn Door,
    /// What values may come from that is of the machine.
    pub machine: Option<&'r dyn Machine>,
    /// Unpredictable bytes.
    pub entropy: &'r dyn Entropy,
    /// The time.
    pub now: Timestamp,
}

/// The values that a document can name.
struct Known<'k> {
    run: &'k Run<'k>,
    history: &'k History,
    input: Option<&'k Map>,
}

impl Workflow {
    /// What was sent, as the workflow's input wants it; nothing where it has none.
    ///
    /// # Errors
    /// When a field is missing, or something else than it must be.
    pub fn input(&self, sent: &Map) -> Result<Option<Map>, ProfileError> {
        self.input.as_ref().map(|fields| input::taken(fields, sent)).transpose()
    }

    /// Runs it; what became of its requests is in `history`, however it ended. The answer is the workflow's output, if it has one.
    ///
    /// # Errors
    /// [`ProfileError`], at the first request that fails and may not.
    pub async fn run(
        &self,
        run: &Run<'_>,
        input: Option<&Map>,
        history: &mut History,
    ) -> Result<Option<Map>, ProfileError> {
        self.profile.run(run, input, history).await?;
        let Some(output) = &self.output else { return Ok(None) };
        let known = Known { run, history, input };
        let at = |why| ProfileError { place: "output".into(), trouble: Trouble::Value { field: "data".into(), why } };
        known.value(output).and_then(bounded).and_then(convert::map).map(Some).map_err(at)
    }
}

impl Profile {
    /// Runs it; what became of its requests is in `history`, however it ended.
    ///
    /// # Errors
    /// [`ProfileError`], at the first request that fails and may not.
    pub async fn run(&self, run: &Run<'_>, input: Option<&Map>, history: &mut History) -> Result<(), ProfileError> {
        for block in &self.blocks {
            let place = || format!("{} `{}`", self.kind.word(), block.name);
            if !holds(block.when.as_ref(), &Known { run, history, input }, true).map_err(|error| error.in_(place()))? {
                continue;
            }
            for request in &block.requests {
                let place = || format!("{} `{}`, request `{}`", self.kind.word(), block.name, request.name);
                let step = one(&block.name, request, run, input, history).await;
                step.map_err(|error| error.in_(place()))?;
            }
        }
        Ok(())
    }
}

impl Trouble {
    fn in_(self, place: String) -> ProfileError {
        ProfileError { place, trouble: self }
    }
}

fn of(field: &'static str) -> impl Fn(ValueError) -> Trouble {
    move |why| Trouble::Value { field: field.to_owned(), why }
}

/// Whether what may be left out holds.
fn holds(given: Option<&Given>, known: &Known<'_>, usual: bool) -> Result<bool, Trouble> {
    let field = if usual { "when" } else { "allow_failure" };
    let Some(given) = given else { return Ok(usual) };
    known.value(given).and_then(|value| convert::flag(&value)).map_err(of(field))
}

/// Makes one request.
async fn one(
    block: &str,
    asked: &Asked,
    run: &Run<'_>,
    input: Option<&Map>,
    history: &mut History,
) -> Result<(), Trouble> {
    let known = Known { run, history, input };
    if !holds(asked.when.as_ref(), &known, true)? {
        return Ok(());
    }
    let may_fail = holds(asked.allow_failure.as_ref(), &known, false)?;
    let made = known.made(block, asked)?;
    let shown = made.shown();
    history.asked(block, &asked.name, shown).map_err(of("data"))?;
    match run.door.ask(made).await {
        Ok(answer) => history.answered(block, &asked.name, answer).map_err(of("response")),
        Err(_) if may_fail => Ok(()),
        Err(fault) => Err(Trouble::Failed(fault)),
    }
}

impl Made {
    /// The request as later ones, and a trace, can see it: without its token.
    fn shown(&self) -> Map {
        let operation = match self.verb {
            Verb::Write => "update",
            Verb::Read => "read",
            Verb::List => "list",
            Verb::Scan => "scan",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::Help => "help",
        };
        let headers = self.headers.iter().map(|(name, values)| (name.clone(), Body::from(values.clone())));
        Map::new()
            .with("operation", operation)
            .with("path", self.path.as_str())
            .with("data", self.data.duplicate())
            .with("headers", headers.collect::<Map>())
    }
}

impl Known<'_> {
    fn made(&self, block: &str, asked: &Asked) -> Result<Made, Trouble> {
        let text = |given: &Given, field| self.value(given).and_then(|value| convert::text(&value)).map_err(of(field));
        let path = text(&asked.path, "path")?;
        let who = match &asked.token {
            None => Who::Runner,
            Some(token) => match text(token, "token")? {
                token if token.is_empty() => Who::Nobody,
                token => Who::Token(SecretString::new(token)),
            },
        };
        let map = |given: Option<&Given>, field| match given {
            None => Ok(Map::new()),
            Some(given) => self.value(given).and_then(bounded).and_then(convert::map).map_err(of(field)),
        };
        let mut headers = BTreeMap::new();
        for (name, values) in map(asked.headers.as_ref(), "headers")? {
            let values = convert::texts(&values).map_err(of("headers"))?;
            headers.insert(name.to_ascii_lowercase(), values);
        }
        if headers.len() > HEADERS_MAX || headers.values().any(|values| values.len() > HEADERS_MAX) {
            return Err(of("headers")(ValueError::TooLarge));
        }
        let wrap_ttl = wrap_ttl(&headers).map_err(of("headers"))?;
        Ok(Made {
            name: (block.to_owned(), asked.name.clone()),
            verb: verb(&text(&asked.operation, "operation")?).ok_or(Trouble::Operation)?,
            path: path.trim_start_matches('/').to_owned(),
            who,
            data: map(asked.data.as_ref(), "data")?,
            headers,
            wrap_ttl,
        })
    }

    /// A value as it is now.
    fn value(&self, given: &Given) -> Result<Body, ValueError> {
        Ok(match given {
            Given::Text(text) => Body::from(text.expose().as_str()),
            Given::Integer(number) => Body::from(*number),
            Given::Float(number) => Number::parse(&number.to_string()).map_or(Body::Null, Body::Number),
            Given::Flag(flag) => Body::from(*flag),
            Given::Nothing => Body::Null,
            Given::List(items) => Body::List(items.iter().map(|item| self.value(item)).collect::<Result<_, _>>()?),
            Given::Map(entries) => Body::Map(self.entries(entries)?),
            Given::From(from) => self.from(from).and_then(bounded)?,
        })
    }

    fn entries(&self, entries: &[(String, Given)]) -> Result<Map, ValueError> {
        entries.iter().map(|(name, value)| Ok((name.clone(), self.value(value)?))).collect()
    }

    fn from(&self, from: &From) -> Result<Body, ValueError> {
        let value = match &from.source {
            Source::Variable { name, must_be_there } => {
                match self.run.machine.and_then(|machine| machine.variable(name)) {
                    Some(text) => Body::from(text.as_str()),
                    None if *must_be_there => return Err(ValueError::NoVariable(name.clone())),
                    None => Body::from(""),
                }
            }
            Source::File(path) => {
                let machine = self.run.machine.ok_or_else(|| ValueError::NoFile("no files are read here".into()))?;
                let text = machine.file(path).map_err(ValueError::NoFile)?;
                Body::from(text.trim_end_matches(['\r', '\n']))
            }
            Source::Request(step) => selected(&self.history.requests, step)?.duplicate(),
            Source::Response(step) => selected(&self.history.responses, step)?.duplicate(),
            Source::Input(name) => self.input.and_then(|input| input.get(name)).map_or(Body::Null, Body::duplicate),
            Source::Template { template, data } => {
                let data = self.entries(data)?;
                let found = |path: &[String]| self.field(&data, path);
                let moment = Moment { now: self.run.now, entropy: self.run.entropy };
                Body::from(template.render_with(&found, moment)?.as_str())
            }
            Source::Cel(program) => {
                let mut copied = Budget::new(CEL_INPUT_STEPS, CEL_INPUT_BYTES);
                let mut given = Bindings::new();
                let History { requests, responses, .. } = self.history;
                for (name, map) in [("requests", Some(requests)), ("responses", Some(responses)), ("input", self.input)]
                {
                    if let Some(map) = map {
                        let value = CelValue::from_map(map, &mut copied).map_err(ValueError::CelValue)?;
                        given.insert(name, value);
                    }
                }
                let mut budget = Budget::default();
                let value = program.run(&given, &mut budget)?;
                value.into_body(&mut budget).map_err(ValueError::CelValue)?
            }
        };
        convert::turned(value, from.wanted)
    }

    /// What a field of a template stands for.
    fn field(&self, data: &Map, path: &[String]) -> Option<TemplateValue> {
        let (root, rest) = path.split_first()?;
        // What the server says counts before what the document adds.
        let all = match root.as_str() {
            "requests" => Some(&self.history.requests),
            "responses" => Some(&self.history.responses),
            "input" => self.input,
            _ => None,
        };
        let (mut found, rest) = match all {
            Some(all) => {
                let (name, rest) = rest.split_first()?;
                (all.get(name)?, rest)
            }
            None => (data.get(root)?, rest),
        };
        for name in rest {
            found = found.as_map()?.get(name)?;
        }
        Some(match found {
            Body::Null => TemplateValue::text(""),
            Body::Bool(flag) => TemplateValue::Truth(*flag),
            Body::Number(number) => {
                number.as_i64().map_or_else(|| TemplateValue::text(number.as_str()), TemplateValue::Number)
            }
            Body::String(text) => TemplateValue::text(text.as_str()),
            // What has no text of its own is as it would be sent.
            other => {
                let mut bytes = Vec::new();
                tresor_wire::json::encode(other, &mut bytes);
                TemplateValue::Bytes(bytes.into())
            }
        })
    }
}

/// For how long headers ask that the answer be wrapped; zero asks for nothing, as of a client.
fn wrap_ttl(headers: &BTreeMap<String, Vec<String>>) -> Result<Option<Duration>, ValueError> {
    let text = match headers.get(WRAP_TTL).map(Vec::as_slice) {
        None | Some([]) => return Ok(None),
        Some([text]) => text.trim(),
        Some(_) => return Err(ValueError::Duration(WRAP_TTL)),
    };
    if text.is_empty() {
        return Ok(None);
    }
    let ttl = tresor_wire::duration::parse_go(text).ok_or(ValueError::Duration(WRAP_TTL))?;
    Ok(Some(ttl).filter(|ttl| !ttl.is_zero()))
}

/// It, unless it is too large for one value.
fn bounded(value: Body) -> Result<Body, ValueError> {
    if weight(&value) > VALUE_BYTES_MAX { Err(ValueError::TooLarge) } else { Ok(value) }
}
