//! Random bytes of the kernel, drawn in larger portions by each thread: a request needs a few dozen at a time, and a call
//! of the kernel for each costs more than the bytes.
//!
//! Invariants: no byte is given out twice, and none stays in the portion after it was given out. Deliberately absent:
//! forking without starting anew, which would copy a portion; nothing here does that.

use std::cell::RefCell;

use rustix::rand::{GetRandomFlags, getrandom};
use tresor_env::Entropy;

/// How many bytes a thread draws at once.
const PORTION_BYTES: usize = 512;
/// What is larger is drawn by itself.
const SMALL_BYTES: usize = 64;

/// The kernel's generator.
pub struct OsEntropy;

/// What a thread has drawn and not yet given out: the last `left` bytes.
struct Portion {
    bytes: [u8; PORTION_BYTES],
    left: usize,
}

thread_local! {
    static PORTION: RefCell<Portion> = const { RefCell::new(Portion { bytes: [0; PORTION_BYTES], left: 0 }) };
}

impl Entropy for OsEntropy {
    fn fill(&self, out: &mut [u8]) {
        if out.len() > SMALL_BYTES {
            return draw(out);
        }
        // While a thread ends, its portion may be gone already.
        let given = PORTION.try_with(|portion| portion.borrow_mut().give(out));
        if given.is_err() {
            draw(out);
        }
    }
}

impl Portion {
    fn give(&mut self, out: &mut [u8]) {
        if self.left < out.len() {
            draw(&mut self.bytes);
            self.left = PORTION_BYTES;
        }
        let start = PORTION_BYTES - self.left;
        for (target, source) in out.iter_mut().zip(self.bytes.iter_mut().skip(start)) {
            *target = std::mem::take(source);
        }
        self.left -= out.len();
    }
}

fn draw(out: &mut [u8]) {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nothing_is_given_out_twice_by_any_thread() {
        let draw_many = || {
            let mut seen = BTreeSet::new();
            for length in (8..=SMALL_BYTES + 1).cycle().take(2000) {
                let mut bytes = vec![0; length];
                OsEntropy.fill(&mut bytes);
                seen.insert(bytes.iter().take(8).copied().collect::<Vec<_>>());
            }
            seen
        };
        let threads: Vec<_> = (0..3).map(|_| std::thread::spawn(draw_many)).collect();
        let mut all = BTreeSet::new();
        for thread in threads {
            all.extend(thread.join().unwrap_or_default());
        }
        assert_eq!(all.len(), 3 * 2000);
    }

    #[test]
    fn what_was_given_out_is_wiped() {
        let mut portion = Portion { bytes: [0; PORTION_BYTES], left: 0 };
        let mut out = [0; 40];
        for _ in 0..3 {
            portion.give(&mut out);
        }
        assert!(portion.bytes.iter().take(120).all(|byte| *byte == 0));
        assert!(portion.bytes.iter().skip(120).any(|byte| *byte != 0));
        assert_eq!(portion.left, PORTION_BYTES - 120);
    }
}
