//! What a listener keeps from those who need no token: the fields that would tell them which release runs, in which cluster,
//! and where its nodes are, come empty.
//!
//! It is about the answers that need no token in every state of the node (TIM-05). Deliberately absent: answers that a token
//! is needed for.

use tresor_model::Shape;
use tresor_model::request::Withheld;

const OF_ADDRESSES: [&str; 2] = ["leader_address", "leader_cluster_address"];
const OF_THE_CLUSTER: [&str; 2] = ["cluster_name", "cluster_id"];
const OF_THE_VERSION: [&str; 3] = ["version", "build_date", "commit_date"];

/// Empties the fields that are withheld.
pub(super) fn withhold(withheld: Withheld, shape: &mut Shape) {
    let (Shape::Flat(report) | Shape::Health { report, .. }) = shape else { return };
    let kinds = [
        (withheld.addresses, &OF_ADDRESSES[..]),
        (withheld.cluster, &OF_THE_CLUSTER[..]),
        (withheld.version, &OF_THE_VERSION[..]),
    ];
    for name in kinds.into_iter().filter(|(is_withheld, _)| *is_withheld).flat_map(|(_, names)| names) {
        if report.text(name).is_some() {
            report.insert(*name, "");
        }
    }
}
