//! `operator migrate` by the real binary: from one storage to the next and back, with everything that was stored, and never
//! onto what is there already or is in use.

use serde_json::json;
use tresor_services::Postgres;

use crate::postgresql::{stop, storage};
use crate::support::{Cli, Finished, Production, binary};

fn migrate(production: &Production, stanzas: &str, more: &[&str]) -> Finished {
    let file = production.home().join("migrate.hcl");
    std::fs::write(&file, stanzas).unwrap();
    let cli = Cli::new(production.home(), "127.0.0.1:1".parse().unwrap(), "");
    let config = format!("-config={}", file.display());
    cli.run_with(binary(), &[&["operator", "migrate", &config], more].concat(), &[], "")
}

/// A stanza of a server's configuration as one of a migration.
fn side(stanza: &str, side: &str) -> String {
    stanza.replacen("storage ", &format!("storage_{side} "), 1)
}

fn in_directory(kind: &str, production: &Production) -> String {
    format!("storage \"{kind}\" {{\n  path = \"{}\"\n}}\n", production.data().display())
}

#[test]
fn what_is_stored_goes_from_storage_to_storage_and_is_opened_by_the_same_shares() {
    let database = Postgres::start().unwrap();
    let first = Production::new();
    let (server, keys) = first.start_ready();
    let http = server.http().with_token(&keys.root);
    http.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    for number in 0..300 {
        http.post(&format!("kv/{number}"), &json!({ "n": number, "long": "x".repeat(2000) })).expect(204);
    }
    let to_raft = |production: &Production| in_directory("raft", production);
    let raft = Production::raft();
    let postgresql = storage(database.port(), "");
    let last = Production::new();
    let in_use = migrate(
        &first,
        &format!("{}{}", side(&in_directory("file", &first), "source"), side(&postgresql, "destination")),
        &[],
    );
    assert_eq!(in_use.code, 2, "{in_use:?}");
    assert!(in_use.errors.contains("`storage_source`") && in_use.errors.contains("in use"), "{}", in_use.errors);
    stop(server);

    let way = [in_directory("file", &first), postgresql, to_raft(&raft), in_directory("file", &last)];
    for pair in way.windows(2) {
        let stanzas = format!(
            "{}{}cluster_addr = \"https://127.0.0.1:8201\"\n",
            side(&pair[0], "source"),
            side(&pair[1], "destination")
        );
        let reset = migrate(&first, &stanzas, &["-reset"]);
        assert_eq!(
            (reset.code, reset.output.trim()),
            (0, "Success! Migration lock reset (if it was set)."),
            "{reset:?}"
        );
        let done = migrate(&first, &stanzas, &["-max-parallel=4", "-log-level=debug"]);
        assert_eq!(done.code, 0, "{}: {done:?}", pair[1]);
        assert!(done.output.contains("Success! All of the keys have been migrated."), "{}", done.output);
        // Once more would be onto what is there.
        let again = migrate(&first, &stanzas, &[]);
        assert!(again.code == 2 && again.errors.contains("not empty"), "{again:?}");
    }
    for production in [&raft, &last] {
        let server = production.start();
        keys.unseal(&server.http());
        let http = server.http().with_token(&keys.root);
        for number in [0, 7, 299] {
            assert_eq!(http.get(&format!("kv/{number}")).expect(200).at("/data/n"), json!(number));
        }
        let listed = http.send("LIST", "kv", "").expect(200).at("/data/keys");
        assert_eq!(listed.as_array().map(Vec::len), Some(300));
        http.post("kv/more", &json!({ "x": 1 })).expect(204);
        stop(server);
    }
}

#[test]
fn a_migration_that_makes_no_sense_is_refused_and_leaves_nothing() {
    let production = Production::new();
    let empty = format!(
        "{}{}",
        side(&in_directory("file", &production), "source"),
        side(&in_directory("file", &Production::new()), "destination")
    );
    let refused = migrate(&production, &empty, &[]);
    assert!(refused.code == 2 && refused.errors.contains("`storage_source`: there is no directory"), "{refused:?}");
    assert!(!production.data().exists());
    std::fs::create_dir(production.data()).unwrap();
    let refused = migrate(&production, &empty, &[]);
    assert!(refused.code == 2 && refused.errors.contains("`storage_source` is empty"), "{refused:?}");
    // What is written into the source, by whatever name, would be part of it.
    let (data, link) = (production.data(), production.home().join("link"));
    std::os::unix::fs::symlink(&data, &link).unwrap();
    let before = std::fs::read_dir(&data).unwrap().count();
    for path in [data.clone(), data.join("new"), link.join("a/b"), data.join("a/../../data"), production.home().into()]
    {
        let stanzas = format!(
            "{}storage_destination \"raft\" {{\n  path = \"{}\"\n}}\n",
            side(&in_directory("file", &production), "source"),
            path.display()
        );
        let refused = migrate(&production, &stanzas, &[]);
        assert!(refused.code == 2 && refused.errors.contains("or one lies in the other"), "{path:?}: {refused:?}");
    }
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), before);
    let refused = migrate(&production, "storage_source \"file\" {\n path = \"x\"\n}\n", &[]);
    assert!(refused.code == 1 && refused.errors.contains("exactly one `storage_destination`"), "{refused:?}");
    let refused = migrate(&production, &empty, &["-log-level=loud"]);
    assert!(refused.code == 1 && refused.errors.contains("-log-level"), "{refused:?}");
    let refused = migrate(&production, &empty, &["-max-parallel=0"]);
    assert!(refused.code == 1 && refused.errors.contains("-max-parallel"), "{refused:?}");
}
