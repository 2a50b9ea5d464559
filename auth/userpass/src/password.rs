//! Hashing and checking passwords, off the request's thread.

use bcrypt::Version;
use tresor_engine::Cx;
use tresor_env::tasks::{NotComputed, run_computing};
use tresor_model::{Fault, Refusal};
use tresor_secret::SecretString;

/// The cost that the reference uses.
const COST: u32 = 10;
/// bcrypt looks at no more; longer passwords are refused rather than cut.
const PASSWORD_BYTES_MAX: usize = 72;
/// A hash that no password has: checked when there is no user, so that both take as long.
const NOBODY: &str = "$2b$10$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

/// Does what keeps a core busy in its turn; when too many wait already, the caller is told to come back.
async fn compute<T: Send + 'static>(cx: &Cx<'_>, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    run_computing(cx.workers, work).await.map_err(|error| match error {
        NotComputed::Busy => Refusal::Unavailable("too many logins at once, try again".into()).into(),
        NotComputed::Panicked => Fault::internal(error),
    })
}

/// The hash of a password, to be stored.
pub(crate) async fn hash(cx: &Cx<'_>, password: SecretString) -> Result<SecretString, Fault> {
    check(password.expose()).map_err(Fault::invalid)?;
    let mut salt = [0_u8; 16];
    cx.entropy.fill(&mut salt);
    let hashed = compute(cx, move || {
        bcrypt::hash_with_salt(password.expose(), COST, salt)
            .map(|parts| SecretString::new(parts.format_for_version(Version::TwoA)))
    });
    hashed.await?.map_err(Fault::internal)
}

/// Whether bcrypt tells this password from every other.
fn check(password: &str) -> Result<(), &'static str> {
    if password.is_empty() {
        return Err("missing password");
    }
    // bcrypt repeats the password with a NUL at its end until 72 bytes are full: `a` and `a\0a` would be one password.
    if password.contains('\0') {
        return Err("password contains a NUL character");
    }
    if password.len() > PASSWORD_BYTES_MAX { Err("password length exceeds 72 bytes") } else { Ok(()) }
}

/// A hash that was made elsewhere, if logins can be checked against it: bcrypt, and of the one cost that all are
/// checked at. A hash of another cost would tell by its time that its user exists, and one of a high cost would stop
/// the server.
pub(crate) async fn accept(cx: &Cx<'_>, hash: SecretString) -> Result<SecretString, Fault> {
    let checked = compute(cx, move || is_hash(hash.expose()).then_some(hash));
    checked.await?.ok_or_else(|| Fault::invalid("'password_hash' must be a bcrypt hash of cost 10"))
}

fn is_hash(text: &str) -> bool {
    let Some((version, rest)) = text.strip_prefix('$').and_then(|rest| rest.split_once('$')) else { return false };
    let Some((cost, digest)) = rest.split_once('$') else { return false };
    matches!(version, "2a" | "2b" | "2y")
        && cost == COST.to_string()
        && digest.len() == 53
        && digest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./".contains(&byte))
        && bcrypt::verify("", text).is_ok()
}

/// Whether a password is right; without a user the same work is done for nothing.
pub(crate) async fn verify(cx: &Cx<'_>, password: SecretString, stored: Option<&SecretString>) -> Result<bool, Fault> {
    let known = stored.is_some();
    let stored = SecretString::new(stored.map_or(NOBODY, |hash| hash.expose().as_str()).to_owned());
    let checked = compute(cx, move || {
        let password = password.expose();
        let fits = check(password).is_ok();
        bcrypt::verify(password, stored.expose()).unwrap_or(false) && fits
    });
    Ok(checked.await? && known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pwd_01_the_hash_of_nobody_costs_what_every_other_costs() {
        assert!(matches!(bcrypt::verify("anything", NOBODY), Ok(false)));
        assert!(is_hash(NOBODY));
        assert_eq!(NOBODY.parse::<bcrypt::HashParts>().map(|parts| parts.get_cost()).ok(), Some(COST));
    }

    #[test]
    fn a_hash_of_another_cost_or_shape_is_none() {
        for other in [
            "",
            "$2b$10$",
            "$2b$09$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            "$2b$12$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            "$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            "$2x$10$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            "$2$10$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeWW",
            "$2b$+10$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOe",
            "$2b$10$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyO!W",
        ] {
            assert!(!is_hash(other), "{other}");
        }
    }
}
