//! Events in a cluster: the node that leads tells, and whoever listens follows it.
#![allow(clippy::panic, reason = "a failing step ends the test")]

use futures_util::FutureExt;
use serde_json::json;
use tresor_harness::{ROOT, assembly};
use tresor_model::{Ending, Fault, Message, Refusal, map};

use super::pair::Pair;

#[tokio::test]
async fn a_node_that_stands_by_sends_listeners_to_the_leader_and_their_streams_end_with_its_term() {
    let pair = Pair::start().await;
    drop(pair.leader.call("POST", "sys/mounts/kv", ROOT, json!({ "type": "kv" })).await.expect_status(204));
    let as_json = || map! { "json" => "true" };
    let sent = assembly::listen(&pair.standby.node, "", "kv-v1/*", as_json(), ROOT).await.err();
    let Some(Fault::Refusal(Refusal::Redirect(leader))) = sent else { panic!("{sent:?}") };
    assert_eq!(leader, "https://node0.example:8200/");

    let mut listening = assembly::listen(&pair.leader.node, "", "kv-v1/*", as_json(), ROOT).await.unwrap();
    // What is written through the other node is told by this one.
    drop(pair.standby.call("POST", "kv/a", ROOT, json!({ "k": "v" })).await.expect_status(204));
    assert!(matches!(listening.next().now_or_never(), Some(Message::Text(text)) if text.contains("\"path\":\"kv/a\"")));

    pair.group.let_lead(Some(1));
    pair.standby.pass(1).await;
    pair.leader.pass(1).await;
    assert_eq!(listening.next().now_or_never(), Some(Message::End(Ending::GoesAway)));
    let mut again = assembly::listen(&pair.standby.node, "", "kv-v1/*", as_json(), ROOT).await.unwrap();
    drop(pair.standby.call("DELETE", "kv/a", ROOT, json!(null)).await.expect_status(204));
    assert!(matches!(again.next().now_or_never(), Some(Message::Text(text)) if text.contains("kv-v1/delete")));
}
