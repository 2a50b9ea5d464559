//! Where members may be, beside where the log says.
//!
//! Members say it of themselves, over the cluster port, where their keys prove that they are the ones; others only say so. Either
//! way a hint is no more than a place to try, and one voice has one hint about a node, so what is kept is bounded and nobody
//! crowds out the truth. Deliberately absent: time; a hint is of use until the log says something new of the node.

use std::collections::BTreeMap;

use tresor_consensus::{Contact, NodeId};

/// Who says it; members themselves are believed first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Voice {
    /// The node itself.
    Itself,
    /// Whoever answers at this address.
    At(String),
}

/// What was said of each node.
#[derive(Debug, Default)]
pub(crate) struct Hints(BTreeMap<NodeId, BTreeMap<Voice, String>>);

impl Hints {
    /// Takes a hint about a member; whether it is new.
    pub(crate) fn take(&mut self, node: NodeId, voice: Voice, address: String) -> bool {
        let of = self.0.entry(node).or_default();
        let is_new = of.get(&voice) != Some(&address);
        of.insert(voice, address);
        is_new
    }

    /// What the node said of itself.
    pub(crate) fn own(&self, node: NodeId) -> Option<&String> {
        self.0.get(&node)?.get(&Voice::Itself)
    }

    /// Where a node is to be tried: where the log says, and then elsewhere.
    pub(crate) fn places(&self, node: NodeId, logged: &str) -> Vec<String> {
        let mut places = vec![logged.to_owned()];
        for said in self.0.get(&node).into_iter().flat_map(BTreeMap::values) {
            if !places.contains(said) {
                places.push(said.clone());
            }
        }
        places
    }

    /// Forgets what was said of nodes of which the log says something new, or that are no members any more.
    pub(crate) fn settle(&mut self, before: &BTreeMap<NodeId, Contact>, now: &BTreeMap<NodeId, Contact>) {
        let address = |of: &BTreeMap<NodeId, Contact>, id: &NodeId| Some(of.get(id)?.address.clone());
        self.0.retain(|id, _| now.contains_key(id) && address(before, id) == address(now, id));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NODE: NodeId = NodeId(7);

    fn at(voice: &str) -> Voice {
        Voice::At(voice.to_owned())
    }

    fn logged(address: &str) -> BTreeMap<NodeId, Contact> {
        let contact =
            Contact { name: "n".into(), address: address.into(), api_address: String::new(), key: vec![0; 32] };
        [(NODE, contact)].into()
    }

    #[test]
    fn one_voice_has_one_hint_and_cannot_crowd_out_others() {
        let mut hints = Hints::default();
        assert!(hints.take(NODE, at("liar"), "a:1".into()));
        assert!(hints.take(NODE, Voice::Itself, "b:1".into()));
        assert!(!hints.take(NODE, Voice::Itself, "b:1".into()), "it was said before");
        for port in 2..1000 {
            assert!(hints.take(NODE, at("liar"), format!("a:{port}")));
        }
        assert_eq!(hints.places(NODE, "log:1"), ["log:1", "b:1", "a:999"]);
        assert_eq!(hints.own(NODE).unwrap(), "b:1");
        hints.take(NODE, at("other"), "log:1".into());
        assert_eq!(hints.places(NODE, "log:1").len(), 3, "nothing is tried twice");
        assert_eq!(hints.places(NodeId(8), "log:8"), ["log:8"]);
    }

    #[test]
    fn hints_are_of_use_until_the_log_says_something_new() {
        let mut hints = Hints::default();
        hints.take(NODE, Voice::Itself, "b:1".into());
        hints.settle(&logged("log:1"), &logged("log:1"));
        assert!(hints.own(NODE).is_some());
        hints.settle(&logged("log:1"), &logged("b:1"));
        assert_eq!(hints.places(NODE, "b:1"), ["b:1"]);
        hints.take(NODE, Voice::Itself, "c:1".into());
        hints.settle(&logged("b:1"), &BTreeMap::new());
        assert!(hints.own(NODE).is_none(), "it is no member any more");
    }
}
