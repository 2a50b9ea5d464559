//! FZ-11: an unseal share as an operator enters it, and what shares are combined to. Total; either spelling gives the
//! same bytes; shares that were never split together open nothing.

use tresor_barrier::{Progress, SealFacts, ShareCollector};
use tresor_crypto::shamir::combine;
use tresor_env::doubles::SeededEntropy;
use tresor_secret::{SecretString, UnsealShare};
use tresor_system::parse_share;

pub(crate) const WORDS: &[&str] = &[
    "0",
    "00",
    "ff",
    "FF",
    "zz",
    "=",
    "==",
    " ",
    "\n",
    "AAAA",
    "AQID/+==",
    "-_",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0101",
    "é",
];

/// A share as text, and shares as bytes.
pub fn share(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(share) = parse_share(&SecretString::new(text.to_owned()))
    {
        let again = parse_share(&SecretString::new(hex::encode(share.expose()))).expect("hex is a spelling");
        assert_eq!(again.expose(), share.expose(), "one share, two meanings");
        enter(share);
    }
    let pieces: Vec<UnsealShare> = bytes.chunks(33).map(|piece| UnsealShare::new(piece.to_vec())).collect();
    if let Ok(secret) = combine(&pieces) {
        assert!(!secret.expose().is_empty());
    }
    pieces.into_iter().for_each(enter);
}

fn enter(share: UnsealShare) {
    let entropy = SeededEntropy::new(1);
    for (shares, threshold) in [(1, 1), (3, 2)] {
        let facts = SealFacts { initialized: true, shares, threshold, without_people: Vec::new() };
        let length = if shares == 1 { 32 } else { 33 };
        let mut collector = ShareCollector::default();
        let copy = UnsealShare::new(share.expose().to_vec());
        let first = collector.submit(copy, &facts, &entropy);
        assert_eq!(first.is_ok(), share.expose().len() == length, "a share of the wrong length");
        if let Ok(Progress::Collecting { progress, .. }) = first {
            assert_eq!(progress, 1);
            let repeated = collector.submit(UnsealShare::new(share.expose().to_vec()), &facts, &entropy);
            assert!(matches!(repeated, Ok(Progress::Collecting { progress: 1, .. })), "a repeated share counts");
        }
    }
}
