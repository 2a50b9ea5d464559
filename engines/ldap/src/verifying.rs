//! Trying a password that somebody says an account has, before it is shown to anybody.
//!
//! The directory is asked outside of any transaction; what is to be stored then is refused if the account was changed
//! meanwhile. Deliberately absent: giving an account a password, which is `rotating`'s.

use tresor_engine::outside::{Failed, Outside};
use tresor_engine::{Cx, Nothing, View};
use tresor_model::{Fault, Timestamp};
use tresor_secret::SecretString;

use crate::account::{Account, key};
use crate::config::Config;
use crate::directory::told;
use crate::secrets::copy;

/// Plans to log in as an account with the password that it is to have, and to store then.
pub(crate) fn plan(
    cx: &mut Cx<'_>,
    config: &Config,
    account: &Account,
    password: &SecretString,
    then: impl Fn(&mut View<'_>, Timestamp) -> Result<(), Fault> + Send + Sync + 'static,
) -> Result<Outside<Nothing>, Fault> {
    let directory = config.directory(cx.net, cx.clock, cx.now)?;
    let key = key(&account.user);
    let before = cx.view.read(&key)?;
    let (user, name, password) = (account.user.clone(), account.name.clone(), copy(password));
    let is_self_managed = config.is_self_managed;
    let act = async move {
        let context = format!("the password of {user:?} could not be verified");
        let failed = |error| Failed::nothing_done(told(&context, &error, &[&password]));
        let entry = if is_self_managed {
            // It may not be allowed to look at itself.
            name
        } else {
            let mut connection = directory.open().await.map_err(failed)?;
            directory.find(&mut connection, &name, &user).await.map_err(failed)?
        };
        if directory.is_password(&entry, &password).await.map_err(failed)? {
            return Ok(());
        }
        Err(Failed::nothing_done(Fault::invalid(format!(
            "the password is not that of {user:?}: the directory refuses it"
        ))))
    };
    Ok(Outside::new("", act, move |view, now, (): &()| {
        if view.read(&key)?.as_deref() != before.as_deref() {
            return Err(Fault::invalid("the account was changed or rotated meanwhile: write it again"));
        }
        then(view, now).map(|()| Nothing)
    }))
}
