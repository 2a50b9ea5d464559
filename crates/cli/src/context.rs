//! What a command works with: its flags, the streams, the environment, and requests to the server.
//!
//! The client is made on the first request, so that commands without one never touch certificates or the kept token; what it
//! is made of is in `connection.rs`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::runtime::Runtime;
use tresor_client::{Client, ClientError, Method};
use tresor_secret::{SecretString, TokenSecret};

use crate::contexts::InUse;
use crate::envelope::Envelope;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::flags::{Parsed, boolean};
use crate::io::{Colour, Io};
use crate::key_values;
use crate::output::{Document, Format, cell, render};
use crate::output_policy;
use crate::progress::watched;
use crate::table::{Table, table};

/// One call of one command.
pub(crate) struct Context<'a, 'io> {
    pub(crate) io: &'a mut Io<'io>,
    pub(crate) environment: &'a Environment,
    pub(crate) flags: Parsed,
    /// What the program is called.
    pub(crate) program: String,
    /// The context whose settings stand behind those of flags and variables.
    pub(crate) in_use: Option<InUse>,
    pub(crate) client: Option<(Runtime, Client)>,
    /// Whether requests speak nothing but HTTP/1.1.
    pub(crate) speaks_http_1: bool,
    /// Replaces the kept token, for `unwrap` and `login`.
    pub(crate) token: TokenChoice,
    wrapping: Wrapping,
    /// The last request, when it was denied.
    denied: Option<Denied>,
}

/// Names of the flags that say which server is asked, and where in it.
const PLACE: [&str; 11] = [
    "context",
    "address",
    "agent-address",
    "ca-cert",
    "ca-path",
    "client-cert",
    "client-key",
    "tls-server-name",
    "tls-skip-verify",
    "namespace",
    "ns",
];

/// A request that policies denied.
struct Denied {
    method: Method,
    path: String,
    request_id: Option<String>,
    about: About,
}

/// What a denial can be asked about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    /// A path, by policies.
    Path,
    /// The path that the user named, of which the engine's version is not known: below a mount of KV version 2 policies are
    /// about another one.
    Named,
    /// The token itself, which is refused as well when it is none: policies would say nothing of it, or too much.
    Token,
}

/// Whether answers come wrapped when the user asked for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrapping {
    AsAsked,
    /// While a command asks something for itself.
    Suspended,
    /// For so long, unless another time was asked for.
    ByDefault(&'static str),
}

/// Whose token requests carry.
pub(crate) enum TokenChoice {
    /// The environment's or the kept one.
    Usual,
    /// This one, or none.
    Given(Option<TokenSecret>),
}

/// The outcome of a command: its exit code.
pub(crate) type Outcome = Result<i32, Failure>;

impl<'a, 'io> Context<'a, 'io> {
    pub(crate) fn new(io: &'a mut Io<'io>, environment: &'a Environment, flags: Parsed) -> Self {
        Self {
            io,
            environment,
            flags,
            program: "tresor".to_owned(),
            in_use: None,
            client: None,
            speaks_http_1: false,
            token: TokenChoice::Usual,
            wrapping: Wrapping::AsAsked,
            denied: None,
        }
    }

    /// Whether all that is told of listed entries is to be shown.
    pub(crate) fn is_detailed(&self) -> bool {
        let variable = || self.environment.variable("VAULT_DETAILED").and_then(boolean);
        self.flags.switch_if_given("detailed").or_else(variable).unwrap_or(false)
    }

    /// A flag that has a value which is not empty.
    pub(crate) fn flag(&self, name: &str) -> Option<&str> {
        self.flags.text(name).filter(|value| !value.is_empty())
    }

    /// Exactly this many arguments.
    pub(crate) fn arguments<const COUNT: usize>(&self) -> Result<[String; COUNT], Failure> {
        let given = self.flags.arguments.len();
        <[String; COUNT]>::try_from(self.flags.arguments.clone()).map_err(|_| {
            let quantity = if given < COUNT { "not enough" } else { "too many" };
            Failure::Usage(format!("{quantity} arguments (expected {COUNT}, got {given})"))
        })
    }

