//! `operator rekey` and `rotate-keys`: other shares, by those who hold enough of the ones that open now.
//!
//! Both are one command over two families of endpoints. A share is read from the prompt, from standard input (`-`) or, as old
//! scripts do, from an argument. Deliberately absent: the terms of the key ring (`keyring`).

use serde_json::{Map, Value, json};
use tresor_client::Method;
use tresor_secret::SecretString;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome};
use crate::envelope::data_rows;
use crate::failure::Failure;
use crate::flags::{CONNECTION, FORMAT, Flag, repeated, switch, text};
use crate::mounts::number;
use crate::output::{Document, Format, cell};
use crate::pgp_keys;
use crate::table::table;

const REKEY: &[Flag] = &[
    switch("init", "Begin a change of shares."),
    switch("cancel", "End the one that was begun; the shares stay as they are."),
    switch("status", "Show how far it is."),
    switch("verify", "The share, or what -status and -cancel are about, is of the new ones."),
    text("key-shares", "How many shares there are to be. Default: 5."),
    text("key-threshold", "How many of them are to open. Default: 3."),
    text("nonce", "The name of the change that the share is entered for."),
    repeated("pgp-keys", "Public keys to encrypt the new shares to, one each: files, base64, or keybase:NAME."),
    text("target", "What is changed: barrier (default) or recovery."),
    switch("backup", "Keep the encrypted shares in the store as well."),
    switch("backup-retrieve", "Show the encrypted shares that are kept."),
    switch("backup-delete", "Forget them."),
];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["operator", "rekey"],
        examples: &["operator rekey -init -key-shares=5 -key-threshold=3", "operator rekey -status"],
        arguments: "[options] [SHARE]",
        about: "Change the shares by the older endpoints: -init begins, then each holder enters a share.",
        flags: &[CONNECTION, FORMAT, REKEY],
        action: Action::Run(rekey),
    },
    Command {
        words: &["operator", "rotate-keys"],
        examples: &["operator rotate-keys -init -key-shares=5 -key-threshold=3", "operator rotate-keys -status"],
        arguments: "[options] [SHARE]",
        about: "Change the shares, under a token: -init begins, then each holder enters a share.",
        flags: &[CONNECTION, FORMAT, REKEY],
        action: Action::Run(rotate_keys),
    },
];

/// The endpoints of one family.
struct Paths {
    base: &'static str,
    backup: &'static str,
}

fn rekey(context: &mut Context<'_, '_>) -> Outcome {
    run(
        context,
        &Paths { base: "sys/rekey", backup: "sys/rekey/backup" },
        &Paths { base: "sys/rekey-recovery-key", backup: "sys/rekey/recovery-key-backup" },
    )
}

fn rotate_keys(context: &mut Context<'_, '_>) -> Outcome {
    run(
        context,
        &Paths { base: "sys/rotate/root", backup: "sys/rotate/root/backup" },
        &Paths { base: "sys/rotate/recovery", backup: "sys/rotate/recovery/backup" },
    )
}

fn run(context: &mut Context<'_, '_>, barrier: &Paths, recovery: &Paths) -> Outcome {
    let paths = match context.flag("target").unwrap_or("barrier") {
        "barrier" => barrier,
        "recovery" | "hsm" => recovery,
        other => return Err(Failure::Usage(format!("-target is barrier or recovery, not {other}"))),
    };
    let (init, update, verify) =
        (format!("{}/init", paths.base), format!("{}/update", paths.base), format!("{}/verify", paths.base));
    let flag = |context: &Context<'_, '_>, name: &str| context.flags.switch(name);
    let is_of_new = flag(context, "verify");
    let about = if is_of_new { &verify } else { &init };
    if flag(context, "backup-delete") {
        context.change(Method::Delete, paths.backup, None).map_err(|failure| failure.during("deleting backup"))?;
        context.io.say("Success! Delete backup keys (if they existed)");
        return Ok(0);
    }
    if flag(context, "backup-retrieve") {
        let kept = get(context, paths.backup, "retrieving rekey stored keys")?;
        let rows = kept.as_object().map(data_rows).unwrap_or_default();
        return context.print_document(Document::Value(kept), || table(&["Key", "Value"], &rows));
    }
    if flag(context, "cancel") {
        let nonce = context.flag("nonce").map(str::to_owned);
        let named: Vec<_> = nonce.iter().map(|nonce| ("nonce", nonce.as_str())).collect();
        context.send(Method::Delete, about, &named, None).map_err(|failure| failure.during("canceling rekey"))?;
        context.io.say("Success! Canceled rekeying (if it was started)");
        return Ok(0);
    }
    if flag(context, "status") {
        let status = get(context, about, "reading rekey status")?;
        return show(context, &status);
    }
    if flag(context, "init") {
        return begin(context, &init);
    }
    let status = get(context, about, "reading rekey status")?;
    let named = context.flag("nonce").map(str::to_owned);
    if status.get("started") != Some(&Value::Bool(true)) {
        return Err(Failure::local("No rekey is in progress. Start a rekey process by -init."));
    }
    let shown = status.get("nonce").and_then(Value::as_str).unwrap_or_default().to_owned();
    let (share, was_asked) = share(context)?;
    // Whoever is asked sees which change it is; a script has to say.
    let nonce = match named {
        Some(nonce) => nonce,
        None if was_asked => shown,
        None => return Err(Failure::Usage("-nonce is needed with a share that is not asked for".to_owned())),
    };
    let body = json!({ "key": share.expose().trim(), "nonce": nonce });
    let path = if is_of_new { &verify } else { &update };
    let answer = context.send(Method::Put, path, &[], Some(&body));
    let answer = flat(answer.map_err(|failure| failure.during("posting unseal key"))?);
    show(context, &answer)
}

