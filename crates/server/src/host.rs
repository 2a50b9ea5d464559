//! What the kernel shows of the machine: processors and their times, memory, a disk; by the names that clients know.
//!
//! Read when somebody asks. Deliberately absent: what needs more rights than the server has, and disks other than the one in use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tresor_model::{Body, Map, Number, map};

/// How many of the kernel's ticks are a second: on every Linux, whatever the kernel's own are.
const TICKS: u64 = 100;

/// A file of `name: value` lines; empty where there is none.
pub(crate) fn lines(path: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

/// A value such as `123 kB`.
pub(crate) fn kilobytes(lines: &BTreeMap<String, String>, name: &str) -> u64 {
    lines.get(name).and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// The machine and its kernel.
pub(crate) fn host() -> Map {
    let name = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let system = rustix::system::sysinfo();
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let began = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok()).unwrap_or(0);
    let release = release(&std::fs::read_to_string("/etc/os-release").unwrap_or_default());
    let named = |key: &str, otherwise: &str| release.get(key).cloned().unwrap_or_else(|| otherwise.to_owned());
    map! {
        "hostname" => text(name.nodename()),
        "os" => std::env::consts::OS,
        "platform" => named("ID", std::env::consts::OS),
        "platformFamily" => named("ID_LIKE", ""),
        "platformVersion" => named("VERSION_ID", ""),
        "kernelVersion" => text(name.release()),
        "kernelArch" => text(name.machine()),
        "bootTime" => began,
        "uptime" => u64::try_from(system.uptime).unwrap_or(0),
        "procs" => u64::from(system.procs),
    }
}

/// What a distribution says of itself, by `NAME=value` lines.
fn release(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().trim_matches('"').to_owned())).collect()
}

/// Memory, in bytes.
pub(crate) fn memory() -> Map {
    let lines = lines("/proc/meminfo");
    let bytes = |name: &str| kilobytes(&lines, name).saturating_mul(1024);
    let (total, available) = (bytes("MemTotal"), bytes("MemAvailable"));
    let used = total.saturating_sub(available);
    map! {
        "total" => total,
        "available" => available,
        "used" => used,
        "usedPercent" => percent(used, total),
        "free" => bytes("MemFree"),
        "active" => bytes("Active"),
        "inactive" => bytes("Inactive"),
        "buffers" => bytes("Buffers"),
        "cached" => bytes("Cached"),
        "dirty" => bytes("Dirty"),
        "shared" => bytes("Shmem"),
        "slab" => bytes("Slab"),
        "mapped" => bytes("Mapped"),
        "swaptotal" => bytes("SwapTotal"),
        "swapfree" => bytes("SwapFree"),
    }
}

/// One entry for each processor: its number and what it is.
pub(crate) fn processors() -> Vec<Body> {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |block: &str, name: &str| {
        let mut pairs = block.lines().filter_map(|line| line.split_once(':'));
        pairs.find(|(known, _)| known.trim() == name).map(|(_, value)| value.trim().to_owned())
    };
    let shown = |block: &str| {
        let number: u64 = value(block, "processor")?.parse().ok()?;
        let named = |name: &str| value(block, name).unwrap_or_default();
        let flags: Vec<String> = named("flags").split_whitespace().map(str::to_owned).collect();
        Some(Body::from(map! {
            "cpu" => number,
            "modelName" => named("model name"),
            "vendorId" => named("vendor_id"),
            "family" => named("cpu family"),
            "model" => named("model"),
            "stepping" => named("stepping").parse::<u64>().unwrap_or(0),
            "coreId" => named("core id"),
            "physicalId" => named("physical id"),
            "mhz" => Number::parse(&named("cpu MHz")).map_or(Body::Null, Body::Number),
            "microcode" => named("microcode"),
            "flags" => flags,
        }))
    };
    text.split("\n\n").filter_map(shown).collect()
}

