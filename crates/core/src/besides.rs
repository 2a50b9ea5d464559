//! What the server keeps for a mount besides its data: when its engine is called, what passwords are like, and which keys of others
//! it may use.
//!
//! Deliberately absent: state; everything is in the transaction that is handed in.

use tresor_barrier::Txn;
use tresor_engine::MountFacts;
use tresor_engine::kept::Granted;
use tresor_engine::retries::{Retries, RotationPolicy};
use tresor_engine::view::{Besides, Call};
use tresor_env::Entropy;
use tresor_model::{Fault, Timestamp};
use tresor_policy::PasswordPolicy;
use tresor_secret::SecretString;

use crate::leases::wakes;
use crate::{kept_keys, password_policies, rotations};

/// What a password is like where no policy is named.
const DEFAULT_POLICY: &str = r#"
length = 20
rule "charset" { charset = "abcdefghijklmnopqrstuvwxyz" min-chars = 1 }
rule "charset" { charset = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" min-chars = 1 }
rule "charset" { charset = "0123456789" min-chars = 1 }
rule "charset" { charset = "-" min-chars = 1 }
"#;

/// The one there is.
pub(crate) static BESIDES: Stored = Stored;

/// What is stored besides the data of mounts.
pub(crate) struct Stored;

impl Besides for Stored {
    fn wake(&self, txn: &mut Txn, mount: &MountFacts, name: &str, call: Call) -> Result<(), Fault> {
        wakes::set(txn, &mount.namespace, &mount.id, name, call)
    }

    fn wakes_at(&self, txn: &mut Txn, mount: &MountFacts, name: &str) -> Result<Option<Timestamp>, Fault> {
        wakes::at(txn, &mount.namespace, &mount.id, name)
    }

    fn rotation_policy(
        &self,
        txn: &mut Txn,
        mount: &MountFacts,
        policy: &str,
    ) -> Result<Option<RotationPolicy>, Fault> {
        Ok(rotations::POLICIES.read(txn, &mount.namespace, policy)?.map(Into::into))
    }

    fn retries(&self, txn: &mut Txn, mount: &MountFacts, name: &str) -> Result<Option<Retries>, Fault> {
        rotations::retries(txn, &mount.namespace, &mount.id, name)
    }

    fn set_retries(
        &self,
        txn: &mut Txn,
        mount: &MountFacts,
        name: &str,
        retries: Option<&Retries>,
    ) -> Result<(), Fault> {
        rotations::set_retries(txn, &mount.namespace, &mount.id, name, retries)
    }

    fn password(
        &self,
        txn: &mut Txn,
        mount: &MountFacts,
        policy: &str,
        entropy: &dyn Entropy,
    ) -> Result<SecretString, Fault> {
        let text = match policy {
            "" => DEFAULT_POLICY.to_owned(),
            name => {
                let stored = password_policies::POLICIES.read(txn, &mount.namespace, name)?;
                stored.ok_or_else(|| Fault::invalid(format!("password policy {name:?} does not exist")))?.text
            }
        };
        let policy = PasswordPolicy::parse(&text).map_err(Fault::internal)?;
        let password = policy.generate(&mut |out| entropy.fill(out)).map_err(Fault::internal)?;
        Ok(SecretString::new(password))
    }

    fn granted_key(&self, txn: &mut Txn, mount: &MountFacts, reference: &str) -> Result<Granted, Fault> {
        kept_keys::granted(txn, mount, reference)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_policy_that_nobody_wrote_is_one() {
        PasswordPolicy::parse(DEFAULT_POLICY).unwrap();
    }
}
