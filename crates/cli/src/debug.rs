//! `debug`: what a server says of itself over a while, in one file to hand to whoever helps.
//!
//! Everything is asked through the API, with the caller's rights; what is denied is left out and listed. Deliberately absent:
//! whatever could be a secret. The configuration comes sanitised, no argument or header of this command is written down, and
//! profiles of the process are not taken.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tresor_client::{Client, Method};
use tresor_wire::time::rfc3339;

use crate::bundle::Bundle;
use crate::commands::{Action, Command};
use crate::connection::parse_duration;
use crate::context::{Context, Outcome};
use crate::failure::Failure;
use crate::flags::{CONNECTION, Flag, repeated, switch, text};
use crate::progress::watched;
use crate::status;

/// What can be asked for.
pub(crate) const TARGETS: &[&str] =
    &["config", "host", "metrics", "replication-status", "server-status", "requests", "log"];

/// The longest log that is kept.
const LOG_BYTES_MAX: usize = 64 * 1024 * 1024;
const INTERVAL_MIN: Duration = Duration::from_secs(1);

const FLAGS: &[Flag] = &[
    text("duration", "How long to look. Default: 2m."),
    text("interval", "How often to ask for the state. Default: 30s."),
    text("metrics-interval", "How often to ask for metrics. Default: 10s."),
    text(
        "output",
        "The file, or with -compress=false the directory. Default: a name with the time, in this directory.",
    ),
    switch("compress", "Whether to write one compressed file; true when not given."),
    repeated(
        "target",
        "What to ask for: config, host, metrics, replication-status, server-status, requests, log; may be given several \
         times. Default: everything.",
    ),
    text("log-format", "How lines of the log look: `standard` (the default) or `json`."),
];

pub(crate) const COMMANDS: &[Command] = &[Command {
    words: &["debug"],
    examples: &["debug", "debug -duration=10m -interval=1m -target=metrics -target=log"],
    arguments: "[options]",
    about: "Record for a while what a server says of itself, in one file without secrets, for whoever helps. \
            Ctrl-C ends it early.",
    flags: &[CONNECTION, FLAGS],
    action: Action::Run(debug),
}];

/// What was asked for.
struct Plan {
    duration: Duration,
    interval: Duration,
    metrics_interval: Duration,
    targets: Vec<String>,
    log_format: String,
    is_compressed: bool,
    output: PathBuf,
    begun: String,
}

fn plan(context: &Context<'_, '_>) -> Result<Plan, Failure> {
    let [] = context.arguments()?;
    let time = |flag: &str, usual: u64| match context.flag(flag) {
        None => Ok(Duration::from_secs(usual)),
        Some(text) => parse_duration(text)
            .filter(|duration| *duration >= INTERVAL_MIN)
            .ok_or_else(|| Failure::Usage(format!("invalid value `{text}` for flag `-{flag}`: at least 1s"))),
    };
    let mut targets: Vec<String> =
        context.flags.texts("target").iter().flat_map(|list| list.split(',')).map(|it| it.trim().to_owned()).collect();
    if let Some(unknown) = targets.iter().find(|target| !TARGETS.contains(&target.as_str())) {
        return Err(Failure::Usage(format!("unknown target `{unknown}`: {}", TARGETS.join(", "))));
    }
    if targets.is_empty() {
        targets = TARGETS.iter().map(|&target| target.to_owned()).collect();
    }
    let begun = now();
    let is_compressed = context.flags.switch_if_given("compress").unwrap_or(true);
    // Times in names of files, as far as every system takes them.
    let name =
        format!("tresor-debug-{}", begun.split('.').next().unwrap_or_default().trim_end_matches('Z').replace(':', "-"));
    let output = context.flag("output").map_or_else(|| PathBuf::from(format!("{name}Z")), PathBuf::from);
    let has_ending = output.to_string_lossy().ends_with(".tar.gz");
    let output =
        if is_compressed && !has_ending { PathBuf::from(format!("{}.tar.gz", output.display())) } else { output };
    Ok(Plan {
        duration: time("duration", 120)?,
        interval: time("interval", 30)?,
        metrics_interval: time("metrics-interval", 10)?,
        targets,
        log_format: context.flag("log-format").unwrap_or("standard").to_owned(),
        is_compressed,
        output,
        begun,
    })
}

pub(crate) fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(tresor_policy::Timestamp::from_seconds(i64::try_from(now.as_secs()).unwrap_or(i64::MAX)))
}

/// What was found so far.
#[derive(Default)]
struct Found {
    /// Frames by file.
    frames: std::collections::BTreeMap<&'static str, Vec<Value>>,
    log: Vec<u8>,
    errors: Vec<Value>,
}

impl Found {
    fn failed(&mut self, target: &str, error: &str) {
        self.errors.push(json!({ "target": target, "timestamp": now(), "error": error }));
    }
}

fn debug(context: &mut Context<'_, '_>) -> Outcome {
    let plan = plan(context)?;
    if plan.output.exists() {
        return Err(Failure::local(format!("{} exists already", plan.output.display())));
    }
    let health = status::seal_status(context).map_err(|failure| failure.during("asking the server"))?;
    let version = health.get("version").cloned().unwrap_or_default();
    context.io.say(&format!(
        "==> Recording {} for {} s: {}\n",
        context.address(),
        plan.duration.as_secs(),
        plan.targets.join(", ")
    ));
    let found = RefCell::new(Found::default());
    context.connect()?;
    let Some((runtime, client)) = &context.client else { return Err(Failure::local("no client")) };
    runtime.block_on(watched(context.io, "recording", None, async {
        let recording = async {
            tokio::join!(
                frames(client, &plan, &found, plan.interval, STATE),
                frames(client, &plan, &found, plan.metrics_interval, &[METRICS]),
                log(client, &plan, &found)
            );
        };
        tokio::select! {
            () = recording => {}
            // What was recorded until then is kept.
            _ = tokio::signal::ctrl_c() => {}
        }
    }));
    let found = found.into_inner();
    let failed = found.errors.len();
    let address = context.address();
    write(&plan, found, &address, &version)
        .map_err(|error| Failure::local(format!("Error writing {}: {error}", plan.output.display())))?;
    if failed > 0 {
        context.io.complain(&format!("{failed} questions were not answered; index.json lists them."));
    }
    context.io.say(&format!("Success! Recorded in: {}", plan.output.display()));
    Ok(0)
}

