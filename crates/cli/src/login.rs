//! `login`: an authentication method's answer becomes the kept token.
//!
//! Methods are paths with parameters; those with a secret ask for it without echo. Deliberately absent: methods that
//! need a browser or a cloud's own signatures.

use serde_json::{Map, Value, json};
use tresor_client::Method;
use tresor_secret::TokenSecret;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome, trim_path};
use crate::envelope::Envelope;
use crate::failure::Failure;
use crate::flags::{CONNECTION, FIELD, FORMAT, Flag, switch, text};
use crate::key_values;
use crate::output::Format;

const FLAGS: &[Flag] = &[
    text(
        "method",
        "Authentication method: token, userpass, ldap, okta, radius, approle, github, jwt, cert. Default: token.",
    ),
    text("path", "Where the method is mounted, when that is not its name."),
    switch("no-store", "Do not keep the token."),
    switch("no-print", "Do not print the token."),
    switch("token-only", "Print nothing but the token, and do not keep it."),
];

pub(crate) const COMMANDS: &[Command] = &[Command {
    words: &["login"],
    examples: &["login", "login -method=userpass username=ada"],
    arguments: "[options] [TOKEN | KEY=VALUE...]",
    about: "Log in and keep the token for later commands. Missing secrets are asked for.",
    flags: &[CONNECTION, FORMAT, FIELD, FLAGS],
    action: Action::Run(login),
}];

fn login(context: &mut Context<'_, '_>) -> Outcome {
    let method = context.flag("method").unwrap_or("token").to_owned();
    let token_only = context.flags.switch("token-only");
    let keep = !(context.flags.switch("no-store") || token_only);
    let answer = if method == "token" { with_token(context)? } else { with_method(context, &method)? };
    if answer.is_wrapped() {
        return context.print_envelope(&answer);
    }
    let token = answer.auth_field("client_token").and_then(Value::as_str).unwrap_or_default();
    let token =
        TokenSecret::parse(token).map_err(|_| Failure::remote("Error authenticating: the server returned no token"))?;
    let mut kept = false;
    if keep {
        let stored = context.token_store()?.store(&token);
        stored.map_err(|error| Failure::local(format!("Error storing token: {error}")))?;
        kept = true;
    }
    if token_only {
        context.io.say_bare(token.expose());
        return Ok(0);
    }
    if context.flags.switch("no-print") {
        return Ok(0);
    }
    if context.flag("field").is_none() && context.format()? == Format::Table {
        let of_context = context.context_of_requests().filter(|_| kept).map(|it| (it.name.clone(), it.by_flag));
        let is_first = of_context.as_ref().is_some_and(|(_, by_flag)| *by_flag);
        if kept && context.environment.variable("VAULT_TOKEN").is_some() && !is_first {
            context.io.complain("WARNING! The VAULT_TOKEN environment variable is set! It wins over the kept token.\n");
        }
        context.io.say(&match of_context {
            Some((name, _)) => {
                format!("Success! You are now authenticated. The token below is kept for the context {name}.\n")
            }
            None if kept => "Success! You are now authenticated. The token below is kept for later commands.\n".into(),
            None => {
                "Success! You are now authenticated. The token below was not kept: pass it in VAULT_TOKEN.\n".into()
            }
        });
    }
    context.print_envelope(&answer)
}

/// Checks a token by looking it up, and answers as a login does.
fn with_token(context: &mut Context<'_, '_>) -> Result<Envelope, Failure> {
    let given = match context.flags.arguments.as_slice() {
        [] => None,
        [argument] => Some(argument.strip_prefix("token=").unwrap_or(argument).to_owned()),
        _ => return Err(Failure::Usage("too many arguments (expected at most 1)".to_owned())),
    };
    let given = match given {
        Some(dash) if dash == "-" => {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut context.io.input, &mut text)
                .map_err(|error| Failure::local(format!("Error reading standard input: {error}")))?;
            text
        }
        Some(token) => token,
        None => context.ask("Token (will be hidden): ")?.expose().clone(),
    };
    let refused = |error: tresor_secret::TokenTextError| Failure::local(format!("Error authenticating: {error}"));
    let token = TokenSecret::parse(given.trim()).map_err(refused)?;
    context.use_token(Some(TokenSecret::parse(token.expose()).map_err(refused)?));
    let answer = context
        .send(Method::Get, "auth/token/lookup-self", &[], None)
        .map_err(|failure| failure.during("authenticating: error looking up token"))?
        .map(Envelope::new)
        .ok_or_else(|| Failure::remote("Error authenticating: empty answer from token lookup"))?;
    if answer.is_wrapped() {
        return Ok(answer);
    }
    let field = |name: &str| answer.data_field(name).cloned().unwrap_or(Value::Null);
    Ok(Envelope::new(json!({
        "request_id": "",
        "auth": {
            "client_token": token.expose(),
            "accessor": field("accessor"),
            "policies": field("policies"),
            "token_policies": field("policies"),
            "identity_policies": field("identity_policies"),
            "metadata": field("meta"),
            "orphan": field("orphan"),
            "entity_id": field("entity_id"),
            "lease_duration": field("ttl"),
            "renewable": field("renewable").as_bool().unwrap_or(false),
            "mfa_requirement": null,
        },
    })))
}

fn with_method(context: &mut Context<'_, '_>, method: &str) -> Result<Envelope, Failure> {
    let arguments = context.flags.arguments.clone();
    let mut fields = key_values::parse_texts(&arguments, &mut *context.io.input)
        .map_err(|error| Failure::local(format!("Error parsing configuration: {error}")))?;
    let mount = context.flag("path").map(trim_path);
    let mount = match (mount, fields.remove("mount").and_then(|mount| mount.as_str().map(trim_path))) {
        (Some(mount), _) | (None, Some(mount)) => mount,
        (None, None) => method.to_owned(),
    };
    let mount = mount.strip_prefix("auth/").unwrap_or(&mount).to_owned();
    let path = match method {
        "userpass" | "ldap" | "okta" | "radius" => {
            let name = match fields.remove("username").and_then(|name| name.as_str().map(str::to_owned)) {
                Some(name) if !name.is_empty() => name,
                _ => context
                    .environment
                    .variable("USER")
                    .map(str::to_owned)
                    .filter(|_| method == "ldap")
                    .ok_or_else(|| Failure::local("Error authenticating: `username` must be specified"))?,
            };
            require_secret(context, &mut fields, "password", "Password (will be hidden): ")?;
            format!("auth/{mount}/login/{name}")
        }
        "github" => {
            require_secret(context, &mut fields, "token", "GitHub Personal Access Token (will be hidden): ")?;
            format!("auth/{mount}/login")
        }
        "approle" | "jwt" | "cert" | "kubernetes" => format!("auth/{mount}/login"),
        other => {
            return Err(Failure::Usage(format!("unknown auth method `{other}`: write to auth/<path>/login instead")));
        }
    };
    context.use_token(None);
    context
        .change(Method::Put, &path, Some(&Value::Object(fields)))
        .map_err(|failure| failure.during("authenticating"))?
        .ok_or_else(|| Failure::remote("Error authenticating: empty answer"))
}

fn require_secret(
    context: &mut Context<'_, '_>,
    fields: &mut Map<String, Value>,
    name: &str,
    prompt: &str,
) -> Result<(), Failure> {
    if !fields.contains_key(name) {
        let secret = context.ask(prompt)?;
        fields.insert(name.to_owned(), Value::String(secret.expose().clone()));
    }
    Ok(())
}
