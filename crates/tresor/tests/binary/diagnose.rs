//! `operator diagnose` beside a server that runs, and before one that will not start.

use crate::support::{Cli, Production};

pub(crate) fn look_at(production: &Production, arguments: &[&str]) -> (i32, serde_json::Value) {
    let config = format!("-config={}", production.config().display());
    let cli = Cli { home: production.home(), environment: Vec::new() };
    let words = [&["operator", "diagnose", "-format=json", &config], arguments].concat();
    let finished = cli.run(&words);
    (finished.code, serde_json::from_str(&finished.output).unwrap_or_else(|_| panic!("{finished:?}")))
}

/// The findings by name, wherever they stand.
pub(crate) fn found(report: &serde_json::Value, name: &str) -> Vec<(String, String)> {
    let text = |field: &str| report[field].as_str().unwrap_or_default().to_owned();
    let own = (report["name"] == name).then(|| (text("status"), text("message")));
    let below = report["children"].as_array().into_iter().flatten();
    own.into_iter().chain(below.flat_map(|child| found(child, name))).collect()
}

#[test]
fn a_running_server_is_left_alone_and_one_that_cannot_start_is_told_why() {
    let production = Production::new();
    let (server, keys) = production.start_ready();
    let at = std::fs::read_to_string(production.config()).unwrap().replace("127.0.0.1:0", &server.address.to_string());
    production.configure(&at);
    let (_, report) = look_at(&production, &[]);
    assert_eq!(found(&report, "Lock"), [("ok".to_owned(), "a server has it open: it runs".to_owned())], "{report}");
    assert_eq!(found(&report, "Port")[0].0, "ok", "{report}");
    assert!(report["status"] != "fail", "{report}");
    let health = server.http().with_token(&keys.root).get("sys/health");
    assert_eq!(health.status, 200, "it serves on");
    let names: Vec<_> = std::fs::read_dir(production.data()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("diagnose")), "{names:?}");

    // The same port for another store: what uses it is not this server.
    let other = Production::new();
    let text = std::fs::read_to_string(other.config()).unwrap().replace("127.0.0.1:0", &server.address.to_string());
    other.configure(&text);
    let (code, report) = look_at(&other, &["-skip=system"]);
    assert_eq!((code, found(&report, "Port")[0].0.as_str()), (1, "fail"), "{report}");
    assert!(!other.data().exists(), "it makes nothing");
    let cli = Cli { home: other.home(), environment: Vec::new() };
    let unknown = cli.run(&["operator", "diagnose", "-config=server.hcl", "-skip=everything"]);
    assert!(unknown.code == 1 && unknown.errors.contains("unknown part `everything`"), "{unknown:?}");
    let absent = cli.run(&["operator", "validate-config", "-config=absent.hcl"]);
    assert!(absent.code == 1 && absent.output.contains("absent.hcl: cannot be read"), "{absent:?}");
}
