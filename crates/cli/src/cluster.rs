//! `operator members`, `operator step-down`, and `operator raft` but for snapshots: the nodes of a cluster and their votes.
//!
//! Deliberately absent: finding nodes in the directories of clouds.

use serde_json::{Map, Value, json};
use tresor_client::Method;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome};
use crate::failure::Failure;
use crate::flags::{CONNECTION, FORMAT, Flag, switch, text};
use crate::key_values::read_file;
use crate::output::{Document, Format, cell};
use crate::table::{Table, table};

const JOIN: &[Flag] = &[
    text("leader-ca-cert", "Authority to verify the leader's certificate by: PEM, or @FILE."),
    text("leader-client-cert", "Certificate to present to the leader: PEM, or @FILE."),
    text("leader-client-key", "Private key of that certificate: PEM, or @FILE."),
    text("leader-tls-servername", "Name expected in the leader's certificate."),
    switch("retry", "Go on trying until it has joined."),
    switch("non-voter", "Never give this node a vote."),
    text("auto-join-scheme", "Of finding nodes by a cloud's help, which there is not: see below."),
    text("auto-join-port", "The same."),
];

/// To who asks for what go-discover does elsewhere.
const NO_CLOUD: &str = "Nodes are not found by a cloud's help (auto-join). Name a node by its address, such as \
    https://10.0.0.1:8200, or all of them in `retry_join` of this node's configuration: a name that has several addresses will do.";

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["operator", "members"],
        examples: &["operator members"],
        arguments: "[options]",
        about: "List the nodes of the cluster, and when the active one last heard each.",
        flags: &[CONNECTION, FORMAT],
        action: Action::Run(members),
    },
    Command {
        words: &["operator", "step-down"],
        examples: &["operator step-down"],
        arguments: "[options]",
        about: "Let another node become the active one.",
        flags: &[CONNECTION],
        action: Action::Run(step_down),
    },
    Command {
        words: &["operator", "raft", "join"],
        examples: &[
            "operator raft join https://10.0.0.1:8200",
            "operator raft join -leader-ca-cert=@ca.pem https://10.0.0.1:8200",
        ],
        arguments: "[options] LEADER_API_ADDRESS",
        about: "Let the node join the cluster of a leader, such as https://10.0.0.1:8200. A node that is to find its leader \
                itself has the addresses of others in `retry_join` of its configuration.",
        flags: &[CONNECTION, FORMAT, JOIN],
        action: Action::Run(join),
    },
    Command {
        words: &["operator", "raft", "list-peers"],
        examples: &["operator raft list-peers"],
        arguments: "[options]",
        about: "List the nodes of the cluster and their votes.",
        flags: &[CONNECTION, FORMAT],
        action: Action::Run(list_peers),
    },
    Command {
        words: &["operator", "raft", "remove-peer"],
        examples: &["operator raft remove-peer node-3"],
        arguments: "[options] SERVER_ID",
        about: "Remove a node from the cluster.",
        flags: &[CONNECTION],
        action: Action::Run(|context| change(context, "remove-peer", REMOVE)),
    },
    Command {
        words: &["operator", "raft", "promote"],
        examples: &["operator raft promote node-3"],
        arguments: "[options] SERVER_ID",
        about: "Give a node a vote.",
        flags: &[CONNECTION],
        action: Action::Run(|context| change(context, "promote", PROMOTE)),
    },
    Command {
        words: &["operator", "raft", "demote"],
        examples: &["operator raft demote node-3"],
        arguments: "[options] SERVER_ID",
        about: "Take a node's vote; it goes on getting what is stored.",
        flags: &[CONNECTION],
        action: Action::Run(|context| change(context, "demote", DEMOTE)),
    },
];

/// What is said of a change that failed, and of one that is made.
type Said = (&'static str, &'static str);
const REMOVE: Said = ("removing the peer from raft cluster", "Peer removed successfully!");
const PROMOTE: Said = ("promoting server", "Server promoted successfully!");
const DEMOTE: Said = ("demoting server", "Server demoted successfully!");

