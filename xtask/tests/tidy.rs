//! The house rules as tests, so that `cargo test` includes them. What a rule means and why is said in `xtask::tidy`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::LazyLock;

use xtask::graph;
use xtask::tidy::source::{self, Source};
use xtask::tidy::{arrows, bank, calls, files, parity, ratchets};
use xtask::workspace::Workspace;

static WORKSPACE: LazyLock<Workspace> = LazyLock::new(|| Workspace::find().expect("cargo describes the workspace"));
static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| source::read_all(&WORKSPACE).expect("sources are readable"));

#[track_caller]
fn nothing(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn the_scanner_sees_the_tree() {
    assert!(SOURCES.len() > 50, "only {} files found", SOURCES.len());
}

#[test]
fn every_file_says_what_it_is_for() {
    nothing(&files::without_purpose(&SOURCES));
}

#[test]
fn nothing_is_left_unfinished() {
    nothing(&files::unfinished(&SOURCES));
}

#[test]
fn no_file_knows_a_path_of_one_machine() {
    nothing(&files::machine_paths(&SOURCES));
}

#[test]
fn every_crate_inherits_the_lints() {
    nothing(&files::without_lints(&WORKSPACE).unwrap());
}

#[test]
fn every_document_can_be_found() {
    nothing(&files::unreachable_documents(&WORKSPACE).unwrap());
}

#[test]
fn the_outside_world_comes_in_through_its_doors() {
    nothing(&calls::misplaced(&SOURCES));
}

#[test]
fn arrows_go_down() {
    nothing(&arrows::misdirected(&WORKSPACE).unwrap());
}

#[test]
fn the_graph_is_the_committed_one() {
    graph::check(&WORKSPACE).unwrap_or_else(|problem| panic!("{problem}"));
}

#[test]
fn no_counted_number_rises() {
    ratchets::check(&WORKSPACE).unwrap_or_else(|problem| panic!("{problem}"));
}

#[test]
fn the_lock_file_is_committed() {
    assert!(WORKSPACE.root.join("Cargo.lock").exists(), "Cargo.lock is part of the project");
    let ignored = WORKSPACE.read_text(".gitignore").unwrap();
    assert!(!ignored.lines().any(|line| line.contains("Cargo.lock")), ".gitignore hides Cargo.lock");
}

#[test]
fn the_security_bank_names_tests_that_are_there() {
    nothing(&bank::untrue(&WORKSPACE.read_text(bank::TABLE).unwrap(), &SOURCES));
}

#[test]
fn what_is_said_to_be_there_is_tested() {
    nothing(&parity::untrue(&WORKSPACE.read_text(parity::TABLE).unwrap(), &SOURCES));
}
