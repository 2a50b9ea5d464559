//! `operator init`, `unseal`, `seal` and `generate-root`.
//!
//! Shares pass through here once: they are printed after initialising, and read from the prompt, standard input or,
//! as old scripts do, an argument. Deliberately absent: verbs whose endpoints the server does not have yet.

use serde_json::{Map, Value, json};
use tresor_client::Method;
use tresor_secret::SecretString;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome};
use crate::failure::Failure;
use crate::flags::{CONNECTION, FORMAT, Flag, repeated, switch, text};
use crate::mounts::number;
use crate::output::{Document, cell, render};
use crate::rekey::{self, flat};
use crate::table::table;
use crate::{one_time_pad, pgp_keys, status};

const INIT: &[Flag] = &[
    switch("status", "Only say whether the server is initialised. Exit code: 0 it is, 2 it is not."),
    text("key-shares", "How many shares the unseal key is split into. Default: 5."),
    text("key-threshold", "How many shares open the seal. Default: 3."),
    repeated("pgp-keys", "Public keys to encrypt the shares to."),
    text("root-token-pgp-key", "Public key to encrypt the root token to."),
    text("recovery-shares", "With a seal that opens by itself: how many shares open it as well. Default: 5."),
    text("recovery-threshold", "With a seal that opens by itself: how many of those shares are needed. Default: 3."),
    repeated("recovery-pgp-keys", "Public keys to encrypt those shares to."),
];
const UNSEAL: &[Flag] = &[
    switch("reset", "Forget the shares entered so far."),
    switch("migrate", "The share is entered for a change of seals. It counts the same without."),
];
const GENERATE_ROOT: &[Flag] = &[
    switch("init", "Begin making a root token by shares."),
    switch("cancel", "End what was begun."),
    switch("status", "Show how far it is."),
    text("nonce", "The name of the attempt that the share is entered for."),
    text("pgp-key", "Public key to encrypt the token to: a file, base64, or keybase:NAME."),
    text("decode", "The encoded token to decode, or - to read it from standard input; needs -otp."),
    text("otp", "The one-time password that it is encoded with. -init makes one up when it is not given."),
    switch("generate-otp", "Print a fresh one-time password."),
    switch("recovery-token", "Make a recovery token, of a server that was started with -recovery."),
];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["operator", "init"],
        examples: &["operator init", "operator init -key-shares=3 -key-threshold=2 -format=json"],
        arguments: "[options]",
        about: "Initialise a server: prints the unseal shares and the root token, once.",
        flags: &[CONNECTION, FORMAT, INIT],
        action: Action::Run(init),
    },
    Command {
        words: &["operator", "unseal"],
        examples: &["operator unseal", "operator unseal -reset"],
        arguments: "[options] [SHARE]",
        about: "Enter one unseal share; without an argument it is asked for, and - reads it from standard input.",
        flags: &[CONNECTION, FORMAT, UNSEAL],
        action: Action::Run(unseal),
    },
    Command {
        words: &["operator", "seal"],
        examples: &["operator seal"],
        arguments: "[options]",
        about: "Seal the server: it forgets its keys and serves nothing until it is unsealed.",
        flags: &[CONNECTION],
        action: Action::Run(seal),
    },
    Command {
        words: &["operator", "generate-root"],
        examples: &[
            "operator generate-root -init",
            "operator generate-root -status",
            "operator generate-root -namespace=team-a -init",
        ],
        arguments: "[options] [SHARE]",
        about: "Make a root token by shares, of the server or, with -namespace, of a namespace that has a seal of its own: \
                -init begins, then each holder enters a share; -decode reads the result.",
        flags: &[CONNECTION, FORMAT, GENERATE_ROOT],
        action: Action::Run(generate_root),
    },
];

