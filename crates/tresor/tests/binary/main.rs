//! The binary as its users meet it: processes, sockets, files and signals, nothing in between.
//!
//! One test program, so that it is linked once. Deliberately absent: what can be shown without a process; that is
//! tested where it lives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../documentation/python.rs"]
mod python;
mod support;

mod acme;
mod audit;
mod audit_ways;
mod aws_engine;
mod awskms_seal;
mod bad_connections;
mod bad_requests;
mod balancer;
mod canary;
mod cli;
mod cloud_seals;
mod cluster;
mod commands;
mod completion;
mod config;
mod contexts;
mod crash;
mod damage;
mod debug;
mod dev;
mod diagnose;
mod differential;
mod disks;
mod events;
mod fail_over;
mod hvac_engines;
mod import;
mod joining;
mod kept_keys;
mod kmip_seal;
mod leases;
mod losses;
mod metrics;
mod migrate;
mod pkcs11_seal;
mod postgresql;
mod protocols;
mod proxies;
mod registration;
mod rotations;
mod shares;
mod sharing;
mod signals;
mod snapshots;
mod stale;
mod static_seal;
mod stops;
mod tls;
mod transit_seal;
mod unseal;
mod workflows;
