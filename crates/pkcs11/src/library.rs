//! A module's library, of which there is one in a process whoever uses it: loaded once, begun, ended, and asked by one at a time.
//!
//! It is kept in one place for the whole process because it is one thing for the whole process: who ended it, or logged out of a token,
//! would do so for everybody. What is known of PINs is here, too, so that no other way to a token sends it what it refused.
//! Deliberately absent: waiting with a bound; whoever may have to wait asks for a turn before.

use std::collections::BTreeMap;
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
pub struct Library(Arc<Mutex<State>>);

impl Library {
    /// The one in this file; it is loaded when it is first needed.
    #[must_use]
    pub fn of(path: &Path, entropy: &dyn Entropy) -> Self {
        let mut libraries = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || {
            Arc::new(Mutex::new(State {
                path: path.to_owned(),
                loaded: None,
                is_ready: false,
                pins: Pins::new(entropy),
            }))
        };
        Self(Arc::clone(libraries.entry(path.to_owned()).or_insert_with(fresh)))
    }

    /// Whoever holds it is the one who asks.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Library {
    /// Who is the last to use it ends it; it stays loaded.
    fn drop(&mut self) {
        // One more is in the table.
        if Arc::strong_count(&self.0) == 2 {
            self.state().end();
        }
    }
}

/// What became of a library.
pub(crate) struct State {
    path: PathBuf,
    loaded: Option<Pkcs11>,
    is_ready: bool,
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
                Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => self.is_ready = true,
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
