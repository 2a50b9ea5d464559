//! What becomes of leases that could not be taken back, as time goes by.

use std::time::Duration;

use serde_json::json;
use tresor_core::Settings;
use tresor_harness::{Harness, ROOT, assembly};

use crate::bank_lease::{count, fail_as, lease, lookup};

#[tokio::test]
async fn an_irrevocable_lease_is_forgotten_only_where_and_when_the_operator_said_so() {
    const KEPT: Duration = Duration::from_secs(48 * 3600);
    for kept in [None, Some(KEPT)] {
        let harness = Harness::start_with(Settings { irrevocable_kept: kept, ..assembly::settings() }).await;
        harness.prepare("POST", "sys/mounts/made", json!({ "type": "leasing" })).await;
        let id = lease(&harness, ROOT, "?ttl=1h").await;
        fail_as(&harness, "refuse").await;
        drop(harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": id })).await.expect_status(204));
        for _ in 0..20 {
            harness.advance(Duration::from_secs(400)).await;
        }
        assert_eq!(count(&harness, "irrevocable").await, 1);
        harness.advance(KEPT - Duration::from_secs(3 * 3600)).await;
        harness.advance(Duration::from_secs(1)).await;
        assert_eq!(count(&harness, "irrevocable").await, 1, "{kept:?}: too early");
        harness.advance(Duration::from_secs(3 * 3600)).await;
        for _ in 0..3 {
            harness.advance(Duration::from_secs(1)).await;
        }
        let left = u64::from(kept.is_none());
        assert_eq!(count(&harness, "irrevocable").await, left, "{kept:?}");
        assert_eq!(lookup(&harness, &id).await.status == 200, kept.is_none());
        let abandoned = harness.read("sys/leases/abandoned", ROOT).await;
        let reported = abandoned.json.to_string().contains(&id);
        assert_eq!(reported, kept.is_some(), "{abandoned:?}");
    }
}
