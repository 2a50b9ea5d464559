//! The entropy door: where unpredictable bytes come from.
//!
//! Deliberately absent: an error. A machine that cannot give random bytes must not go on (DR-19), so the real
//! implementation ends the process.

/// A source of unpredictable bytes.
pub trait Entropy: Send + Sync {
    /// Fills the whole of `out`.
    fn fill(&self, out: &mut [u8]);
}
