//! `operator raft snapshot`: what a server stores as one file, and back.
//!
//! A file gets its name when it is whole and verified; nothing is sent that would be refused. Deliberately absent: keys;
//! what is in the file stays sealed.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tresor_snapshot::{Verified, Verifier};
use tresor_wire::time;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome};
use crate::failure::Failure;
use crate::flags::{CONNECTION, FORMAT, Flag, switch};
use crate::output::{Document, cell};
use crate::status;
use crate::table::table;

const RESTORE: &[Flag] =
    &[switch("force", "Restore a snapshot of another cluster, whose shares are needed afterwards.")];

const INSPECT: &[Flag] = &[switch("details", "Show how many values of each kind there are, and how long they are.")];

/// Kinds of values, by the byte that their keys begin with (ARCHITECTURE, "Raw keys").
const KINDS: [&str; 6] = [
    "Keys, and states on their way",
    "Records",
    "Blocks of directories",
    "Points",
    "Tallies",
    "Points beside others of their time",
];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["operator", "raft", "snapshot", "save"],
        examples: &["operator raft snapshot save tresor.snap"],
        arguments: "[options] FILE",
        about: "Save what the server stores, sealed as it is, to a file. With - it goes to standard output as it comes: it is \
                whole when the exit code is 0.",
        flags: &[CONNECTION],
        action: Action::Run(save),
    },
    Command {
        words: &["operator", "raft", "snapshot", "restore"],
        examples: &["operator raft snapshot restore tresor.snap"],
        arguments: "[options] FILE",
        about: "Let what a snapshot holds take the place of what the server stores; it is sealed then.",
        flags: &[CONNECTION, RESTORE],
        action: Action::Run(restore),
    },
    Command {
        words: &["operator", "raft", "snapshot", "inspect"],
        examples: &["operator raft snapshot inspect tresor.snap"],
        arguments: "[options] FILE",
        about: "Verify a snapshot to its end, and show what it says of itself. Needs no server and no key. Names are sealed in \
                a snapshot, so of what it holds -details tells the kinds, and there is no -depth and no -filter.",
        flags: &[FORMAT, INSPECT],
        action: Action::Run(inspect),
    },
];

/// The file beside the one that is to be, while it is not whole.
fn partial_of(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    file.with_file_name(name)
}

fn unusable(file: &Path) -> impl Fn(std::io::Error) -> Failure + '_ {
    move |error| Failure::local(format!("Error with {}: {error}", file.display()))
}

fn save(context: &mut Context<'_, '_>) -> Outcome {
    let [name] = context.arguments()?;
    if name == "-" {
        return save_to_output(context);
    }
    let file = PathBuf::from(name);
    let partial = partial_of(&file);
    let saved = save_to(context, &partial).and_then(|()| {
        std::fs::rename(&partial, &file).map_err(unusable(&file))?;
        // The name is durable when its directory is.
        let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(unusable(directory))
    });
    if saved.is_err() {
        drop(std::fs::remove_file(&partial));
    }
    saved.map(|()| 0)
}

fn save_to(context: &mut Context<'_, '_>, partial: &Path) -> Result<(), Failure> {
    // What an earlier run left is of no use.
    drop(std::fs::remove_file(partial));
    let mut out =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(partial).map_err(unusable(partial))?;
    receive(context, &mut |bytes| {
        out.write_all(bytes).map_err(|error| format!("writing {}: {error}", partial.display()))
    })?;
    out.sync_all().map_err(unusable(partial))
}

/// To whatever reads standard output, which learns by the exit code whether it has the whole.
fn save_to_output(context: &mut Context<'_, '_>) -> Outcome {
    if context.io.output_is_terminal {
        return Err(Failure::Usage("a snapshot is nothing for a terminal: lead standard output elsewhere".to_owned()));
    }
    let mut output = std::mem::replace(&mut context.io.output, Box::new(std::io::sink()));
    let failed = |error: std::io::Error| format!("writing to standard output: {error}");
    let saved = receive(context, &mut |bytes| output.write_all(bytes).map_err(failed));
    let flushed = output.flush();
    context.io.output = output;
    saved?;
    flushed.map_err(|error| Failure::local(format!("Error {}", failed(error))))?;
    Ok(0)
}

