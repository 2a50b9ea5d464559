//! The direction of the arrows: layers from the bottom up, an edge only goes down, and the shapes that the layers alone
//! do not forbid. The table mirrors `ARCHITECTURE.md`; a crate that is in no layer is an error, so a new crate is
//! placed on purpose.

use crate::workspace::{Member, Workspace};

/// The layers, the lowest first. A folder with a slash at its end stands for every crate in it.
const LAYERS: &[&[&str]] = &[
    // Tools and vocabulary that know nothing of ours.
    &[
        "crates/secret",
        "crates/env",
        "crates/macros",
        "crates/metrics",
        "crates/hcl",
        "crates/canary",
        "crates/sha256",
        "crates/pages",
        "crates/services",
        "crates/verified",
        "xtask",
    ],
    &["crates/model", "crates/env-os", "crates/bench", "crates/kmip"],
    &["crates/record", "crates/wire"],
    &[
        "crates/cel",
        "crates/crypto",
        "crates/policy",
        "crates/storage",
        "crates/log",
        "crates/pgp",
        "crates/directory",
        "crates/postgresql",
    ],
    &[
        "crates/credential",
        "crates/pkcs11",
        "crates/sigv4",
        "crates/storage-file",
        "crates/storage-postgresql",
        "crates/snapshot",
        "crates/consensus",
        "crates/peers",
        "crates/barrier",
        "crates/audit",
    ],
    &["crates/engine", "crates/client", "crates/profile"],
    // Siblings that meet in the engine's contract.
    &["crates/core", "engines/", "auth/"],
    &["crates/system", "crates/http"],
    &["crates/builtin"],
    // Assemblies.
    &["crates/server", "crates/cli"],
    &["crates/harness"],
    &["crates/tresor", "crates/sim", "crates/fuzz-targets"],
];

/// What an engine or an auth method may know of ours.
const FEATURE_MAY_USE: &[&str] = &[
    "tresor-engine",
    "tresor-credential",
    "tresor-sigv4",
    "tresor-crypto",
    "tresor-directory",
    "tresor-postgresql",
    "tresor-verified",
    "tresor-record",
    "tresor-wire",
    "tresor-model",
    "tresor-macros",
    "tresor-env",
    "tresor-secret",
];

/// Crates of others that one concern of ours keeps to itself: who may name it in its manifest outside tests.
const KEPT: &[(&str, &[&str])] = &[
    ("hyper", &["crates/http", "crates/server", "crates/client", "crates/tresor", "crates/bench"]),
    ("hyper-util", &["crates/http", "crates/server", "crates/client", "crates/tresor", "crates/bench"]),
    (
        "http",
        &[
            "crates/http",
            "crates/server",
            "crates/client",
            "crates/tresor",
            "crates/harness",
            "crates/sim",
            "crates/fuzz-targets",
        ],
    ),
    ("reqwest", &["crates/client", "crates/server"]),
    ("tokio-tungstenite", &["crates/http", "crates/client"]),
    ("redb", &["crates/storage-file"]),
    ("openraft", &["crates/consensus"]),
    ("aws-lc-sys", &["crates/sha256"]),
    ("cryptoki", &["crates/pkcs11"]),
    ("quick-xml", &["crates/sigv4"]),
    ("clap", &["crates/cli", "crates/server", "crates/tresor"]),
    (
        "rustls",
        &[
            "crates/directory",
            "crates/env-os",
            "crates/server",
            "crates/client",
            "crates/peers",
            "crates/tresor",
            "crates/bench",
            // Who poses as a server of others, for tests.
            "crates/services",
            // Below a database's own protocol.
            "engines/database",
            "crates/verified",
        ],
    ),
    ("tokio-postgres", &["engines/database", "crates/postgresql", "crates/storage-postgresql", "crates/bench"]),
    ("serde", &["crates/wire", "crates/client", "crates/cli"]),
];

/// The edges that go where they may not, and the crates that are in no layer.
///
/// # Errors
/// Text when a manifest cannot be read.
pub fn misdirected(workspace: &Workspace) -> Result<Vec<String>, String> {
    let mut broken = Vec::new();
    for member in &workspace.members {
        let folder = member.folder.to_string_lossy();
        let Some(layer) = layer_of(&folder) else {
            broken.push(format!("{folder} is in no layer of {}", file!()));
            continue;
        };
        for dependency in member.dependencies.iter().filter(|dependency| !dependency.only_tests) {
            let target = workspace.members.iter().find(|other| other.name == dependency.name);
            let below = target.and_then(|other| layer_of(&other.folder.to_string_lossy()));
            if below.is_some_and(|below| below >= layer) {
                broken.push(format!("{} -> {}: an arrow that does not go down", member.name, dependency.name));
            }
            if is_feature(&folder) && !FEATURE_MAY_USE.contains(&dependency.name.as_str()) {
                broken.push(format!("{} -> {}: an engine knows only its contract", member.name, dependency.name));
            }
        }
        broken.extend(kept_by_others(workspace, member)?);
    }
    Ok(broken)
}

fn is_feature(folder: &str) -> bool {
    folder.starts_with("engines/") || folder.starts_with("auth/")
}

fn layer_of(folder: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| {
        layer.iter().any(|entry| *entry == folder || entry.ends_with('/') && folder.starts_with(*entry))
    })
}

fn kept_by_others(workspace: &Workspace, member: &Member) -> Result<Vec<String>, String> {
    let folder = member.folder.to_string_lossy();
    let manifest = workspace.read_text(&format!("{folder}/Cargo.toml"))?;
    let used = dependencies_of(&manifest);
    let mut broken = Vec::new();
    for (name, keepers) in KEPT {
        if used.contains(name) && !keepers.contains(&&*folder) {
            broken.push(format!("{folder} uses `{name}`, which is kept by {}", keepers.join(", ")));
        }
    }
    Ok(broken)
}

/// The names in a manifest's `[dependencies]`.
fn dependencies_of(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim() == "[dependencies]";
        } else if inside && !line.trim_start().starts_with('#') {
            names.extend(line.split(['.', '=', ' ']).next().filter(|name| !name.is_empty()));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_a_sibling_of_the_core() {
        assert_eq!(layer_of("engines/anything"), layer_of("crates/core"));
        assert!(layer_of("crates/engine") < layer_of("engines/kv"));
        assert_eq!(layer_of("crates/unknown"), None);
    }

    #[test]
    fn only_ordinary_dependencies_are_read() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\nredb.workspace = true\nhttp = \"1\"\n\n[dev-dependencies]\nclap = \"4\"\n";
        assert_eq!(dependencies_of(manifest), ["redb", "http"]);
    }
}
