//! `operator import`: secrets of clouds' secret managers become secrets of a mount with versions (SYS-32).
//!
//! A *plan* compares, and says by name what is new, what differs and what is the same. *Applying* compares again, one secret after
//! the other, and writes what differs as the version that follows the one that it was compared with: what somebody else wrote
//! meanwhile stays, and doing it again writes nothing. Values are in memory one at a time, and are shown nowhere. Deliberately
//! absent: removing what a source does not have any more.

mod destination;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

use tresor_client::ClientConfig;
use tresor_env::Doors;
use tresor_env::tasks::FINISH_BOUND;

use crate::config::{ImportConfig, Mapping, load_import};
use crate::outgoing::Https;
use crate::run::environment;
use destination::{Destination, Mount, NotWritten};
use source::{Listed, Source};

/// The longest name that is imported.
const NAME_BYTES_MAX: usize = 1_024;

/// What an import is asked for.
pub struct Import {
    /// The file that says what is imported.
    pub config: PathBuf,
    /// Import; otherwise only show what would be.
    pub applies: bool,
    /// Nobody is asked before anything is written.
    pub is_approved: bool,
    /// How the server is reached that secrets are imported to, and as whom.
    pub client: ClientConfig,
}

/// Where an import speaks to whoever started it.
pub struct ImportStreams<'s> {
    /// The plan, and what was done.
    pub output: &'s mut dyn Write,
    /// Warnings, and why something was not done.
    pub errors: &'s mut dyn Write,
    /// Asks whether to go on.
    pub approve: &'s mut dyn FnMut() -> bool,
}

/// What becomes of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    New,
    Different,
    Same,
    /// The source has no value for it, or not any more.
    Empty,
}

/// A secret that is to be imported.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    source: String,
    destination: String,
    /// Its name there.
    name: String,
    secret: Listed,
}

/// Why it did not come to an end.
#[derive(Debug, PartialEq, Eq)]
enum Stopped {
    /// Destinations are missing, or names exclude each other; it was said.
    Unready,
    /// Somebody said no.
    NotApproved,
    /// A source or destination failed.
    Failed(String),
}

/// Plans, and imports; 0 when that is done, 1 when it was not asked as it should be, 2 when it failed or somebody said no.
pub fn import(wanted: Import, streams: &mut ImportStreams<'_>) -> i32 {
    let fail = |streams: &mut ImportStreams<'_>, code: i32, error: &str| {
        // Nobody to tell when the stream is gone.
        drop(writeln!(streams.errors, "Error: {error}"));
        code
    };
    let config = match load_import(&wanted.config, &environment) {
        Ok(config) => config,
        Err(error) => return fail(streams, 1, &error.to_string()),
    };
    for warning in &config.warnings {
        drop(writeln!(streams.errors, "WARNING! {warning}"));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(streams, 2, &format!("the runtime cannot be started: {error}")),
    };
    let doors = Doors { outgoing: std::sync::Arc::new(Https::default()), ..tresor_env_os::doors() };
    let done = runtime.block_on(async {
        let run = Run::prepare(config, &wanted.client, &doors).await.map_err(Stopped::Failed)?;
        run.carry_out(wanted.applies, wanted.is_approved, streams).await
    });
    runtime.shutdown_timeout(FINISH_BOUND);
    match done {
        Ok(()) => 0,
        Err(Stopped::Unready) => 2,
        Err(Stopped::NotApproved) => fail(streams, 2, "nothing was imported, as nobody approved it"),
        Err(Stopped::Failed(error)) => fail(streams, 2, &error),
    }
}

/// What is imported, and where.
struct Run {
    sources: BTreeMap<String, Source>,
    destinations: BTreeMap<String, (Box<dyn Destination>, String)>,
    mappings: Vec<Mapping>,
}

impl Run {
    async fn prepare(config: ImportConfig, client: &ClientConfig, doors: &Doors) -> Result<Self, String> {
        let mut destinations: BTreeMap<String, (Box<dyn Destination>, String)> = BTreeMap::new();
        for (name, wanted) in &config.destinations {
            let shown = match &wanted.namespace {
                Some(namespace) => format!("{}/{}", namespace.trim_matches('/'), wanted.mount),
                None => wanted.mount.clone(),
            };
            let mount = Mount::new(wanted, client).await.map_err(|error| format!("destination `{name}`: {error}"))?;
            destinations.insert(name.clone(), (Box::new(mount), shown));
        }
        let sources = config.sources.into_iter().map(|(name, source)| (name, Source::new(source, doors))).collect();
        Ok(Self { sources, destinations, mappings: config.mappings })
    }

    async fn carry_out(
        &self,
        applies: bool,
        is_approved: bool,
        streams: &mut ImportStreams<'_>,
    ) -> Result<(), Stopped> {
        let mut say = |text: &str| drop(writeln!(streams.output, "{text}"));
        say("-----------\nImport plan\n-----------");
        let missing = self.missing().await;
        if !missing.is_empty() {
            say("\nThese mounts cannot be imported to:");
            missing.iter().for_each(|line| say(&format!("* {line}")));
            return Err(Stopped::Unready);
        }
        let (wanted, refused) = self.wanted().await.map_err(Stopped::Failed)?;
        if !refused.is_empty() {
            say("\nThese secrets cannot be imported:");
            refused.iter().for_each(|line| say(&format!("* {line}")));
            return Err(Stopped::Unready);
        }
        let mut changed = Vec::new();
        let mut told: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let (mut same, mut empty) = (0_usize, Vec::new());
        for secret in &wanted {
            match self.compare(secret).await.map_err(Stopped::Failed)?.0 {
                Change::Same => same += 1,
                Change::Empty => empty.push(format!("* {} of \"{}\"", secret.name, secret.source)),
                change => {
                    let word = if change == Change::New { "new" } else { "different" };
                    told.entry(&secret.destination).or_default().push(format!("* {} ({word})", secret.name));
                    changed.push(secret);
                }
            }
        }
        for (destination, lines) in &told {
            say(&format!("\nSecrets to be imported to the destination \"{destination}\":\n{}", lines.join("\n")));
        }
        if !empty.is_empty() {
            say(&format!("\nSecrets that have no value:\n{}", empty.join("\n")));
        }
        say(&format!("\n{} to import, {same} the same", changed.len()));
        if !applies || changed.is_empty() {
            return Ok(());
        }
        if !is_approved && !(streams.approve)() {
            return Err(Stopped::NotApproved);
        }
        self.import(&changed, streams).await
    }

