//! `operator usage`: how many clients there were, by namespace.
//!
//! Deliberately absent: counting, and mounts and months, which are in the answer that `-format=json` prints.

use serde_json::Value;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome};
use crate::failure::Failure;
use crate::flags::{CONNECTION, FORMAT, Flag, text};
use crate::output::{Document, Format, cell};
use crate::table::table;

const USAGE: &[Flag] = &[
    text(
        "start-time",
        "The first month: 2026-01, 2026-01-31, or a time in RFC 3339. Default: as many back as is configured.",
    ),
    text("end-time", "The last month, in the same way. Default: the one that goes on."),
];
const COLUMNS: [(&str, &str); 5] = [
    ("Distinct entities", "entity_clients"),
    ("Non-Entity tokens", "non_entity_clients"),
    ("Secret syncs", "secret_syncs"),
    ("ACME clients", "acme_clients"),
    ("Active clients", "clients"),
];

pub(crate) const COMMANDS: &[Command] = &[Command {
    words: &["operator", "usage"],
    examples: &["operator usage", "operator usage -start-time=2026-01 -end-time=2026-03"],
    arguments: "[options]",
    about: "Show how many clients there were in some months, by namespace.",
    flags: &[CONNECTION, FORMAT, USAGE],
    action: Action::Run(usage),
}];

fn usage(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    let mut query = Vec::new();
    for (flag, name) in [("start-time", "start_time"), ("end-time", "end_time")] {
        if let Some(given) = context.flag(flag) {
            query.push((
                name,
                time(given).ok_or_else(|| {
                    Failure::Usage(format!("-{flag} is a month (2026-01), a day (2026-01-31), or a time in RFC 3339"))
                })?,
            ));
        }
    }
    let query: Vec<(&str, &str)> = query.iter().map(|(name, time)| (*name, time.as_str())).collect();
    let answer = context.report("sys/internal/counters/activity", &query);
    let answer = answer.map_err(|failure| failure.during("retrieving client counts"))?;
    let Some(answer) = answer else {
        context.io.complain("No data is available for the given time range.");
        return Ok(0);
    };
    context.print_warnings(&answer);
    let field = |name: &str| answer.data_field(name).cloned().unwrap_or_default();
    let [start, end, total, namespaces] = ["start_time", "end_time", "total", "by_namespace"].map(field);
    let mut rows: Vec<Vec<String>> = namespaces.as_array().into_iter().flatten().map(namespace).collect();
    rows.push(row("Total".to_owned(), &total));
    if context.format()? == Format::Table {
        context.io.say(&format!("Period start: {}\nPeriod end: {}\n", cell(&start), cell(&end)));
    }
    let document = Document::Value(answer.data().cloned().unwrap_or_default());
    context.print_document(document, || {
        let titles: Vec<&str> = std::iter::once("Namespace path").chain(COLUMNS.map(|(title, _)| title)).collect();
        table(&titles, &rows)
    })
}

fn namespace(of: &Value) -> Vec<String> {
    let path = of["namespace_path"].as_str().unwrap_or_default();
    row(if path.is_empty() { "[root]".to_owned() } else { path.to_owned() }, &of["counts"])
}

fn row(title: String, counts: &Value) -> Vec<String> {
    std::iter::once(title).chain(COLUMNS.map(|(_, name)| cell(&counts[name]))).collect()
}

/// Seconds since 1970 have so many digits at least, from 1973 on.
const SECONDS_DIGITS_MIN: usize = 9;

/// A time as servers take it, of a month or a day.
fn time(text: &str) -> Option<String> {
    let numbers: Vec<&str> = text.split('-').collect();
    let is = |digits: &str, length: usize| digits.len() == length && digits.bytes().all(|byte| byte.is_ascii_digit());
    match numbers.as_slice() {
        [year, month] if is(year, 4) && is(month, 2) => Some(format!("{text}-01T00:00:00Z")),
        [year, month, day] if is(year, 4) && is(month, 2) && is(day, 2) => Some(format!("{text}T00:00:00Z")),
        // The server says what is wrong with one that looks like a time. So few seconds as a year has digits are none that
        // anybody means.
        _ if text.contains('T') || (text.len() >= SECONDS_DIGITS_MIN && is(text, text.len())) => Some(text.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_and_days_are_times_in_them() {
        for (given, sent) in [
            ("2026-01", Some("2026-01-01T00:00:00Z")),
            ("2026-01-31", Some("2026-01-31T00:00:00Z")),
            ("2026-01-31T12:00:00+01:00", Some("2026-01-31T12:00:00+01:00")),
            ("1769860800", Some("1769860800")),
            ("", None),
            ("2026", None),
            ("20260131", None),
            ("yesterday", None),
            ("26-01", None),
            ("2026-1", None),
        ] {
            assert_eq!(time(given).as_deref(), sent, "{given}");
        }
    }
}
