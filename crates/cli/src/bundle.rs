//! Several files as one `.tar.gz`, or in a directory; readable by their owner alone.
//!
//! Deliberately absent: reading them, and names longer than an old header takes.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;

const BLOCK: usize = 512;

/// Files in the making.
pub(crate) enum Bundle {
    Archive { folder: String, out: Box<GzEncoder<File>> },
    Directory(PathBuf),
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

impl Bundle {
    /// Begins one; nothing may be there yet.
    pub(crate) fn create(path: &Path, is_compressed: bool) -> io::Result<Self> {
        if !is_compressed {
            DirBuilder::new().mode(0o700).create(path)?;
            return Ok(Self::Directory(path.to_path_buf()));
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let folder = name.trim_end_matches(".tar.gz").to_owned();
        Ok(Self::Archive { folder, out: Box::new(GzEncoder::new(create(path)?, Compression::default())) })
    }

    /// Adds a file.
    pub(crate) fn add(&mut self, name: &Path, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Directory(directory) => create(&directory.join(name))?.write_all(bytes),
            Self::Archive { folder, out } => {
                out.write_all(&header(&format!("{folder}/{}", name.display()), bytes.len())?)?;
                out.write_all(bytes)?;
                let rest = bytes.len().next_multiple_of(BLOCK) - bytes.len();
                out.write_all(&vec![0; rest])
            }
        }
    }

    /// Ends it.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::Directory(_) => Ok(()),
            Self::Archive { mut out, .. } => {
                out.write_all(&[0; 2 * BLOCK])?;
                out.finish()?.sync_all()
            }
        }
    }
}

/// The header of a plain file, in the form that every `tar` reads.
fn header(name: &str, length: usize) -> io::Result<[u8; BLOCK]> {
    let mut header = [0_u8; BLOCK];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut put = |at: usize, bytes: &[u8], room: usize| match header.get_mut(at..at + bytes.len()) {
        Some(place) if bytes.len() <= room => {
            place.copy_from_slice(bytes);
            Ok(())
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "a name or file is too long for an archive")),
    };
    put(0, name.as_bytes(), 100)?;
    put(100, b"0000600\0", 8)?;
    put(108, b"0000000\0", 8)?;
    put(116, b"0000000\0", 8)?;
    put(124, format!("{length:011o}\0").as_bytes(), 12)?;
    put(136, format!("{now:011o}\0").as_bytes(), 12)?;
    put(148, b"        ", 8)?;
    put(156, b"0", 1)?;
    put(257, b"ustar\x0000", 8)?;
    let sum: u32 = header.iter().copied().map(u32::from).sum();
    if let Some(place) = header.get_mut(148..156) {
        place.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    Ok(header)
}
