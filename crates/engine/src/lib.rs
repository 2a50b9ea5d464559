//! The contract of secrets engines and auth methods: what they declare, what they are handed, what they answer.
//!
//! Invariants: an engine never sees a token, an HTTP status, another mount's data or the core; everything it may
//! touch arrives in a [`Cx`]. An auth method answers with a [`Login`] *claim*; only the core mints tokens.
//! Deliberately absent: any way to write outside the request's transaction; what is done at somebody else's server is planned
//! ([`outside`]).

pub mod answer;
pub mod context;
mod happened;
pub mod headers;
mod holding;
pub mod instance;
pub mod kept;
pub mod outside;
mod place;
pub mod reply;
pub mod retries;
pub mod route;
pub mod scan;
mod spelling;
pub mod token_fields;
pub mod view;

pub use answer::{Answer, AnswerFacts, Data, Found, Keys, Mirrored, Nothing, Warned};
pub use context::{Caller, Cx, Held, Machine, MountFacts, Ways};
pub use happened::Happened;
pub use headers::{HeaderUse, Headers};
pub use holding::Holding;
pub use instance::{Class, Descriptor, Engine, EngineFactory, Holder, Instance, Kind, LoginRole, Mounted};
pub use kept::{Keepers, KeptKey};
pub use outside::{Failed, Left, Outside, UnderLease};
pub use place::{AnswersIn, Place};
pub use reply::{LeaseClaim, Leased, Login, Reply, TokenTerms};
pub use route::{Access, Effect, Match, OperationFacts, Quorum, RouteFacts, Routes};
pub use view::{Point, View, Widened, is_damage, is_storage_unreachable};
