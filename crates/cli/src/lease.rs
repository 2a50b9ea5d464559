//! `lease list`, `lookup`, `renew`, `revoke`, `tree`.

use serde_json::{Map, Value, json};
use tresor_client::Method;

use crate::cluster::rows;
use crate::commands::{Action, Command};
use crate::context::{Context, Outcome, Shown, seconds_if_bare, trim_path};
use crate::failure::Failure;
use crate::flags::{CONNECTION, FIELD, FORMAT, Flag, switch, text};
use crate::logical::list_below;
use crate::output::Document;

const WHICH: &[Flag] = &[
    switch("revoking", "Show what waits to be revoked instead: for which target, since when and why."),
    switch(
        "retrying",
        "Show the leases that their engine refused to take back instead: why, and when it is asked again.",
    ),
    switch("irrevocable", "Show the leases that could not be revoked instead, and why."),
    switch("abandoned", "Show the leases that were forgotten without being revoked instead, and why."),
];
const RENEW: &[Flag] = &[text("increment", "Lifetime to ask for, such as 1h."), text("i", "Short for -increment.")];
const REVOKE: &[Flag] = &[
    switch("force", "Forget the leases even if what they stand for cannot be revoked; needs -prefix."),
    switch("f", "Short for -force."),
    switch("prefix", "Revoke every lease below the argument."),
    switch("sync", "Wait until everything is revoked."),
];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["lease", "list"],
        examples: &["lease list auth/userpass/login", "lease list -revoking"],
        arguments: "[options] [PREFIX]",
        about: "List the ids of leases, or what leads to them, below a part of their path.",
        flags: &[CONNECTION, FORMAT, WHICH],
        action: Action::Run(list),
    },
    Command {
        words: &["lease", "lookup"],
        examples: &["lease lookup database/creds/app/ID"],
        arguments: "[options] ID",
        about: "Show what is known about a lease.",
        flags: &[CONNECTION, FORMAT, FIELD],
        action: Action::Run(lookup),
    },
    Command {
        words: &["lease", "renew"],
        examples: &["lease renew -increment=1h database/creds/app/ID"],
        arguments: "[options] ID",
        about: "Renew a lease.",
        flags: &[CONNECTION, FORMAT, FIELD, RENEW],
        action: Action::Run(renew),
    },
    Command {
        words: &["lease", "revoke"],
        examples: &["lease revoke database/creds/app/ID", "lease revoke -prefix -sync database/creds/app"],
        arguments: "[options] ID",
        about: "Revoke a lease, or with -prefix all those below a path.",
        flags: &[CONNECTION, REVOKE],
        action: Action::Run(revoke),
    },
    Command {
        words: &["lease", "tree"],
        examples: &["lease tree", "lease tree database/creds"],
        arguments: "[options] [PREFIX]",
        about: "Show how many leases there are by namespace, by mount, and by the path that handed them out.",
        flags: &[CONNECTION, FORMAT],
        action: Action::Run(tree),
    },
];

fn list(context: &mut Context<'_, '_>) -> Outcome {
    for shown in SHOWN {
        if context.flags.switch(shown.flag) {
            let [] = context.arguments()?;
            return show(context, shown);
        }
    }
    let prefix = match context.flags.arguments.as_slice() {
        [] => String::new(),
        [prefix] => trim_path(prefix),
        _ => return Err(Failure::Usage("Too many arguments (expected at most 1)".to_owned())),
    };
    let path = format!("sys/leases/lookup/{prefix}");
    list_below(context, path.trim_end_matches('/'), &format!("listing the leases below {prefix}"))
}

/// A listing that is no directory of ids.
struct Listing {
    flag: &'static str,
    path: &'static str,
    query: &'static [(&'static str, &'static str)],
    list: &'static str,
    /// Headings, and the field below each.
    columns: &'static [(&'static str, &'static str)],
    nothing: &'static str,
}

const SHOWN: &[Listing] = &[
    Listing {
        flag: "revoking",
        path: "sys/leases/revoking",
        query: &[],
        list: "targets",
        columns: &[
            ("Mount", "mount_path"),
            ("Target", "target"),
            ("Leases", "lease_count"),
            ("Waiting since", "waiting_since"),
            ("Next try", "next_try"),
            ("Reason", "reason"),
        ],
        nothing: "Nothing waits to be revoked.",
    },
    Listing {
        flag: "retrying",
        path: "sys/leases/revoking",
        query: &[],
        list: "leases",
        columns: &[
            ("Lease", "lease_id"),
            ("Attempts", "failed_attempts"),
            ("Failing since", "failing_since"),
            ("Next try", "next_try"),
            ("Reason", "reason"),
        ],
        nothing: "No engine refuses to take anything back.",
    },
    Listing {
        flag: "irrevocable",
        path: "sys/leases",
        query: &[("type", "irrevocable")],
        list: "leases",
        columns: &[("Lease", "lease_id"), ("Reason", "error")],
        nothing: "Every lease could be revoked.",
    },
    Listing {
        flag: "abandoned",
        path: "sys/leases/abandoned",
        query: &[],
        list: "leases",
        columns: &[
            ("Lease", "lease_id"),
            ("Kind", "kind"),
            ("Target", "target"),
            ("Abandoned", "abandoned_time"),
            ("Reason", "reason"),
        ],
        nothing: "No lease was abandoned.",
    },
];

