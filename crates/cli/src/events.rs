//! `events subscribe`: what happens at a server, one line of JSON each.
//!
//! Deliberately absent: what happened before, and connecting again: who was away has missed something, and should look at what
//! they follow first.

use std::time::Duration;

use crate::commands::{Action, Command};
use crate::connection::parse_duration;
use crate::context::{Context, Outcome};
use crate::failure::Failure;
use crate::flags::{CONNECTION, Flag, repeated, text};

const SUBSCRIBE: &[Flag] = &[
    text("filter", "Only events of which this expression holds, such as 'operation == \"data-write\"'."),
    repeated(
        "namespaces",
        "A namespace below the current one whose events are shown too; * stands for anything. May be given several times.",
    ),
    text("timeout", "End after this time, such as 10m. Default: when the server ends it."),
];

pub(crate) const COMMANDS: &[Command] = &[Command {
    words: &["events", "subscribe"],
    examples: &[
        "events subscribe kv-v2/data-write",
        "events subscribe -filter='data_path == secret/data/app' 'kv-v2/*'",
        "events subscribe -namespaces='team/*' -timeout=10m '*'",
    ],
    arguments: "[options] TYPE",
    about: "Show what happens at a server, as it does: one line of JSON for each event of this type, in which * stands \
            for anything. Only what the token's policies let it be told of is shown.",
    flags: &[CONNECTION, SUBSCRIBE],
    action: Action::Run(subscribe),
}];

fn subscribe(context: &mut Context<'_, '_>) -> Outcome {
    let [kind] = context.arguments()?;
    let kind = kind.trim().trim_matches('/').to_owned();
    if kind.is_empty() {
        return Err(Failure::Usage("the type of events is missing".to_owned()));
    }
    let timeout = context.flag("timeout").map(|text| {
        let parsed = parse_duration(text).filter(|timeout| !timeout.is_zero());
        parsed.ok_or_else(|| Failure::Usage(format!("invalid value `{text}` for flag `-timeout`: no duration")))
    });
    let timeout: Option<Duration> = timeout.transpose()?;
    let mut query = vec![("json", "true".to_owned())];
    query.extend(context.flag("filter").map(|filter| ("filter", filter.to_owned())));
    query.extend(context.flags.texts("namespaces").iter().map(|name| ("namespaces", name.clone())));
    let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut out = std::io::stdout();
    let mut take = |event: &str| {
        use std::io::Write as _;
        // Whoever reads it may be gone.
        writeln!(out, "{event}").and_then(|()| out.flush()).map_err(|error| error.to_string())
    };
    let path = format!("sys/events/subscribe/{kind}");
    context.listen(&path, &query, timeout, &mut take).map_err(|failure| failure.during("subscribing to events"))?;
    Ok(0)
}
