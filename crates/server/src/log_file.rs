//! The log as a file beside standard error: which one, and when another is begun.
//!
//! One that is full or old enough gets the moment at which it was begun into its name, and the oldest of those go. A file that
//! cannot be written to is told once on standard error, which has every line in any case. Deliberately absent: waiting for
//! the disk to have what was written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the file is called where only its directory is named.
const NAME: &str = "vault.log";
/// When another is begun, unless somebody says it.
const AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFileConfig {
    /// The file, or with a slash at its end its directory; without it there is none.
    pub path: Option<PathBuf>,
    /// How long it may get.
    pub bytes_max: Option<u64>,
    /// How long it is written to; a day when absent.
    pub age_max: Option<Duration>,
    /// How many older ones stay; all when absent.
    pub keep: Option<u64>,
}

impl LogFileConfig {
    /// Its keys; flags are called so with hyphens.
    pub const KEYS: [&str; 4] = ["log_file", "log_rotate_bytes", "log_rotate_duration", "log_rotate_max_files"];

    /// Sets one of them, as in the reference: zero is no bound, and less than no file is none.
    pub(crate) fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        let number = || text.parse::<i64>().map_err(|_| format!("`{key}` must be a number"));
        match key {
            "log_file" => self.path = Some(text).filter(|path| !path.is_empty()).map(PathBuf::from),
            "log_rotate_bytes" => self.bytes_max = u64::try_from(number()?).ok().filter(|most| *most > 0),
            "log_rotate_duration" => {
                let age = tresor_wire::duration::parse_go(text);
                let age = age.ok_or_else(|| format!("`{key}` must be a duration such as \"24h\""))?;
                self.age_max = Some(age).filter(|age| !age.is_zero());
            }
            _ => {
                self.keep = match number()? {
                    0 => None,
                    files => Some(u64::try_from(files).unwrap_or(0)),
                };
            }
        }
        Ok(())
    }
}

/// The file that is written to.
pub(crate) struct LogFile {
    directory: PathBuf,
    stem: String,
    extension: String,
    config: LogFileConfig,
    open: Option<Open>,
    is_failing: bool,
}

struct Open {
    file: File,
    bytes: u64,
    began: SystemTime,
}

impl LogFile {
    /// Opens it, so that a mistake is told before the server starts.
    pub(crate) fn open(config: &LogFileConfig) -> Result<Option<Self>, String> {
        let Some(path) = &config.path else { return Ok(None) };
        let is_directory = path.as_os_str().as_encoded_bytes().ends_with(b"/") || path.is_dir();
        let path = if is_directory { path.join(NAME) } else { path.clone() };
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let mut log = Self {
            directory: directory.to_owned(),
            stem: part(path.file_stem()),
            extension: path
                .extension()
                .map_or_else(String::new, |extension| format!(".{}", extension.to_string_lossy())),
            config: config.clone(),
            open: None,
            is_failing: false,
        };
        let opened = fs::create_dir_all(&log.directory).and_then(|()| log.begin());
        opened.map_err(|error| format!("log file `{}`: {error}", path.display()))?;
        Ok(Some(log))
    }

    fn path(&self) -> PathBuf {
        self.directory.join(format!("{}{}", self.stem, self.extension))
    }

    /// Goes on in the file that has the name, or makes it.
    fn begin(&mut self) -> io::Result<()> {
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(self.path())?;
        let about = file.metadata()?;
        let began = about.created().or_else(|_| about.modified()).unwrap_or(UNIX_EPOCH);
        self.open = Some(Open { file, bytes: about.len(), began });
        Ok(())
    }

    /// Lets go of the file: the next line opens what has the name by then.
    pub(crate) fn reopen(&mut self) {
        self.open = None;
    }

    /// Writes a line; what is to be said on standard error, once.
    pub(crate) fn write(&mut self, line: &[u8], now: SystemTime) -> Option<String> {
        let written = self.try_write(line, now);
        let was_failing = std::mem::replace(&mut self.is_failing, written.is_err());
        let error = written.err().filter(|_| !was_failing)?;
        Some(format!("the log file {} cannot be written to, and lacks lines: {error}\n", self.path().display()))
    }

