//! Unsealing as careless operators do it, and the checker that never fewer distinct shares than the threshold open.
//!
//! Shares are entered in an order chosen by the seed, among wrong ones: repeated, foreign, too short, unreadable.
//! Deliberately absent: requests of anybody else.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::random::Random;
use crate::world::World;

/// What initialising gave out.
pub(crate) struct Shares {
    /// In hexadecimal.
    pub(crate) genuine: Vec<String>,
    pub(crate) threshold: usize,
}

impl Shares {
    /// Enters shares until the server is unsealed; every answer must be the one that the model of the seal gives, or
    /// a failure where the disk `may_fail`.
    pub(crate) async fn unseal(
        &self,
        world: &World,
        random: &mut Random,
        history: &mut Vec<String>,
        may_fail: bool,
    ) -> Result<(), String> {
        let status = world.call("GET", "sys/seal-status", "", &Value::Null).await?;
        if status.at("/sealed") == &json!(false) {
            return Ok(());
        }
        let mut entered: BTreeSet<String> = BTreeSet::new();
        let before = status.at("/progress").as_u64().unwrap_or(0);
        if before > 0 {
            let reset = world.call("POST", "sys/unseal", "", &json!({ "reset": true })).await?;
            expect(reset.status == 200 && reset.at("/progress") == &json!(0), "a reset forgets every share")?;
        }
        // Careless at first, then in earnest, so that it ends.
        for attempt in 0..200 {
            let share = if attempt < 12 { self.careless(random, &entered) } else { self.missing(random, &entered) };
            let answer = world.call("POST", "sys/unseal", "", &json!({ "key": share })).await?;
            history.push(format!("unseal {} -> {} {}", share.len(), answer.status, answer.at("/progress")));
            if answer.status >= 500 && may_fail {
                return Ok(());
            }
            let is_sealed = answer.at("/sealed") == &json!(true);
            if share.len() != self.genuine.first().map_or(0, String::len) {
                expect(answer.status == 400, "a share of the wrong length is refused")?;
                continue;
            }
            entered.insert(share);
            if entered.len() < self.threshold {
                let progress = answer.at("/progress") == &json!(entered.len());
                expect(answer.status == 200 && is_sealed && progress, "fewer shares than the threshold open nothing")?;
                continue;
            }
            let all_genuine = entered.iter().all(|share| self.genuine.contains(share));
            if all_genuine {
                return expect(answer.status == 200 && !is_sealed, "as many shares as the threshold open")
                    .map_err(|problem| format!("{problem}: {answer:?}"));
            }
            expect(answer.status == 400, "shares that are none of this seal open nothing")?;
            entered.clear();
        }
        Err("the server cannot be unsealed".to_owned())
    }

    fn careless(&self, random: &mut Random, entered: &BTreeSet<String>) -> String {
        let length = self.genuine.first().map_or(0, String::len);
        match random.below(10) {
            0 => (0..length).map(|_| char::from(b'0' + u8::try_from(random.below(10)).unwrap_or(0))).collect(),
            1 => "00ff".to_owned(),
            2 | 3 => entered.first().cloned().unwrap_or_else(|| self.missing(random, entered)),
            _ => self.missing(random, entered),
        }
    }

    fn missing(&self, random: &mut Random, entered: &BTreeSet<String>) -> String {
        let left: Vec<&String> = self.genuine.iter().filter(|share| !entered.contains(*share)).collect();
        random.pick(&left).map_or_else(String::new, |share| (*share).clone())
    }
}

fn expect(holds: bool, promise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("broken: {promise}")) }
}
