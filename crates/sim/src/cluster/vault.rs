//! A namespace with a seal of its own that is sealed now and then, and opened by whoever holds its shares.
//!
//! One of the secrets lies in it. From the answer to a seal on nobody is shown it, at any node, until enough shares may have been
//! entered; and what was acknowledged in it is there when it is opened, whoever leads by then. Deliberately absent: what the
//! secret was, which is looked at with all others.

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::ROOT;

use super::clients::Ask;
use super::{LAST_WAIT, Life, PlantedInCluster};

/// Its name.
pub(super) const NAME: &str = "vault";
/// How many shares there are, and all of them are needed.
pub(super) const SHARES: usize = 2;

/// When a share was entered, and when that was answered.
#[derive(Clone, Copy)]
struct Entered {
    share: usize,
    started: u64,
    ended: Option<u64>,
}

/// What is known of the namespace.
#[derive(Default)]
pub(super) struct Vault {
    pub(super) shares: Vec<String>,
    entered: Vec<Entered>,
    /// When it was sealed: from when on, and since when that is answered.
    sealed: Vec<(u64, u64)>,
}

impl Vault {
    pub(super) fn begin_to_enter(&mut self, share: usize, started: u64) {
        self.entered.push(Entered { share, started, ended: None });
    }

    pub(super) fn has_entered(&mut self, share: usize, started: u64, ended: u64) {
        let entered = self.entered.iter_mut().find(|entered| (entered.share, entered.started) == (share, started));
        if let Some(entered) = entered {
            entered.ended = Some(ended);
        }
    }

    pub(super) fn was_sealed(&mut self, started: u64, ended: u64) {
        self.sealed.push((started, ended));
    }

    /// Something in it was shown or done between these; text when it was sealed all the while.
    pub(super) fn served(&self, started: u64, ended: u64, planted: PlantedInCluster) -> Result<(), String> {
        let may_be_open = |sealed: u64| {
            let may_count = |share: usize| {
                self.entered.iter().any(|entered| {
                    let comes_after = entered.ended.is_none_or(|ended| ended >= sealed);
                    entered.share == share && entered.started < ended && comes_after
                })
            };
            planted != PlantedInCluster::OpenedByNobody && (0..SHARES).all(may_count)
        };
        match self.sealed.iter().find(|(sealed, answered)| *answered < started && !may_be_open(*sealed)) {
            Some(_) => Err("a sealed namespace was served".to_owned()),
            None => Ok(()),
        }
    }
}

impl Life {
    /// Makes it, opens it, and mounts what is in it.
    pub(super) async fn make_vault(&mut self) {
        let seal = format!("seal \"shamir\" {{ shares = {SHARES} threshold = {SHARES} }}");
        let made = self.world.prepare(0, "POST", &format!("sys/namespaces/{NAME}"), json!({ "seal": seal })).await;
        self.vault.shares = (0..SHARES).map(|share| made.text_at(&format!("/data/key_shares/{share}"))).collect();
        self.open_vault().await;
        self.world.prepare(0, "POST", &format!("{NAME}/sys/mounts/kv"), json!({ "type": "kv-v2" })).await;
    }

    /// Enters shares until it is open; nothing else happens meanwhile.
    pub(super) async fn open_vault(&mut self) {
        let until = self.world.now() + LAST_WAIT;
        while self.world.now() < until {
            for share in 0..SHARES {
                // Whatever comes of it is learnt.
                drop(self.ask(0, Ask::Unseal { share }).await);
            }
            let path = format!("sys/namespaces/{NAME}/seal-status");
            let standing = self.world.call(0, "GET", &path, ROOT, Value::Null).await;
            if standing.at("/data/sealed") == false {
                return;
            }
            self.world.pass(Duration::from_millis(100)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_served_when_all_shares_may_have_been_entered_since() {
        let served = |vault: &Vault, started, ended| vault.served(started, ended, PlantedInCluster::Nothing).is_ok();
        let mut vault = Vault::default();
        vault.begin_to_enter(0, 1);
        vault.has_entered(0, 1, 2);
        assert!(served(&vault, 3, 4));
        vault.was_sealed(5, 8);
        // What began before the answer may have been before the seal.
        assert!(served(&vault, 7, 12) && !served(&vault, 9, 12));
        vault.begin_to_enter(1, 10);
        assert!(!served(&vault, 9, 12), "the other share was entered before");
        vault.begin_to_enter(0, 11);
        assert!(served(&vault, 9, 12) && !served(&vault, 9, 11));
    }
}
