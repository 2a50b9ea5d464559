//! A module's library, of which there is one in a process whoever uses it: loaded once, begun, ended, and asked by one at a time.
//!
//! It is kept in one place for the whole process because it is one thing for the whole process: who ended it, or logged out of a token,
//! would do so for everybody. What is known of PINs is here, too, so that no other way to a token sends it what it refused.
//! Deliberately absent: waiting with a bound; whoever may have to wait asks for a turn before.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use tresor_env::Entropy;

use crate::TokenError;
use crate::pins::Pins;

/// The libraries of this process. How many there are is said by operators, in configurations.
static LIBRARIES: Mutex<BTreeMap<PathBuf, Arc<Mutex<State>>>> = Mutex::new(BTreeMap::new());

/// A library.
#[derive(Clone)]
pub struct Library {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

impl Library {
    /// The one in this file, whichever of the paths to it this is; it is loaded when it is first needed.
    #[must_use]
    pub fn of(path: &Path, entropy: &dyn Entropy) -> Self {
        let mut libraries = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
        let known = libraries.keys().find(|known| is_same(known, path));
        let path = known.cloned().unwrap_or_else(|| path.to_owned());
        let fresh = || {
            Arc::new(Mutex::new(State {
                path: path.clone(),
                loaded: None,
                is_ready: false,
                is_begun_here: false,
                pins: Pins::new(entropy),
            }))
        };
        Self { state: Arc::clone(libraries.entry(path.clone()).or_insert_with(fresh)), path }
    }

    /// What tells it from the others of this process: the first path that it was named by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whoever holds it is the one who asks.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Library {
    /// Who is the last to use it ends it; it stays loaded.
    fn drop(&mut self) {
        // One more is in the table.
        if Arc::strong_count(&self.state) == 2 {
            self.state().end();
        }
    }
}

/// Whether two paths lead to one file, of which the system loads one. It looks up bare names elsewhere.
fn is_same(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| {
        let facts = path.metadata().ok().filter(|_| path.parent() != Some(Path::new("")))?;
        Some((facts.dev(), facts.ino()))
    };
    one == other || file(one).is_some_and(|found| file(other) == Some(found))
}

/// What became of a library.
pub(crate) struct State {
    path: PathBuf,
    loaded: Option<Pkcs11>,
    is_ready: bool,
    /// Whether it was ever begun by this.
    is_begun_here: bool,
    /// Of all of its tokens, for as long as the process lives: a library that is begun anew has forgotten nothing.
    pub(crate) pins: Pins,
}

impl State {
    pub(crate) const fn is_ready(&self) -> bool {
        self.is_ready
    }

    pub(crate) fn context(&mut self) -> Result<Pkcs11, TokenError> {
        let context = match &self.loaded {
            Some(loaded) => loaded.clone(),
            None => self.loaded.insert(Pkcs11::new(&self.path)?).clone(),
        };
        if !self.is_ready {
            match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
                Ok(()) => (self.is_ready, self.is_begun_here) = (true, true),
                // It did not end when it was told to.
                Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) if self.is_begun_here => {
                    self.is_ready = true;
                }
                // It would be one library with two that take turns and remember PINs.
                Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {
                    return Err(TokenError::NoLibrary("it is in use in this process by another path".to_owned()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(context)
    }

    /// Tells the library that it is not needed any more; it stays loaded, as not all can be loaded twice.
    pub(crate) fn end(&mut self) {
        if std::mem::take(&mut self.is_ready)
            && let Some(loaded) = &self.loaded
        {
            // Whatever it says to that, it is begun anew the next time.
            drop(loaded.clone().finalize());
        }
    }
}
