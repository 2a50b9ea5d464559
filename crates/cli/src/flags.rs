//! Flags as Go programs take them: one dash or two, `-name=value` or `-name value`, switches `-name` or
//! `-name=false`, anywhere among the arguments until `--`.
//!
//! A flag is one value with its documentation; help is derived from it, so the two cannot drift apart. That grammar is
//! why this is not an argument-parsing crate: none of them reads `-key-shares=5` as one long name.

use std::collections::BTreeMap;

use crate::similar::nearest;

/// What follows a flag's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing, or `=true` or `=false`.
    Switch,
    /// One value; the last one counts.
    Text,
    /// One value each time; all of them count.
    Repeated,
}

/// One flag.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) about: &'static str,
}

/// A flag without a value.
pub(crate) const fn switch(name: &'static str, about: &'static str) -> Flag {
    Flag { name, kind: Kind::Switch, about }
}

/// A flag with a value.
pub(crate) const fn text(name: &'static str, about: &'static str) -> Flag {
    Flag { name, kind: Kind::Text, about }
}

/// A flag with a value that may be given several times.
pub(crate) const fn repeated(name: &'static str, about: &'static str) -> Flag {
    Flag { name, kind: Kind::Repeated, about }
}

/// Flags of every command that talks to a server.
pub(crate) const CONNECTION: &[Flag] = &[
    text("address", "Address of the server, such as https://127.0.0.1:8200 or unix:///run/vault.sock (VAULT_ADDR)."),
    text("agent-address", "Address of an agent to send requests to, before -address (VAULT_AGENT_ADDR)."),
    text("ca-cert", "PEM file of the certificate authority to trust (VAULT_CACERT)."),
    text("ca-path", "Directory of PEM files of certificate authorities to trust (VAULT_CAPATH)."),
    text("client-cert", "PEM file of the client certificate to present (VAULT_CLIENT_CERT)."),
    text("client-key", "PEM file of the private key of the client certificate (VAULT_CLIENT_KEY)."),
    text("context", "Name of the context to use; it wins over variables (TRESOR_CONTEXT)."),
    switch("disable-redirects", "Follow no redirect of a standby (VAULT_DISABLE_REDIRECTS)."),
    repeated("header", "More headers for the requests, as name=value; may be given several times."),
    repeated("mfa", "Credential for multi-factor authentication, sent along; may be given several times (VAULT_MFA)."),
    text("namespace", "Namespace of the requests (VAULT_NAMESPACE)."),
    text("ns", "Short for -namespace."),
    switch("non-interactive", "Never ask on the terminal; fail instead."),
    switch("output-curl-string", "Print the request as a curl command instead of sending it."),
    switch("output-policy", "Print the rule that the request needs instead of sending it."),
    switch("policy-override", "Ask to override a soft-mandatory policy; sent along."),
    text("tls-server-name", "Name expected in the server's certificate (VAULT_TLS_SERVER_NAME)."),
    switch("tls-skip-verify", "Do not check the server's certificate; unsafe (VAULT_SKIP_VERIFY)."),
    text("wrap-ttl", "Wrap the answer in a single-use token of this lifetime (VAULT_WRAP_TTL)."),
];

/// Choice of the output format.
pub(crate) const FORMAT: &[Flag] =
    &[text("format", "Output as table, json or yaml; read also knows raw (VAULT_FORMAT). Default: table.")];

/// More of what is listed.
pub(crate) const DETAILED: &[Flag] = &[switch("detailed", "Show all that is told of each entry (VAULT_DETAILED).")];

/// Choice of one field.
pub(crate) const FIELD: &[Flag] = &[text("field", "Print only this field, bare, without a newline when piped.")];

/// The flags and arguments of one call.
#[derive(Default)]
pub(crate) struct Parsed {
    values: BTreeMap<&'static str, Vec<String>>,
    /// The arguments that are not flags.
    pub(crate) arguments: Vec<String>,
    /// Whether help was asked for.
    pub(crate) help: bool,
}

impl Parsed {
    /// The last value of a flag.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.last().map(String::as_str)
    }

    /// Every value of a flag.
    pub(crate) fn texts(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// A switch, when it was given.
    pub(crate) fn switch_if_given(&self, name: &str) -> Option<bool> {
        self.text(name).map(|value| value == "true")
    }

    /// Whether a switch is on.
    pub(crate) fn switch(&self, name: &str) -> bool {
        self.switch_if_given(name).unwrap_or(false)
    }
}