fn init(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    if context.flags.switch("status") {
        return init_status(context);
    }
    let given = |flag: &str| number(&context.flags, flag);
    let keys = (given("key-shares")?, given("key-threshold")?);
    let recovery = (given("recovery-shares")?, given("recovery-threshold")?);
    let seal = status::seal_status(context).map_err(|failure| failure.during("initializing"))?;
    let usual = |(shares, threshold): (Option<u64>, Option<u64>)| match shares {
        // None now: they are made later, by whoever may.
        Some(0) => (shares, threshold.or(Some(0))),
        _ => (shares.or(Some(5)), threshold.or(Some(3))),
    };
    let opens_by_itself = seal.get("recovery_seal").and_then(Value::as_bool).unwrap_or(false);
    // What the seal has no use for is sent as it was given, so that the server refuses before anything is made: who
    // asks for recovery shares, or names keys for them, is not to get others in plain text.
    let counts = if opens_by_itself {
        Counts { keys, recovery: usual(recovery) }
    } else {
        Counts { keys: usual(keys), recovery }
    };
    let mut body = Map::new();
    for (field, number) in [
        ("secret_shares", counts.keys.0),
        ("secret_threshold", counts.keys.1),
        ("recovery_shares", counts.recovery.0),
        ("recovery_threshold", counts.recovery.1),
    ] {
        if let Some(number) = number {
            body.insert(field.to_owned(), number.into());
        }
    }
    for (flag, field) in [("pgp-keys", "pgp_keys"), ("recovery-pgp-keys", "recovery_pgp_keys")] {
        let keys = pgp_keys::read(context, flag)?;
        if !keys.is_empty() {
            body.insert(field.to_owned(), keys.into());
        }
    }
    if let Some(key) = context.flag("root-token-pgp-key") {
        body.insert("root_token_pgp_key".to_owned(), pgp_keys::one(context, key)?.into());
    }
    let answer = context
        .send(Method::Put, "sys/init", &[], Some(&Value::Object(body)))
        .map_err(|failure| failure.during("initializing"))?
        .ok_or_else(|| Failure::remote("Error initializing: the server answered without content"))?;
    let document = for_machines(&answer, &counts);
    context.print_document(document, || for_people(&answer, &counts))
}

/// How many shares were asked for, and how many of them open.
struct Counts {
    keys: (Option<u64>, Option<u64>),
    recovery: (Option<u64>, Option<u64>),
}

fn init_status(context: &mut Context<'_, '_>) -> Outcome {
    let failed = |failure: Failure| match failure.during("checking initialization status") {
        Failure::Message { text, .. } => Failure::Message { code: 1, text },
        other => other,
    };
    let answer = context.send(Method::Get, "sys/init", &[], None).map_err(failed)?;
    let initialized = answer.and_then(|answer| answer.get("initialized")?.as_bool()).unwrap_or(false);
    let text = if initialized { "Vault is initialized" } else { "Vault is not initialized" };
    let document = Document::Value(json!({ "Initialized": initialized }));
    context.print_document(document, || text.to_owned())?;
    Ok(if initialized { 0 } else { 2 })
}

