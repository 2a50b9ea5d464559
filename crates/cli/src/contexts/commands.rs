//! `context add`, `use`, `list`, `show`, `remove`.

use serde_json::json;
use tresor_secret::TokenSecret;

use super::{Contexts, Place, SETTINGS, Settings, is_name};
use crate::commands::{Action, Command};
use crate::connection::Source;
use crate::context::{Context, Outcome};
use crate::failure::Failure;
use crate::flags::{FORMAT, Flag, switch, text};
use crate::key_values::read_file;
use crate::output::Document;
use crate::table::table;
use crate::token_helper::TokenStore;

const ADD: &[Flag] = &[
    text("address", "Address of the server; without one, what the environment says is taken, with its other settings."),
    text("namespace", "Namespace of the requests."),
    text("ca-cert", "PEM file of the certificate authority to trust."),
    text("ca-path", "Directory of PEM files of certificate authorities to trust."),
    text("client-cert", "PEM file of the client certificate to present."),
    text("client-key", "PEM file of the private key of the client certificate."),
    text("tls-server-name", "Name expected in the server's certificate."),
    switch("tls-skip-verify", "Do not check the server's certificate; unsafe."),
    text("token", "The token to keep for it: @FILE, or - for standard input. `login` keeps one as well."),
    switch("use", "Use it from now on."),
    switch("force", "Replace a context of that name."),
];
const USE: &[Flag] = &[switch("none", "Use no context from now on.")];
const CHOICE: &[Flag] = &[text("context", "The context, when it is not the one in use (TRESOR_CONTEXT).")];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["context", "add"],
        examples: &["context add prod -address=https://vault.example.com:8200 -ca-cert=ca.pem -use"],
        arguments: "[options] NAME",
        about: "Give a server a name, by which its address, namespace, TLS files and token are used.",
        flags: &[ADD],
        action: Action::Run(add),
    },
    Command {
        words: &["context", "use"],
        examples: &["context use prod", "context use -none"],
        arguments: "[options] NAME",
        about: "Use a context from now on, where neither -context nor TRESOR_CONTEXT names another.",
        flags: &[USE],
        action: Action::Run(choose),
    },
    Command {
        words: &["context", "list"],
        examples: &["context list"],
        arguments: "[options]",
        about: "List the contexts.",
        flags: &[FORMAT],
        action: Action::Run(list),
    },
    Command {
        words: &["context", "show"],
        examples: &["context show", "context show -context=prod"],
        arguments: "[options]",
        about: "Show where requests would go, and who says so: a flag, a variable, a context or nobody.",
        flags: &[FORMAT, CHOICE],
        action: Action::Run(show),
    },
    Command {
        words: &["context", "remove"],
        examples: &["context remove prod"],
        arguments: "NAME",
        about: "Forget a context and its token.",
        flags: &[],
        action: Action::Run(remove),
    },
];

fn place(context: &Context<'_, '_>) -> Result<Place, Failure> {
    Place::of(context.environment).ok_or_else(|| Failure::local("no home directory: HOME is not set"))
}

fn add(context: &mut Context<'_, '_>) -> Outcome {
    let [name] = context.arguments()?;
    if !is_name(&name) {
        return Err(Failure::Usage(format!(
            "`{name}` is no name for a context: letters, digits, dots, dashes and underscores, at most 64"
        )));
    }
    let place = place(context)?;
    let mut contexts = place.load()?;
    if contexts.by_name.contains_key(&name) && !context.flags.switch("force") {
        return Err(Failure::local(format!("there is a context `{name}` already: -force replaces it")));
    }
    let settings = settings(context)?;
    let token = match context.flag("token").map(str::to_owned) {
        None => None,
        Some(given) => Some(token(context, &given)?),
    };
    contexts.by_name.insert(name.clone(), settings);
    let is_used = context.flags.switch("use");
    if is_used {
        contexts.current = Some(name.clone());
    }
    let store = TokenStore::File(place.token_file(&name));
    // Of a context that this one replaces.
    store.forget().map_err(|error| Failure::local(format!("Error removing the token of before: {error}")))?;
    place.store(&contexts)?;
    if let Some(token) = token {
        store.store(&token).map_err(|error| Failure::local(format!("Error storing token: {error}")))?;
    }
    context.io.say(&format!("Success! Added context: {name}"));
    if !is_used && contexts.current.as_ref() != Some(&name) {
        context.io.complain(&format!("Use it by -context={name}, or from now on by `context use {name}`."));
    }
    Ok(0)
}

fn settings(context: &Context<'_, '_>) -> Result<Settings, Failure> {
    let by_flags = context.flag("address").is_some();
    let mut settings = Settings::new();
    for (name, variable) in SETTINGS {
        let of_environment = || context.environment.variable(variable).filter(|_| !by_flags);
        let Some(value) = context.flag(name).or_else(of_environment) else { continue };
        let is_file = matches!(*name, "ca-cert" | "ca-path" | "client-cert" | "client-key");
        // A context is used from any directory.
        let value = match std::path::absolute(value) {
            Ok(path) if is_file => path.to_string_lossy().into_owned(),
            _ => value.to_owned(),
        };
        settings.insert((*name).to_owned(), value);
    }
    match settings.get("address") {
        None => Err(Failure::Usage("an address is needed: -address, or VAULT_ADDR".to_owned())),
        Some(address) if !address.contains("://") => {
            Err(Failure::Usage(format!("address `{address}` has no scheme such as https://")))
        }
        Some(_) => Ok(settings),
    }
}

