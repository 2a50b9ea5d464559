//! Random bytes of the kernel.

use rustix::rand::{GetRandomFlags, getrandom};
use tresor_env::Entropy;

/// The kernel's generator.
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, out: &mut [u8]) {
        let mut rest = out;
        while !rest.is_empty() {
            match getrandom(&mut *rest, GetRandomFlags::empty()) {
                Ok(count) => rest = rest.get_mut(count..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                // Going on without randomness would be worse than not going on (DR-19).
                Err(_) => std::process::abort(),
            }
        }
    }
}
