//! SHA-256 of the one crypto provider, with a state that can be kept and copied.
//!
//! A keyed hash (RFC 2104) starts twice from a state that depends on the key alone. The provider's own Rust face sets up
//! and tears down a context for each message, which costs more than the hash of a short text does; a listing of a thousand
//! names has a thousand of them in its audit record. Invariants: each `unsafe` block is one call of a C function that reads
//! and writes nothing but what it is handed; a state wipes itself.
//! Deliberately absent: any other function of the provider, and HMAC itself (`tresor-crypto`).
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use aws_lc_sys::{SHA256_CTX, SHA256_Final, SHA256_Init, SHA256_Update};
use zeroize::Zeroize;

/// A hash that is being made.
#[derive(Clone)]
pub struct State(SHA256_CTX);

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// The state before the first byte.
    #[must_use]
    pub fn new() -> Self {
        let mut context = MaybeUninit::<SHA256_CTX>::zeroed();
        // SAFETY: the pointer is to a whole context, which the function fills; all zeros are a context too.
        let context = unsafe {
            SHA256_Init(context.as_mut_ptr());
            context.assume_init()
        };
        Self(context)
    }

    /// Takes more of the message.
    pub fn update(&mut self, bytes: &[u8]) {
        // SAFETY: the context was initialised, and so many bytes can be read.
        unsafe {
            SHA256_Update(&raw mut self.0, bytes.as_ptr().cast(), bytes.len());
        }
    }

    /// The hash of all that was taken.
    #[must_use]
    pub fn finish(mut self) -> [u8; 32] {
        let mut digest = [0; 32];
        // SAFETY: the context was initialised, and the digest has the 32 bytes that are written.
        unsafe {
            SHA256_Final(digest.as_mut_ptr(), &raw mut self.0);
        }
        digest
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.0.h.zeroize();
        self.0.data.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn digests_agree_with_published_vectors() {
        // FIPS 180-2, appendix B: one block, two blocks, a million letters in pieces that fit no block.
        let mut state = State::new();
        state.update(b"abc");
        assert_eq!(hex(&state.finish()), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let mut state = State::new();
        state.update(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq");
        assert_eq!(hex(&state.finish()), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
        let mut state = State::new();
        (0..10_000).for_each(|_| state.update(&[b'a'; 100]));
        assert_eq!(hex(&state.finish()), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
        assert_eq!(hex(&State::new().finish()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn a_copied_state_goes_its_own_way() {
        for length in [0, 1, 55, 56, 63, 64, 65, 200] {
            let message = vec![7; length];
            let mut kept = State::new();
            kept.update(&message);
            let mut copy = kept.clone();
            copy.update(b"more");
            let mut whole = State::new();
            whole.update(&[message.as_slice(), b"more"].concat());
            assert_eq!(copy.finish(), whole.finish());
            let mut alone = State::new();
            alone.update(&message);
            assert_eq!(kept.finish(), alone.finish());
        }
    }
}
