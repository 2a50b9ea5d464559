//! Where the workspace is and what it consists of, asked of cargo itself, so that no list of crates is kept by hand.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The workspace of this tool.
pub struct Workspace {
    /// The folder with the workspace's manifest.
    pub root: PathBuf,
    /// Where cargo builds.
    pub target: PathBuf,
    /// The members, by name.
    pub members: Vec<Member>,
}

/// One package of the workspace.
pub struct Member {
    /// Its package name.
    pub name: String,
    /// Its folder, relative to the root.
    pub folder: PathBuf,
    /// The workspace members that it depends on.
    pub dependencies: Vec<Dependency>,
}

/// An edge to another member.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependency {
    /// The other member.
    pub name: String,
    /// Whether only tests, examples and benches have it.
    pub only_tests: bool,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    /// Text for the developer when cargo cannot be asked.
    pub fn find() -> Result<Self, String> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
        let output = cargo()
            .args(["metadata", "--format-version", "1", "--no-deps", "--manifest-path"])
            .arg(&manifest)
            .output()
            .map_err(|error| format!("cargo metadata: {error}"))?;
        if !output.status.success() {
            return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
        }
        let metadata: Value =
            serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))?;
        Self::read(&metadata).ok_or_else(|| "cargo metadata: unexpected shape".to_owned())
    }

    fn read(metadata: &Value) -> Option<Self> {
        let root = PathBuf::from(metadata.get("workspace_root")?.as_str()?);
        let target = PathBuf::from(metadata.get("target_directory")?.as_str()?);
        let packages = metadata.get("packages")?.as_array()?;
        let names: Vec<&str> = packages.iter().filter_map(|package| package.get("name")?.as_str()).collect();
        let mut members = Vec::new();
        for package in packages {
            let manifest = Path::new(package.get("manifest_path")?.as_str()?);
            let mut dependencies: Vec<Dependency> = Vec::new();
            for dependency in package.get("dependencies")?.as_array()? {
                let name = dependency.get("name")?.as_str()?;
                if names.contains(&name) && dependency.get("path").is_some_and(|path| !path.is_null()) {
                    let only_tests = dependency.get("kind")?.as_str() == Some("dev");
                    dependencies.push(Dependency { name: name.to_owned(), only_tests });
                }
            }
            dependencies.sort();
            dependencies.dedup_by(|later, earlier| later.name == earlier.name);
            members.push(Member {
                name: package.get("name")?.as_str()?.to_owned(),
                folder: manifest.parent()?.strip_prefix(&root).ok()?.to_owned(),
                dependencies,
            });
        }
        members.sort_by(|one, other| one.name.cmp(&other.name));
        Some(Self { root, target, members })
    }

    /// Reads a text file of the workspace.
    ///
    /// # Errors
    /// Text that names the file.
    pub fn read_text(&self, relative: &str) -> Result<String, String> {
        std::fs::read_to_string(self.root.join(relative)).map_err(|error| format!("{relative}: {error}"))
    }

    /// Writes a text file of the workspace.
    ///
    /// # Errors
    /// Text that names the file.
    pub fn write_text(&self, relative: &str, text: &str) -> Result<(), String> {
        let file = self.root.join(relative);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(|error| format!("{relative}: {error}"))?;
        }
        std::fs::write(file, text).map_err(|error| format!("{relative}: {error}"))
    }
}

/// The cargo that runs this tool.
#[must_use]
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