fn members(context: &mut Context<'_, '_>) -> Outcome {
    const FIELDS: &[&str] =
        &["hostname", "api_address", "cluster_address", "active_node", "last_echo", "version", "upgrade_version"];
    const COLUMNS: &[(&str, &str)] = &[
        ("Host Name", "hostname"),
        ("API Address", "api_address"),
        ("Cluster Address", "cluster_address"),
        ("Active Node", "active_node"),
        ("Version", "version"),
        ("Upgrade Version", "upgrade_version"),
        ("Last Echo", "last_echo"),
    ];
    let [] = context.arguments()?;
    let answer = context.read("sys/ha-status", &[])?;
    let nodes = answer.as_ref().and_then(|answer| answer.data_field("nodes")?.as_array()).cloned().unwrap_or_default();
    let listed = Document::List(nodes.iter().map(|node| Document::ordered(node, FIELDS)).collect());
    context.print_document(Document::Object(vec![("Nodes".to_owned(), listed)]), || rows(COLUMNS, &nodes))
}

/// A table of these fields.
pub(crate) fn rows(columns: &[(&str, &str)], entries: &[Value]) -> Table {
    let shown = |value: Option<&Value>| value.filter(|value| !value.is_null()).map(cell).unwrap_or_default();
    let row = |entry: &Value| columns.iter().map(|(_, name)| shown(entry.get(*name))).collect();
    let heading: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
    table(&heading, &entries.iter().map(row).collect::<Vec<_>>())
}

fn step_down(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    context.change(Method::Put, "sys/step-down", None).map_err(|failure| failure.during("stepping down"))?;
    context.io.say("Success! Stepped down.");
    Ok(0)
}

fn join(context: &mut Context<'_, '_>) -> Outcome {
    let [leader] = context.arguments()?;
    if leader.contains("provider=")
        || ["scheme", "port"].iter().any(|it| context.flag(&format!("auto-join-{it}")).is_some())
    {
        return Err(Failure::local(NO_CLOUD));
    }
    let mut body = Map::from_iter([("leader_api_addr".to_owned(), Value::from(leader.trim()))]);
    for flag in ["leader-ca-cert", "leader-client-cert", "leader-client-key", "leader-tls-servername"] {
        let Some(given) = context.flag(flag) else { continue };
        let pem = match given.strip_prefix('@') {
            Some(file) => read_file(file).map_err(|error| Failure::local(format!("flag `-{flag}`: {error}")))?,
            None => given.to_owned(),
        };
        body.insert(flag.replace('-', "_"), pem.into());
    }
    for flag in ["retry", "non-voter"] {
        body.insert(flag.replace('-', "_"), context.flags.switch(flag).into());
    }
    let answer = context
        .send(Method::Post, "sys/storage/raft/join", &[], Some(&Value::Object(body)))
        .map_err(|failure| failure.during("joining the node to the Raft cluster"))?;
    let joined = answer.and_then(|answer| answer.get("joined")?.as_bool()).unwrap_or(false);
    let document = Document::Value(json!({ "joined": joined }));
    context.print_document(document, || table(&["Key", "Value"], &[vec!["Joined".to_owned(), joined.to_string()]]))
}

fn list_peers(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    let failed = |failure: Failure| failure.during("reading the raft cluster configuration");
    let answer = context
        .read("sys/storage/raft/configuration", &[])
        .map_err(failed)?
        .ok_or_else(|| Failure::remote("No raft cluster configuration found"))?;
    if context.format()? != Format::Table {
        return context.print_envelope(&answer);
    }
    let servers = answer.data_field("config").and_then(|config| config.get("servers")?.as_array());
    let shown = servers.into_iter().flatten().map(|server| {
        let text = |name: &str| server.get(name).map(cell).unwrap_or_default();
        let state = if server.get("leader") == Some(&Value::Bool(true)) { "leader" } else { "follower" };
        vec![text("node_id"), text("address"), state.to_owned(), text("voter")]
    });
    context.say_table(&table(&["Node", "Address", "State", "Voter"], &shown.collect::<Vec<_>>()));
    Ok(0)
}

fn change(context: &mut Context<'_, '_>, path: &str, (doing, done): Said) -> Outcome {
    let [server] = context.arguments()?;
    let body = json!({ "server_id": server.trim() });
    context
        .change(Method::Put, &format!("sys/storage/raft/{path}"), Some(&body))
        .map_err(|failure| failure.during(doing))?;
    context.io.say(done);
    Ok(0)
}
