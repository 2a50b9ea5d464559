//! The simulator: the whole server on simulated doors, driven by a seed, watched by checkers.
//!
//! One number fixes everything: what clients ask, in which order their requests go on, when the power goes, the disk
//! fails and the clock jumps. Deliberately absent: real time, threads and sockets; a failing seed fails again.

mod world;

pub use world::{DATA_DIRECTORY, StoreKind, World};

/// A bcrypt hash of a password at the lowest cost, so that a simulated login costs a millisecond.
///
/// # Errors
/// When bcrypt does not take the password.
pub fn cheap_hash(password: &str) -> Result<String, String> {
    let parts = bcrypt::hash_with_salt(password, 4, [7; 16]).map_err(|error| error.to_string())?;
    Ok(parts.format_for_version(bcrypt::Version::TwoB))
}