/// One entry for each processor: how many seconds it has spent on what since the machine began.
pub(crate) fn times() -> Vec<Body> {
    times_of(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
}

fn times_of(text: &str) -> Vec<Body> {
    const NAMES: [&str; 10] =
        ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guestNice"];
    let shown = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next().filter(|name| name.strip_prefix("cpu").is_some_and(|number| !number.is_empty()))?;
        let mut entry = Map::new().with("cpu", name);
        for (name, ticks) in NAMES.iter().zip(words.chain(std::iter::repeat("0"))) {
            entry.insert(*name, hundredths(ticks.parse::<u64>().unwrap_or(0).saturating_mul(100) / TICKS));
        }
        Some(Body::from(entry))
    };
    text.lines().filter_map(shown).collect()
}

/// A number of hundredths.
fn hundredths(number: u64) -> Body {
    Number::parse(&format!("{}.{:02}", number / 100, number % 100)).map_or(Body::Null, Body::Number)
}

fn percent(part: u64, whole: u64) -> Body {
    hundredths(part.saturating_mul(10_000).checked_div(whole).unwrap_or(0))
}

/// The disk that a directory lies on.
pub(crate) fn disk(path: PathBuf) -> Option<Body> {
    let space = rustix::fs::statvfs(&path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
    let used = bytes(space.f_blocks.saturating_sub(space.f_bfree));
    let free = bytes(space.f_bavail);
    let used_inodes = space.f_files.saturating_sub(space.f_ffree);
    Some(Body::from(map! {
        "path" => path.display().to_string(),
        "fstype" => kind(&path),
        "total" => bytes(space.f_blocks),
        "free" => free,
        "used" => used,
        "usedPercent" => percent(used, used.saturating_add(free)),
        "inodesTotal" => space.f_files,
        "inodesUsed" => used_inodes,
        "inodesFree" => space.f_ffree,
        "inodesUsedPercent" => percent(used_inodes, space.f_files),
    }))
}

/// The kind of file system that a directory lies on; empty where nobody says it.
fn kind(path: &Path) -> String {
    let whole = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let at = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        whole.starts_with(place).then(|| (place.len(), kind.to_owned()))
    };
    // Of two at one place, the later one is seen.
    mounts.lines().filter_map(at).max_by_key(|(length, _)| *length).map(|(_, kind)| kind).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_machine_is_looked_at() {
        let host = host();
        assert!(!host.text("kernelVersion").unwrap().is_empty());
        assert!(host.get("bootTime").unwrap().as_i64().unwrap() > 1_000_000_000);
        assert!(memory().get("total").unwrap().as_i64().unwrap() > 0 && !processors().is_empty());
        assert_eq!(times().len(), processors().len());
        let root = disk(PathBuf::from("/")).unwrap();
        assert!(!root.as_map().unwrap().text("fstype").unwrap().is_empty());
        assert!(disk(PathBuf::from("/nowhere/at/all")).is_none());
    }

    #[test]
    fn times_are_seconds_of_each_processor() {
        let times = times_of("cpu  300 0 0 0\ncpu0 150 20 7 1234 5 0 1 0 0 0\ncpu1 150 0\nintr 1\n");
        assert_eq!(times.len(), 2);
        let first = times[0].as_map().unwrap();
        let shown = |name: &str| {
            let mut bytes = Vec::new();
            tresor_wire::json::encode(first.get(name).unwrap(), &mut bytes);
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(
            (first.text("cpu"), shown("user").as_str(), shown("idle").as_str()),
            (Some("cpu0"), "1.50", "12.34")
        );
        assert_eq!((shown("system").as_str(), shown("guestNice").as_str()), ("0.07", "0.00"));
    }

    #[test]
    fn a_distribution_says_what_it_is_with_or_without_quotes() {
        let known = release("ID=debian\nVERSION_ID=\"13\"\n# nothing\n");
        assert_eq!((known["ID"].as_str(), known["VERSION_ID"].as_str()), ("debian", "13"));
    }
}
