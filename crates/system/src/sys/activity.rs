//! `sys/internal/counters/activity` and what belongs to it: how many clients there were (SYS-16).
//!
//! Clients have no identities, so each is a "non-entity" one, and what else the reference counts is 0. Deliberately absent: who
//! is a client (`tresor_core::clients`), and reports to anybody outside.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_core::clients::config::{Choice, CountingConfig, CountingWish};
use tresor_core::clients::report::{Activity, OfMonth, Tally, bounds};
use tresor_core::clients::{CLIENTS_MAX, Client};
use tresor_engine::answer::{OrNothing, Raw};
use tresor_engine::{Access, Cx, Data, Nothing, Place, Routes, Warned, Widened};
use tresor_model::ids::NamespaceId;
use tresor_model::{Body, Fault, Map, Timestamp, map};
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::json::encode_map;
use tresor_wire::month::Month;
use tresor_wire::output::Output;
use tresor_wire::time::{parse_rfc3339, rfc3339};

use super::{Sys, introspect};

/// How many clients are exported at once.
const EXPORTED_MAX: usize = 2 * CLIENTS_MAX;
/// How tokens without an identity are called.
const KIND: &str = "non-entity-token";
/// What an exported client is said by, in order.
const COLUMNS: [&str; 9] = [
    "client_id",
    "client_type",
    "namespace_id",
    "namespace_path",
    "mount_accessor",
    "mount_path",
    "mount_type",
    "token_creation_time",
    "client_first_usage_time",
];

/// Which months.
#[derive(Input)]
pub(super) struct Stretch {
    /// A time in the first one, in RFC 3339 or in seconds since 1970; without one, as many months back as is configured.
    #[input(query, default = "")]
    start_time: String,
    /// A time in the last one; without one, the month that goes on.
    #[input(query, default = "")]
    end_time: String,
    /// How many namespaces are listed, those with the most clients first; 0: all of them.
    #[input(query, default = "0")]
    limit_namespaces: i64,
}

/// Which months, and as what.
#[derive(Input)]
pub(super) struct Export {
    /// A time in the first month, in RFC 3339 or in seconds since 1970; without one, as many months back as is configured.
    #[input(query, default = "")]
    start_time: String,
    /// A time in the last month; without one, the month that goes on.
    #[input(query, default = "")]
    end_time: String,
    /// `json`, an object a line, or `csv`.
    #[input(query, default = "json")]
    format: String,
}

/// Whether clients are counted.
#[derive(Input)]
pub(super) struct Configure {
    /// `enable`, `disable`, or `default`, which is that nothing is counted.
    enabled: Option<String>,
    /// How many months are kept besides the one that goes on: at most 60.
    retention_months: Option<i64>,
    /// How many months a report is about where nobody says.
    default_report_months: Option<i64>,
}

/// How many clients there were.
#[derive(Output)]
pub(super) struct ActivityShown {
    /// When the first month begins.
    start_time: String,
    /// The last second of the last month.
    end_time: String,
    /// All of them, each once.
    total: Map,
    /// The same by namespace, and in each by mount.
    by_namespace: Vec<Body>,
    /// The same by month, and who was new in it.
    months: Vec<Body>,
}

/// How many clients there were in the month that goes on.
#[derive(Output)]
pub(super) struct MonthShown {
    /// All of them.
    clients: u64,
    /// Those with an identity: none.
    distinct_entities: u64,
    /// The same.
    entity_clients: u64,
    /// Those without one.
    non_entity_clients: u64,
    /// The same.
    non_entity_tokens: u64,
    /// Not counted.
    acme_clients: u64,
    /// Not counted.
    secret_syncs: u64,
    /// By namespace, and in each by mount.
    by_namespace: Vec<Body>,
    /// The month.
    months: Vec<Body>,
}

/// Whether clients are counted.
#[derive(Output)]
pub(super) struct Configured {
    /// `enable`, `disable`, or `default-disabled`.
    enabled: &'static str,
    /// How many months are kept besides the one that goes on.
    retention_months: u64,
    /// How many months a report is about where nobody says.
    default_report_months: u64,
    /// Whether there is anything to ask for.
    queries_available: bool,
    /// The fewest months that may be kept.
    minimum_retention_months: u64,
    /// Nobody outside is told.
    reporting_enabled: bool,
}