fn token(context: &mut Context<'_, '_>, given: &str) -> Result<TokenSecret, Failure> {
    let text = match given.strip_prefix('@') {
        Some(file) => read_file(file).map_err(Failure::local)?,
        None if given == "-" => {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut context.io.input, &mut text)
                .map_err(|error| Failure::local(format!("Error reading standard input: {error}")))?;
            text
        }
        None => {
            return Err(Failure::Usage(
                "-token takes @FILE or - (standard input): arguments are seen by every user of the machine".to_owned(),
            ));
        }
    };
    TokenSecret::parse(text.trim()).map_err(|error| Failure::local(format!("-token: {error}")))
}

fn choose(context: &mut Context<'_, '_>) -> Outcome {
    let place = place(context)?;
    let mut contexts = place.load()?;
    if context.flags.switch("none") {
        let [] = context.arguments()?;
        contexts.current = None;
        place.store(&contexts)?;
        context.io.say("Success! No context is in use.");
        return Ok(0);
    }
    let [name] = context.arguments()?;
    let settings = contexts.settings_of(&name)?;
    contexts.current = Some(name.clone());
    place.store(&contexts)?;
    context.io.say(&format!("Success! In use from now on: {name} ({})", address_of(&settings)));
    let overridden =
        ["VAULT_ADDR", "TRESOR_CONTEXT"].into_iter().find(|name| context.environment.variable(name).is_some());
    if let Some(variable) = overridden {
        context.io.complain(&format!("WARNING! {variable} is set, and wins over it."));
    }
    Ok(0)
}

fn address_of(settings: &Settings) -> &str {
    settings.get("address").map(String::as_str).unwrap_or_default()
}

fn list(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    let place = place(context)?;
    let Contexts { current, by_name } = place.load()?;
    let has_token = |name: &str| place.token_file(name).exists();
    let entry = |(name, settings): (&String, &Settings)| {
        Document::Value(json!({
            "name": name, "in_use": current.as_ref() == Some(name), "settings": settings, "has_token": has_token(name),
        }))
    };
    let row = |(name, settings): (&String, &Settings)| {
        let mark = |is_so: bool, word: &str| if is_so { word } else { "-" }.to_owned();
        vec![
            mark(current.as_ref() == Some(name), "*"),
            name.clone(),
            address_of(settings).to_owned(),
            settings.get("namespace").cloned().unwrap_or_else(|| "-".to_owned()),
            mark(has_token(name), "kept"),
        ]
    };
    let document = Document::List(by_name.iter().map(entry).collect());
    context.print_document(document, || {
        table(&["In Use", "Name", "Address", "Namespace", "Token"], &by_name.iter().map(row).collect::<Vec<_>>())
    })
}

fn show(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    context.in_use = super::in_use(context.environment, &context.flags)?;
    let name = context.in_use.as_ref().map(|in_use| in_use.name.clone());
    let said = |source: Source, variable: &str| match source {
        Source::Flag => "a flag".to_owned(),
        Source::Variable => ["BAO", "VAULT"]
            .into_iter()
            .map(|prefix| variable.replacen("VAULT", prefix, 1))
            .find(|variable| context.environment.variable(variable).is_some())
            .unwrap_or_default(),
        Source::NamedContext | Source::Context => format!("context {}", name.as_deref().unwrap_or_default()),
        Source::Default => "nobody: the default".to_owned(),
    };
    let mut known: Vec<(&str, String, String)> = Vec::new();
    let (address, source) = context.address_and_source();
    let variable =
        if context.environment.variable("VAULT_AGENT_ADDR").is_some() { "VAULT_AGENT_ADDR" } else { "VAULT_ADDR" };
    known.push(("address", address.to_owned(), said(source, variable)));
    for (name, variable) in SETTINGS.iter().skip(1) {
        if let Some((value, source)) = context.setting_and_source(name, variable) {
            known.push((name, value.to_owned(), said(source, variable)));
        }
    }
    let token = match context.usual_token_and_source()? {
        None => ("-".to_owned(), "nobody".to_owned()),
        Some((_, Source::Default)) => ("kept".to_owned(), context.token_store()?.shown()),
        Some((_, source)) => ("kept".to_owned(), said(source, "VAULT_TOKEN")),
    };
    known.push(("token", token.0, token.1));
    let entry = |(name, value, source): &(&str, String, String)| {
        ((*name).to_owned(), json!({ "value": value, "source": source }).into())
    };
    let document = Document::Object(vec![
        ("context".to_owned(), json!(name).into()),
        ("settings".to_owned(), Document::Object(known.iter().map(entry).collect())),
    ]);
    let rows: Vec<Vec<String>> =
        known.into_iter().map(|(name, value, source)| vec![name.to_owned(), value, source]).collect();
    context.print_document(document, || table(&["Setting", "Value", "Said By"], &rows))
}

fn remove(context: &mut Context<'_, '_>) -> Outcome {
    let [name] = context.arguments()?;
    let place = place(context)?;
    let mut contexts = place.load()?;
    contexts.settings_of(&name)?;
    contexts.by_name.remove(&name);
    if contexts.current.as_ref() == Some(&name) {
        contexts.current = None;
    }
    TokenStore::File(place.token_file(&name))
        .forget()
        .map_err(|error| Failure::local(format!("Error removing its token: {error}")))?;
    place.store(&contexts)?;
    context.io.say(&format!("Success! Removed context: {name}"));
    Ok(0)
}
