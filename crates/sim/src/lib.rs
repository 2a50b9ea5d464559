//! The simulator: the whole server on simulated doors, driven by a seed, watched by checkers.
//!
//! One number fixes everything: what clients ask, in which order their requests go on, when the power goes, the disk
//! fails and the clock jumps. Deliberately absent: real time, threads and sockets; a failing seed fails again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

mod accidents;
mod cluster;
mod explain;
mod generate;
mod leases;
mod ledger;
mod linear;
mod model;
mod operation;
mod random;
mod records;
mod run;
mod secrets;
mod shares;
mod versions;
mod world;

pub use cluster::{PlantedInCluster, run_cluster};
pub use leases::{Planted, run_leases};
pub use run::{Failure, Outcome, Report, Sabotage, run};
pub use world::{DATA_DIRECTORY, StoreKind, World};

/// The hashes made so far: each costs a twentieth of a second, and there are few passwords.
static HASHES: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// A bcrypt hash of a password, as the server takes it; the same one each time.
///
/// # Errors
/// When bcrypt does not take the password.
pub fn password_hash(password: &str) -> Result<String, String> {
    let mut hashes = HASHES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = hashes.get(password) {
        return Ok(known.clone());
    }
    let parts = bcrypt::hash_with_salt(password, 10, [7; 16]).map_err(|error| error.to_string())?;
    let hash = parts.format_for_version(bcrypt::Version::TwoB);
    hashes.insert(password.to_owned(), hash.clone());
    Ok(hash)
}
