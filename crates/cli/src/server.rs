//! The arguments of what the server's own code does, parsed: `server`, `operator diagnose`, `operator migrate` and its kin. What
//! they mean is the server's affair.

use std::path::PathBuf;

use crate::commands::{Action, Command};
use crate::context::Context;
use crate::failure::Failure;
use crate::flags::{Flag, repeated, switch, text};
use crate::import::ImportArguments;
use crate::output::Format;

const FLAGS: &[Flag] = &[
    repeated("config", "Configuration file (HCL or JSON) or directory of them; may be given several times."),
    switch("dev", "Development mode: in memory, initialised and unsealed. Never for production."),
    text("dev-root-token-id", "Root token of development mode (VAULT_DEV_ROOT_TOKEN_ID)."),
    text(
        "dev-listen-address",
        "Address of development mode, 127.0.0.1:8200 when not given (VAULT_DEV_LISTEN_ADDRESS).",
    ),
    switch("dev-no-store-token", "Do not keep the root token of development mode in the home directory."),
    switch("dev-tls", "Development mode with a certificate made at start."),
    text("dev-tls-cert-dir", "Directory for the certificates of -dev-tls."),
    switch("dev-ha", "Development mode with a store that other nodes can join, in a temporary directory."),
    switch("dev-three-node", "Development mode with a cluster of three nodes, over TLS, in a temporary directory."),
    text("dev-cluster-json", "File that addresses, authority and root token of development mode are written to."),
    switch("dev-kv-v1", "Mount version 1 of the key/value engine in development mode."),
    switch("dev-allow-non-loopback", "Allow development mode on addresses that others can reach."),
    text("dev-plugin-dir", "Accepted for compatibility; there are no plugins."),
    switch(
        "recovery",
        "Recovery mode: serve nothing but sys/raw, to repair what is stored (generate-root -recovery-token).",
    ),
    switch(
        "exit-on-core-shutdown",
        "End, with exit code 1, when the server serves no more by itself: its cluster removed it, or what is stored was replaced \
         by what other keys open.",
    ),
    repeated("experiment", "Name of an experiment: this release has none, so each is refused."),
    text("log-level", "Least severity that is logged: trace, debug, info, warn or error (VAULT_LOG_LEVEL)."),
    text("log-format", "Form of log lines: standard or json (VAULT_LOG_FORMAT)."),
    text("log-file", "File, or directory with a slash at its end, that the log is written to as well."),
    text("log-rotate-bytes", "When another log file is begun: its length."),
    text("log-rotate-duration", "When another log file is begun: its age. Default: 24h."),
    text("log-rotate-max-files", "How many older log files stay; 0 keeps all, -1 none. Default: 0."),
];

/// The flags of the log as a file; in a configuration they have underscores.
const LOG_FILE: [&str; 4] = ["log-file", "log-rotate-bytes", "log-rotate-duration", "log-rotate-max-files"];

const CONFIG: &[Flag] =
    &[repeated("config", "Configuration file (HCL or JSON) or directory of them; may be given several times.")];