    async fn import(&self, changed: &[&Wanted], streams: &mut ImportStreams<'_>) -> Result<(), Stopped> {
        let (mut imported, mut overtaken) = (0_usize, 0_usize);
        for secret in changed {
            let (change, value, follows) = self.compare(secret).await.map_err(Stopped::Failed)?;
            let (Change::New | Change::Different, Some(value)) = (change, value) else { continue };
            let (destination, _) = self.destination(secret).map_err(Stopped::Failed)?;
            match destination.write(&secret.name, value, follows).await {
                Ok(()) => imported += 1,
                Err(NotWritten::Changed) => {
                    overtaken += 1;
                    let text = format!("{} was written by somebody else meanwhile, and is left as it is", secret.name);
                    drop(writeln!(streams.errors, "WARNING! {text}"));
                }
                Err(NotWritten::Failed(error)) => {
                    let text = format!("writing {}: {error}; {imported} were imported before it", secret.name);
                    return Err(Stopped::Failed(text));
                }
            }
        }
        drop(writeln!(streams.output, "Success! Imported {imported} secrets."));
        if overtaken > 0 {
            Err(Stopped::Failed(format!("{overtaken} secrets were not imported: do it again")))
        } else {
            Ok(())
        }
    }

    /// Destinations that are not as they should be.
    async fn missing(&self) -> Vec<String> {
        let used: BTreeSet<&str> = self.mappings.iter().map(|mapping| mapping.destination.as_str()).collect();
        let mut missing = Vec::new();
        for (name, (destination, shown)) in &self.destinations {
            if used.contains(name.as_str())
                && let Err(why) = destination.check().await
            {
                missing.push(format!("{shown}: {why}"));
            }
        }
        missing
    }

    /// What is to be imported, by the first mapping that takes it; and what cannot be.
    async fn wanted(&self) -> Result<(Vec<Wanted>, Vec<String>), String> {
        let (mut wanted, mut refused) = (Vec::new(), Vec::new());
        let mut taken: BTreeMap<(String, String), String> = BTreeMap::new();
        for (source_name, source) in &self.sources {
            let mappings: Vec<&Mapping> =
                self.mappings.iter().filter(|mapping| mapping.source == *source_name).collect();
            if mappings.is_empty() {
                continue;
            }
            let listed = source.list().await.map_err(|error| format!("source `{source_name}`: {error}"))?;
            for secret in listed {
                let mapping = mappings.iter().find(|mapping| mapping.filter.takes(&secret.name, &secret.metadata));
                let Some(mapping) = mapping else { continue };
                let Some(name) = checked_name(&secret.name) else {
                    refused.push(format!("{:?} of \"{source_name}\": it cannot be a name", secret.name));
                    continue;
                };
                let place = (mapping.destination.clone(), name.clone());
                if let Some(other) = taken.insert(place, source_name.clone()) {
                    let destination = &mapping.destination;
                    refused.push(format!("{name}: \"{other}\" and \"{source_name}\" both go to \"{destination}\""));
                }
                let (source, destination) = (source_name.clone(), mapping.destination.clone());
                wanted.push(Wanted { source, destination, name, secret });
            }
        }
        Ok((wanted, refused))
    }

    fn destination(&self, secret: &Wanted) -> Result<&(Box<dyn Destination>, String), String> {
        self.destinations
            .get(&secret.destination)
            .ok_or_else(|| format!("there is no destination `{}`", secret.destination))
    }

    /// How a secret differs, its value where it does, and the version that there is.
    async fn compare(&self, secret: &Wanted) -> Result<(Change, Option<tresor_model::Map>, u64), String> {
        let at_source = |error: &dyn std::fmt::Display| format!("source `{}`: {}: {error}", secret.source, secret.name);
        let source =
            self.sources.get(&secret.source).ok_or_else(|| format!("there is no source `{}`", secret.source))?;
        let value = source.value(&secret.secret).await.map_err(|error| at_source(&error))?;
        let Some(value) = value else { return Ok((Change::Empty, None, 0)) };
        let (destination, shown) = self.destination(secret)?;
        let current = destination.read(&secret.name).await;
        let current = current.map_err(|error| format!("reading {} of {shown}: {error}", secret.name))?;
        Ok(match current.data {
            Some(data) if data == value => (Change::Same, None, current.version),
            _ if current.version == 0 => (Change::New, Some(value), 0),
            _ => (Change::Different, Some(value), current.version),
        })
    }
}

/// The name that a secret gets, without slashes around it; `None` where it cannot have one.
fn checked_name(name: &str) -> Option<String> {
    let name = name.trim_matches('/');
    let is_part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.chars().any(char::is_control);
    (name.len() <= NAME_BYTES_MAX && name.split('/').all(is_part)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests;
