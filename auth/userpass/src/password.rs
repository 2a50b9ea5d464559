//! Hashing and checking passwords, off the request's thread.

use bcrypt::Version;
use tresor_engine::Cx;
use tresor_env::tasks::run_blocking;
use tresor_model::Fault;
use tresor_secret::SecretString;

/// The cost that the reference uses.
const COST: u32 = 10;
/// bcrypt looks at no more; longer passwords are refused rather than cut.
const PASSWORD_BYTES_MAX: usize = 72;
/// A hash that no password has: checked when there is no user, so that both take as long.
const NOBODY: &str = "$2b$10$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

/// The hash of a password, to be stored.
pub(crate) async fn hash(cx: &Cx<'_>, password: SecretString) -> Result<SecretString, Fault> {
    if password.expose().is_empty() {
        return Err(Fault::invalid("missing password"));
    }
    if password.expose().len() > PASSWORD_BYTES_MAX {
        return Err(Fault::invalid("password length exceeds 72 bytes"));
    }
    let mut salt = [0_u8; 16];
    cx.entropy.fill(&mut salt);
    let hashed = run_blocking(cx.workers, move || {
        bcrypt::hash_with_salt(password.expose(), COST, salt)
            .map(|parts| SecretString::new(parts.format_for_version(Version::TwoA)))
    });
    hashed.await.map_err(Fault::internal)?.map_err(Fault::internal)
}

/// Whether a password is right; without a user the same work is done for nothing.
pub(crate) async fn verify(cx: &Cx<'_>, password: SecretString, stored: Option<&SecretString>) -> Result<bool, Fault> {
    let known = stored.is_some();
    let stored = SecretString::new(stored.map_or(NOBODY, |hash| hash.expose().as_str()).to_owned());
    let checked = run_blocking(cx.workers, move || {
        let fits = password.expose().len() <= PASSWORD_BYTES_MAX;
        bcrypt::verify(password.expose(), stored.expose()).unwrap_or(false) && fits
    });
    Ok(checked.await.map_err(Fault::internal)? && known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_nobody_is_a_hash() {
        assert!(matches!(bcrypt::verify("anything", NOBODY), Ok(false)));
    }
}
