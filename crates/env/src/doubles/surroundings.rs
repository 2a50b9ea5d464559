//! Surroundings in memory: a test says what is there.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

use crate::BoxFuture;
use crate::surroundings::{FileText, Surroundings};

/// Surroundings without anything, until a test puts something there.
#[derive(Default)]
pub struct FakeSurroundings {
    variables: Mutex<BTreeMap<String, String>>,
    files: Mutex<BTreeMap<String, String>>,
}

impl FakeSurroundings {
    /// From now on the environment is this.
    pub fn set_variables(&self, variables: &[(&str, &str)]) {
        *self.variables.lock().unwrap_or_else(PoisonError::into_inner) = owned(variables);
    }

    /// From now on there are these files.
    pub fn set_files(&self, files: &[(&str, &str)]) {
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = owned(files);
    }
}

fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl Surroundings for FakeSurroundings {
    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        let variables = self.variables.lock().unwrap_or_else(PoisonError::into_inner);
        variables.get(name).filter(|value| !value.is_empty()).cloned().map(Zeroizing::new)
    }

    fn file(&self, path: &str) -> BoxFuture<'static, FileText> {
        let text = self.files.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        Box::pin(async move { Ok(text.map(Zeroizing::new)) })
    }
}
