//! Input made up for every target: its corpus, changed; its words, in any order; any bytes; and hostile lengths.
//!
//! The same input every time, so that a change is judged by itself; `PROPTEST_RNG_SEED` and `PROPTEST_CASES` look
//! further. The coverage-guided fuzzer (`cargo xtask fuzz`) looks further still.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tresor_fuzz_targets::{TARGETS, Target};

/// Far more than a long input takes, and far less than a quadratic one would.
const BOUND: Duration = Duration::from_secs(60);
const HOSTILE_BYTES: usize = 300_000;

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target.name);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| fs::read(file).unwrap()).filter(|bytes| bytes.len() < 8192).collect()
}

/// One change of an input.
#[derive(Clone, Debug)]
enum Change {
    Insert(prop::sample::Index, &'static str),
    Set(prop::sample::Index, u8),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize, usize),
}

fn change(words: &'static [&'static str]) -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), prop::sample::select(words)).prop_map(|(at, word)| Change::Insert(at, word)),
        2 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        2 => (at(), 1_usize..12).prop_map(|(at, length)| Change::Remove(at, length)),
        1 => (at(), 1_usize..20, 2_usize..30).prop_map(|(at, length, times)| Change::Repeat(at, length, times)),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let length = bytes.len();
        match change {
            Change::Insert(at, word) => drop(bytes.splice(at.index(length + 1)..at.index(length + 1), word.bytes())),
            Change::Set(at, byte) if length > 0 => {
                bytes.splice(at.index(length)..=at.index(length), [*byte]).for_each(drop)
            }
            Change::Remove(at, count) if length > 0 => {
                let start = at.index(length);
                bytes.drain(start..length.min(start + count)).for_each(drop);
            }
            Change::Repeat(at, count, times) if length > 0 => {
                let start = at.index(length);
                let part: Vec<u8> = bytes.iter().skip(start).take(*count).copied().collect();
                bytes.splice(start..start, part.repeat(*times)).for_each(drop);
            }
            Change::Set(..) | Change::Remove(..) | Change::Repeat(..) => {}
        }
    }
    bytes
}

fn inputs(target: &'static Target) -> impl Strategy<Value = Vec<u8>> {
    let words = prop::collection::vec(prop::sample::select(target.words), 0..40);
    prop_oneof![
        6 => (prop::sample::select(corpus(target)), prop::collection::vec(change(target.words), 1..6))
            .prop_map(|(bytes, changes)| changed(bytes, &changes)),
        3 => words.prop_map(|words| words.concat().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ]
}

fn look(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("no target {name}"));
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(1);
    }
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = target.cases;
    }
    let outcome = TestRunner::new(config).run(&inputs(target), |bytes| {
        let outcome = std::panic::catch_unwind(|| (target.run)(&bytes));
        prop_assert!(outcome.is_ok(), "a finding: {}", String::from_utf8_lossy(&bytes));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
}

macro_rules! targets {
    ($($name:ident),*) => {
        $(
            #[test]
            fn $name() {
                look(stringify!($name));
            }
        )*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}
targets!(
    audit_entry,
    audit_log,
    cel,
    config,
    directory,
    duration,
    fields,
    filter,
    frames,
    hcl,
    http_request,
    json,
    kmip,
    ldif,
    path,
    policy,
    record,
    routes,
    seal,
    share,
    snapshot,
    workflow
);

#[test]
fn no_target_is_left_out() {
    assert_eq!(NAMES, TARGETS.iter().map(|target| target.name).collect::<Vec<_>>());
}

/// Every word over and over, alone and between the ends of a good input: what nests, backtracks or counts shows here.
#[test]
fn long_runs_of_anything_take_bounded_time() {
    for target in TARGETS.iter().filter(|target| !matches!(target.name, "routes" | "audit_log" | "audit_entry")) {
        let started = Instant::now();
        for word in target.words {
            let run = word.repeat(HOSTILE_BYTES / word.len().max(1));
            (target.run)(run.as_bytes());
            if let Some(good) = corpus(target).first() {
                let (head, tail) = good.split_at(good.len() / 2);
                (target.run)(&[head, run.as_bytes(), tail].concat());
            }
        }
        assert!(started.elapsed() < BOUND, "{}: {:?}", target.name, started.elapsed());
    }
}
