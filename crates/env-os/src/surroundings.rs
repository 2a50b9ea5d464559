//! The environment of the process, as far as engines may find keys in it, and the files that it names.
//!
//! Deliberately absent: every other variable, those of the server itself among them.

use std::fs::File;
use std::io::{self, ErrorKind, Read};

use tresor_env::BoxFuture;
use tresor_env::surroundings::{FILE_BYTES_MAX, FileText, Surroundings, Unreadable};
use zeroize::Zeroizing;

/// How the names of variables begin that belong to a cloud, and not to this server.
const SHOWN: &str = "AWS_";
/// Below what files are by default.
const HOME: &str = "HOME";

/// The environment of this process.
pub struct OsSurroundings;

impl Surroundings for OsSurroundings {
    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        let is_shown = name.starts_with(SHOWN) || name == HOME;
        let value = is_shown.then(|| std::env::var(name).ok()).flatten()?;
        Some(Zeroizing::new(value)).filter(|value| !value.is_empty())
    }

    fn file(&self, path: &str) -> BoxFuture<'static, FileText> {
        let path = path.to_owned();
        Box::pin(async move { tokio::task::spawn_blocking(move || read(&path)).await.unwrap_or(Err(Unreadable)) })
    }
}

fn read(path: &str) -> FileText {
    let text = |file: File| -> io::Result<Zeroizing<String>> {
        // All of it at once: a buffer that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX + 1));
        let most = u64::try_from(FILE_BYTES_MAX + 1).unwrap_or(u64::MAX);
        file.take(most).read_to_string(&mut text)?;
        if text.len() > FILE_BYTES_MAX { Err(ErrorKind::FileTooLarge.into()) } else { Ok(text) }
    };
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(_) => Err(Unreadable),
        Ok(file) => text(file).map(Some).map_err(|_| Unreadable),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing step ends the test")]
    use super::*;

    #[tokio::test]
    async fn only_variables_that_belong_to_a_cloud_are_shown_and_files_within_a_bound() {
        assert_eq!(OsSurroundings.variable("PATH"), None, "which is there");
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        assert_eq!(OsSurroundings.file(&at("none")).await, Ok(None));
        std::fs::write(at("small"), "text").unwrap();
        assert_eq!(OsSurroundings.file(&at("small")).await.unwrap().unwrap().as_str(), "text");
        std::fs::write(at("large"), "x".repeat(FILE_BYTES_MAX + 1)).unwrap();
        std::fs::write(at("binary"), [0xff, 0xfe]).unwrap();
        for name in ["large", "binary"] {
            assert_eq!(OsSurroundings.file(&at(name)).await, Err(Unreadable), "{name}");
        }
    }
}