/// The shape that scripts read. Where the server stores what opens it, that counts as one share.
fn for_machines(answer: &Value, counts: &Counts) -> Document {
    let part = |name: &str| answer.get(name).cloned().unwrap_or_else(|| json!([]));
    let count = |number: Option<u64>, without: u64| Value::from(number.unwrap_or(without));
    Document::Object(
        [
            ("unseal_keys_b64", part("keys_base64")),
            ("unseal_keys_hex", part("keys")),
            ("unseal_shares", count(counts.keys.0, 1)),
            ("unseal_threshold", count(counts.keys.1, 1)),
            ("recovery_keys_b64", part("recovery_keys_base64")),
            ("recovery_keys_hex", part("recovery_keys")),
            ("recovery_keys_shares", count(counts.recovery.0, 0)),
            ("recovery_keys_threshold", count(counts.recovery.1, 0)),
            ("root_token", part("root_token")),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect(),
    )
}

fn for_people(answer: &Value, counts: &Counts) -> String {
    let mut text = String::new();
    for (title, name) in [("Unseal", "keys_base64"), ("Recovery", "recovery_keys_base64")] {
        let keys = answer.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for (number, key) in (1..).zip(keys) {
            text.push_str(&format!("{title} Key {number}: {}\n", key.as_str().unwrap_or_default()));
        }
    }
    let token = answer.get("root_token").and_then(Value::as_str).unwrap_or_default();
    text.push_str(&format!("\nInitial Root Token: {token}\n\n"));
    if let (Some(shares), Some(threshold)) = counts.keys {
        text.push_str(&format!(
            "Initialized with {shares} key shares and a key threshold of {threshold}. Hand out the shares\n\
             above to different people: after every start or sealing, {threshold} of them must be entered\n\
             before the server serves anything. They are shown only now, and without\n\
             {threshold} of them nobody can ever read what the server stores."
        ));
    } else if counts.recovery.0 == Some(0) {
        text.push_str(
            "Success! Vault is initialized\n\n\
             There are no recovery keys: the server opens by itself, and by nothing else, until\n\
             `tresor write sys/rotate/recovery/init secret_shares=5 secret_threshold=3` makes some.",
        );
    } else if let (Some(shares), Some(threshold)) = counts.recovery {
        text.push_str(&format!(
            "Success! Vault is initialized\n\n\
             Recovery key initialized with {shares} key shares and a key threshold of {threshold}. Hand out\n\
             the shares above to different people: the server opens by itself as long as it\n\
             finds its key, and {threshold} of the shares open it when it does not. They are shown only now."
        ));
    }
    text
}

fn unseal(context: &mut Context<'_, '_>) -> Outcome {
    let given = match context.flags.arguments.as_slice() {
        [] => None,
        [share] => Some(SecretString::new(share.clone())),
        _ => return Err(Failure::Usage("too many arguments (expected at most 1)".to_owned())),
    };
    let body = if context.flags.switch("reset") {
        json!({ "reset": true })
    } else {
        json!({ "key": entered(context, given)?, "migrate": context.flags.switch("migrate") })
    };
    let answer = context.send(Method::Put, "sys/unseal", &[], Some(&body)).map_err(|failure| {
        failure.during(if context.flags.switch("reset") { "resetting unseal" } else { "unsealing" })
    })?;
    match answer {
        Some(Value::Object(mut fields)) => {
            status::add_leader(context, &mut fields);
            status::print(context, fields)
        }
        _ => Err(Failure::remote("the seal status is not a JSON object")),
    }
}

/// A share that was given as an argument, is piped in, or is asked for.
pub(crate) fn entered(context: &mut Context<'_, '_>, given: Option<SecretString>) -> Result<Value, Failure> {
    let share = match given {
        Some(dash) if dash.expose() == "-" => from_input(context)?,
        Some(share) => share,
        None => context.ask("Unseal Key (will be hidden): ")?,
    };
    Ok(Value::from(share.expose().trim()))
}

pub(crate) fn from_input(context: &mut Context<'_, '_>) -> Result<SecretString, Failure> {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut context.io.input, &mut text)
        .map_err(|error| Failure::local(format!("Error reading standard input: {error}")))?;
    Ok(SecretString::new(text))
}

fn seal(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    context.change(Method::Put, "sys/seal", None).map_err(|failure| failure.during("sealing"))?;
    context.io.say("Success! Vault is sealed.");
    Ok(0)
}

