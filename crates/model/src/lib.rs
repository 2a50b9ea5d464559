//! The vocabulary of the house: paths, operations, bodies, requests, responses, faults and ids.
//!
//! Deliberately absent: async (but for the types of what comes part by part), clocks, JSON, storage and HTTP. Everything here is a plain value that every other
//! crate may speak of.

pub mod body;
pub mod event;
pub mod fault;
pub mod ids;
pub mod operation;
pub mod origin;
pub mod path;
pub mod request;
pub mod response;
pub mod stream;
pub mod throttle;

pub use body::{Body, Map, Number, Text};
pub use event::{Audience, Ending, Event, EventMount, Message, MessageStream, Messages};
pub use fault::{Failure, Fault, Refusal};
pub use ids::{Accessor, LeaseId, MountAccessor, MountId, NamespaceId, RealmId, RequestId};
pub use operation::{Operation, Verb};
pub use origin::{Origin, Origins};
pub use path::{MountPath, Path, PathError};
pub use request::{Connection, Errand, Request, WhenBehind};
pub use response::{Auth, LeaseTerms, Response, Shape, TokenType, WrapInfo};
pub use stream::{ByteStream, Upload};
pub use throttle::{Known, Throttle};
pub use tresor_env::Timestamp;