fn begin(context: &mut Context<'_, '_>, init: &str) -> Outcome {
    let [] = context.arguments()?;
    let shares = number(&context.flags, "key-shares")?.unwrap_or(5);
    let threshold = number(&context.flags, "key-threshold")?.unwrap_or(3);
    let mut body = Map::new();
    body.insert("secret_shares".to_owned(), shares.into());
    body.insert("secret_threshold".to_owned(), threshold.into());
    let keys = pgp_keys::read(context, "pgp-keys")?;
    if !keys.is_empty() {
        body.insert("pgp_keys".to_owned(), keys.into());
    }
    body.insert("backup".to_owned(), context.flags.switch("backup").into());
    body.insert("require_verification".to_owned(), context.flags.switch("verify").into());
    let answer = context.send(Method::Put, init, &[], Some(&Value::Object(body)));
    let answer = flat(answer.map_err(|failure| failure.during("initializing rekey"))?);
    show(context, &answer)
}

/// The share, and whether a person was asked for it.
pub(crate) fn share(context: &mut Context<'_, '_>) -> Result<(SecretString, bool), Failure> {
    match context.flags.arguments.as_slice() {
        [] => Ok((context.ask("Key share (will be hidden): ")?, true)),
        [dash] if dash == "-" => Ok((crate::operator::from_input(context)?, false)),
        [share] => Ok((SecretString::new(share.clone()), false)),
        _ => Err(Failure::Usage("too many arguments (expected at most 1)".to_owned())),
    }
}

fn get(context: &mut Context<'_, '_>, path: &str, doing: &'static str) -> Result<Value, Failure> {
    Ok(flat(context.send(Method::Get, path, &[], None).map_err(|failure| failure.during(doing))?))
}

/// What the answer says, in an envelope or not.
pub(crate) fn flat(answer: Option<Value>) -> Value {
    let mut answer = answer.unwrap_or_default();
    match answer.get_mut("data").map(Value::take) {
        Some(data @ Value::Object(_)) => data,
        _ => answer,
    }
}

fn show(context: &mut Context<'_, '_>, status: &Value) -> Outcome {
    if context.format()? != Format::Table {
        return context.print_document(Document::Value(status.clone()), String::new);
    }
    let shown = |name: &str| status.get(name).map(cell).unwrap_or_default();
    let is_true = |name: &str| status.get(name) == Some(&Value::Bool(true));
    let keys = status.get("keys_base64").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let fingerprints = status.get("pgp_fingerprints").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if is_true("complete") {
        let mut lines = String::new();
        for (at, key) in keys.iter().enumerate() {
            let owner = fingerprints.get(at).map(|owner| format!(" fingerprint: {};", cell(owner))).unwrap_or_default();
            lines.push_str(&format!("Key {}{owner} value: {}\n", at + 1, cell(key)));
        }
        if !lines.is_empty() {
            lines.push_str(&format!("\nOperation nonce: {}\n\n", shown("nonce")));
        }
        lines.push_str(if is_true("verification_required") {
            "The shares above open nothing yet. Enter enough of them by -verify, with the nonce below;\n\
             until then the shares of before open, and stay valid if this is never done."
        } else if keys.is_empty() {
            "Success! The change is done."
        } else {
            "Success! The shares above open the store now, and those of before do not. They are shown\n\
             only now."
        });
        if let Some(nonce) = status.get("verification_nonce").and_then(Value::as_str) {
            lines.push_str(&format!("\n\nVerification Nonce: {nonce}"));
        }
        context.io.say(&lines);
        return Ok(0);
    }
    let mut rows = vec![
        ("Nonce", shown("nonce")),
        ("Started", shown("started")),
        (
            "Rekey Progress",
            format!("{}/{}", shown("progress"), status.get("required").map_or_else(|| shown("t"), cell)),
        ),
        ("New Shares", shown("n")),
        ("New Threshold", shown("t")),
    ];
    if is_true("verification_required") {
        rows.push(("Verification Required", "true".to_owned()));
    }
    if let Some(nonce) = status.get("verification_nonce").and_then(Value::as_str) {
        rows.push(("Verification Nonce", nonce.to_owned()));
    }
    if !fingerprints.is_empty() {
        rows.push(("PGP Fingerprints", shown("pgp_fingerprints")));
        rows.push(("Backup", shown("backup")));
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(title, value)| vec![title.to_owned(), value]).collect();
    context.say_table(&table(&["Key", "Value"], &rows));
    Ok(0)
}
