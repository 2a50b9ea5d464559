//! Servers of others that pose as somebody: whoever asks them over HTTPS tells them nothing. Tests of the security bank are named by
//! their row.
//!
//! Deliberately absent: directories and database servers, whose TLS is tested with their clients.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tresor_core::cluster::Alone;
use tresor_env::doubles::TestDoors;
use tresor_env::outgoing::{Ask, Outgoing, OutgoingAnswer, OutgoingError, OutgoingRequest, Trust};
use tresor_harness::{Harness, ROOT, assembly};
use tresor_server::Https;
use tresor_services::{Flaw, Posing};

const FLAWS: [Flaw; 3] = [Flaw::SelfSigned, Flaw::OtherName, Flaw::Expired];

async fn asked(way: &dyn Outgoing, server: &Posing) -> Result<OutgoingAnswer, OutgoingError> {
    let headers = vec![("authorization".into(), "canary".to_owned().into())];
    let time_max = Duration::from_secs(20);
    let url = format!("{}/some/secret", server.url());
    way.ask(OutgoingRequest { ask: Ask::Get, url, headers, time_max, body_bytes_max: 1000 }).await
}

#[tokio::test]
async fn tls_01_who_poses_as_a_server_of_others_is_told_nothing() {
    let trusting = |server: &Posing| {
        let authorities = Some(server.authority().to_owned().into());
        Https::default().trusting(&Trust { authorities, ..Trust::default() }).unwrap()
    };
    let right = Posing::start(Flaw::None).unwrap();
    assert_eq!(asked(&*trusting(&right), &right).await.unwrap().status, 200);
    let heard = right.told();
    assert_ne!(heard, 0);
    // The machine's own authorities do not know who vouches for it.
    assert!(matches!(asked(&Https::default(), &right).await, Err(OutgoingError::Unreached(_))));
    assert_eq!(right.told(), heard);
    for flaw in FLAWS {
        let server = Posing::start(flaw).unwrap();
        let why = match asked(&*trusting(&server), &server).await {
            Err(OutgoingError::Unreached(why)) => why,
            other => panic!("{flaw:?}: {:?}", other.map(|answer| answer.status)),
        };
        assert!(why.contains("certificate") && !why.contains("some/secret"), "{flaw:?}: {why}");
        assert_eq!(server.told(), 0, "{flaw:?}");
        // Whoever is told to take anybody does.
        let anybody = Https::default().trusting(&Trust { anybody: true, ..Trust::default() }).unwrap();
        assert_eq!(asked(&*anybody, &server).await.unwrap().status, 200, "{flaw:?}");
    }
}

#[tokio::test]
async fn tls_01_aws_and_rabbitmq_tell_nothing_to_who_poses_as_them() {
    let mut doors = TestDoors::new(1);
    doors.doors.outgoing = Arc::new(Https::default());
    let mut harness = Harness::uninitialized_in(Arc::new(Alone::default()), doors, assembly::settings());
    harness.initialize().await;
    harness.prepare("POST", "sys/mounts/aws", json!({ "type": "aws" })).await;
    harness.prepare("POST", "sys/mounts/mq", json!({ "type": "rabbitmq" })).await;
    for flaw in FLAWS {
        let server = Posing::start(flaw).unwrap();
        let connection = json!({ "connection_uri": server.url(), "username": "admin", "password": "canary" });
        let refused = harness.write("mq/config/connection", ROOT, connection).await;
        refused.expect_error(502, "the broker could not be asked");
        let root = json!({
            "access_key": "AKIAX", "secret_key": "canary", "region": "us-east-1", "iam_endpoint": server.url(),
            "sts_endpoint": server.url(), "max_retries": 0,
        });
        harness.prepare("POST", "aws/config/root", root).await;
        let policy = r#"{"Version":"2012-10-17","Statement":[]}"#;
        for kind in ["iam_user", "federation_token"] {
            let role = json!({ "credential_type": kind, "policy_document": policy });
            harness.prepare("POST", &format!("aws/roles/{kind}"), role).await;
            harness.read(&format!("aws/creds/{kind}"), ROOT).await.expect_error(502, "AWS could not be asked");
        }
        harness.write("aws/config/rotate-root", ROOT, json!({})).await.expect_error(502, "AWS could not be asked");
        assert_eq!(server.told(), 0, "{flaw:?}");
    }
    assert_eq!(harness.read("sys/leases/count?type=live", ROOT).await.at("/data/lease_count"), 0);
}