fn generate_root(context: &mut Context<'_, '_>) -> Outcome {
    let (decode, otp) = (context.flag("decode").map(str::to_owned), context.flag("otp").map(str::to_owned));
    if context.flags.switch("generate-otp") {
        let length = otp_length(context)?;
        let otp = one_time_pad::fresh(length, &mut context.io.entropy)
            .map_err(|error| Failure::local(format!("Error generating a one-time password: {error}")))?;
        return say_field(context, "otp", otp.expose());
    }
    match (decode, otp) {
        (Some(encoded), Some(otp)) => {
            let encoded = match encoded.as_str() {
                "-" => from_input(context)?,
                _ => SecretString::new(encoded),
            };
            if encoded.expose().trim().is_empty() {
                return Err(Failure::local("The encoded token is missing: with -decode=- it comes on standard input."));
            }
            let token = one_time_pad::decode(encoded.expose(), &SecretString::new(otp))
                .map_err(|error| Failure::local(format!("Error decoding root token: {error}")))?;
            say_field(context, "token", token.expose())
        }
        (Some(_), None) => Err(Failure::Usage("-decode needs -otp".to_owned())),
        (None, otp) => by_shares(context, otp),
    }
}

/// The namespace whose token it is to be; `None` for the root namespace.
fn namespace_of<'c>(context: &'c Context<'_, '_>) -> Option<&'c str> {
    context.namespace().filter(|namespace| !matches!(namespace.trim_matches('/'), "" | "root"))
}

/// How long the token will be. That of a namespace names it, so the server is asked.
fn otp_length(context: &mut Context<'_, '_>) -> Result<usize, Failure> {
    if namespace_of(context).is_none() {
        return Ok(one_time_pad::LENGTH);
    }
    let (attempt, _) = generating(context);
    let status = context.send(Method::Get, attempt, &[], None);
    let status = flat(status.map_err(|failure| failure.during("getting root generation status"))?);
    let told = status.get("otp_length").and_then(Value::as_u64).and_then(|length| usize::try_from(length).ok());
    // What no token is as long as is no length.
    told.filter(|length| (one_time_pad::LENGTH..=256).contains(length))
        .ok_or_else(|| Failure::local("The server does not say how long a one-time password is to be."))
}

/// Where a token is made: a root token, or one of recovery mode. The older paths answer for the whole server only.
fn generating(context: &Context<'_, '_>) -> (&'static str, &'static str) {
    if context.flags.switch("recovery-token") {
        ("sys/generate-recovery-token/attempt", "sys/generate-recovery-token/update")
    } else if namespace_of(context).is_some() {
        ("sys/generate-root-token/attempt", "sys/generate-root-token/update")
    } else {
        ("sys/generate-root/attempt", "sys/generate-root/update")
    }
}

fn by_shares(context: &mut Context<'_, '_>, otp: Option<String>) -> Outcome {
    let (attempt, update) = generating(context);
    if context.flags.switch("cancel") {
        let failed = |failure: Failure| failure.during("canceling root token generation");
        let nonce = context.flag("nonce").map(str::to_owned);
        let named: Vec<_> = nonce.iter().map(|nonce| ("nonce", nonce.as_str())).collect();
        context.send(Method::Delete, attempt, &named, None).map_err(failed)?;
        context.io.say("Success! Root token generation canceled (if it was started)");
        return Ok(0);
    }
    if context.flags.switch("init") {
        // One of them would be left unused, and whoever gave it would wait for what it reads.
        if otp.is_some() && context.flag("pgp-key").is_some() {
            return Err(Failure::local("Error initializing: cannot specify both -otp and -pgp-key"));
        }
        let mut body = Map::new();
        if let Some(otp) = otp {
            body.insert("otp".to_owned(), otp.into());
        }
        if let Some(key) = context.flag("pgp-key") {
            body.insert("pgp_key".to_owned(), pgp_keys::one(context, key)?.into());
        }
        let answer = context.send(Method::Put, attempt, &[], Some(&Value::Object(body)));
        let answer = flat(answer.map_err(|failure| failure.during("initializing root generation"))?);
        return show_generation(context, &answer);
    }
    let status = context.send(Method::Get, attempt, &[], None);
    let status = flat(status.map_err(|failure| failure.during("getting root generation status"))?);
    if context.flags.switch("status") {
        return show_generation(context, &status);
    }
    if status.get("started") != Some(&Value::Bool(true)) {
        return Err(Failure::local("No root generation is in progress. Start a root generation by -init."));
    }
    let shown = status.get("nonce").and_then(Value::as_str).unwrap_or_default().to_owned();
    let named = context.flag("nonce").map(str::to_owned);
    let (share, was_asked) = rekey::share(context)?;
    let nonce = match named {
        Some(nonce) => nonce,
        None if was_asked => shown,
        None => return Err(Failure::Usage("-nonce is needed with a share that is not asked for".to_owned())),
    };
    let body = json!({ "key": share.expose().trim(), "nonce": nonce });
    let answer = context.send(Method::Put, update, &[], Some(&body));
    let answer = flat(answer.map_err(|failure| failure.during("posting unseal key"))?);
    show_generation(context, &answer)
}

