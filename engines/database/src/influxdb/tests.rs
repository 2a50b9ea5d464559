//! What is made of a server's answers, said by one in memory. A real one is asked at the height of the whole node.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tresor_env::doubles::FakeServers;
use tresor_env::outgoing::OutgoingError;
use tresor_env_os::{OsClock, OsNet};
use tresor_model::Map;

use super::*;
use crate::Doors;
use crate::connection::Connection;
use crate::target::Target;
use crate::testing::{account, secret};

type Said = Result<(u16, Vec<u8>), OutgoingError>;

fn says(status: u16, text: &str) -> Said {
    Ok((status, text.as_bytes().to_vec()))
}

fn fine() -> Said {
    says(200, r#"{"results":[{"statement_id":0}]}"#)
}

/// A server that lets everybody in, and says this to everything else; and what it was asked.
fn server(answer: impl Fn(&str) -> Said + Send + 'static) -> (Arc<FakeServers>, Arc<Mutex<Vec<String>>>) {
    let (servers, asked) = (Arc::new(FakeServers::default()), Arc::<Mutex<Vec<String>>>::default());
    let noted = Arc::clone(&asked);
    servers.answer(move |request| {
        assert_eq!(request.url, "http://127.0.0.1:8086/query");
        let tresor_env::outgoing::Ask::Post(body) = &request.ask else { panic!("not POST") };
        let text = String::from_utf8_lossy(body).into_owned();
        if text == "q=SHOW%20DATABASES" {
            return fine();
        }
        noted.lock().unwrap().push(text.clone());
        answer(&text)
    });
    (servers, asked)
}

fn made(outgoing: Arc<FakeServers>, passwords: &[&str], details: &[(&str, &str)]) -> Result<Target, String> {
    let mut map = Map::new().with("username", "root").with("host", "127.0.0.1");
    let mut secrets = BTreeMap::new();
    for (name, value) in details {
        match *name {
            "pem_bundle" | "pem_json" => drop(secrets.insert((*name).to_owned(), secret(value))),
            name => drop(map.insert(name, *value)),
        }
    }
    let connection = Connection {
        plugin_name: "influxdb-database-plugin".into(),
        details: map,
        secrets,
        passwords: passwords.iter().copied().map(secret).collect(),
        ..Connection::empty("flux")
    };
    let doors = Doors { net: Arc::new(OsNet), clock: Arc::new(OsClock::new()), outgoing, seed: [7; 32] };
    (settings::PLUGIN.target)(&connection, doors)
}

#[tokio::test]
async fn what_a_server_answers_says_what_was_done() {
    let refused = |why: &str| says(200, &format!(r#"{{"results":[{{"error":"{why}"}},{{"error":"not executed"}}]}}"#));
    let partly = r#"{"results":[{"statement_id":0},{"statement_id":1,"error":"no pw-canary"}]}"#;
    let cases: Vec<(Said, Result<(), Trouble>)> = vec![
        (fine(), Ok(())),
        (refused("no pw-canary"), Err(Trouble::Refused("no [password]".into()))),
        (says(400, r#"{"error":"error parsing query"}"#), Err(Trouble::Refused("error parsing query".into()))),
        (says(403, r#"{"error":"not you"}"#), Err(Trouble::Forbidden("not you".into()))),
        (says(503, "later"), Err(Trouble::Broken("it answered with status 503".into()))),
        (says(200, "{}"), Err(Trouble::Broken("it answers something else than InfluxDB does".into()))),
        (says(200, "<html>"), Err(Trouble::Broken("it answers something else than InfluxDB does".into()))),
        (Err(OutgoingError::Unreached("away".into())), Err(Trouble::Unreachable("away".into()))),
        (Err(OutgoingError::Failed("cut".into())), Err(Trouble::Broken("cut".into()))),
    ];
    for (answer, expected) in cases {
        let repeated = answer.clone();
        let (servers, _) = server(move |_| repeated.clone());
        let target = made(servers, &["own-1"], &[]).unwrap();
        assert_eq!(target.create(&account("v_a", "pw-canary"), &[], &[]).await, expected, "{answer:?}");
    }
    // A part was done: it is rolled back by what there is for that, or by dropping the user.
    for (rollback, asked_last) in
        [("", "DROP%20USER%20%22v%5Fa%22"), ("DROP USER {{name}}; x", "DROP%20USER%20v%5Fa%3B%20x")]
    {
        let (servers, asked) = server(move |text| if text.contains("CREATE") { says(200, partly) } else { fine() });
        let target = made(servers, &["own-1"], &[]).unwrap();
        let undone = target.create(&account("v_a", "pw-canary"), &[], &[rollback.to_owned()]).await;
        assert_eq!(undone, Err(Trouble::Refused("no [password]".into())));
        assert_eq!(asked.lock().unwrap().last().unwrap(), &format!("q={asked_last}"));
    }
    let (servers, _) = server(move |_| says(200, partly));
    let half = made(servers, &["own-1"], &[]).unwrap().create(&account("v_a", "pw-canary"), &[], &[]).await;
    assert!(matches!(half, Err(Trouble::Partly(_))), "{half:?}");
}

#[tokio::test]
async fn dyn_03_a_name_is_never_more_than_one() {
    let (servers, asked) = server(|_| fine());
    let target = made(servers, &["own-1"], &[]).unwrap();
    target.set_password("a\" = 'x'; DROP USER \"b", None, &secret("it's\\"), &[]).await.unwrap();
    let expected = "SET PASSWORD FOR \"a\\\" = 'x'; DROP USER \\\"b\" = 'it\\'s\\\\'";
    let spelled: String = asked.lock().unwrap().last().unwrap().split("q=").collect();
    let mut bytes = Vec::new();
    let mut rest = spelled.as_str();
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        bytes.push(u8::from_str_radix(after.get(..2).unwrap(), 16).unwrap());
        rest = after.get(2..).unwrap();
    }
    bytes.extend_from_slice(rest.as_bytes());
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    for name in ["", "a:b", "a\nb", "a\0b"] {
        let made = target.create(&account(name, "pw-canary"), &[], &[]).await;
        assert!(matches!(made, Err(Trouble::Senseless(_))), "{name:?} {made:?}");
    }
}

#[tokio::test]
async fn the_first_password_that_lets_us_in_counts() {
    let servers = Arc::new(FakeServers::default());
    let right = "Basic cm9vdDpyaWdodA==";
    servers.answer(move |request| {
        let shown = &request.headers.first().unwrap().1;
        if shown.as_str() == right { fine() } else { says(401, r#"{"error":"authorization failed"}"#) }
    });
    made(Arc::clone(&servers), &["wrong", "right"], &[]).unwrap().verify().await.unwrap();
    let refused = made(servers, &["canary-1", "canary-2"], &[]).unwrap().verify().await;
    assert_eq!(refused, Err(Trouble::NoEntry("authorization failed".into())));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let wrong = |passwords: &[&str], details: &[(&str, &str)]| {
        made(Arc::new(FakeServers::default()), passwords, details).err().unwrap()
    };
    for (details, expected) in [
        (&[("host", "")][..], "host cannot be empty"),
        (&[("host", "h/../x?")], "host is a name or an address"),
        (&[("host", "u@h")], "host is a name or an address"),
        (&[("username", "")], "username cannot be empty"),
        (&[("pem_bundle", "x")], "pem_bundle holds no certificate in PEM"),
        (&[("pem_json", "x")], "pem_json is not what an issuer of certificates answers"),
        (&[("insecure_tls", "true")], "pem_bundle or pem_json holds no certificate, or a key that goes with none"),
    ] {
        assert_eq!(wrong(&["own-1"], details), expected);
    }
    assert_eq!(wrong(&[], &[]), "password cannot be empty");
}
