//! The arguments of `operator import`, parsed. What it does is the server's code, which knows the ways to clouds.
//!
//! Deliberately absent: secrets among the arguments; the file says where they lie.

use std::path::PathBuf;

use tresor_client::ClientConfig;

use crate::commands::{Action, Command};
use crate::context::Context;
use crate::contexts;
use crate::failure::Failure;
use crate::flags::{CONNECTION, Flag, switch, text};
use crate::server::Hosted;

const IMPORT: &[Flag] = &[
    text("config", "File with sources, destinations and mappings."),
    switch("auto-approve", "Import without asking."),
];

pub(crate) const COMMANDS: &[Command] = &[Command {
    words: &["operator", "import"],
    examples: &["operator import -config=import.hcl plan", "operator import -config=import.hcl -auto-approve apply"],
    arguments: "[options] plan|apply",
    about: "Import secrets from the secret managers of AWS, Google or Microsoft. plan shows by name what is new or different, \
            apply shows it and imports it when that is approved; nothing that is the same is written. Exit code: 0 done, 1 \
            wrong settings, 2 it failed.",
    flags: &[CONNECTION, IMPORT],
    action: Action::Hosted(import),
}];

/// What an import is asked for.
pub struct ImportArguments {
    /// The file.
    pub config: PathBuf,
    /// Import; otherwise only show what would be.
    pub applies: bool,
    /// Nobody is asked before.
    pub is_approved: bool,
    /// Somebody may be asked.
    pub may_ask: bool,
    /// How the server is reached, and as whom.
    pub client: ClientConfig,
}

fn import(context: &mut Context<'_, '_>) -> Result<Hosted, Failure> {
    let [verb] = context.arguments()?;
    let applies = match verb.as_str() {
        "plan" => false,
        "apply" => true,
        _ => return Err(Failure::Usage("say `plan` or `apply`".to_owned())),
    };
    let config = context.flag("config").map(PathBuf::from);
    let config = config.ok_or_else(|| Failure::Usage("say which file by -config".to_owned()))?;
    if context.flags.switch("output-curl-string") || context.flags.switch("output-policy") {
        return Err(Failure::Usage("an import is many requests: none of them is printed".to_owned()));
    }
    let may_ask = !context.flags.switch("non-interactive");
    let is_approved = context.flags.switch("auto-approve");
    context.in_use = contexts::in_use(context.environment, &context.flags)?;
    let client = context.config()?;
    Ok(Hosted::Import(ImportArguments { config, applies, is_approved, may_ask, client }))
}
