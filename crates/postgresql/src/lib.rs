//! The way to a PostgreSQL server: its URL, TLS, and a connection over the network door.
//!
//! The engine that makes accounts goes it, and the store that lies in a table. Deliberately absent: statements, pools, and
//! what drives a connection: that is its user's.

mod connect;
mod dsn;
mod tls;

pub use connect::{Driver, NotLetIn, Way, ends_connection, hosts, reach, with_causes};
pub use dsn::{Dsn, Files, Placed, Ssl, TlsFiles};
pub use tls::{Names, Tls};