/// A target, its file, and the paths that are asked.
struct Question {
    target: &'static str,
    file: &'static str,
    paths: &'static [&'static str],
    /// Asked once: it does not change.
    once: bool,
}

const STATE: &[Question] = &[
    Question { target: "config", file: "config.json", paths: &["sys/config/state/sanitized"], once: true },
    Question { target: "host", file: "host_info.json", paths: &["sys/host-info"], once: false },
    Question {
        target: "replication-status",
        file: "replication_status.json",
        paths: &["sys/ha-status", "sys/leader", "sys/storage/raft/configuration", "sys/storage/raft/autopilot/state"],
        once: false,
    },
    Question {
        target: "server-status",
        file: "server_status.json",
        paths: &["sys/health", "sys/seal-status", "sys/storage-status", "sys/audit-status"],
        once: false,
    },
    Question { target: "requests", file: "requests.json", paths: &["sys/in-flight-req"], once: false },
];
const METRICS: Question = Question { target: "metrics", file: "metrics.json", paths: &["sys/metrics"], once: false };

async fn frames(client: &Client, plan: &Plan, found: &RefCell<Found>, interval: Duration, questions: &[Question]) {
    let begun = Instant::now();
    for number in 0_u32.. {
        for question in questions.iter().filter(|it| plan.targets.iter().any(|target| target == it.target)) {
            if number == 0 || !question.once {
                ask(client, question, found).await;
            }
        }
        let next = interval.saturating_mul(number + 1);
        if next > plan.duration {
            break;
        }
        tokio::time::sleep(next.saturating_sub(begun.elapsed())).await;
    }
}

async fn ask(client: &Client, question: &Question, found: &RefCell<Found>) {
    for path in question.paths {
        // A standby, a sealed node: their health is an answer, too.
        let query: &[(&str, &str)] = match *path {
            "sys/health" => &[("standbycode", "200"), ("sealedcode", "200"), ("uninitcode", "200")],
            _ => &[],
        };
        let answer = client.request(Method::Get, path, query, None).await;
        let mut found = found.borrow_mut();
        let data = match answer {
            Ok(answer) => answer.json().map_err(|error| error.to_string()),
            // Other kinds of storage have no such thing.
            Err(error) if path.starts_with("sys/storage/") && matches!(error.status(), Some(400 | 404)) => continue,
            Err(error) => Err(error.to_string()),
        };
        match data {
            Ok(answer) => {
                let answer = answer.unwrap_or_default();
                let data = answer.get("data").cloned().unwrap_or(answer);
                let frame = json!({ "timestamp": now(), "path": path, "data": data });
                found.frames.entry(question.file).or_default().push(frame);
            }
            Err(error) => {
                found.failed(question.target, &format!("{path}: {}", error.lines().last().unwrap_or_default()));
            }
        }
    }
}

async fn log(client: &Client, plan: &Plan, found: &RefCell<Found>) {
    if !plan.targets.iter().any(|target| target == "log") {
        return;
    }
    let query = [("log_level", "debug"), ("log_format", plan.log_format.as_str())];
    let mut take = |bytes: &[u8]| {
        let log = &mut found.borrow_mut().log;
        log.extend_from_slice(
            bytes.get(..LOG_BYTES_MAX.saturating_sub(log.len()).min(bytes.len())).unwrap_or_default(),
        );
        Ok(())
    };
    let ended = tokio::time::timeout(plan.duration, client.download("sys/monitor", &query, &mut take)).await;
    if let Ok(Err(error)) = ended {
        found.borrow_mut().failed("log", error.to_string().lines().last().unwrap_or_default());
    }
}

fn write(plan: &Plan, found: Found, address: &str, version: &Value) -> std::io::Result<()> {
    let mut files: Vec<(String, Vec<u8>)> = found
        .frames
        .iter()
        .map(|(name, frames)| ((*name).to_owned(), format!("{:#}\n", Value::Array(frames.clone())).into_bytes()))
        .collect();
    if plan.targets.iter().any(|target| target == "log") {
        files.push(("tresor.log".to_owned(), found.log));
    }
    let index = json!({
        "version": 1,
        "vault_address": address,
        "client_version": env!("CARGO_PKG_VERSION"),
        "server_version": version,
        "timestamp": plan.begun,
        "duration_seconds": plan.duration.as_secs(),
        "interval_seconds": plan.interval.as_secs(),
        "metrics_interval_seconds": plan.metrics_interval.as_secs(),
        "compress": plan.is_compressed,
        "targets": plan.targets,
        "output": { "files": files.iter().map(|(name, _)| name).collect::<Vec<_>>() },
        "errors": found.errors,
    });
    files.push(("index.json".to_owned(), format!("{index:#}\n").into_bytes()));
    let mut bundle = Bundle::create(&plan.output, plan.is_compressed)?;
    for (name, bytes) in &files {
        bundle.add(Path::new(name), bytes)?;
    }
    bundle.finish()
}
