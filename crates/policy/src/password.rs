//! Password policies: how long a password is, of which characters, and how many of each kind at least.
//!
//! A password is drawn uniformly from all that the policy allows: characters from the union of all sets, and the whole
//! again when a rule is not met. A policy for which that takes too often is refused when it is written. Deliberately
//! absent: where randomness comes from, and where passwords go.

use std::collections::BTreeSet;

use tresor_hcl::{Object, Position};

/// How short and how long a password can be.
const LENGTH: std::ops::RangeInclusive<i64> = 4..=100;
/// How often a password is drawn again at most.
const DRAWS_MAX: usize = 4096;
/// How often at most while a policy is tried.
const DRAWS_TRIED: usize = 512;
/// How many passwords are made to try a policy.
const TRIALS: usize = 8;

/// A password policy.
#[derive(Debug)]
pub struct PasswordPolicy {
    length: usize,
    /// Every character of any rule, once.
    characters: Vec<char>,
    rules: Vec<AtLeast>,
}

/// How many characters there are of a set.
#[derive(Debug)]
struct AtLeast {
    set: BTreeSet<char>,
    count: usize,
}

/// Why a text is no password policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// No document.
    #[error("{0}")]
    Syntax(#[from] tresor_hcl::ParseError),
    /// A value of the wrong kind.
    #[error("{0}")]
    Wrong(#[from] tresor_hcl::AccessError),
    /// A key that password policies do not have.
    #[error("{position}: unknown key `{key}`")]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it is.
        position: Position,
    },
    /// The length is not given, or out of bounds.
    #[error("passwords must be between {} and {} characters", LENGTH.start(), LENGTH.end())]
    Length,
    /// There is no rule with characters.
    #[error("at least one `rule \"charset\"` is needed")]
    NoCharacters,
    /// A set is empty, or has characters that cannot be typed.
    #[error("{position}: `charset` must be printable characters, at least one")]
    Charset {
        /// Where it is.
        position: Position,
    },
    /// No password keeps all rules, or hardly any that is drawn does.
    #[error("unable to construct test password from provided policy: are the rules impossible?")]
    Impossible,
}

/// Fills in random bytes.
pub type Draw<'d> = &'d mut dyn FnMut(&mut [u8]);

impl PasswordPolicy {
    /// Reads a policy, without trying it.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub fn parse(text: &str) -> Result<Self, PasswordError> {
        let document = tresor_hcl::parse(text)?;
        for item in &document.items {
            if let Some(key) = item.keys.first().filter(|key| !matches!(key.name.as_str(), "length" | "rule")) {
                return Err(PasswordError::UnknownKey { key: key.name.clone(), position: key.position });
            }
        }
        let length = document.value("length").ok_or(PasswordError::Length)?.as_integer("length")?;
        let length =
            Some(length).filter(|length| LENGTH.contains(length)).and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or(PasswordError::Length)?;
        let mut rules = Vec::new();
        for block in document.labelled_blocks("rule")? {
            match block.labels.as_slice() {
                ["charset"] => rules.push(at_least(block.object, block.position)?),
                labels => {
                    let (key, position) = (labels.join(" "), block.position);
                    return Err(PasswordError::UnknownKey { key, position });
                }
            }
        }
        let characters: Vec<char> =
            rules.iter().flat_map(|rule| rule.set.iter().copied()).collect::<BTreeSet<_>>().into_iter().collect();
        if characters.is_empty() {
            return Err(PasswordError::NoCharacters);
        }
        Ok(Self { length, characters, rules })
    }

    /// Makes sure that passwords come of it.
    ///
    /// # Errors
    /// [`PasswordError::Impossible`].
    pub fn try_out(&self, draw: Draw<'_>) -> Result<(), PasswordError> {
        let every = (0..TRIALS).all(|_| self.drawn(DRAWS_TRIED, draw).is_some());
        if every { Ok(()) } else { Err(PasswordError::Impossible) }
    }

    /// A password.
    ///
    /// # Errors
    /// [`PasswordError::Impossible`], for a policy that was not tried.
    pub fn generate(&self, draw: Draw<'_>) -> Result<String, PasswordError> {
        self.drawn(DRAWS_MAX, draw).ok_or(PasswordError::Impossible)
    }

    fn drawn(&self, draws_max: usize, draw: Draw<'_>) -> Option<String> {
        let mut password = vec!['\0'; self.length];
        let found = (0..draws_max).any(|_| {
            for place in &mut password {
                *place = self.character(draw);
            }
            self.rules.iter().all(|rule| password.iter().filter(|one| rule.set.contains(one)).count() >= rule.count)
        });
        let made = found.then(|| password.iter().collect());
        password.fill('\0');
        made
    }

    /// A character, each as likely as any other: numbers that do not divide evenly are drawn again.
    fn character(&self, draw: Draw<'_>) -> char {
        let count = u32::try_from(self.characters.len()).unwrap_or(u32::MAX).max(1);
        let even = u32::MAX - u32::MAX % count;
        loop {
            let mut bytes = [0; 4];
            draw(&mut bytes);
            let number = u32::from_le_bytes(bytes);
            let place = usize::try_from(number % count).unwrap_or_default();
            if number < even
                && let Some(character) = self.characters.get(place)
            {
                return *character;
            }
        }
    }
}

fn at_least(object: &Object, position: Position) -> Result<AtLeast, PasswordError> {
    let mut rule = AtLeast { set: BTreeSet::new(), count: 0 };
    for item in &object.items {
        let Some(key) = item.keys.first() else { continue };
        match key.name.as_str() {
            "charset" => rule.set = item.value.as_string("charset")?.chars().collect(),
            "min-chars" | "min_chars" => {
                let count = item.value.as_integer("min-chars")?;
                rule.count = usize::try_from(count).map_err(|_| PasswordError::Impossible)?;
            }
            other => return Err(PasswordError::UnknownKey { key: other.to_owned(), position: key.position }),
        }
    }
    if rule.set.is_empty() || rule.set.iter().any(|one| one.is_control()) {
        return Err(PasswordError::Charset { position });
    }
    Ok(rule)
}
