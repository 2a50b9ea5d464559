//! Servers of others, started for tests and measurements: each in a directory of its own, on a free port, as an ordinary user
//! where it wants that, and ended when it is dropped.
//!
//! A module per server; `xtask` installs what brings them. What is called a fake is one: such a server is not to be had here. Deliberately absent: skipping. Who starts one that is not there
//! is told so, and fails.

pub mod between;
mod certificates;
pub mod clouds;
mod fake;
pub mod influxdb;
pub mod mariadb;
pub mod moto;
pub mod oracle;
pub mod pebble;
pub mod posing;
pub mod postgres;
mod process;
pub mod pykmip;
pub mod python;
pub mod rabbitmq;
pub mod redis;
pub mod slapd;
pub mod softhsm;
mod talk;
pub mod transit;

pub use between::Between;
pub use certificates::{Authority, Shown};
pub use clouds::FakeAliCloudKms;
pub use influxdb::InfluxDb;
pub use mariadb::MariaDb;
pub use moto::Moto;
pub use oracle::FakeOciKms;
pub use pebble::Pebble;
pub use posing::{Flaw, Posing};
pub use postgres::Postgres;
pub use process::free_port;
pub use pykmip::PyKmip;
pub use rabbitmq::RabbitMq;
pub use redis::Redis;
pub use slapd::Slapd;
pub use softhsm::SoftHsm;
pub use transit::FakeTransit;
