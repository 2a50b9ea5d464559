//! The command line of the benchmark.

use std::path::PathBuf;
use std::time::Duration;

use crate::loads::LOADS;

/// What a server keeps its data in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// A node of a cluster, in which it may be alone.
    Raft,
    /// Files, without any cluster.
    File,
}

impl Storage {
    /// As configurations call it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Raft => "raft",
            Self::File => "file",
        }
    }

    fn read(word: &str) -> Result<Self, String> {
        let known = [Self::Raft, Self::File].into_iter().find(|storage| storage.word() == word);
        known.ok_or_else(|| format!("no storage is called `{word}`"))
    }
}

/// What was asked for.
pub(crate) struct Options {
    /// The servers, ours first.
    pub(crate) binaries: Vec<PathBuf>,
    /// What each keeps its data in: one contender for each.
    pub(crate) storages: Vec<Storage>,
    /// Where their data lies: on the disk that is to be measured.
    pub(crate) directory: PathBuf,
    /// Names of loads; all when empty.
    only: Vec<String>,
    /// How long each load runs in each round.
    pub(crate) duration: Duration,
    /// How often each load runs for each server; what is printed are medians.
    pub(crate) rounds: usize,
    /// The core of the servers.
    pub(crate) server_core: usize,
    /// The core of the load.
    pub(crate) load_core: usize,
    /// Requests per second of the paced load.
    pub(crate) pace: u64,
    /// Whether clusters of three nodes are measured, instead of one node.
    pub(crate) cluster: bool,
    /// Whether accounts of a database are made and taken back, instead of the loads.
    pub(crate) credentials: bool,
    /// For how many minutes a day's traffic goes over a cluster, instead of what is measured; nothing when it does not.
    pub(crate) day: Option<u64>,
    /// Whether each run says when it begins and of which process, for a profiler.
    pub(crate) announce: bool,
}

/// How it is called.
pub(crate) fn usage() -> String {
    let mut text =
        "usage: bench --binary PATH [--against PATH]... [--directory PATH] [--only LOAD,LOAD] [--storage raft,file]\n             \
                    [--seconds N] [--rounds N] [--server-core N] [--load-core N] [--pace N] [--announce] [--cluster] [--credentials] [--day MINUTES]\n\nloads:\n"
            .to_owned();
    for load in LOADS {
        text.push_str(&format!("  {:<18} {}\n", load.name, load.about));
    }
    text
}

impl Options {
    /// Reads the arguments.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            binaries: Vec::new(),
            storages: vec![Storage::Raft],
            directory: std::env::temp_dir(),
            only: Vec::new(),
            duration: Duration::from_secs(5),
            rounds: 3,
            server_core: 0,
            load_core: 1,
            pace: 950,
            cluster: false,
            credentials: false,
            day: None,
            announce: false,
        };
        let mut given = arguments.iter();
        let mut ours = None;
        while let Some(flag) = given.next() {
            match flag.as_str() {
                "--announce" => options.announce = true,
                "--cluster" => options.cluster = true,
                "--credentials" => options.credentials = true,
                _ => {}
            }
            if ["--announce", "--cluster", "--credentials"].contains(&flag.as_str()) {
                continue;
            }
            let value = given.next().ok_or_else(|| format!("`{flag}` needs a value, or is no flag"))?;
            match flag.as_str() {
                "--binary" => ours = Some(PathBuf::from(value)),
                "--against" => options.binaries.push(PathBuf::from(value)),
                "--directory" => options.directory = PathBuf::from(value),
                "--storage" => {
                    options.storages = value.split(',').map(Storage::read).collect::<Result<_, _>>()?;
                }
                "--day" => options.day = Some(number(flag, value)?),
                "--only" => options.only.extend(value.split(',').map(str::to_owned)),
                "--seconds" => options.duration = Duration::from_secs(number(flag, value)?),
                "--rounds" => options.rounds = number(flag, value)?,
                "--server-core" => options.server_core = number(flag, value)?,
                "--load-core" => options.load_core = number(flag, value)?,
                "--pace" => options.pace = number(flag, value)?,
                _ => return Err(format!("unknown flag `{flag}`")),
            }
        }
        options.binaries.insert(0, ours.ok_or("`--binary` is missing")?);
        match options.only.iter().find(|name| LOADS.iter().all(|load| load.name != **name)) {
            Some(unknown) => Err(format!("no load is called `{unknown}`")),
            None if options.rounds == 0 || options.duration.is_zero() || options.pace == 0 => {
                Err("rounds, seconds and pace are at least 1".to_owned())
            }
            None => Ok(options),
        }
    }

    /// Whether a load is to be run.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == name)
    }
}

fn number<N: std::str::FromStr>(flag: &str, value: &str) -> Result<N, String> {
    value.parse().map_err(|_| format!("`{flag}`: `{value}` is no number"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn ours_comes_first_whatever_the_order_of_the_flags() {
        let options = parse("--against other --binary ours --rounds 5").unwrap();
        assert_eq!(options.binaries, [PathBuf::from("ours"), PathBuf::from("other")]);
        assert_eq!(options.rounds, 5);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in [
            "",
            "--binary",
            "--binary a --what 1",
            "--binary a --rounds x",
            "--binary a --only nothing",
            "--binary a --storage sqlite",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("--binary a --rounds 0").is_err());
    }
}
