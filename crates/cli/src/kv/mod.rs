//! `kv`: secrets with and without versions, by the path that people know.
//!
//! A path is looked up first: the server says where its mount ends and which version of the engine is there, so that
//! `data/` and `metadata/` never have to be typed. Deliberately absent: a cache of that answer.

mod data;
mod metadata;
mod target;
mod versions;

use crate::commands::{Action, Command};
use crate::flags::{CONNECTION, DETAILED, FIELD, FORMAT, Flag, repeated, switch, text};
use crate::logical::PAGE;

const MOUNT: &[Flag] =
    &[text("mount", "Where the engine is mounted; the argument is then the path inside it, without the mount.")];
const UPGRADE: &[Flag] = &[switch("wait", "Wait until every secret is taken over, and say how far that is.")];
const CAS: &[Flag] = &[text("cas", "Write only if this is the current version; 0 writes only what does not exist.")];
const VERSION: &[Flag] = &[text("version", "The version; the newest when not given.")];
const VERSIONS: &[Flag] = &[repeated("versions", "Versions, separated by commas; may be given several times.")];
const PATCH: &[Flag] = &[
    text("method", "patch: the server merges; rw: read, merge, write. Default: patch, then rw where it is refused."),
    repeated("remove-data", "Key to remove; may be given several times."),
];
const ABOUT_SECRET: &[Flag] = &[
    text("max-versions", "How many versions to keep; 0 for the mount's number."),
    switch("cas-required", "Whether every write must state the version that it replaces."),
    text("delete-version-after", "How long a version lives, such as 3h; 0s for ever."),
    repeated("custom-metadata", "Pair name=value to keep with the secret; may be given several times."),
];
const REMOVE_ABOUT: &[Flag] =
    &[repeated("remove-custom-metadata", "Name of a pair to remove; may be given several times.")];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["kv", "get"],
        examples: &["kv get secret/app", "kv get -field=password -version=2 secret/app"],
        arguments: "[options] PATH",
        about: "Read a secret.",
        flags: &[CONNECTION, FORMAT, FIELD, MOUNT, VERSION],
        action: Action::Run(data::get),
    },
    Command {
        words: &["kv", "put"],
        examples: &["kv put secret/app user=app password=@password.txt"],
        arguments: "[options] PATH KEY=VALUE...",
        about: "Write a secret; keys that are not named are gone from the new version.",
        flags: &[CONNECTION, FORMAT, FIELD, MOUNT, CAS],
        action: Action::Run(data::put),
    },
    Command {
        words: &["kv", "patch"],
        examples: &["kv patch secret/app password=@password.txt"],
        arguments: "[options] PATH KEY=VALUE...",
        about: "Change some keys of a secret and keep the others.",
        flags: &[CONNECTION, FORMAT, FIELD, MOUNT, CAS, PATCH],
        action: Action::Run(data::patch),
    },
    Command {
        words: &["kv", "list"],
        examples: &["kv list secret/"],
        arguments: "[options] PATH",
        about: "List the names below a path.",
        flags: &[CONNECTION, FORMAT, DETAILED, MOUNT, PAGE],
        action: Action::Run(data::list),
    },
    Command {
        words: &["kv", "scan"],
        examples: &["kv scan secret/"],
        arguments: "[options] PATH",
        about: "List every name below a path, at any depth.",
        flags: &[CONNECTION, FORMAT, DETAILED, MOUNT, PAGE],
        action: Action::Run(data::scan),
    },
    Command {
        words: &["kv", "delete"],
        examples: &["kv delete secret/app", "kv delete -versions=1,2 secret/app"],
        arguments: "[options] PATH",
        about: "Delete a secret; where there are versions, the newest or the named ones, and they can be restored.",
        flags: &[CONNECTION, FORMAT, MOUNT, VERSIONS],
        action: Action::Run(versions::delete),
    },
    Command {
        words: &["kv", "undelete"],
        examples: &["kv undelete -versions=2 secret/app"],
        arguments: "[options] -versions=N[,N...] PATH",
        about: "Restore deleted versions.",
        flags: &[CONNECTION, FORMAT, MOUNT, VERSIONS],
        action: Action::Run(versions::undelete),
    },
    Command {
        words: &["kv", "destroy"],
        examples: &["kv destroy -versions=1,2 secret/app"],
        arguments: "[options] -versions=N[,N...] PATH",
        about: "Remove the data of versions for good.",
        flags: &[CONNECTION, FORMAT, MOUNT, VERSIONS],
        action: Action::Run(versions::destroy),
    },
    Command {
        words: &["kv", "rollback"],
        examples: &["kv rollback -version=1 secret/app"],
        arguments: "[options] -version=N PATH",
        about: "Write an older version again, as the newest one.",
        flags: &[CONNECTION, FORMAT, FIELD, MOUNT, VERSION],
        action: Action::Run(versions::rollback),
    },
    Command {
        words: &["kv", "enable-versioning"],
        examples: &["kv enable-versioning kv/", "kv enable-versioning -wait kv/"],
        arguments: "[options] MOUNT",
        about: "Turn version 1 of the engine at a mount into version 2.",
        flags: &[CONNECTION, UPGRADE],
        action: Action::Run(versions::enable),
    },
    Command {
        words: &["kv", "metadata", "get"],
        examples: &["kv metadata get secret/app"],
        arguments: "[options] PATH",
        about: "Show what is known of a secret and its versions.",
        flags: &[CONNECTION, FORMAT, FIELD, MOUNT],
        action: Action::Run(metadata::get),
    },
    Command {
        words: &["kv", "metadata", "put"],
        examples: &["kv metadata put -max-versions=5 -custom-metadata=owner=ada secret/app"],
        arguments: "[options] PATH",
        about: "Set what is known of a secret, which need not have a version yet.",
        flags: &[CONNECTION, FORMAT, MOUNT, ABOUT_SECRET],
        action: Action::Run(metadata::put),
    },
    Command {
        words: &["kv", "metadata", "patch"],
        examples: &["kv metadata patch -delete-version-after=720h secret/app"],
        arguments: "[options] PATH",
        about: "Change some of what is known of a secret.",
        flags: &[CONNECTION, FORMAT, MOUNT, ABOUT_SECRET, REMOVE_ABOUT],
        action: Action::Run(metadata::patch),
    },
    Command {
        words: &["kv", "metadata", "delete"],
        examples: &["kv metadata delete secret/app"],
        arguments: "[options] PATH",
        about: "Remove a secret with all its versions for good.",
        flags: &[CONNECTION, FORMAT, MOUNT],
        action: Action::Run(metadata::delete),
    },
];