fn show(context: &mut Context<'_, '_>, shown: &Listing) -> Outcome {
    let answer = context.read(shown.path, shown.query).map_err(|failure| failure.during("listing leases"))?;
    let listed = answer.as_ref().and_then(|answer| answer.data_field(shown.list)?.as_array()).cloned();
    let listed = listed.unwrap_or_default();
    let document = Document::Value(Value::Array(listed.clone()));
    context.print_document(document, || match listed.as_slice() {
        [] => Shown::from(shown.nothing.to_owned()),
        some => Shown::from(rows(shown.columns, some)),
    })
}

fn tree(context: &mut Context<'_, '_>) -> Outcome {
    let prefix = match context.flags.arguments.as_slice() {
        [] => String::new(),
        [prefix] => trim_path(prefix),
        _ => return Err(Failure::Usage("Too many arguments (expected at most 1)".to_owned())),
    };
    let path = format!("sys/leases/tree/{prefix}");
    let (mut namespaces, mut mounts, mut after) = (Vec::new(), Vec::new(), None::<String>);
    loop {
        let query: Vec<(&str, &str)> = after.iter().map(|after| ("after", after.as_str())).collect();
        let answer = context.read(path.trim_end_matches('/'), &query);
        let answer = answer.map_err(|failure| failure.during("counting leases"))?;
        let field = |name: &str| answer.as_ref().and_then(|answer| answer.data_field(name)).cloned();
        let listed = |name: &str| field(name).and_then(|listed| listed.as_array().cloned()).unwrap_or_default();
        namespaces.extend(listed("namespaces"));
        mounts.extend(listed("mounts"));
        after = field("next").and_then(|next| next.as_str().map(str::to_owned));
        if after.is_none() {
            break;
        }
    }
    let shown = branches(&namespaces, &mounts);
    let document = Document::Value(json!({ "namespaces": namespaces, "mounts": mounts }));
    context.print_document(document, || match shown.as_slice() {
        [] => Shown::from("There are no leases.".to_owned()),
        some => Shown::from(rows(&[("Path", "path"), ("Leases", "lease_count"), ("Over", "over")], some)),
    })
}

/// A line for each namespace, for each mount, and, set in, for each path of it. A mount that a page ends in comes twice.
fn branches(namespaces: &[Value], mounts: &[Value]) -> Vec<Value> {
    let number = |of: &Value, name: &str| of.get(name).and_then(Value::as_u64).unwrap_or(0);
    let mut lines = namespaces.to_vec();
    let mut last = None;
    for mount in mounts {
        if last != Some(&mount["path"]) {
            let over: u64 = ["collecting", "revoking", "irrevocable"].map(|name| number(mount, name)).iter().sum();
            lines.push(json!({ "path": mount["path"], "lease_count": mount["lease_count"], "over": over }));
            last = Some(&mount["path"]);
        }
        for path in mount["paths"].as_array().into_iter().flatten() {
            let name = path["path"].as_str().unwrap_or_default();
            lines.push(json!({ "path": format!("  {name}"), "lease_count": path["lease_count"] }));
        }
    }
    lines
}

fn lookup(context: &mut Context<'_, '_>) -> Outcome {
    let [id] = context.arguments()?;
    let answer = context
        .change(Method::Put, "sys/leases/lookup", Some(&json!({ "lease_id": id.trim() })))
        .map_err(|failure| failure.during("looking up lease"))?
        .ok_or_else(|| Failure::remote("The server answered without content"))?;
    context.print_envelope(&answer)
}

fn renew(context: &mut Context<'_, '_>) -> Outcome {
    let [id] = context.arguments()?;
    let mut body = Map::from_iter([("lease_id".to_owned(), Value::from(id.trim()))]);
    if let Some(increment) = context.flag("increment").or_else(|| context.flag("i")) {
        body.insert("increment".to_owned(), seconds_if_bare(increment).into());
    }
    let answer = context
        .change(Method::Put, "sys/leases/renew", Some(&Value::Object(body)))
        .map_err(|failure| failure.during("renewing lease"))?
        .ok_or_else(|| Failure::remote("The server answered without content"))?;
    context.print_envelope(&answer)
}

fn revoke(context: &mut Context<'_, '_>) -> Outcome {
    let [id] = context.arguments()?;
    let id = id.trim().trim_start_matches('/');
    let force = context.flags.switch("force") || context.flags.switch("f");
    let prefix = context.flags.switch("prefix");
    let sync = context.flags.switch("sync");
    let (path, success) = match (force, prefix) {
        (true, false) => return Err(Failure::Usage("-force needs -prefix".to_owned())),
        (true, true) => {
            (format!("sys/leases/revoke-force/{id}"), format!("Success! Force revoked any leases with prefix: {id}"))
        }
        (false, true) => {
            (format!("sys/leases/revoke-prefix/{id}"), format!("Success! Revoked any leases with prefix: {id}"))
        }
        (false, false) => ("sys/leases/revoke".to_owned(), format!("Success! Revoked lease: {id}")),
    };
    let mut body = Map::from_iter([("sync".to_owned(), Value::Bool(sync))]);
    if !prefix {
        body.insert("lease_id".to_owned(), id.into());
    }
    context
        .change(Method::Put, &path, Some(&Value::Object(body)))
        .map_err(|failure| failure.during(format!("revoking lease {id}")))?;
    context.io.say(if sync || force { &success } else { "All revocation operations queued successfully!" });
    Ok(0)
}