/// Sorts arguments into flags and the rest.
///
/// # Errors
/// A sentence about the first argument that is not understood.
pub(crate) fn parse(arguments: &[String], groups: &[&'static [Flag]]) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            parsed.arguments.extend(rest.by_ref().cloned());
            break;
        }
        let Some(body) =
            argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')).filter(|body| !body.is_empty())
        else {
            parsed.arguments.push(argument.clone());
            continue;
        };
        let (name, attached) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        if matches!(name, "h" | "help") {
            parsed.help = true;
            continue;
        }
        let Some(flag) = groups.iter().flat_map(|group| group.iter()).find(|flag| flag.name == name) else {
            return Err(unknown(name, groups));
        };
        let value = match flag.kind {
            Kind::Switch => match attached {
                None => "true".to_owned(),
                Some(value) => boolean(&value)
                    .ok_or_else(|| format!("invalid value `{value}` for flag `-{name}`: true or false expected"))?
                    .to_string(),
            },
            Kind::Text | Kind::Repeated => match attached {
                Some(value) => value,
                None => rest.next().cloned().ok_or_else(|| format!("flag `-{name}` needs a value"))?,
            },
        };
        parsed.values.entry(flag.name).or_default().push(value);
    }
    Ok(parsed)
}

fn unknown(name: &str, groups: &[&'static [Flag]]) -> String {
    match nearest(name, groups.iter().flat_map(|group| group.iter()).map(|flag| flag.name)) {
        Some(meant) => format!("unknown flag `-{name}`: did you mean `-{meant}`?"),
        None => format!("unknown flag `-{name}`"),
    }
}

/// A truth value in any spelling that Go accepts.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// The help of a list of flags, sorted by name.
pub(crate) fn describe(groups: &[&'static [Flag]]) -> String {
    let mut flags: Vec<&Flag> = groups.iter().flat_map(|group| group.iter()).collect();
    flags.sort_by_key(|flag| flag.name);
    let mut help = String::new();
    for flag in flags {
        let value = match flag.kind {
            Kind::Switch => "",
            Kind::Text | Kind::Repeated => "=<value>",
        };
        help.push_str(&format!("  -{}{value}\n      {}\n", flag.name, flag.about));
    }
    help
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const OWN: &[Flag] = &[switch("force", "Force."), text("mount", "Mount."), repeated("policy", "Policy.")];

    fn parse_own(arguments: &[&str]) -> Result<Parsed, String> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        parse(&arguments, &[OWN, FORMAT])
    }

    #[test]
    fn flags_are_found_anywhere_in_every_spelling() {
        let parsed =
            parse_own(&["a", "-mount", "secret", "--format=json", "-policy=x", "-", "-policy", "y", "--force", "k=-v"])
                .unwrap();
        assert_eq!(parsed.arguments, ["a", "-", "k=-v"]);
        assert_eq!((parsed.text("mount"), parsed.text("format")), (Some("secret"), Some("json")));
        assert_eq!(parsed.texts("policy"), ["x", "y"]);
        assert!(parsed.switch("force"));
        assert!(!parse_own(&["-force", "-force=false"]).unwrap().switch("force"));
        assert_eq!(parse_own(&["-mount=a", "--", "-force"]).unwrap().arguments, ["-force"]);
        assert!(parse_own(&["x", "-h"]).unwrap().help);
    }

    #[test]
    fn mistakes_name_the_flag() {
        assert_eq!(parse_own(&["-nope=1"]).err().unwrap(), "unknown flag `-nope`");
        assert_eq!(parse_own(&["-formta=x"]).err().unwrap(), "unknown flag `-formta`: did you mean `-format`?");
        assert_eq!(parse_own(&["-mount"]).err().unwrap(), "flag `-mount` needs a value");
        assert!(parse_own(&["-force=perhaps"]).is_err());
    }

    #[test]
    fn help_lists_every_flag() {
        assert!(describe(&[OWN]).starts_with("  -force\n      Force.\n  -mount=<value>\n"));
    }
}