    /// The first argument and those after it.
    pub(crate) fn first_argument(&self) -> Result<(String, Vec<String>), Failure> {
        match self.flags.arguments.split_first() {
            Some((first, rest)) => Ok((first.clone(), rest.to_vec())),
            None => Err(Failure::Usage("not enough arguments (expected at least 1, got 0)".to_owned())),
        }
    }

    /// `key=value` arguments as a body.
    pub(crate) fn fields(&mut self, arguments: &[String]) -> Result<Map<String, Value>, Failure> {
        key_values::parse_fields(arguments, &mut *self.io.input)
            .map_err(|error| Failure::local(format!("Failed to parse K=V data: {error}")))
    }

    /// The pairs of a repeated `name=value` flag as an object of texts.
    pub(crate) fn pairs(&self, flag: &str) -> Result<Map<String, Value>, Failure> {
        let mut pairs = Map::new();
        for pair in self.flags.texts(flag) {
            let (name, value) =
                key_values::split(pair).map_err(|error| Failure::Usage(format!("flag `-{flag}`: {error}")))?;
            pairs.insert(name.to_owned(), Value::String(value.to_owned()));
        }
        Ok(pairs)
    }

    /// Asks for a secret, unless questions are forbidden.
    pub(crate) fn ask(&mut self, prompt: &str) -> Result<SecretString, Failure> {
        if self.flags.switch("non-interactive") {
            return Err(Failure::local(format!(
                "{} is needed, but -non-interactive forbids to ask",
                prompt.trim_end_matches([':', ' '])
            )));
        }
        (self.io.prompt)(prompt).map_err(|error| {
            Failure::local(format!("Error asking for {}: {error}", prompt.trim_end_matches([':', ' '])))
        })
    }

    /// Chooses the token of the following requests.
    pub(crate) fn use_token(&mut self, token: Option<TokenSecret>) {
        self.client = None;
        self.token = TokenChoice::Given(token);
    }

    /// How long the answer is to be wrapped.
    pub(crate) fn wrap_ttl(&self) -> Option<&str> {
        let asked = self.setting("wrap-ttl", "VAULT_WRAP_TTL");
        match self.wrapping {
            Wrapping::AsAsked => asked,
            Wrapping::Suspended => None,
            Wrapping::ByDefault(ttl) => asked.or(Some(ttl)),
        }
    }

    /// Has the answers of what follows as they are: they are what was wrapped.
    pub(crate) fn unwrapped(&mut self) {
        (self.client, self.wrapping) = (None, Wrapping::Suspended);
    }

    /// Has the answers of what follows wrapped for so long, unless another time was asked for.
    pub(crate) fn wrapped_for(&mut self, ttl: &'static str) {
        (self.client, self.wrapping) = (None, Wrapping::ByDefault(ttl));
    }

    /// Sends a request; `None` for an answer without a body.
    pub(crate) fn send(
        &mut self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Option<Value>, Failure> {
        let bytes = self.send_raw(method, path, query, body)?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Failure::remote(format!("Error reading the answer of {path}: {error}")))
    }