/// What is counted.
pub(super) fn counters(routes: Routes<Sys>) -> Routes<Sys> {
    routes
        .at("internal/counters/tokens", "How many tokens there are.")
        .read(introspect::tokens)
        .at("internal/counters/entities", "How many entities there are.")
        .read(introspect::entities)
        .at("internal/counters/requests", "Requests are not counted any more.")
        .read(introspect::requests)
        .at("internal/counters/activity", "How many clients there were: by month, by namespace, by mount.")
        .in_root()
        .runs_on(Place::Leader)
        .read(activity)
        .at("internal/counters/activity/monthly", "How many clients there are in the month that goes on.")
        .in_root()
        .runs_on(Place::Leader)
        .read(monthly)
        .at("internal/counters/activity/export", "The clients of some months, one by one.")
        .in_root()
        .open_to(Access::Sudo)
        .runs_on(Place::Leader)
        .read(export)
        .at("internal/counters/config", "Whether clients are counted, and for how long that is kept.")
        .in_root()
        .open_to(Access::Token)
        .runs_on(Place::Leader)
        .read(read_config)
        .write(write_config)
        .done()
}

/// The months that are asked for, as they are asked for.
fn months(start: &str, end: &str, config: &CountingConfig, now: Timestamp) -> Result<(Month, Month), Fault> {
    let this = Month::of(now);
    let given = |name: &str, text: &str| match text.trim() {
        "" => Ok(None),
        text => time(text)
            .map(Some)
            .ok_or_else(|| Fault::invalid(format!("`{name}` is no time: it is RFC 3339, or the seconds since 1970"))),
    };
    let (start, end) = (given("start_time", start)?, given("end_time", end)?);
    if start.zip(end).is_some_and(|(start, end)| end < start) {
        return Err(Fault::invalid("start_time is later than end_time"));
    }
    // Nothing is known of what is to come.
    let to = end.map_or(this, Month::of).min(this);
    let back = u32::try_from(config.default_report_months.saturating_sub(1)).unwrap_or(u32::MAX);
    let from = start.map_or_else(|| to.before(back), Month::of);
    if from > to {
        return Err(Fault::invalid("start_time is later than end_time"));
    }
    Ok((from, to))
}

fn time(text: &str) -> Option<Timestamp> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // What cannot be said in nanoseconds is no time.
        let seconds = text.parse::<i64>().ok().filter(|seconds| seconds.checked_mul(1_000_000_000).is_some());
        return seconds.map(Timestamp::from_seconds);
    }
    parse_rfc3339(text)
}

fn counts(clients: u64) -> Map {
    map! {
        "acme_clients" => 0_u64,
        "clients" => clients,
        "distinct_entities" => 0_u64,
        "entity_clients" => 0_u64,
        "non_entity_clients" => clients,
        "non_entity_tokens" => clients,
        "secret_syncs" => 0_u64,
    }
}

/// The path of a namespace, as far as it is there.
fn path_of(sys: &Sys, id: &NamespaceId) -> String {
    sys.handles
        .spaces
        .with_id(id)
        .map_or_else(|| format!("deleted namespace {:?}", id.as_str()), |space| space.path.clone())
}

/// Path and kind of a mount, as far as it is there and its namespace open.
fn mount_of(sys: &Sys, id: &NamespaceId, accessor: &str) -> (String, String) {
    let table = sys.handles.spaces.with_id(id).map(|space| space.mounts.table());
    let found = table.as_ref().and_then(|table| table.iter().find(|mount| mount.record.accessor.as_str() == accessor));
    found.map_or_else(
        || (format!("deleted mount; accessor {accessor:?}"), "deleted mount".to_owned()),
        |mount| (mount.record.path.clone(), mount.record.kind.clone()),
    )
}

fn by_namespace(sys: &Sys, tally: &Tally, most: usize) -> Vec<Body> {
    let shown = |(id, mounts): (&NamespaceId, &BTreeMap<String, u64>)| {
        let mut by_mount: Vec<_> = mounts
            .iter()
            .map(|(accessor, number)| {
                let (path, kind) = mount_of(sys, id, accessor);
                (*number, path, kind)
            })
            .collect();
        by_mount.sort_by(|(a, path_a, _), (b, path_b, _)| b.cmp(a).then_with(|| path_a.cmp(path_b)));
        let by_mount = by_mount.into_iter().map(|(number, path, kind)| {
            Body::from(map! { "mount_path" => path, "mount_type" => kind, "counts" => counts(number) })
        });
        Body::from(map! {
            "namespace_id" => id.as_str(),
            "namespace_path" => path_of(sys, id),
            "counts" => counts(Tally::clients_of(mounts)),
            "mounts" => by_mount.collect::<Vec<Body>>(),
        })
    };
    tally.by_size().into_iter().take(most).map(shown).collect()
}

