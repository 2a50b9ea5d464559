//! Calls that only some crates may make, as one table: what, why, who may. Time, entropy, disk, network and tasks come
//! in through the doors of `tresor-env`, or a simulation would not see them.

use super::source::Source;

/// A ban.
struct Ban {
    /// What is looked for in the code.
    needles: &'static [&'static str],
    /// Why, and what to use instead.
    reason: &'static str,
    /// Path prefixes that may, each because its crate is the place for it.
    allowed: &'static [&'static str],
}

/// The crates that meet the real world: doors, assemblies, the client side and tools.
const OUTSIDE: &[&str] = &[
    "crates/bench/",
    "crates/env-os/",
    "crates/pages/",
    "crates/server/",
    "crates/tresor/",
    "crates/client/",
    "crates/cli/",
    "crates/canary/",
    "crates/services/",
    "crates/sim/src/main.rs",
    "crates/fuzz-targets/",
    "fuzz/",
    "xtask/",
];

const BANS: &[Ban] = &[
    Ban {
        needles: &["Widened::assertion"],
        reason: "only the server's own engines leave their mount, see tokens and ask the node for something",
        allowed: &["crates/system/"],
    },
    Ban {
        needles: &["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now", "tokio::time"],
        reason: "time comes from the clock door (`tresor_env::Clock`), which a simulation can move",
        allowed: OUTSIDE,
    },
    Ban {
        needles: &["std::fs", "tokio::fs", "std::env::temp_dir"],
        reason: "files come from the disk door (`tresor_env::Disk`), which a simulation can break",
        allowed: OUTSIDE,
    },
    Ban {
        needles: &["TcpListener", "TcpStream", "UdpSocket", "UnixStream", "UnixListener", "ToSocketAddrs"],
        reason: "sockets come from the network door (`tresor_env::Net`), which a simulation can cut",
        allowed: OUTSIDE,
    },
    Ban {
        needles: &["rand::", "thread_rng", "getrandom", "SystemRandom", "OsRng", "Uuid::new_v4", "Uuid::now_v7"],
        reason: "entropy comes from its door (`tresor_env::Entropy`), or the same seed gives another history",
        // What the consensus library calls its generator, which decides nothing there.
        allowed: &["crates/env-os/", "crates/consensus/src/runtime.rs"],
    },
    Ban {
        needles: &["tokio::spawn", "tokio::task::spawn", "spawn_local", "JoinSet", "std::thread", "spawn_blocking"],
        reason: "a task has an owner, a bound and an end: `tresor_env::tasks`",
        allowed: &[
            "crates/env/src/tasks.rs",
            "crates/env-os/",
            "crates/server/",
            "crates/tresor/",
            "crates/cli/",
            "crates/sim/src/main.rs",
            "crates/bench/",
            "crates/services/",
            "xtask/",
        ],
    },
    Ban {
        needles: &["HashMap", "HashSet", "RandomState", "DefaultHasher"],
        reason: "the order of a hash table is drawn by the process, not by the seed: `BTreeMap`, `BTreeSet`",
        allowed: &["crates/cli/", "crates/client/", "crates/env-os/", "crates/server/", "crates/tresor/", "xtask/"],
    },
    Ban {
        needles: &["std::env::var", "std::env::var_os", "std::env::vars", "std::env::args"],
        reason: "settings arrive as arguments; only programs read their environment",
        allowed: OUTSIDE,
    },
    Ban {
        needles: &["std::process::exit", "process::exit", "process::abort"],
        reason: "only a program decides when it ends; without entropy there is nothing to go on with",
        allowed: &["crates/server/", "crates/tresor/", "crates/cli/", "crates/env-os/src/entropy.rs"],
    },
];

/// The calls that are made where they may not be.
#[must_use]
pub fn misplaced(sources: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for ban in BANS {
        for source in sources.iter().filter(|source| !ban.allowed.iter().any(|place| source.path.starts_with(place))) {
            for needle in ban.needles {
                let direct = source.lines_with(needle);
                for line in direct.chain(grouped_import(source, needle)) {
                    broken.push(format!("{}:{line}: `{needle}`: {}", source.path, ban.reason));
                }
            }
        }
    }
    broken
}

/// The line where `a::b` is imported as `use a::{.., b, ..}`, which the plain needle does not see.
fn grouped_import(source: &Source, needle: &str) -> Option<usize> {
    let (parent, name) = needle.rsplit_once("::").filter(|(_, name)| !name.is_empty())?;
    let opening = format!("use {parent}::{{");
    source.code.match_indices(&opening).find_map(|(at, _)| {
        let (before, group) = source.code.split_at(at);
        let group = group.strip_prefix(&opening)?.split(';').next()?;
        let words = group.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        words.into_iter().any(|word| word == name).then(|| before.lines().count() + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> usize {
        misplaced(&[Source::new(path, text.to_owned())]).len()
    }

    #[test]
    fn a_banned_call_is_found_however_it_is_imported() {
        assert_eq!(broken("crates/core/src/a.rs", "fn f() { std::fs::read(p); }"), 1);
        assert_eq!(broken("crates/core/src/a.rs", "use std::{\n    fmt,\n    fs,\n};"), 1);
        assert_eq!(broken("engines/kv/src/a.rs", "let now = SystemTime::now();"), 1);
    }

    #[test]
    fn doors_and_tests_may() {
        assert_eq!(broken("crates/env-os/src/a.rs", "fn f() { std::fs::read(p); }"), 0);
        assert_eq!(broken("crates/core/tests/a.rs", "fn f() { std::fs::read(p); }"), 0);
        assert_eq!(broken("crates/core/src/a.rs", "// std::fs::read\nuse std::{fmt, future};"), 0);
    }
}