fn show_generation(context: &mut Context<'_, '_>, status: &Value) -> Outcome {
    let document = Document::Value(status.clone());
    let shown = |name: &str| status.get(name).map(cell).unwrap_or_default();
    context.print_document(document, || {
        let mut rows = vec![
            ("Nonce", shown("nonce")),
            ("Started", shown("started")),
            ("Progress", format!("{}/{}", shown("progress"), shown("required"))),
            ("Complete", shown("complete")),
        ];
        let optional = [
            ("PGP Fingerprint", "pgp_fingerprint"),
            ("OTP", "otp"),
            ("OTP Length", "otp_length"),
            ("Encoded Token", "encoded_token"),
        ];
        rows.extend(
            optional.map(|(title, name)| (title, shown(name))).into_iter().filter(|(_, value)| !value.is_empty()),
        );
        let rows: Vec<_> = rows.into_iter().map(|(title, value)| vec![title.to_owned(), value]).collect();
        table(&["Key", "Value"], &rows)
    })
}

fn say_field(context: &mut Context<'_, '_>, name: &str, text: &str) -> Outcome {
    let document = Document::Value(Value::Object(Map::from_iter([(name.to_owned(), Value::from(text))])));
    let line = render(document, context.format()?).unwrap_or_else(|| text.to_owned());
    context.io.say(&line);
    Ok(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Cursor;

    use super::*;
    use crate::environment::Environment;
    use crate::flags;
    use crate::io::Io;

    /// What `generate-root` answers to flags and standard input, without a server.
    fn generated(arguments: &[&str], input: &str) -> Result<String, String> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let parsed = flags::parse(&arguments, &[CONNECTION, FORMAT, GENERATE_ROOT]).unwrap();
        let mut output = Vec::new();
        let environment = Environment::default();
        let mut io = Io::of_nobody();
        io.input = Box::new(Cursor::new(input.to_owned()));
        io.output = Box::new(&mut output);
        let ended = generate_root(&mut Context::new(&mut io, &environment, parsed));
        drop(io);
        match ended {
            Ok(0) => Ok(String::from_utf8(output).unwrap()),
            Err(Failure::Message { text, code: 1 } | Failure::Usage(text)) => Err(text),
            _ => Err("another end".to_owned()),
        }
    }

    #[test]
    fn an_encoded_token_is_read_from_standard_input() {
        // `token` under the password `01234`.
        let encoded = "RF5ZVlo";
        assert_eq!(generated(&["-decode", encoded, "-otp=01234"], "").unwrap(), "token\n");
        assert_eq!(generated(&["-decode=-", "-otp=01234"], &format!("{encoded}\n")).unwrap(), "token\n");
        assert!(generated(&["-decode=-", "-otp=01234"], "\n").unwrap_err().contains("standard input"));
        assert!(generated(&["-decode=-"], encoded).unwrap_err().contains("-otp"));
    }

    #[test]
    fn a_token_is_concealed_in_one_way() {
        let refused = generated(&["-init", "-otp=01234", "-pgp-key=key.asc"], "").unwrap_err();
        assert!(refused.contains("both -otp and -pgp-key"), "{refused}");
    }
}
