//! The segment trie against the awkward route patterns of the API, of engines that are still to come: optional parts,
//! trailing slashes, literals beside parameters, parameters beside rests, and parameters in a row.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use tresor_engine::Routes;

/// One table of patterns, and the paths that must lead to them (`None`: nowhere).
#[track_caller]
fn check(patterns: &[&'static str], paths: &[(&str, Option<&str>)]) {
    let mut routes = Routes::<()>::new();
    for pattern in patterns {
        routes = routes.at(pattern, "").done();
    }
    for (path, expected) in paths {
        let found = routes.find(path).and_then(|found| routes.route(found.route)).map(|facts| facts.pattern);
        assert_eq!(found, *expected, "{path}");
    }
}

#[test]
fn certificates_their_issuers_and_the_many_ways_to_fetch_them() {
    check(
        &[
            "ca",
            "ca/pem",
            "ca_chain",
            "cert/ca",
            "cert/ca_chain",
            "cert/crl",
            "cert/{serial}",
            "cert/{serial}/raw",
            "cert/{serial}/raw/pem",
            "certs",
            "certs/revoked",
            "crl",
            "crl/pem",
            "issuer/{issuer_ref}",
            "issuer/{issuer_ref}/der",
            "issuer/{issuer_ref}/issue/{role}",
            "issuer/{issuer_ref}/acme/directory",
            "issuer/{issuer_ref}/roles/{role}/acme/new-order",
            "issuers",
            "issuers/generate/intermediate/{exported}",
            "root",
            "root/generate/{exported}",
            "roles",
            "roles/{name}",
            "ocsp",
            "ocsp/{req...}",
        ],
        &[
            ("ca", Some("ca")),
            ("ca/pem", Some("ca/pem")),
            ("cert/ca", Some("cert/ca")),
            ("cert/17:67:16", Some("cert/{serial}")),
            ("cert/17:67:16/raw/pem", Some("cert/{serial}/raw/pem")),
            ("certs/", Some("certs")),
            ("certs/revoked", Some("certs/revoked")),
            ("issuer/default", Some("issuer/{issuer_ref}")),
            ("issuer/default/issue/web", Some("issuer/{issuer_ref}/issue/{role}")),
            ("issuer/default/roles/web/acme/new-order", Some("issuer/{issuer_ref}/roles/{role}/acme/new-order")),
            ("issuer/default/nothing", None),
            ("issuers/", Some("issuers")),
            ("issuers/generate/intermediate/internal", Some("issuers/generate/intermediate/{exported}")),
            ("roles/", Some("roles")),
            ("roles/web", Some("roles/{name}")),
            ("ocsp/MFIwUDBOMEwwSjAJ/BgUrDg==", Some("ocsp/{req...}")),
        ],
    );
}

#[test]
fn optional_last_parts_are_rows_of_their_own() {
    // The reference writes `sign/:name(/:algorithm)` as one pattern with an optional group.
    check(
        &[
            "keys",
            "keys/{name}",
            "keys/{name}/config",
            "keys/{name}/rotate",
            "export/{type}/{name}",
            "export/{type}/{name}/{version}",
            "sign/{name}",
            "sign/{name}/{urlalgorithm}",
            "random",
            // `random(/:source)?(/:urlbytes)?`: the first part is either, and the handler tells which.
            "random/{source_or_bytes}",
            "random/{source_or_bytes}/{urlbytes}",
        ],
        &[
            ("keys/", Some("keys")),
            ("keys/orders/config", Some("keys/{name}/config")),
            ("export/encryption-key/orders", Some("export/{type}/{name}")),
            ("export/encryption-key/orders/latest", Some("export/{type}/{name}/{version}")),
            ("sign/orders", Some("sign/{name}")),
            ("sign/orders/sha2-256", Some("sign/{name}/{urlalgorithm}")),
            ("sign/orders/sha2-256/more", None),
            ("random/32", Some("random/{source_or_bytes}")),
            ("random/platform/32", Some("random/{source_or_bytes}/{urlbytes}")),
        ],
    );
}

#[test]
fn leases_and_mounts_have_paths_inside_their_paths() {
    check(
        &[
            "leases/lookup",
            "leases/lookup/{prefix...}",
            "leases/revoke",
            "leases/revoke/{url_lease_id...}",
            "leases/revoke-prefix/{prefix...}",
            "leases/tidy",
            "mounts",
            "mounts/{path...}",
            "mounts/{path...}/tune",
            "plugins/catalog",
            "plugins/catalog/{type}",
            "plugins/catalog/{type}/{name}",
            "raw",
            "raw/{path...}",
            "internal/counters/activity",
            "internal/ui/mounts",
            "internal/ui/mounts/{path...}",
            "quotas/rate-limit",
            "quotas/rate-limit/{name}",
        ],
        &[
            ("leases/lookup", Some("leases/lookup")),
            ("leases/lookup/database/creds/", Some("leases/lookup/{prefix...}")),
            ("leases/revoke/database/creds/app/2f6a", Some("leases/revoke/{url_lease_id...}")),
            ("leases/revoke-prefix/database", Some("leases/revoke-prefix/{prefix...}")),
            ("leases/tidy", Some("leases/tidy")),
            ("leases/nothing", None),
            ("mounts/", Some("mounts")),
            ("mounts/team/kv", Some("mounts/{path...}")),
            ("mounts/team/kv/", Some("mounts/{path...}")),
            ("mounts/team/kv/tune", Some("mounts/{path...}/tune")),
            ("mounts/team/kv/tune/", Some("mounts/{path...}/tune")),
            ("plugins/catalog/secret/kv", Some("plugins/catalog/{type}/{name}")),
            ("raw/", Some("raw")),
            ("raw/core/mounts", Some("raw/{path...}")),
            ("quotas/rate-limit/", Some("quotas/rate-limit")),
        ],
    );
}

#[test]
fn identities_are_found_in_four_ways() {
    check(
        &[
            "entity",
            "entity/id",
            "entity/id/{id}",
            "entity/name",
            "entity/name/{name}",
            "entity/merge",
            "oidc/provider/{name}/.well-known/openid-configuration",
            "oidc/provider/{name}/authorize",
            "oidc/.well-known/keys",
            "lookup/entity",
        ],
        &[
            ("entity", Some("entity")),
            ("entity/id/", Some("entity/id")),
            ("entity/id/07f1", Some("entity/id/{id}")),
            ("entity/name/ann", Some("entity/name/{name}")),
            ("entity/merge", Some("entity/merge")),
            (
                "oidc/provider/p/.well-known/openid-configuration",
                Some("oidc/provider/{name}/.well-known/openid-configuration"),
            ),
            ("oidc/.well-known/keys", Some("oidc/.well-known/keys")),
            ("entity/other/x", None),
        ],
    );
}

#[test]
#[should_panic(expected = "is defined twice")]
fn a_pattern_that_is_there_already_is_refused_when_the_table_is_built() {
    check(&["roles/{name}", "roles/{name}"], &[]);
}

#[test]
#[should_panic(expected = "is called `name` elsewhere")]
fn one_place_has_one_parameter() {
    check(&["roles/{name}", "roles/{role}/id"], &[]);
}
