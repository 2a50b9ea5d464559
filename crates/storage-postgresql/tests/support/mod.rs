//! A store on a server of this machine, and waiting for what comes by itself.
#![allow(dead_code, reason = "each test program uses a part")]

use std::sync::Arc;
use std::time::Duration;

use tresor_env::{BoxFuture, Clock, Doors, Timestamp};
use tresor_postgresql::{Dsn, Files, Names, Placed, Tls, Way};
use tresor_services::postgres::{ROOT, ROOT_PASSWORD};
use tresor_storage::Store;
use tresor_storage::suite::key;
use tresor_storage_postgresql::{Settings, Table};

/// A clock that runs ten times as fast, so that waiting for a server that hangs takes little.
struct Hasty(tresor_env_os::OsClock);

impl Clock for Hasty {
    fn wall(&self) -> Timestamp {
        self.0.wall()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic() * 10
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(duration / 10)
    }
}

pub(crate) fn doors() -> Doors {
    tresor_env_os::doors()
}

pub(crate) fn hasty() -> Doors {
    Doors { clock: Arc::new(Hasty(tresor_env_os::OsClock::new())), ..doors() }
}

const NAMES: Names = Names { authority: "sslrootcert", certificate: "sslcert", key: "sslkey" };

pub(crate) fn settings_of(url: &str, table: &str) -> Settings {
    let placed = Placed { username: "", password: None, is_raw: true, files: Files::OfTls };
    let dsn = Dsn::parse(url, &placed).unwrap();
    let tls = Tls::new(dsn.ssl, NAMES, None, None, None).unwrap();
    Settings {
        way: Way { dsn, tls },
        table: Table::parse(table).unwrap(),
        parallel_max: 16,
        connections: 2,
        makes_tables: true,
        connect_retries: Some(0),
        lock: None,
    }
}

pub(crate) fn url(port: u16, user: &str, password: &str) -> String {
    format!("postgresql://{user}:{password}@127.0.0.1:{port}/postgres?sslmode=disable")
}

pub(crate) fn settings(port: u16, table: &str) -> Settings {
    settings_of(&url(port, ROOT, ROOT_PASSWORD), table)
}

pub(crate) fn read(store: &dyn Store, name: &str) -> Option<Vec<u8>> {
    store.snapshot().unwrap().read(&key(name)).unwrap().map(|stored| stored.bytes)
}

/// Asks until there is an answer, for a minute at most.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1200 {
        if let Some(found) = ask() {
            return found;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    panic!("{what} did not come")
}