const DIAGNOSE: &[Flag] = &[
    repeated(
        "skip",
        "Part that is left out: system, listener, storage, seal, cluster, audit, telemetry; may be given several times.",
    ),
    switch("debug", "Accepted for compatibility: everything that is known is shown in any case."),
];
const MIGRATE: &[Flag] = &[
    text("config", "File with `storage_source` and `storage_destination` (VAULT_MIGRATE_CONFIG_PATH)."),
    text("start", "Accepted for compatibility: all is copied, or nothing."),
    switch(
        "reset",
        "Accepted for compatibility: a migration that broke off leaves nothing to be reset. Nothing is copied.",
    ),
    text("max-parallel", "Accepted for compatibility: a number."),
    text("log-level", "Least severity that is logged: trace, debug, info, warn or error (VAULT_LOG_LEVEL)."),
];
const REPORT: &[Flag] = &[text("format", "Output as table or json (VAULT_FORMAT). Default: table.")];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["server"],
        examples: &["server -dev", "server -config=/etc/tresor"],
        arguments: "[options]",
        about: "Start a server, from configuration files or in development mode.",
        flags: &[FLAGS],
        action: Action::Hosted(|context| arguments(context).map(Hosted::Server)),
    },
    Command {
        words: &["operator", "diagnose"],
        examples: &[
            "operator diagnose -config=/etc/tresor",
            "operator diagnose -config=/etc/tresor -skip=cluster -format=json",
        ],
        arguments: "[options]",
        about: "Say what keeps a server from starting on this machine, or will one day, and what to do. \
                Run it as the server's user, beside a running server or not. Exit code: 0 all is well, 1 something is wrong, \
                2 something is doubtful.",
        flags: &[CONFIG, DIAGNOSE, REPORT],
        action: Action::Hosted(|context| diagnosis(context, false)),
    },
    Command {
        words: &["operator", "validate-config"],
        examples: &["operator validate-config -config=/etc/tresor"],
        arguments: "[options]",
        about: "Read a server's configuration and say what is wrong with it. Exit code: 0 nothing, 1 something, 2 a warning.",
        flags: &[CONFIG, REPORT],
        action: Action::Hosted(|context| diagnosis(context, true)),
    },
    Command {
        words: &["operator", "migrate"],
        examples: &["operator migrate -config=migrate.hcl"],
        arguments: "[options]",
        about: "Copy what one storage holds to another, which is empty, while no server uses them. Nothing is unsealed. \
                The destination holds all of it at the end, or nothing. Exit code: 0 done, 1 wrong settings, 2 it failed.",
        flags: &[MIGRATE],
        action: Action::Hosted(|context| migration(context)),
    },
];

/// What the server's own code does for a command.
pub enum Hosted {
    /// Serves.
    Server(ServerArguments),
    /// Looks at what a server would use.
    Diagnosis(DiagnosisArguments),
    /// Copies from one storage to another.
    Migration(MigrationArguments),
    /// Imports secrets of others.
    Import(ImportArguments),
}

/// What a migration is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigrationArguments {
    /// The file that names both storages.
    pub config: PathBuf,
    /// Let go of what a migration of before left, and copy nothing.
    pub reset: bool,
    /// A key to begin at.
    pub start: Option<String>,
    /// The least severity that is logged.
    pub log_level: Option<String>,
}

fn migration(context: &Context<'_, '_>) -> Result<Hosted, Failure> {
    let [] = context.arguments()?;
    let value = |flag: &str, variable: &str| {
        let given = context.flags.text(flag).filter(|value| !value.is_empty());
        given.or_else(|| context.environment.variable(variable)).map(str::to_owned)
    };
    let config = value("config", "VAULT_MIGRATE_CONFIG_PATH");
    let config = config.ok_or_else(|| Failure::Usage("say which file by -config".to_owned()))?;
    if let Some(number) = context.flags.text("max-parallel")
        && !number.parse::<u32>().is_ok_and(|number| number > 0)
    {
        return Err(Failure::Usage("-max-parallel is a number above 0".to_owned()));
    }
    Ok(Hosted::Migration(MigrationArguments {
        config: config.into(),
        reset: context.flags.switch("reset"),
        start: context.flags.text("start").filter(|value| !value.is_empty()).map(str::to_owned),
        log_level: value("log-level", "VAULT_LOG_LEVEL"),
    }))
}

/// What a diagnosis is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiagnosisArguments {
    /// Configuration files and directories, in order.
    pub config: Vec<PathBuf>,
    /// Parts that are left out.
    pub skip: Vec<String>,
    /// Nothing but the configuration.
    pub only_config: bool,
    /// JSON instead of lines for people.
    pub json: bool,
    /// Whether outcomes have colours.
    pub colours: bool,
}

/// The parts that a diagnosis has.
const PARTS: &[&str] = &["system", "listener", "storage", "seal", "autounseal", "cluster", "audit", "telemetry"];

fn diagnosis(context: &Context<'_, '_>, only_config: bool) -> Result<Hosted, Failure> {
    let [] = context.arguments()?;
    let lists = |flag: &str| context.flags.texts(flag).iter().flat_map(|list| list.split(',')).map(str::to_owned);
    let mut config: Vec<PathBuf> = context.flags.texts("config").iter().map(PathBuf::from).collect();
    if config.is_empty() {
        config.extend(context.environment.variable("VAULT_CONFIG_PATH").map(PathBuf::from));
    }
    let skip: Vec<String> =
        lists("skip").map(|part| part.trim().to_lowercase()).filter(|part| !part.is_empty()).collect();
    if let Some(unknown) = skip.iter().find(|part| !PARTS.contains(&part.as_str())) {
        return Err(Failure::Usage(format!("unknown part `{unknown}`: {}", PARTS.join(", "))));
    }
    let json = match context.format()? {
        Format::Json => true,
        Format::Table => false,
        _ => return Err(Failure::Usage("the output is table or json".to_owned())),
    };
    let colours = context.io.output_is_terminal && context.environment.wants_colours();
    Ok(Hosted::Diagnosis(DiagnosisArguments { config, skip, only_config, json, colours }))
}

