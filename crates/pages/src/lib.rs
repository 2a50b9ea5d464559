//! Gives the program's own code back to the kernel until it is run again.
//!
//! What a program runs once at its start stays in its memory for good, sixteen pages around each that was needed. It is all in
//! the program's file, and most likely in the kernel's cache: whatever of it is needed again is mapped again within a
//! microsecond. Invariants: nothing is given back that was ever written to, and nothing but what the loader mapped of this
//! program's file, which stays where it is as long as the process lives. Deliberately absent: when that is worth its while
//! (`tresor-server`), libraries, and memory of any other kind.
#![allow(unsafe_code)]

use std::{fs, io};

use rustix::mm::{Advice, madvise, munlock};

/// Gives back what is mapped of the program's code and constants, locked or not, and says how many bytes that were. From then on
/// none of it is locked in memory: it is nothing secret, and what lies in a file is never swapped.
///
/// # Errors
/// The kernel's. What it refuses stays as it was.
pub fn give_back() -> io::Result<usize> {
    let mut given = 0;
    for mapping in of_the_program(&fs::read_to_string("/proc/self/smaps")?) {
        let start = std::ptr::with_exposed_provenance_mut(mapping.start);
        // SAFETY: these are whole pages of one mapping; that they may leave memory changes nothing in them.
        unsafe { munlock(start, mapping.bytes)? };
        // SAFETY: the mapping is the loader's, so it is there for good, and cannot be written to; no page of it was ever
        // written to. Whoever reads it next is given the same bytes of the same file.
        unsafe { madvise(start, mapping.bytes, Advice::LinuxDontNeed)? };
        given += mapping.resident;
    }
    Ok(given)
}

/// Pages that lie side by side.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: usize,
    bytes: usize,
    /// How many bytes of it are in memory.
    resident: usize,
}

/// One mapping as the kernel tells it: its line, and what is counted of it.
struct Told<'t> {
    start: usize,
    end: usize,
    rights: &'t str,
    /// The file's device and inode.
    file: [&'t str; 2],
    resident: usize,
    /// Bytes that are the process's own, since it wrote to them.
    own: Option<usize>,
}

/// What of `smaps` (proc_pid_smaps(5)) is this program's file, cannot be written to and never was.
fn of_the_program(smaps: &str) -> Vec<Mapping> {
    let mut all: Vec<Told<'_>> = Vec::new();
    for line in smaps.lines() {
        if let Some(told) = begin(line) {
            all.push(told);
        } else if let Some(told) = all.last_mut() {
            match line.split_once(':') {
                Some(("Rss", count)) => told.resident = kib(count).unwrap_or_default(),
                Some(("Anonymous", count)) => told.own = kib(count),
                _ => {}
            }
        }
    }
    let here = begin as *const () as usize;
    let Some(file) = all.iter().find(|told| (told.start..told.end).contains(&here)).map(|told| told.file) else {
        return Vec::new();
    };
    let of_file = all.into_iter().filter(|told| told.file == file && told.file != ["00:00", "0"]);
    of_file
        .filter(|told| told.rights.starts_with('r') && !told.rights.contains('w') && told.rights.ends_with('p'))
        .filter(|told| told.own == Some(0) && told.resident > 0)
        .map(|told| Mapping { start: told.start, bytes: told.end - told.start, resident: told.resident })
        .collect()
}

/// The line that a mapping begins with: `start-end rights offset device inode path`.
fn begin(line: &str) -> Option<Told<'_>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let rights = words.next()?;
    let file = [words.nth(1)?, words.next()?];
    (start < end).then_some(Told { start, end, rights, file, resident: 0, own: None })
}

/// `   12 kB`, in bytes.
fn kib(count: &str) -> Option<usize> {
    count.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Long enough that it has pages of its own.
    static CONSTANT: [u8; 1 << 20] = [7; 1 << 20];

    fn sum() -> u64 {
        std::hint::black_box(&CONSTANT).iter().map(|byte| u64::from(*byte)).sum()
    }

    fn resident() -> usize {
        let smaps = fs::read_to_string("/proc/self/smaps").expect("there");
        of_the_program(&smaps).iter().map(|mapping| mapping.resident).sum()
    }

    #[test]
    fn what_was_given_back_is_read_and_run_as_before() {
        assert_eq!(sum(), 7 << 20);
        let had = resident();
        assert!(had >= CONSTANT.len(), "the constant was read: {had}");
        let given = give_back().expect("given back");
        assert!(given >= CONSTANT.len(), "{given} bytes");
        let left = resident();
        assert!(left + CONSTANT.len() <= had, "{left} bytes are left of {had}");
        assert_eq!(sum(), 7 << 20);
        assert!(resident() >= left + CONSTANT.len());
    }

    #[test]
    fn what_was_written_to_or_can_be_or_is_another_files_stays() {
        let here = begin as *const () as usize & !0xfff;
        let (low, high) = (here - 0x1000, here + 0x1000);
        let smaps = format!(
            "{low:x}-{here:x} r--p 00000000 fe:00 77 /bin/program\nRss: 4 kB\nAnonymous: 0 kB\n\
             {here:x}-{high:x} r-xp 00001000 fe:00 77 /bin/program\nSize: 4 kB\nRss: 4 kB\nAnonymous: 0 kB\n\
             {high:x}-{:x} r--p 00002000 fe:00 77 /bin/program\nRss: 4 kB\nAnonymous: 4 kB\n\
             {:x}-{:x} rw-p 00003000 fe:00 77 /bin/program\nRss: 4 kB\nAnonymous: 0 kB\n\
             {:x}-{:x} r-xp 00000000 fe:00 78 /lib/other\nRss: 4 kB\nAnonymous: 0 kB\n\
             {:x}-{:x} r--p 00000000 fe:00 77 /bin/program\nRss: 4 kB\n",
            high + 0x1000,
            high + 0x1000,
            high + 0x2000,
            high + 0x2000,
            high + 0x3000,
            high + 0x3000,
            high + 0x4000,
        );
        let whole = |start| Mapping { start, bytes: 0x1000, resident: 4096 };
        assert_eq!(of_the_program(&smaps), [whole(low), whole(here)]);
        assert_eq!(of_the_program("nothing of a mapping\n"), []);
        assert_eq!(of_the_program("1000-2000 r-xp 00000000 fe:00 77 /bin/elsewhere\nRss: 4 kB\nAnonymous: 0 kB\n"), []);
    }
}
