//! SIGKILL at random points under load, on real files: a child writes and says what was acknowledged, is killed, and the
//! next one must find all of it, and nothing torn.
//!
//! `cargo test -p tresor-storage-file --test kills -- --minutes N`; without arguments as many as CI has time for. Every
//! second child runs with limits so small that it is mostly killed in the middle of upkeep.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a program of tests")]

#[path = "common/blocks.rs"]
mod blocks;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use blocks::{SMALL, batch, check};
use tresor_env::doubles::SeededEntropy;
use tresor_storage::Store;
use tresor_storage_file::{FileStore, Limits};

const CYCLES_IN_CI: u64 = 200;
/// Writes until it is killed.
fn child(directory: &Path, is_small: bool) -> Result<(), String> {
    let mut said = std::io::stdout();
    let mut say = |line: String| said.write_all(line.as_bytes()).and_then(|()| said.flush()).map_err(|e| e.to_string());
    let doors = tresor_env_os::doors();
    let limits = if is_small { SMALL } else { Limits { reserve_bytes: 0, ..Limits::default() } };
    let started = Instant::now();
    let store = FileStore::open(&doors, directory, limits).map_err(|error| error.to_string())?;
    let opening = started.elapsed().as_micros();
    let version = check(&store)?;
    say(format!("opened {version} {opening}\n"))?;
    for version in version + 1.. {
        store.apply(batch(version)).map_err(|error| error.to_string())?;
        say(format!("applied {version}\n"))?;
    }
    Ok(())
}

fn start(directory: &Path, is_small: bool) -> Child {
    let role = if is_small { "small" } else { "large" };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("--child").arg(role).arg(directory).stdout(Stdio::piped()).spawn().unwrap()
}

/// What the parent knows after so many cycles.
#[derive(Default)]
struct Told {
    acknowledged: u64,
    opened: u64,
    slowest_opening: u64,
}

fn cycle(directory: &Path, entropy: &SeededEntropy, is_small: bool, told: &mut Told) {
    let mut child = start(directory, is_small);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Now and then while it opens, else after some batches; it goes on writing until the signal reaches it.
    let enough = if entropy.next().is_multiple_of(8) { 0 } else { 1 + entropy.next() % 200 };
    let mut take = |line: String| {
        let mut words = line.split(' ');
        match (words.next(), words.next().and_then(|word| word.parse::<u64>().ok())) {
            (Some("opened"), Some(version)) => {
                let found = version == told.acknowledged || version == told.acknowledged + 1;
                assert!(found, "{} was acknowledged, {version} is there", told.acknowledged);
                told.acknowledged = version;
                told.opened += 1;
                let opening = words.next().and_then(|word| word.parse().ok()).unwrap();
                told.slowest_opening = told.slowest_opening.max(opening);
            }
            (Some("applied"), Some(version)) => told.acknowledged = version,
            _ => panic!("the child says: {line}"),
        }
    };
    for line in lines.by_ref().take(usize::try_from(enough).unwrap()) {
        take(line.unwrap());
    }
    child.kill().unwrap();
    lines.map_while(Result::ok).for_each(take);
    let status = child.wait().unwrap();
    assert!(status.code().is_none(), "the child ended by itself: {status}");
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, role, directory] = arguments.as_slice()
        && flag == "--child"
    {
        let ended = child(Path::new(directory), role == "small");
        println!("failed: {ended:?}");
        std::process::exit(1);
    }
    let named = arguments.iter().position(|argument| argument == "--minutes").and_then(|at| arguments.get(at + 1));
    let minutes: Option<u64> = named.map(|number| number.parse().unwrap());
    let folder = tempfile::tempdir_in(PathBuf::from(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let entropy = SeededEntropy::new(minutes.unwrap_or(0));
    let mut told = [Told::default(), Told::default()];
    let started = Instant::now();
    let mut cycles = 0;
    while minutes.map_or(cycles < CYCLES_IN_CI, |minutes| started.elapsed().as_secs() < minutes * 60) {
        let at = cycles;
        cycles += 1;
        let is_small = at % 2 == 0;
        let directory = folder.path().join(if is_small { "small" } else { "large" });
        let [small, large] = &mut told;
        cycle(&directory, &entropy, is_small, if is_small { small } else { large });
    }
    for (title, told) in ["small limits", "usual limits"].iter().zip(&told) {
        println!(
            "{title}: {} batches acknowledged, all found; {} openings, the slowest {:.1} ms",
            told.acknowledged,
            told.opened,
            f64::from(u32::try_from(told.slowest_opening).unwrap()) / 1000.0
        );
        assert!(told.opened * 4 > cycles, "most children were killed before they opened");
    }
    println!("{cycles} kills in {:.0} s", started.elapsed().as_secs_f64());
}
