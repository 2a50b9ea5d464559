//! What is known of the PINs of tokens, so that none is sent that brings a token nearer to locking itself without need.
//!
//! Only hashes are kept, under a key of this process: enough to know a PIN again, and never a PIN. A PIN that was refused is not sent
//! again; after a few different ones in turn no other new one is, whoever has it. The PIN that a token took last is always sent,
//! or who writes down wrong ones would shut out who has the right one. Deliberately absent: what a token counts itself, which
//! not all of them tell.

use std::collections::{BTreeMap, VecDeque};

use cryptoki::slot::TokenInfo;
use tresor_crypto::hash::HmacKey;
use tresor_env::Entropy;
use tresor_secret::ct_eq;
use zeroize::Zeroizing;

use crate::TokenError;

/// How many PINs a token may refuse in turn, without a login between them. The strictest tokens lock themselves with the third.
pub(crate) const IN_TURN_MAX: usize = 2;
/// How many of the PINs that a token refused are remembered. One that is forgotten is a new one, and counts as such.
const REMEMBERED_MAX: usize = 64;

type Hash = [u8; 32];

/// Which token, wherever it is plugged in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TokenIdentity([String; 3]);

impl TokenIdentity {
    pub(crate) fn of(token: &TokenInfo) -> Self {
        Self([token.manufacturer_id(), token.model(), token.serial_number()].map(str::to_owned))
    }
}

/// Of one token.
#[derive(Default)]
struct Known {
    /// The one that it took last, if it has taken it ever since.
    taken: Option<Hash>,
    /// Those that it did not take, the last one at the end.
    refused: VecDeque<Hash>,
    /// How many it refused since a login.
    in_turn: usize,
}

/// What is known of the PINs of the tokens of one library.
pub(crate) struct Pins {
    key: HmacKey,
    tokens: BTreeMap<TokenIdentity, Known>,
}

impl Pins {
    pub(crate) fn new(entropy: &dyn Entropy) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        entropy.fill(&mut *key);
        Self { key: HmacKey::new(&*key), tokens: BTreeMap::new() }
    }

    /// Whether the token may be sent this PIN.
    pub(crate) fn check(&self, token: &TokenIdentity, pin: &[u8]) -> Result<(), TokenError> {
        let Some(known) = self.tokens.get(token) else { return Ok(()) };
        let hash = self.key.sign(pin);
        if known.taken.is_some_and(|taken| ct_eq(&taken, &hash)) {
            return Ok(());
        }
        if known.refused.iter().any(|refused| ct_eq(refused, &hash)) {
            return Err(TokenError::RefusedBefore);
        }
        if known.in_turn >= IN_TURN_MAX { Err(TokenError::RefusedOthers) } else { Ok(()) }
    }

    /// The token took it.
    pub(crate) fn take(&mut self, token: TokenIdentity, pin: &[u8]) {
        let hash = self.key.sign(pin);
        let known = self.tokens.entry(token).or_default();
        known.taken = Some(hash);
        known.in_turn = 0;
    }

    /// The token did not take it.
    pub(crate) fn refuse(&mut self, token: TokenIdentity, pin: &[u8]) {
        let hash = self.key.sign(pin);
        let known = self.tokens.entry(token).or_default();
        known.taken.take_if(|taken| ct_eq(&*taken, &hash));
        if known.refused.len() >= REMEMBERED_MAX {
            known.refused.pop_front();
        }
        known.refused.push_back(hash);
        known.in_turn = known.in_turn.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tresor_env::doubles::SeededEntropy;

    use super::*;

    fn token(serial: &str) -> TokenIdentity {
        TokenIdentity(["maker", "model", serial].map(str::to_owned))
    }

    #[test]
    fn two_refused_pins_in_turn_are_the_last_new_ones_until_the_known_one_logs_in() {
        let mut pins = Pins::new(&SeededEntropy::new(1));
        let one = || token("1");
        pins.take(one(), b"right");
        pins.refuse(one(), b"a");
        assert_eq!(pins.check(&one(), b"b"), Ok(()));
        pins.refuse(one(), b"b");
        for pin in [&b"a"[..], b"b"] {
            assert_eq!(pins.check(&one(), pin), Err(TokenError::RefusedBefore));
        }
        assert_eq!(pins.check(&one(), b"c"), Err(TokenError::RefusedOthers));
        assert_eq!(pins.check(&token("2"), b"c"), Ok(()), "another token");
        assert_eq!(pins.check(&one(), b"right"), Ok(()), "nobody shuts out who has the right one");
        pins.take(one(), b"right");
        assert_eq!(pins.check(&one(), b"c"), Ok(()));
        assert_eq!(pins.check(&one(), b"a"), Err(TokenError::RefusedBefore));
    }

    #[test]
    fn a_pin_that_was_taken_once_is_not_known_any_more_when_it_is_refused() {
        let mut pins = Pins::new(&SeededEntropy::new(1));
        pins.take(token("1"), b"old");
        pins.refuse(token("1"), b"old");
        assert_eq!(pins.check(&token("1"), b"old"), Err(TokenError::RefusedBefore));
        pins.take(token("1"), b"new");
        assert_eq!(pins.check(&token("1"), b"old"), Err(TokenError::RefusedBefore));
        assert_eq!(pins.check(&token("1"), b"new"), Ok(()));
    }

    #[test]
    fn only_so_many_refused_pins_are_remembered() {
        let mut pins = Pins::new(&SeededEntropy::new(1));
        for number in 0..=REMEMBERED_MAX {
            pins.refuse(token("1"), format!("{number}").as_bytes());
            pins.take(token("1"), b"right");
        }
        assert_eq!(pins.tokens[&token("1")].refused.len(), REMEMBERED_MAX);
        assert_eq!(pins.check(&token("1"), b"0"), Ok(()));
        assert_eq!(pins.check(&token("1"), b"1"), Err(TokenError::RefusedBefore));
    }
}
