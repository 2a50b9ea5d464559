//! Which operations ask for `sudo`: the reference's list, as far as its paths exist here, and no other.

use tresor_core::Availability;
use tresor_engine::Access;
use tresor_harness::Harness;
use tresor_model::Operation;

#[tokio::test]
async fn the_paths_that_ask_for_sudo_are_the_references() {
    let harness = Harness::start().await;
    let mut asked = 0;
    for route in harness.node.routes() {
        let path = format!("{}{}", route.mount, route.pattern);
        let exact = [
            "sys/audit",
            "sys/leases",
            "sys/remount",
            "sys/rotate",
            "sys/rotate/keyring",
            "sys/rotate/root",
            "sys/seal",
            "sys/namespaces/{path...:trimmed}/delete-sealed",
            "sys/step-down",
            "auth/token/accessors",
            "auth/token/create-orphan",
            "auth/token/revoke-orphan",
        ];
        let below = [
            "sys/auth/",
            "sys/audit/",
            "sys/config/auditing/",
            "sys/config/cors",
            "sys/config/ui/headers",
            "sys/internal/inspect/",
            "sys/leases/lookup/",
            "sys/leases/revoke-prefix/",
            "sys/leases/revoke-force/",
            "sys/plugins/catalog/",
            "sys/internal/counters/activity/export",
            "sys/raw",
            "sys/revoke-prefix/",
            "sys/revoke-force/",
            // Ours: what the reference opens to strangers or has not at all.
            "sys/rekey/init",
            "sys/rekey/update",
            "sys/rekey/verify",
            "sys/rekey-recovery-key/",
            "sys/generate-root/",
            "sys/seal-slots",
            "sys/unmount/force/",
            "sys/leases/abandoned",
            "sys/leases/tree",
        ];
        // A listing always asks of a directory.
        let path = if route.operation == Operation::List { format!("{path}/") } else { path };
        let expected =
            exact.contains(&path.trim_end_matches('/')) || below.iter().any(|prefix| path.starts_with(prefix));
        assert_eq!(route.availability == Availability::Unsealed(Access::Sudo), expected, "{route:?}");
        asked += usize::from(expected);
    }
    assert!(asked >= 10, "{asked}");
}
