//! The node: its life from uninitialised to unsealed, and the path of a request through it.
//!
//! Start reading at [`pipeline`]: `serve` is the table of contents of the server. What exists only while unsealed
//! lives in [`Unsealed`], a value that exists only while unsealed. Deliberately absent: HTTP, the endpoints of
//! `sys/` (`tresor-system`), every engine, and the operating system.

pub mod audits;
mod besides;
pub mod cached;
pub mod clients;
pub mod cluster;
pub mod custom_messages;
mod deeds;
pub mod edge;
pub mod errands;
pub mod events;
mod farewell;
pub mod first;
pub mod forward;
mod gate;
mod key_service;
pub mod keyring;
pub mod keys;
pub mod leases;
mod listing;
pub mod lockout;
pub mod login_forms;
pub mod metrics;
pub mod mounts;
pub mod namespaces;
pub mod node;
pub mod openapi;
mod opening;
mod ordered;
pub mod password_policies;
pub mod pipeline;
pub mod policies;
pub mod process;
pub mod quotas;
pub mod raw;
pub mod releases;
mod restore;
pub mod role;
pub mod rotations;
mod running;
pub mod seal_health;
pub mod settings;
pub mod shareholders;
pub mod snapshots;
mod storage;
pub mod tokens;
pub mod traces;
pub mod unsealed;
pub mod workflows;
pub mod wrapping;

pub use audits::Audits;
pub use errands::Errands;
pub use events::Events;
pub use key_service::{KeyService, Sealed, ServiceError};
pub use listing::{Availability, ListedRoute};
pub use metrics::Metrics;
pub use mounts::Mounts;
pub use namespaces::{Space, Spaces};
pub use node::{AlwaysRoute, Initialized, Node, Registry, SealStanding, SystemMount};
pub use opening::{AutoKey, AutoSeal, OpeningProblem, StaticKeySource};
pub use policies::Policies;
pub use process::Process;
pub use running::{Running, RunningRequest};
pub use seal_health::SealChecks;
pub use settings::{Elsewhere, Settings};
pub use snapshots::Snapshots;
pub use storage::Storage;
pub use tokens::Tokens;
pub use tresor_barrier::{SealedKey, StaticKey, StaticKeys};
pub use tresor_engine::Quorum;
pub use tresor_storage::{Condition, Scrubbed};
pub use unsealed::{Handles, Unsealed};
