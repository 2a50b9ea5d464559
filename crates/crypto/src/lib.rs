//! Cryptography of the barrier: sealing, hashing, key derivation, the key ring, secret sharing, random texts.
//!
//! Pure functions of their arguments; entropy comes through its door, but for what the provider draws itself
//! (signatures, and RSA keys of a session). The primitives are the one provider's
//! (`aws-lc-rs`); only sharing is our own, because it must take its randomness from the door and be constant-time.
//! Deliberately absent: storage, formats of other systems, TLS.

pub mod aead;
pub mod certificate;
pub mod ecdsa;
pub mod hash;
pub mod keyring;
pub mod public_key;
pub mod rsa;
pub mod shamir;
pub mod token_text;
pub mod websocket;
