//! Whether a token's ancestors let it live, as a pure question about names.
//!
//! A token's record names its ancestors, nearest first. What became of an ancestor is one mark: *doomed* (revoked, what
//! is below waits to be collected) or *cut* (revoked alone: what is below goes on without it). A walk from the nearest
//! ancestor ends at a cut, and fails at a doomed one. So revoking a token with a million descendants writes one mark,
//! and a check reads none of them. Deliberately absent: storage, time, and ancestors that ended by themselves (see
//! `window`).

use std::collections::BTreeMap;

use tresor_model::Timestamp;

/// The most ancestors that a token can have; deeper creation is refused.
pub const DEPTH_MAX: usize = 64;

/// What became of a revoked token that is not collected yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It took everything below with it.
    Doomed,
    /// What is below goes on without it.
    Cut,
}

/// A mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What became of the token.
    pub fate: Fate,
    /// When it was made.
    pub created: Timestamp,
    /// The token's own ancestors, nearest first.
    pub ancestors: Vec<String>,
}

/// Every mark, by the hash of its token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(BTreeMap<String, Mark>);

/// What the marks say of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No mark refuses it; the nearest so many ancestors are still its ancestors.
    Stands(usize),
    /// An ancestor was revoked.
    Doomed,
}

impl Marks {
    /// Sets or removes a mark.
    pub fn set(&mut self, hash: &str, mark: Option<Mark>) {
        match mark {
            Some(mark) => drop(self.0.insert(hash.to_owned(), mark)),
            None => drop(self.0.remove(hash)),
        }
    }

    /// The hashes of the marked tokens, in order.
    pub fn hashes(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// How many marks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the marks say of a token with these ancestors, nearest first.
    #[must_use]
    pub fn decide(&self, ancestors: &[String]) -> Verdict {
        if self.0.is_empty() {
            return Verdict::Stands(ancestors.len());
        }
        for (at, ancestor) in ancestors.iter().enumerate() {
            match self.0.get(ancestor).map(|mark| mark.fate) {
                Some(Fate::Doomed) => return Verdict::Doomed,
                Some(Fate::Cut) => return Verdict::Stands(at),
                None => {}
            }
        }
        Verdict::Stands(ancestors.len())
    }

    /// How many of the nearest of these ancestors lie below every cut: those that a count of what is below goes to.
    #[must_use]
    pub fn within_cuts(&self, ancestors: &[String]) -> usize {
        let is_cut = |ancestor: &String| self.0.get(ancestor).is_some_and(|mark| mark.fate == Fate::Cut);
        ancestors.iter().position(is_cut).unwrap_or(ancestors.len())
    }

    /// The doomed tokens that lie below no other doomed one.
    pub fn topmost_doomed(&self) -> impl Iterator<Item = &str> {
        let doomed = self.0.iter().filter(|(_, mark)| mark.fate == Fate::Doomed);
        doomed.filter(|(_, mark)| self.decide(&mark.ancestors) != Verdict::Doomed).map(|(hash, _)| hash.as_str())
    }

    /// When the oldest doomed token was made: nothing older is refused by a mark.
    #[must_use]
    pub fn oldest_doomed(&self) -> Option<Timestamp> {
        self.0.values().filter(|mark| mark.fate == Fate::Doomed).map(|mark| mark.created).min()
    }

    /// Whether a mark other than the token's own was made below it.
    #[must_use]
    pub fn any_below(&self, hash: &str) -> bool {
        self.0.values().any(|mark| mark.ancestors.iter().any(|ancestor| ancestor == hash))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    /// A tree as anybody would write it: who is whose parent, and who is dead.
    #[derive(Default)]
    struct Naive {
        parents: Vec<Option<usize>>,
        dead: Vec<bool>,
    }

    impl Naive {
        fn is_alive(&self, at: usize) -> bool {
            let mut next = Some(at);
            while let Some(at) = next {
                if self.dead[at] {
                    return false;
                }
                next = self.parents[at];
            }
            true
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Create(usize),
        Orphan,
        Revoke(usize),
        Cut(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => any::<usize>().prop_map(Step::Create),
            1 => Just(Step::Orphan),
            2 => any::<usize>().prop_map(Step::Revoke),
            2 => any::<usize>().prop_map(Step::Cut),
        ]
    }

    fn name(at: usize) -> String {
        format!("{at:04}")
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn marks_agree_with_a_naive_tree(steps in prop::collection::vec(step(), 0..120)) {
            let (mut naive, mut marks) = (Naive::default(), Marks::default());
            // What each token's record says, written once.
            let mut written: Vec<Vec<String>> = Vec::new();
            for step in steps {
                let alive: Vec<usize> = (0..naive.parents.len()).filter(|at| naive.is_alive(*at)).collect();
                let pick = |at: usize| (!alive.is_empty()).then(|| alive[at % alive.len()]);
                match step {
                    Step::Create(at) => {
                        let Some(parent) = pick(at) else { continue };
                        let Verdict::Stands(live) = marks.decide(&written[parent]) else { unreachable!() };
                        let mut ancestors = vec![name(parent)];
                        ancestors.extend(written[parent].iter().take(live).cloned());
                        written.push(ancestors);
                        naive.parents.push(Some(parent));
                        naive.dead.push(false);
                    }
                    Step::Orphan => {
                        written.push(Vec::new());
                        naive.parents.push(None);
                        naive.dead.push(false);
                    }
                    Step::Revoke(at) | Step::Cut(at) => {
                        let Some(revoked) = pick(at) else { continue };
                        let fate = if matches!(step, Step::Cut(_)) { Fate::Cut } else { Fate::Doomed };
                        marks.set(&name(revoked), Some(Mark { fate, created: Timestamp::EPOCH, ancestors: written[revoked].clone() }));
                        naive.dead[revoked] = true;
                        if fate == Fate::Cut {
                            for parent in &mut naive.parents {
                                if *parent == Some(revoked) {
                                    *parent = None;
                                }
                            }
                        }
                    }
                }
                for (at, ancestors) in written.iter().enumerate() {
                    let verdict = marks.decide(ancestors);
                    let by_marks = !naive.dead[at] && verdict != Verdict::Doomed;
                    prop_assert_eq!(by_marks, naive.is_alive(at), "token {}", at);
                    if let (false, Verdict::Stands(live)) = (naive.dead[at], verdict) {
                        let parent = ancestors.first().filter(|_| live > 0).cloned();
                        prop_assert_eq!(parent, naive.parents[at].map(name));
                    }
                }
            }
        }
    }

    #[test]
    fn only_the_topmost_doomed_count_for_what_is_below() {
        let mut marks = Marks::default();
        let doom = |ancestors: &[&str]| {
            let ancestors = ancestors.iter().map(|name| (*name).to_owned()).collect();
            Some(Mark { fate: Fate::Doomed, created: Timestamp::EPOCH, ancestors })
        };
        marks.set("c", doom(&["b", "a"]));
        marks.set("a", doom(&[]));
        marks.set("x", doom(&[]));
        assert_eq!(marks.topmost_doomed().collect::<Vec<_>>(), ["a", "x"]);
        assert!(marks.any_below("b") && !marks.any_below("x"));
    }
}