fn month_shown(sys: &Sys, of: &OfMonth, most: usize) -> Body {
    let part = |tally: &Tally| (counts(tally.clients()), by_namespace(sys, tally, most));
    let ((all, namespaces), (new, newly)) = (part(&of.all), part(&of.new));
    Body::from(map! {
        "timestamp" => rfc3339(of.month.begins()),
        "counts" => all,
        "namespaces" => namespaces,
        "new_clients" => map! { "counts" => new, "namespaces" => newly },
    })
}

/// A month between others of which nothing is known.
fn unknown(month: Month) -> Body {
    Body::from(map! {
        "timestamp" => rfc3339(month.begins()),
        "counts" => Body::Null,
        "namespaces" => Body::Null,
        "new_clients" => Body::Null,
    })
}

fn all_months(sys: &Sys, activity: &Activity, to: Month, most: usize) -> Vec<Body> {
    let (mut shown, mut next) = (Vec::new(), activity.months.first().map(|of| of.month));
    let mut known = activity.months.iter().peekable();
    while let Some(month) = next.filter(|month| *month <= to) {
        shown.push(match known.next_if(|of| of.month == month) {
            Some(of) => month_shown(sys, of, most),
            None => unknown(month),
        });
        next = Some(month.next());
    }
    shown
}

fn warnings(activity: &Activity) -> Vec<String> {
    let text = format!("there were more than {CLIENTS_MAX} clients in a month; those who came later are not counted");
    activity.is_overfull.then_some(text).into_iter().collect()
}

pub(super) async fn activity(
    sys: &Sys,
    mut cx: Cx<'_>,
    input: Stretch,
) -> Result<Warned<OrNothing<Data<ActivityShown>>>, Fault> {
    let most =
        usize::try_from(input.limit_namespaces).map_err(|_| Fault::invalid("limit_namespaces must not be negative"))?;
    let most = if most == 0 { usize::MAX } else { most };
    let now = cx.now;
    let txn = cx.view.widen(Widened::assertion());
    let (from, to) = months(&input.start_time, &input.end_time, &CountingConfig::stored(txn)?, now)?;
    let activity = sys.handles.clients.activity(txn, from, to)?;
    if activity.months.is_empty() {
        return Ok(Warned(OrNothing(None), Vec::new()));
    }
    let (begins, ends) = bounds(from, to);
    let shown = ActivityShown {
        start_time: rfc3339(begins),
        end_time: rfc3339(ends),
        total: counts(activity.total.clients()),
        by_namespace: by_namespace(sys, &activity.total, most),
        months: all_months(sys, &activity, to, most),
    };
    Ok(Warned(OrNothing(Some(Data(shown))), warnings(&activity)))
}