/// How a server was asked to start.
///
/// Not printable, because the root token of development mode may be among it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ServerArguments {
    /// Configuration files and directories, in order.
    pub config: Vec<PathBuf>,
    /// Development mode.
    pub dev: bool,
    /// The root token of development mode.
    pub dev_root_token_id: Option<String>,
    /// The address of development mode, `host:port`.
    pub dev_listen_address: Option<String>,
    /// Whether the root token of development mode is not to be kept in the home directory.
    pub dev_no_store_token: bool,
    /// Development mode over TLS; implies development mode.
    pub dev_tls: bool,
    /// Where its certificates go.
    pub dev_tls_cert_dir: Option<PathBuf>,
    /// How many nodes development mode has where its store is that of a cluster.
    pub dev_nodes: Option<usize>,
    /// Where addresses and root token of development mode are written.
    pub dev_cluster_json: Option<PathBuf>,
    /// Version 1 of the key/value engine instead of 2 in development mode.
    pub dev_kv_v1: bool,
    /// Whether development mode may listen where others can reach it.
    pub dev_allow_non_loopback: bool,
    /// Recovery mode.
    pub recovery: bool,
    /// Whether it ends when its node serves no more by itself.
    pub exit_on_core_shutdown: bool,
    /// Names of experiments.
    pub experiments: Vec<String>,
    /// The least severity that is logged.
    pub log_level: Option<String>,
    /// The form of log lines.
    pub log_format: Option<String>,
    /// The log as a file, by key of the configuration.
    pub log_file: Vec<(String, String)>,
}

fn arguments(context: &Context<'_, '_>) -> Result<ServerArguments, Failure> {
    let (parsed, environment) = (&context.flags, context.environment);
    if let Some(extra) = parsed.arguments.first() {
        return Err(Failure::Usage(format!("unexpected argument `{extra}`")));
    }
    let value = |flag: &str, variable: &str| {
        parsed
            .text(flag)
            .filter(|value| !value.is_empty())
            .or_else(|| environment.variable(variable))
            .map(str::to_owned)
    };
    let three = parsed.switch("dev-three-node");
    let file = |flag: &str| parsed.text(flag).filter(|value| !value.is_empty()).map(PathBuf::from);
    Ok(ServerArguments {
        config: parsed.texts("config").iter().map(PathBuf::from).collect(),
        dev: ["dev", "dev-tls", "dev-ha", "dev-three-node"].into_iter().any(|flag| parsed.switch(flag)),
        dev_root_token_id: value("dev-root-token-id", "VAULT_DEV_ROOT_TOKEN_ID"),
        dev_listen_address: value("dev-listen-address", "VAULT_DEV_LISTEN_ADDRESS"),
        dev_no_store_token: parsed.switch("dev-no-store-token"),
        dev_tls: parsed.switch("dev-tls") || three,
        dev_tls_cert_dir: file("dev-tls-cert-dir"),
        dev_nodes: if three { Some(3) } else { parsed.switch("dev-ha").then_some(1) },
        dev_cluster_json: file("dev-cluster-json"),
        dev_kv_v1: parsed.switch("dev-kv-v1"),
        dev_allow_non_loopback: parsed.switch("dev-allow-non-loopback"),
        recovery: parsed.switch("recovery"),
        exit_on_core_shutdown: parsed.switch("exit-on-core-shutdown"),
        experiments: parsed.texts("experiment").to_vec(),
        log_level: value("log-level", "VAULT_LOG_LEVEL"),
        log_format: value("log-format", "VAULT_LOG_FORMAT"),
        log_file: LOG_FILE
            .iter()
            .filter_map(|flag| Some((flag.replace('-', "_"), parsed.text(flag)?.to_owned())))
            .collect(),
    })
}
