//! A node's key: Ed25519, made at the first start, in a file of mode 0600 in the data directory.
//!
//! It says who a node is and opens no data, which is why it may lie there in the clear: the one exception to "no secret
//! on an unencrypted disk". Deliberately absent: replacing it; a node with another key is another node.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs;
use rustls::crypto::aws_lc_rs::sign::any_eddsa_type;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::SigningKey;
use tresor_env::disk::Open;
use tresor_env::{Disk, Entropy};
use zeroize::Zeroizing;

/// The key's file.
const FILE: &str = "node.key";
/// What it is written to first.
const FILE_IN_THE_MAKING: &str = "node.key.new";

const MAGIC: &[u8; 4] = b"TRNK";
const VERSION: u8 = 1;
const SEED_BYTES: usize = 32;
/// Magic, version, the seed, and the public key that follows from it: any change of a bit shows.
const FILE_BYTES: usize = 4 + 1 + SEED_BYTES + PublicKey::BYTES;

/// An Ed25519 seed as PKCS #8 begins (RFC 8410, section 7).
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// An Ed25519 key as a SubjectPublicKeyInfo begins (RFC 8410, section 4).
const SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The public half of a node's key: what others pin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; Self::BYTES]);

impl PublicKey {
    /// How long it is.
    pub const BYTES: usize = 32;

    /// Takes the bytes of a key; whether anybody has its private half shows in the handshake.
    #[must_use]
    pub const fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Whether a statement is signed by whoever has the private half.
    #[must_use]
    pub fn verifies(&self, statement: &[u8], signature: &[u8]) -> bool {
        let known = aws_lc_rs::default_provider().signature_verification_algorithms.mapping;
        let ours = known.iter().filter(|(scheme, _)| *scheme == SignatureScheme::ED25519);
        ours.flat_map(|(_, algorithms)| algorithms.iter())
            .any(|algorithm| algorithm.verify_signature(&self.0, statement, signature).is_ok())
    }

    /// The key in a certificate, when it is of our kind.
    pub(crate) fn of_spki(spki: &[u8]) -> Option<Self> {
        Some(Self(spki.strip_prefix(&SPKI_HEAD)?.try_into().ok()?))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum NodeKeyError {
    /// The disk's.
    #[error("the node's key `{}`: {error}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        error: io::Error,
    },
    /// Somebody else may read it: it is not secret any more.
    #[error(
        "the node's key `{}` has mode {mode:04o} and may be read by others: remove the node from the cluster if they \
         have, or set the mode to 0600",
        path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is not what was written.
    #[error("the node's key `{}` is damaged: restore the file, or remove the node from the cluster and let it join anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A newer release wrote it.
    #[error("the node's key `{}` has format {version}, which this release does not know", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What it says of itself.
        version: u8,
    },
}

/// A node's key; signs, and shows its public half.
pub struct NodeKey {
    signer: Arc<dyn SigningKey>,
    public: PublicKey,
}

impl NodeKey {
    /// The key in `directory`, made now when there is none; durable when this returns.
    ///
    /// # Errors
    /// [`NodeKeyError`], naming the file.
    pub fn open(disk: &dyn Disk, directory: &Path, entropy: &dyn Entropy) -> Result<Self, NodeKeyError> {
        let path = directory.join(FILE);
        let failed = |error| NodeKeyError::Disk { path: path.clone(), error };
        match disk.open(&path, Open::Existing) {
            Ok(file) => {
                match file.mode() {
                    Ok(mode) if mode & 0o077 != 0 => return Err(NodeKeyError::TooOpen { path, mode }),
                    Err(error) if error.kind() != io::ErrorKind::Unsupported => return Err(failed(error)),
                    _ => {}
                }
                let damaged = || NodeKeyError::Damaged { path: path.clone() };
                if file.length().map_err(failed)? != FILE_BYTES as u64 {
                    return Err(damaged());
                }
                let mut bytes = Zeroizing::new([0; FILE_BYTES]);
                file.read_exact_at(0, &mut *bytes).map_err(failed)?;
                Self::read(&*bytes, &path)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(disk, directory, entropy),
            Err(error) => Err(failed(error)),
        }
    }

    /// A key for the life of a process, which is written nowhere; `None` when the provider fails.
    #[must_use]
    pub fn draw(entropy: &dyn Entropy) -> Option<Self> {
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        entropy.fill(&mut *seed);
        Self::of_seed(&*seed)
    }

    fn read(bytes: &[u8], path: &Path) -> Result<Self, NodeKeyError> {
        let damaged = || NodeKeyError::Damaged { path: path.to_owned() };
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
        let (version, rest) = rest.split_first().ok_or_else(damaged)?;
        if *version != VERSION {
            return Err(NodeKeyError::UnknownFormat { path: path.to_owned(), version: *version });
        }
        let (seed, public) = rest.split_at_checked(SEED_BYTES).ok_or_else(damaged)?;
        let key = Self::of_seed(seed).ok_or_else(damaged)?;
        if key.public.0 == public { Ok(key) } else { Err(damaged()) }
    }

    /// Written beside its place and renamed, so that a crash leaves all of it or nothing.
    fn make(disk: &dyn Disk, directory: &Path, entropy: &dyn Entropy) -> Result<Self, NodeKeyError> {
        let (path, new) = (directory.join(FILE), directory.join(FILE_IN_THE_MAKING));
        let failed = |error| NodeKeyError::Disk { path: path.clone(), error };
        match disk.remove(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        entropy.fill(&mut *seed);
        let key = Self::of_seed(&*seed).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES));
        for part in [&MAGIC[..], &[VERSION], &*seed, &key.public.0] {
            bytes.extend_from_slice(part);
        }
        let written = || {
            let file = disk.open(&new, Open::New)?;
            file.write_all_at(0, &bytes)?;
            file.sync()?;
            disk.rename(&new, &path)?;
            disk.sync_directory(directory)
        };
        written().map_err(failed)?;
        Ok(key)
    }