pub(super) async fn monthly(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Warned<Data<MonthShown>>, Fault> {
    let this = Month::of(cx.now);
    let activity = sys.handles.clients.activity(cx.view.widen(Widened::assertion()), this, this)?;
    let number = activity.total.clients();
    let shown = MonthShown {
        clients: number,
        distinct_entities: 0,
        entity_clients: 0,
        non_entity_clients: number,
        non_entity_tokens: number,
        acme_clients: 0,
        secret_syncs: 0,
        by_namespace: by_namespace(sys, &activity.total, usize::MAX),
        months: all_months(sys, &activity, this, usize::MAX),
    };
    Ok(Warned(Data(shown), warnings(&activity)))
}

pub(super) async fn export(sys: &Sys, mut cx: Cx<'_>, input: Export) -> Result<OrNothing<Raw>, Fault> {
    let is_csv = match input.format.as_str() {
        "json" | "" => false,
        "csv" => true,
        _ => return Err(Fault::invalid("`format` is `json` or `csv`")),
    };
    let now = cx.now;
    let txn = cx.view.widen(Widened::assertion());
    let (from, to) = months(&input.start_time, &input.end_time, &CountingConfig::stored(txn)?, now)?;
    let Some(clients) = sys.handles.clients.listed(txn, from, to, EXPORTED_MAX)? else {
        let text = format!("there are more than {EXPORTED_MAX} clients in these months: export fewer months at once");
        return Err(Fault::invalid(text));
    };
    if clients.is_empty() {
        return Ok(OrNothing(None));
    }
    let mut bytes = Vec::new();
    if is_csv {
        bytes.extend_from_slice(COLUMNS.join(",").as_bytes());
        bytes.push(b'\n');
    }
    for client in &clients {
        let values = exported(sys, client);
        if is_csv {
            bytes.extend_from_slice(values.map(|value| cell(&value)).join(",").as_bytes());
        } else {
            let line: Map = COLUMNS.iter().copied().map(str::to_owned).zip(values.map(Body::from)).collect();
            encode_map(&line, &mut bytes);
        }
        bytes.push(b'\n');
    }
    Ok(OrNothing(Some(Raw { content_type: if is_csv { "text/csv" } else { "application/json" }, bytes })))
}

/// A client, by its columns.
fn exported(sys: &Sys, client: &Client) -> [String; COLUMNS.len()] {
    let (path, kind) = mount_of(sys, &client.namespace, &client.accessor);
    [
        STANDARD.encode(&client.id),
        KIND.to_owned(),
        client.namespace.as_str().to_owned(),
        path_of(sys, &client.namespace),
        client.accessor.clone(),
        path,
        kind,
        rfc3339(client.created),
        rfc3339(client.first),
    ]
}

/// A value in a table of commas (RFC 4180).
fn cell(value: &str) -> String {
    if value.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", value.replace('"', "\"\""))
    } else {
        value.to_owned()
    }
}

pub(super) async fn read_config(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Configured>, Fault> {
    let txn = cx.view.widen(Widened::assertion());
    let config = CountingConfig::stored(txn)?;
    Ok(Data(Configured {
        enabled: config.choice.shown(),
        retention_months: config.retention_months,
        default_report_months: config.default_report_months,
        queries_available: sys.handles.clients.has_any(txn)?,
        minimum_retention_months: 0,
        reporting_enabled: false,
    }))
}

pub(super) async fn write_config(_sys: &Sys, mut cx: Cx<'_>, input: Configure) -> Result<Warned<Nothing>, Fault> {
    let choice = match input.enabled.as_deref() {
        None | Some("") => None,
        Some(text) => Some(
            Choice::parse(text)
                .ok_or_else(|| Fault::invalid("enabled must be one of \"default\", \"enable\", \"disable\""))?,
        ),
    };
    let wish = CountingWish {
        choice,
        retention_months: input.retention_months,
        default_report_months: input.default_report_months,
    };
    let now = cx.now;
    let warnings = CountingConfig::change(cx.view.widen(Widened::assertion()), &wish, now)?;
    Ok(Warned(Nothing, warnings.into_iter().map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing step ends the test")]
    use super::*;

    #[test]
    fn the_months_that_are_asked_for_are_those_that_the_times_lie_in() {
        let now = parse_rfc3339("2026-11-30T20:00:00Z").unwrap();
        let asked = |start: &str, end: &str| {
            let found = months(start, end, &CountingConfig::default(), now);
            found.map_or_else(|_| "refused".to_owned(), |(from, to)| format!("{from} {to}"))
        };
        for (start, end, expected) in [
            ("", "", "2025-12 2026-11"),
            ("2026-10-31T23:59:59Z", "", "2026-10 2026-11"),
            ("2026-10-31T23:59:59-02:00", "2026-11-01T00:00:00Z", "refused"),
            ("1793491200", "1793491200", "2026-11 2026-11"),
            ("0", "", "1970-01 2026-11"),
            // What is to come counts as now.
            ("", "2030-01-01T00:00:00Z", "2025-12 2026-11"),
            ("2027-01-01T00:00:00Z", "2030-01-01T00:00:00Z", "refused"),
            ("2026-11-02T00:00:00Z", "2026-11-01T00:00:00Z", "refused"),
            ("yesterday", "", "refused"),
            ("-1", "", "refused"),
            ("", "99999999999999999999", "refused"),
            ("", "9999999999999", "refused"),
            ("2026-11", "", "refused"),
        ] {
            assert_eq!(asked(start, end), expected, "{start} {end}");
        }
    }

    #[test]
    fn a_cell_is_one_cell_whatever_is_in_it() {
        assert_eq!(cell("auth/up/"), "auth/up/");
        assert_eq!(cell("a,\"b\"\nc"), "\"a,\"\"b\"\"\nc\"");
    }
}
