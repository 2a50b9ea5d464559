//! Lives of clusters, seed by seed; the same seed twice; and checkers that find what is planted.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing run ends the test")]

use tresor_sim::{Failure, PlantedInCluster, Report, run_cluster};

/// How many seeds are tried here; `sim --cluster` tries any number.
const SEEDS: u64 = 12;

fn explain(failure: &Failure) -> String {
    let from = failure.history.len().saturating_sub(60);
    let events = failure.history.iter().skip(from).cloned().collect::<Vec<_>>().join("\n");
    let Failure { seed, problem, .. } = failure;
    format!("{events}\nseed {seed}: {problem}\nagain: cargo run -p tresor-sim -- --cluster --seed {seed}")
}

#[test]
fn whoever_is_asked_nothing_is_lost_stale_or_taken_back_twice() {
    let mut total = Report::default();
    for seed in 1..=SEEDS {
        let (report, _) =
            run_cluster(seed, PlantedInCluster::Nothing).unwrap_or_else(|failure| panic!("{}", explain(&failure)));
        total = total.plus(&report);
    }
    let Report {
        operations, crashes, partitions, pauses, disks_lost, members_changed, clocks_set, stale_reads, ..
    } = total;
    assert!(operations > 500, "{total:?}");
    for happened in [crashes, partitions, pauses, disks_lost, members_changed, clocks_set, stale_reads] {
        assert!(happened > 0, "{total:?}");
    }
}

#[test]
fn the_same_seed_twice_gives_the_same_life() {
    let life = || run_cluster(3, PlantedInCluster::Nothing).unwrap_or_else(|failure| panic!("{}", explain(&failure))).1;
    assert_eq!(life(), life());
}

#[test]
fn what_is_planted_is_found() {
    for (planted, found) in [
        (PlantedInCluster::StaleRead, "was seen after version"),
        (PlantedInCluster::TooStaleRead, "is older than what no read does without"),
        (PlantedInCluster::LostWrite, "was seen after version"),
        (PlantedInCluster::WrittenTwice, "made version"),
        (PlantedInCluster::RefusedForNothing, "was refused as if"),
        (PlantedInCluster::HiddenName, "was not shown after its write"),
        (PlantedInCluster::ImmortalTokens, "was good after its end"),
        (PlantedInCluster::OverusedTokens, "more often than it can be"),
        (PlantedInCluster::SkippedRecord, "have no audit records"),
        (PlantedInCluster::Forgotten, "not all were taken back"),
        (PlantedInCluster::OpenedByNobody, "a sealed namespace was served"),
    ] {
        // A life may have nothing in it that would show it.
        let problems = (1..8).filter_map(|seed| run_cluster(seed, planted).err());
        let problem = problems.map(|failure| failure.problem).next().unwrap_or_default();
        assert!(problem.contains(found), "{planted:?}: {problem}");
    }
}
