//! Every file of every corpus goes through its target, within a bound of time; no corpus is empty or forgotten.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tresor_fuzz_targets::TARGETS;

/// Far more than any input takes, and far less than a quadratic one would.
const BOUND: Duration = Duration::from_secs(30);
const INPUTS_MIN: usize = 4;

fn corpora() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

#[test]
fn every_input_of_every_corpus_keeps_its_promises() {
    for target in TARGETS {
        let mut files: Vec<PathBuf> = fs::read_dir(corpora().join(target.name))
            .unwrap_or_else(|error| panic!("fuzz/corpus/{}: {error}", target.name))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(files.len() >= INPUTS_MIN, "the corpus of `{}` has only {} inputs", target.name, files.len());
        for file in files {
            let bytes = fs::read(&file).unwrap();
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let started = Instant::now();
            let outcome = std::panic::catch_unwind(|| (target.run)(&bytes));
            assert!(outcome.is_ok(), "fuzz/corpus/{}/{name} is a finding", target.name);
            assert!(started.elapsed() < BOUND, "fuzz/corpus/{}/{name} took {:?}", target.name, started.elapsed());
        }
    }
}

#[test]
fn targets_corpora_and_fuzzers_are_the_same_list() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let names = |folder: PathBuf, ending: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        entries.filter_map(|name| name.strip_suffix(ending).map(str::to_owned)).collect()
    };
    assert_eq!(names(corpora(), ""), targets);
    assert_eq!(names(corpora().join("../fuzz_targets"), ".rs"), targets);
    let manifest = fs::read_to_string(corpora().join("../Cargo.toml")).unwrap();
    for name in &targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml has no `{name}`");
    }
}