    fn of_seed(seed: &[u8]) -> Option<Self> {
        let mut pkcs8 = Zeroizing::new(Vec::with_capacity(PKCS8_HEAD.len() + SEED_BYTES));
        pkcs8.extend_from_slice(&PKCS8_HEAD);
        pkcs8.extend_from_slice(seed);
        let signer = any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_slice())).ok()?;
        let public = PublicKey::of_spki(&signer.public_key()?)?;
        Some(Self { signer, public })
    }

    /// What others pin.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs a statement, which begins with what it is, so that it is taken for nothing else; `None` when the provider fails.
    #[must_use]
    pub fn sign(&self, statement: &[u8]) -> Option<Vec<u8>> {
        self.signer.choose_scheme(&[SignatureScheme::ED25519])?.sign(statement).ok()
    }

    pub(crate) fn signer(&self) -> Arc<dyn SigningKey> {
        Arc::clone(&self.signer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use tresor_env::doubles::{MemoryDisk, SeededEntropy};

    use super::*;

    const HOME: &str = "/data";

    fn open(disk: &MemoryDisk, seed: u64) -> Result<NodeKey, NodeKeyError> {
        NodeKey::open(disk, Path::new(HOME), &SeededEntropy::new(seed))
    }

    fn contents(disk: &MemoryDisk) -> Vec<u8> {
        let file = disk.open(&Path::new(HOME).join(FILE), Open::Existing).unwrap();
        let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
        file.read_exact_at(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_statement_is_verified_by_the_key_that_signed_it_alone() {
        let [one, other] = [1, 2].map(|seed| open(&MemoryDisk::new(), seed).unwrap());
        let signature = one.sign(b"so it is").unwrap();
        assert!(one.public().verifies(b"so it is", &signature));
        assert!(
            !one.public().verifies(b"so it is not", &signature) && !other.public().verifies(b"so it is", &signature)
        );
        for byte in 0..signature.len() {
            let mut wrong = signature.clone();
            wrong[byte] ^= 1;
            assert!(!one.public().verifies(b"so it is", &wrong), "byte {byte}");
        }
        assert!(!one.public().verifies(b"so it is", &[]));
    }

    #[test]
    fn a_node_keeps_its_key_and_another_has_another() {
        let disk = MemoryDisk::new();
        let made = open(&disk, 1).unwrap().public();
        assert_eq!(open(&disk, 2).unwrap().public(), made);
        assert_ne!(open(&MemoryDisk::new(), 2).unwrap().public(), made);
    }

    #[test]
    fn a_key_that_was_shown_survives_a_crash_at_any_step_and_a_half_made_one_is_none() {
        for step in 0.. {
            let disk = MemoryDisk::new();
            disk.fail_from_step(Some(step));
            let shown = open(&disk, 1).map(|key| key.public());
            let finished = shown.is_ok();
            disk.fail_from_step(None);
            disk.crash(|length| length / 2);
            let after = open(&disk, 2).unwrap().public();
            if let Ok(shown) = shown {
                assert_eq!(after, shown, "step {step}");
            }
            if finished {
                return;
            }
        }
    }

    #[test]
    fn a_key_with_any_byte_changed_or_cut_is_refused_by_name() {
        let disk = MemoryDisk::new();
        open(&disk, 1).unwrap();
        let sound = contents(&disk);
        let file = disk.open(&Path::new(HOME).join(FILE), Open::OrCreate).unwrap();
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x10;
            file.write_all_at(0, &bytes).unwrap();
            let error = open(&disk, 1).err().unwrap();
            let expected = if at == 4 { "has format 17" } else { "is damaged" };
            let text = error.to_string();
            assert!(text.contains(expected) && text.contains("/data/node.key"), "{at}: {text}");
        }
        file.write_all_at(0, &sound).unwrap();
        for length in 0..sound.len() {
            file.set_length(length as u64).unwrap();
            assert!(matches!(open(&disk, 1), Err(NodeKeyError::Damaged { .. })), "{length}");
        }
    }
}