    fn try_write(&mut self, line: &[u8], now: SystemTime) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|open| self.is_due(open, line.len() as u64, now)) {
            self.put_aside()?;
        }
        if self.open.is_none() {
            self.begin()?;
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        open.bytes += line.len() as u64;
        open.file.write_all(line).inspect_err(|_| self.open = None)
    }

    fn is_due(&self, open: &Open, more: u64, now: SystemTime) -> bool {
        let is_full = self.config.bytes_max.is_some_and(|most| open.bytes > 0 && open.bytes + more > most);
        let age = now.duration_since(open.began).unwrap_or_default();
        is_full || (open.bytes > 0 && age >= self.config.age_max.unwrap_or(AGE_MAX))
    }

    /// Gives the file another name, and removes the oldest that there are too many of.
    fn put_aside(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let began = open.began.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let taken = self.aside()?;
        // Two may have been begun at one moment, as far as the file system tells.
        let moment = taken.last().map_or(began, |(newest, _)| began.max(newest.saturating_add(1)));
        fs::rename(self.path(), self.directory.join(format!("{}-{moment}{}", self.stem, self.extension)))?;
        if let Some(keep) = self.config.keep {
            let taken = self.aside()?;
            let too_many = taken.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
            for (_, path) in taken.into_iter().take(too_many) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// The files that were put aside, the oldest first.
    fn aside(&self) -> io::Result<Vec<(u128, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let moment = name.strip_prefix(&self.stem).and_then(|rest| rest.strip_prefix('-'));
            let moment = moment.and_then(|rest| rest.strip_suffix(&self.extension)).and_then(|text| text.parse().ok());
            found.extend(moment.map(|moment| (moment, path.clone())));
        }
        found.sort_unstable();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn texts(directory: &Path) -> Vec<String> {
        let mut names: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        // `a-N.log` before `a.log`.
        names.sort();
        names.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    #[test]
    fn a_log_file_that_is_full_or_old_is_put_aside_and_the_oldest_go() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("logs");
        let config = LogFileConfig {
            path: Some(directory.join("a.log")),
            bytes_max: Some(10),
            keep: Some(2),
            ..LogFileConfig::default()
        };
        let mut log = LogFile::open(&config).unwrap().unwrap();
        let now = SystemTime::now();
        for line in ["one\n", "two\n", "three\n", "a long line, longer than allowed\n", "five\n"] {
            assert_eq!(log.write(line.as_bytes(), now), None);
        }
        assert_eq!(texts(&directory), ["three\n", "a long line, longer than allowed\n", "five\n"]);
        // Another process goes on in it; after a day, another is begun.
        let mut log = LogFile::open(&config).unwrap().unwrap();
        log.write(b"six\n", now);
        log.write(b"7\n", now + AGE_MAX + Duration::from_secs(60));
        assert_eq!(texts(&directory), ["a long line, longer than allowed\n", "five\nsix\n", "7\n"]);
        // What others do to the name is noticed when they say so.
        fs::rename(directory.join("a.log"), directory.join("b.log")).unwrap();
        log.reopen();
        log.write(b"8\n", now);
        assert_eq!(fs::read_to_string(directory.join("a.log")).unwrap(), "8\n");
    }

    #[test]
    fn a_directory_that_is_gone_is_told_once_and_mended_by_itself() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("logs");
        let path = Some(PathBuf::from(format!("{}/", directory.display())));
        let mut log = LogFile::open(&LogFileConfig { path, ..LogFileConfig::default() }).unwrap().unwrap();
        let now = SystemTime::now();
        log.write(b"one\n", now);
        fs::remove_dir_all(&directory).unwrap();
        log.reopen();
        let told = log.write(b"two\n", now).unwrap();
        assert!(told.contains("vault.log cannot be written to"), "{told}");
        assert_eq!(log.write(b"three\n", now), None);
        fs::create_dir(&directory).unwrap();
        assert_eq!(log.write(b"four\n", now), None);
        assert_eq!(texts(&directory), ["four\n"]);
        let wrong = LogFileConfig { path: Some(PathBuf::from("/dev/null/x")), ..LogFileConfig::default() };
        assert!(LogFile::open(&wrong).err().unwrap().contains("log file `/dev/null/x`"));
    }
}