    /// Sends a request for the bytes of its answer.
    pub(crate) fn send_raw(
        &mut self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Vec<u8>, Failure> {
        self.print_instead(method, path, query, body)?;
        self.send_always(method, path, query, body)
    }

    /// Prints the request, or the rule that it needs, and ends the command, if that was asked for.
    fn print_instead(
        &mut self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<(), Failure> {
        if self.flags.switch("output-curl-string") {
            let command = self.curl(method, path, query, body)?;
            self.io.say(&command);
            return Err(Failure::Exit(0));
        }
        if self.flags.switch("output-policy") {
            self.io.say(output_policy::rule(method, path).trim_end());
            return Err(Failure::Exit(0));
        }
        Ok(())
    }

    /// Asks for no wrapped answers from now on.
    pub(crate) fn wrap_nothing(&mut self) {
        (self.client, self.wrapping) = (None, Wrapping::Suspended);
    }

    /// Of a request that was denied: its id, and how to ask why, where policies can say it.
    pub(crate) fn why_denied(&self, program: &str) -> Option<String> {
        let denied = self.denied.as_ref()?;
        let operation = match denied.method {
            Method::Get => "read",
            Method::List => "list",
            Method::Scan => "scan",
            Method::Post | Method::Put => "write",
            Method::Patch => "patch",
            Method::Delete => "delete",
        };
        let path = shell_word(&denied.path);
        let id = denied.request_id.as_ref().map(|id| format!("Request: {id}"));
        if denied.about == About::Token {
            return id;
        }
        let id = id.map(|id| format!("{id}\n")).unwrap_or_default();
        let note = match denied.about {
            About::Named => "\n(KV version 2: data/ or metadata/ comes after the mount.)",
            About::Path | About::Token => "",
        };
        let given = |name: &&str| Some(format!("-{name}={} ", shell_word(self.flags.text(name)?)));
        let place: String = PLACE.iter().filter_map(given).collect();
        Some(format!("{id}Why: {program} policy why {place}{operation} {path}{note}"))
    }

    /// Sends a preparing request even when the real one is only printed.
    pub(crate) fn send_always(
        &mut self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Vec<u8>, Failure> {
        self.connect()?;
        let Some((runtime, client)) = &self.client else { return Err(Failure::local("no client")) };
        let asked = client.request(method, path, query, body);
        let answered = runtime.block_on(watched(self.io, "waiting for the server", None, asked));
        self.denied = denied(method, path, answered.as_ref().err());
        Ok(answered?.body().to_vec())
    }

    /// Fetches what is no JSON, and hands it on as it comes.
    pub(crate) fn download(
        &mut self,
        path: &str,
        query: &[(&str, &str)],
        take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), Failure> {
        self.print_instead(Method::Get, path, query, None)?;
        self.connect()?;
        let Some((runtime, client)) = &self.client else { return Err(Failure::local("no client")) };
        let done = runtime.block_on(client.download(path, query, take));
        self.denied = denied(Method::Get, path, done.as_ref().err());
        Ok(done?)
    }

    /// Has what a path tells, as it does, for so long.
    pub(crate) fn listen(
        &mut self,
        path: &str,
        query: &[(&str, &str)],
        timeout: Option<Duration>,
        take: &mut dyn FnMut(&str) -> Result<(), String>,
    ) -> Result<(), Failure> {
        self.print_instead(Method::Get, path, query, None)?;
        (self.client, self.speaks_http_1) = (None, true);
        let mut nonce = [0; 16];
        let drawn = (self.io.entropy)(&mut nonce);
        drawn.map_err(|error| Failure::local(format!("Error drawing random bytes: {error}")))?;
        self.connect()?;
        let Some((runtime, client)) = &self.client else { return Err(Failure::local("no client")) };
        let told = client.listen(path, query, nonce, take);
        let done = runtime.block_on(async {
            match timeout {
                None => told.await,
                // What was asked for is over.
                Some(timeout) => tokio::time::timeout(timeout, told).await.unwrap_or(Ok(())),
            }
        });
        self.denied = denied(Method::Get, path, done.as_ref().err());
        Ok(done?)
    }

    /// The same, for what is a file in the end: it is shown how far it is.
    pub(crate) fn download_file(
        &mut self,
        path: &str,
        take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), Failure> {
        self.print_instead(Method::Get, path, &[], None)?;
        self.connect()?;
        let Some((runtime, client)) = &self.client else { return Err(Failure::local("no client")) };
        let moved = AtomicU64::new(0);
        let mut counted = |bytes: &[u8]| {
            moved.fetch_add(u64::try_from(bytes.len()).unwrap_or(0), Ordering::Relaxed);
            take(bytes)
        };
        let done = client.download(path, &[], &mut counted);
        let done = runtime.block_on(watched(self.io, "received", Some(&moved), done));
        self.denied = denied(Method::Get, path, done.as_ref().err());
        Ok(done?)
    }

    /// Writes a file to a path as it is, and shows how far it is.
    pub(crate) fn upload(&mut self, path: &str, file: &Path) -> Result<(), Failure> {
        if self.flags.switch("output-curl-string") {
            let command = self.curl(Method::Post, path, &[], None)?;
            self.io.say(&format!("{command} --data-binary '@{}'", file.display()));
            return Err(Failure::Exit(0));
        }
        self.print_instead(Method::Post, path, &[], None)?;
        self.connect()?;
        let Some((runtime, client)) = &self.client else { return Err(Failure::local("no client")) };
        let moved = Arc::new(AtomicU64::new(0));
        let done = client.upload(path, file, &moved);
        let done = runtime.block_on(watched(self.io, "sent", Some(&moved), done));
        self.denied = denied(Method::Post, path, done.as_ref().err());
        Ok(done?)
    }

    /// Reads something that the command itself needs to know before its request: never wrapped, and sent even when
    /// the request is only printed. `None` when there is nothing. A denial is about the path that the user named.
    pub(crate) fn preflight(&mut self, path: &str, about: &str) -> Result<Option<Envelope>, Failure> {
        let wraps = self.setting("wrap-ttl", "VAULT_WRAP_TTL").is_some();
        if wraps {
            (self.client, self.wrapping) = (None, Wrapping::Suspended);
        }
        let answer = self.send_always(Method::Get, path, &[], None);
        if let Some(denied) = &mut self.denied {
            about.clone_into(&mut denied.path);
            denied.about = About::Named;
        }
        if wraps {
            (self.client, self.wrapping) = (None, Wrapping::AsAsked);
        }
        match answer {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(|answer| Some(Envelope::new(answer)))
                .map_err(|error| Failure::remote(format!("Error reading the answer of {path}: {error}"))),
            Err(failure) if failure.status() == Some(404) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Reads; `None` when there is nothing.
    pub(crate) fn read(&mut self, path: &str, query: &[(&str, &str)]) -> Result<Option<Envelope>, Failure> {
        match self.report(path, query) {
            Err(failure) if failure.status() == Some(404) => Ok(None),
            read => read,
        }
    }

    /// Reads what is always there, though it may have nothing to say: then `None`. Where it is not, the place is wrong.
    pub(crate) fn report(&mut self, path: &str, query: &[(&str, &str)]) -> Result<Option<Envelope>, Failure> {
        Ok(self.send(Method::Get, path, query, None)?.map(Envelope::new))
    }

    /// Sends a change; `None` for an answer without a body.
    pub(crate) fn change(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Option<Envelope>, Failure> {
        Ok(self.send(method, path, &[], body)?.map(Envelope::new))
    }

    /// The output format.
    pub(crate) fn format(&self) -> Result<Format, Failure> {
        let text = self.setting("format", "VAULT_FORMAT").unwrap_or("table");
        Format::parse(text)
            .ok_or_else(|| Failure::Usage(format!("invalid output format `{text}`: table, json or yaml expected")))
    }

    /// Prints an answer, or the one field that was asked for.
    pub(crate) fn print_envelope(&mut self, envelope: &Envelope) -> Outcome {
        if let Some(field) = self.flag("field").map(str::to_owned) {
            let value = envelope.field(&field);
            return self.print_value(value, &field);
        }
        let format = self.format()?;
        if let Some(text) = render(envelope.document(), format) {
            self.io.say(&text);
            return Ok(0);
        }
        self.print_warnings(envelope);
        let rows = envelope.rows();
        if !rows.is_empty() {
            self.say_table(&table(&["Key", "Value"], &rows));
        }
        Ok(0)
    }

    /// Prints one value bare.
    pub(crate) fn print_value(&mut self, value: Option<Value>, field: &str) -> Outcome {
        let Some(value) = value else {
            return Err(Failure::local(format!("Field \"{field}\" not present in secret")));
        };
        let text = render(value.clone().into(), self.format()?).unwrap_or_else(|| cell(&value));
        self.io.say_bare(&text);
        Ok(0)
    }

    /// Prints the warnings of an answer to standard error.
    pub(crate) fn print_warnings(&mut self, envelope: &Envelope) {
        let warnings = envelope.warnings();
        if !warnings.is_empty() {
            self.io.complain_in(Colour::Yellow, "WARNING! The following warnings were returned from the server:\n");
            for warning in warnings {
                self.io.complain(&format!("  * {warning}"));
            }
            self.io.complain("");
        }
    }

    /// Prints a document in a machine format, or else what people want to see.
    pub(crate) fn print_document<P: Into<Shown>>(&mut self, document: Document, people: impl FnOnce() -> P) -> Outcome {
        match render(document, self.format()?) {
            Some(text) => self.io.say(&text),
            None => match people().into() {
                Shown::Text(text) => self.io.say(&text),
                Shown::Table(table) => self.say_table(&table),
            },
        }
        Ok(0)
    }

    /// Prints a table: on a terminal no wider than that.
    pub(crate) fn say_table(&mut self, table: &Table) {
        let told = || self.environment.variable("COLUMNS").and_then(|columns| columns.parse().ok());
        let text = match self.io.output_is_terminal {
            true => table.fitted(self.io.columns.or_else(told).unwrap_or(80)),
            false => table.to_string(),
        };
        self.io.say(&text);
    }
}

/// What people see.
pub(crate) enum Shown {
    Text(String),
    Table(Table),
}

impl From<String> for Shown {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Table> for Shown {
    fn from(table: Table) -> Self {
        Self::Table(table)
    }
}

/// `60` as `60s`; everything else as it is.
pub(crate) fn seconds_if_bare(text: &str) -> String {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("{text}s")
    } else {
        text.to_owned()
    }
}

/// A path without the slashes around it.
pub(crate) fn trim_path(path: &str) -> String {
    path.trim().trim_matches('/').to_owned()
}

/// A mount path with one slash at its end.
pub(crate) fn mount_path(path: &str) -> String {
    format!("{}/", trim_path(path))
}

/// A request that policies denied, if one did.
fn denied(method: Method, path: &str, error: Option<&ClientError>) -> Option<Denied> {
    match error {
        // Who logs in is nobody yet, so no policy says why.
        Some(ClientError::Server { status: 403, request_id, .. })
            if !path.starts_with("sys/explain") && !is_login(path) =>
        {
            let about = if path.starts_with("auth/token/lookup") { About::Token } else { About::Path };
            Some(Denied { method, path: path.to_owned(), request_id: request_id.as_deref().map(str::to_owned), about })
        }
        _ => None,
    }
}

/// A word that no shell takes apart.
fn shell_word(text: &str) -> String {
    let is_plain = text.chars().all(|one| one.is_ascii_alphanumeric() || "/-_.:".contains(one));
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Whether a path is one that people log in by.
fn is_login(path: &str) -> bool {
    path.starts_with("auth/") && path.contains("/login")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::flags;

    /// What is said of a denied request; the second argument is what the user named, if the command asked for itself.
    fn said(path: &str, named: Option<&str>) -> String {
        let refused = ClientError::Server {
            method: "GET",
            url: Box::default(),
            status: 403,
            errors: Vec::new(),
            warnings: Vec::new(),
            request_id: Some("one".into()),
            raw: None,
        };
        let (mut io, environment) = (Io::of_nobody(), Environment::default());
        let mut context = Context::new(&mut io, &environment, flags::parse(&[], &[]).unwrap());
        context.denied = denied(Method::Get, path, Some(&refused));
        if let (Some(denied), Some(named)) = (&mut context.denied, named) {
            (denied.path, denied.about) = (named.to_owned(), About::Named);
        }
        context.why_denied("tresor").unwrap_or_default()
    }

    #[test]
    fn why_is_asked_about_a_path_and_never_about_a_token_that_may_be_none() {
        assert_eq!(said("kv/a", None), "Request: one\nWhy: tresor policy why read kv/a");
        let named = said("sys/internal/ui/mounts/secret/a", Some("secret/a"));
        let (why, note) = named.rsplit_once('\n').unwrap();
        assert_eq!(why, "Request: one\nWhy: tresor policy why read secret/a");
        assert!(note.contains("data/"), "{note}");
        for path in ["auth/token/lookup", "auth/token/lookup-self", "auth/token/lookup-accessor"] {
            assert_eq!(said(path, None), "Request: one");
        }
    }
}