/// Has a snapshot, verified as it comes.
fn receive(context: &mut Context<'_, '_>, write: &mut dyn FnMut(&[u8]) -> Result<(), String>) -> Result<(), Failure> {
    let mut verifier = Verifier::new();
    let mut take = |bytes: &[u8]| {
        verifier.take(bytes).map_err(|wrong| format!("what the server sends is no snapshot, {wrong}"))?;
        write(bytes)
    };
    context
        .download_file("sys/storage/raft/snapshot", &mut take)
        .map_err(|failure| failure.during("taking the snapshot"))?;
    verifier
        .finish()
        .map(drop)
        .map_err(|wrong| Failure::remote(format!("Error taking the snapshot: what the server sent is {wrong}")))
}

fn restore(context: &mut Context<'_, '_>) -> Outcome {
    let [name] = context.arguments()?;
    let file = PathBuf::from(name);
    verified(&file)?;
    let path =
        if context.flags.switch("force") { "sys/storage/raft/snapshot-force" } else { "sys/storage/raft/snapshot" };
    context.upload(path, &file).map_err(|failure| failure.during("installing the snapshot"))?;
    // One that opens by itself has done so already, where its key is still the one of the snapshot's time.
    let is_sealed = status::seal_status(context).is_ok_and(|fields| status::is_sealed(&fields));
    context.io.say(if is_sealed {
        "Success! The snapshot is restored, and the server is sealed: unseal it with the shares of its time."
    } else {
        "Success! The snapshot is restored."
    });
    Ok(0)
}

fn verified(file: &Path) -> Result<Verified, Failure> {
    verified_each(file, |_, _| {})
}

/// The same, showing each value's key and how long it is.
fn verified_each(file: &Path, mut see: impl FnMut(&[u8], usize)) -> Result<Verified, Failure> {
    let mut input = File::open(file).map_err(unusable(file))?;
    let wrong =
        |wrong: tresor_snapshot::Wrong| Failure::local(format!("Error: {} is refused, {wrong}", file.display()));
    let (mut verifier, mut buffer) = (Verifier::new(), vec![0; 256 * 1024]);
    loop {
        let length = input.read(&mut buffer).map_err(unusable(file))?;
        if length == 0 {
            return verifier.finish().map_err(wrong);
        }
        verifier.take_each(buffer.get(..length).unwrap_or_default(), &mut see).map_err(wrong)?;
    }
}

fn inspect(context: &mut Context<'_, '_>) -> Outcome {
    let [name] = context.arguments()?;
    let mut kinds = [(0_u64, 0_u64); KINDS.len()];
    let found = verified_each(Path::new(&name), |key, length| {
        // A later release may have more kinds than this one knows.
        let Some((count, bytes)) = key.first().and_then(|kind| kinds.get_mut(usize::from(*kind))) else { return };
        *count += 1;
        *bytes += (key.len() + length) as u64;
    })?;
    let facts = [
        ("cluster_id", "Cluster ID", json!(found.header.cluster_id)),
        ("cluster_name", "Cluster Name", json!(found.header.cluster_name)),
        ("taken", "Taken", json!(time::rfc3339(found.header.taken))),
        ("index", "Index", json!(found.state.position.index)),
        ("term", "Term", json!(found.state.position.term)),
        ("version", "Version", json!(found.state.version.0)),
        ("count", "Values", json!(found.amount.count)),
        ("bytes", "Bytes", json!(found.amount.bytes)),
        ("size", "File Size", json!(found.bytes)),
        ("sha256", "SHA-256", json!(hex::encode(found.digest))),
    ];
    let mut rows = facts.iter().map(|(_, title, value)| vec![(*title).to_owned(), cell(value)]).collect::<Vec<_>>();
    let of = |(name, _, value): (&str, &str, Value)| (name.to_owned(), Document::from(value));
    let mut object: Vec<(String, Document)> = facts.into_iter().map(of).collect();
    if context.flags.switch("details") {
        let details = KINDS.iter().zip(kinds).filter(|(_, (count, _))| *count > 0);
        rows.extend(
            details.clone().map(|(kind, (count, bytes))| vec![(*kind).to_owned(), format!("{count} ({bytes} bytes)")]),
        );
        let told =
            details.map(|(kind, (count, bytes))| json!({ "kind": kind, "count": count, "bytes": bytes })).collect();
        object.push(("details".to_owned(), Value::Array(told).into()));
    }
    context.print_document(Document::Object(object), || table(&["Key", "Value"], &rows))
}
