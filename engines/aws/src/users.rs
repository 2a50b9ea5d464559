//! Users that are made with what they may, and taken apart again.
//!
//! Keys are made last and go first. Deliberately absent: undoing what a failed act began; the recipe of its lease does.

use std::collections::BTreeMap;

use tresor_engine::outside::Failed;
use tresor_sigv4::Keys;

use crate::iam::{Iam, OTHERS, USUAL};
use crate::query::AwsError;

/// A user to make.
pub(crate) struct NewUser {
    pub(crate) name: String,
    pub(crate) path: String,
    /// The ARN of a policy that bounds it; empty: none.
    pub(crate) boundary: String,
    pub(crate) tags: BTreeMap<String, String>,
    /// Managed policies, by ARN.
    pub(crate) arns: Vec<String>,
    /// An inline policy and how it is called; empty: none.
    pub(crate) document: String,
    pub(crate) document_name: String,
    pub(crate) groups: Vec<String>,
}

/// Makes a user with all that it may, and a key for it.
pub(crate) async fn make(iam: &Iam, user: &NewUser) -> Result<Keys, Failed> {
    let tags = user.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let made = iam.create_user(&user.name, &user.path, &user.boundary, tags).await;
    made.map_err(|error| error.ends_act(false))?;
    furnish(iam, user).await.map_err(|error| error.ends_act(true))
}

async fn furnish(iam: &Iam, user: &NewUser) -> Result<Keys, AwsError> {
    for arn in &user.arns {
        iam.attach_policy(&user.name, arn).await?;
    }
    if !user.document.is_empty() {
        iam.put_policy(&user.name, &user.document_name, &user.document).await?;
    }
    for group in &user.groups {
        iam.add_to_group(&user.name, group).await?;
    }
    iam.create_key(&user.name).await
}

/// What became of a user that was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    /// It went.
    Now,
    /// AWS knows no such user: it went before, or is so new that not every part of AWS knows it.
    Before,
}

/// Takes a user apart.
pub(crate) async fn remove(iam: &Iam, name: &str) -> Result<Removed, AwsError> {
    for belonging in USUAL {
        match iam.strip(name, belonging).await {
            Err(error) if error.is_absence() => return Ok(Removed::Before),
            other => other?,
        }
    }
    match iam.delete_user(name).await {
        // It has something that no user has when it is made.
        Err(error) if error.has_code("DeleteConflict") => {}
        other => return other.map(|()| Removed::Now),
    }
    iam.delete_login(name).await?;
    for belonging in OTHERS {
        iam.strip(name, belonging).await?;
    }
    iam.delete_user(name).await.map(|()| Removed::Now)
}
