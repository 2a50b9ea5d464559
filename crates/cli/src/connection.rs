//! What a client is made of: flags win over environment variables, those over the context in use, that over defaults.
//!
//! A context that a flag names is as good as flags: it wins over variables, too. A context's token goes to that context's
//! address and to no other. Deliberately absent: finding servers by SRV records, which is refused rather than not done.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tresor_client::{Client, ClientConfig, Method, RateLimit, Verification};
use tresor_secret::{SecretString, TokenSecret};

use crate::context::{Context, TokenChoice, seconds_if_bare};
use crate::contexts::InUse;
use crate::failure::Failure;
use crate::flags;
use crate::key_values;
use crate::token_helper::TokenStore;

const DEFAULT_ADDRESS: &str = "https://127.0.0.1:8200";

impl Context<'_, '_> {
    /// The flag, or else the variable, or else what the context in use says.
    pub(crate) fn setting(&self, flag: &str, variable: &str) -> Option<&str> {
        self.setting_and_source(flag, variable).map(|(value, _)| value)
    }

    /// The same, and who said it.
    pub(crate) fn setting_and_source(&self, flag: &str, variable: &str) -> Option<(&str, Source)> {
        let in_use = self.in_use.as_ref();
        let of_context = |source: Source| Some((in_use?.settings.get(flag)?.as_str(), source));
        self.flag(flag)
            .map(|value| (value, Source::Flag))
            .or_else(|| of_context(Source::NamedContext).filter(|_| in_use.is_some_and(|in_use| in_use.by_flag)))
            .or_else(|| Some((self.environment.variable(variable)?, Source::Variable)))
            .or_else(|| of_context(Source::Context))
    }

    /// The namespace of requests.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.flag("ns").or_else(|| self.setting("namespace", "VAULT_NAMESPACE"))
    }

    /// The server's address.
    pub(crate) fn address(&self) -> String {
        let (address, _) = self.address_and_source();
        address.trim_end_matches('/').to_owned()
    }

    /// The server's address as it was given, and who gave it. An agent's comes before a server's of the same source.
    pub(crate) fn address_and_source(&self) -> (&str, Source) {
        let direct = self.setting_and_source("address", "VAULT_ADDR");
        match (self.setting_and_source("agent-address", "VAULT_AGENT_ADDR"), direct) {
            (Some(agent), Some(direct)) if direct.1 < agent.1 => direct,
            (Some(agent), _) => agent,
            (None, Some(direct)) => direct,
            (None, None) => (DEFAULT_ADDRESS, Source::Default),
        }
    }

    /// The context whose address requests go to.
    pub(crate) fn context_of_requests(&self) -> Option<&InUse> {
        self.in_use.as_ref().filter(|in_use| {
            in_use.settings.get("address").is_some_and(|address| address.trim_end_matches('/') == self.address())
        })
    }

    /// Where a login leaves its token, and later commands find it.
    pub(crate) fn token_store(&self) -> Result<TokenStore, Failure> {
        match self.context_of_requests() {
            Some(in_use) => Ok(TokenStore::File(in_use.token_file.clone())),
            None => TokenStore::usual(self.environment)
                .map_err(|error| Failure::local(format!("Error finding the kept token: {error}"))),
        }
    }

    /// The token that the environment or an earlier login gives.
    pub(crate) fn usual_token(&self) -> Result<Option<TokenSecret>, Failure> {
        Ok(self.usual_token_and_source()?.map(|(token, _)| token))
    }

    /// The same, and who gave it.
    pub(crate) fn usual_token_and_source(&self) -> Result<Option<(TokenSecret, Source)>, Failure> {
        let kept = || {
            let token = self.token_store()?.load();
            token.map_err(|error| Failure::local(format!("Error reading the kept token: {error}")))
        };
        if self.context_of_requests().is_some_and(|in_use| in_use.by_flag)
            && let Some(token) = kept()?
        {
            return Ok(Some((token, Source::Context)));
        }
        if let Some(token) = self.environment.variable("VAULT_TOKEN") {
            let token = TokenSecret::parse(token.trim());
            let token = token.map_err(|error| Failure::local(format!("VAULT_TOKEN: {error}")))?;
            return Ok(Some((token, Source::Variable)));
        }
        let source = if self.context_of_requests().is_some() { Source::Context } else { Source::Default };
        Ok(kept()?.map(|token| (token, source)))
    }

    fn truth(&self, flag: &str, variable: &str) -> Result<bool, Failure> {
        match self.setting(flag, variable) {
            None => Ok(false),
            Some(text) => flags::boolean(text)
                .ok_or_else(|| Failure::local(format!("{variable}: `{text}` is neither true nor false"))),
        }
    }

    /// How requests reach the server, and as whom.
    pub(crate) fn config(&mut self) -> Result<ClientConfig, Failure> {
        let text = |name: &str| self.environment.variable(name);
        let unreadable = |name: &str, text: &str, kind: &str| Failure::local(format!("{name}: `{text}` is not {kind}"));
        let timeout = match text("VAULT_CLIENT_TIMEOUT") {
            None => Duration::from_secs(60),
            Some(text) => parse_duration(text).ok_or_else(|| unreadable("VAULT_CLIENT_TIMEOUT", text, "a duration"))?,
        };
        let retries_max = match text("VAULT_MAX_RETRIES") {
            None => 2,
            Some(text) => text.parse().map_err(|_| unreadable("VAULT_MAX_RETRIES", text, "a number"))?,
        };
        let rate_limit = match text("VAULT_RATE_LIMIT") {
            None => None,
            Some(text) => {
                let limit = RateLimit::parse(text);
                Some(limit.ok_or_else(|| unreadable("VAULT_RATE_LIMIT", text, "a rate such as 10 or 10:20"))?)
            }
        };
        let address = self.address();
        if text("VAULT_SRV_LOOKUP").and_then(flags::boolean) == Some(true) && !has_port(&address) {
            return Err(Failure::local(
                "VAULT_SRV_LOOKUP: servers are not found by SRV records here; give an address with its port",
            ));
        }
        let file = |value: Option<&str>| value.map(PathBuf::from);
        let authority = file(self.setting("ca-cert", "VAULT_CACERT"));
        let (certificate, key) =
            (self.setting("client-cert", "VAULT_CLIENT_CERT"), self.setting("client-key", "VAULT_CLIENT_KEY"));
        let identity = match (text("VAULT_CLIENT_CERT_BYTES"), text("VAULT_CLIENT_KEY_BYTES")) {
            (Some(chain), Some(bytes)) if certificate.is_none() && key.is_none() => {
                Some((chain.to_owned(), Arc::new(SecretString::new(bytes.to_owned()))))
            }
            _ => None,
        };
        let skips = self.truth("tls-skip-verify", "VAULT_SKIP_VERIFY")?;
        let config = ClientConfig {
            address,
            ca_certificate: text("VAULT_CACERT_BYTES").filter(|_| authority.is_none()).map(str::to_owned),
            ca_certificate_file: authority,
            ca_certificate_directory: file(self.setting("ca-path", "VAULT_CAPATH")),
            client_certificate_file: file(certificate),
            client_key_file: file(key),
            client_identity: identity,
            tls_server_name: self.setting("tls-server-name", "VAULT_TLS_SERVER_NAME").map(str::to_owned),
            verification: if skips { Verification::Skipped } else { Verification::Full },
            namespace: self.namespace().map(str::to_owned),
            token: None,
            wrap_ttl: self.wrap_ttl().map(seconds_if_bare),
            timeout,
            speaks_http_1: self.speaks_http_1,
            proxy: ["VAULT_PROXY_ADDR", "VAULT_HTTP_PROXY"].into_iter().find_map(text).map(str::to_owned),
            follows_redirect: !self.truth("disable-redirects", "VAULT_DISABLE_REDIRECTS")?,
            retries_max,
            rate_limit,
            headers: self.headers()?,
            ..ClientConfig::default()
        };
        let token = match std::mem::replace(&mut self.token, TokenChoice::Usual) {
            TokenChoice::Usual => self.usual_token()?,
            TokenChoice::Given(token) => token,
        };
        Ok(ClientConfig { token, ..config })
    }

    /// Headers that were asked for one by one.
    fn headers(&self) -> Result<Vec<(String, String)>, Failure> {
        let mut headers = Vec::new();
        for header in self.flags.texts("header") {
            let (name, value) =
                key_values::split(header).map_err(|error| Failure::Usage(format!("flag `-header`: {error}")))?;
            headers.push((name.to_owned(), value.to_owned()));
        }
        if let Some(text) = self.environment.variable("VAULT_HEADERS") {
            let wrong = || Failure::local("VAULT_HEADERS is no JSON object of texts");
            let Ok(Value::Object(fields)) = serde_json::from_str(text) else { return Err(wrong()) };
            for (name, value) in fields {
                headers.push((name, value.as_str().ok_or_else(wrong)?.to_owned()));
            }
        }
        if let Some((name, _)) = headers.iter().find(|(name, _)| name.to_ascii_lowercase().starts_with("x-vault-")) {
            return Err(Failure::local(format!("header `{name}` is reserved")));
        }
        let mut methods: Vec<&str> = self.flags.texts("mfa").iter().map(String::as_str).collect();
        if methods.is_empty() {
            methods.extend(self.environment.variable("VAULT_MFA"));
        }
        headers.extend(methods.into_iter().map(|method| ("X-Vault-MFA".to_owned(), method.to_owned())));
        if self.flags.switch("policy-override") {
            headers.push(("X-Vault-Policy-Override".to_owned(), "true".to_owned()));
        }
        Ok(headers)
    }

    pub(crate) fn connect(&mut self) -> Result<(), Failure> {
        if self.client.is_some() {
            return Ok(());
        }
        let config = self.config()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::local(format!("Error starting the client: {error}")))?;
        let client = runtime
            .block_on(Client::new(config))
            .map_err(|error| Failure::local(format!("Error creating the client: {error}")))?;
        self.client = Some((runtime, client));
        Ok(())
    }

    /// The request as a command line of curl.
    pub(crate) fn curl(
        &mut self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<String, Failure> {
        let quote = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
        let has_token = match &self.token {
            TokenChoice::Usual => self.usual_token()?.is_some(),
            TokenChoice::Given(token) => token.is_some(),
        };
        self.connect()?;
        let Some((_, client)) = &self.client else { return Err(Failure::local("no client")) };
        let url = client.url(method, path, query)?;
        let mut parts = vec!["curl".to_owned()];
        if method.name() != "GET" {
            parts.extend(["-X".to_owned(), method.name().to_owned()]);
        }
        for (option, value) in [
            ("--unix-socket", self.address().strip_prefix("unix://").map(str::to_owned).as_deref()),
            ("--cacert", self.setting("ca-cert", "VAULT_CACERT")),
            ("--capath", self.setting("ca-path", "VAULT_CAPATH")),
            ("--cert", self.setting("client-cert", "VAULT_CLIENT_CERT")),
            ("--key", self.setting("client-key", "VAULT_CLIENT_KEY")),
        ] {
            if let Some(value) = value {
                parts.extend([option.to_owned(), quote(value)]);
            }
        }
        if self.truth("tls-skip-verify", "VAULT_SKIP_VERIFY")? {
            parts.push("--insecure".to_owned());
        }
        let headers = self.headers()?;
        let mut header = |text: String| parts.extend(["-H".to_owned(), text]);
        header("\"X-Vault-Request: true\"".to_owned());
        if has_token {
            // The token itself stays out of terminals and logs.
            header(format!("\"X-Vault-Token: $({} print token)\"", self.program));
        }
        if let Some(namespace) = self.namespace() {
            header(quote(&format!("X-Vault-Namespace: {namespace}")));
        }
        if let Some(ttl) = self.wrap_ttl() {
            header(quote(&format!("X-Vault-Wrap-TTL: {}", seconds_if_bare(ttl))));
        }
        for (name, value) in &headers {
            header(quote(&format!("{name}: {value}")));
        }
        if let Some(body) = body {
            if method == Method::Patch {
                header(quote("Content-Type: application/merge-patch+json"));
            }
            parts.extend(["-d".to_owned(), quote(&body.to_string())]);
        }
        parts.push(if url.contains(['&', '?', '\'', '*']) { quote(&url) } else { url });
        Ok(parts.join(" "))
    }
}

/// Who said something; the earlier wins over the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Flag,
    NamedContext,
    Variable,
    Context,
    Default,
}

/// Whether an address names a port.
fn has_port(address: &str) -> bool {
    let authority = address.split_once("://").map_or(address, |(_, rest)| rest).split('/').next().unwrap_or_default();
    let after_host = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
    after_host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty()) || address.starts_with("unix://")
}

/// `90`, `90s`, `1h30m`, `500ms`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits)?;
        let number: u32 = number.parse().ok()?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at_checked(letters)?;
        let unit = match unit {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            "d" => Duration::from_secs(86400),
            _ => return None,
        };
        total = total.checked_add(unit.checked_mul(number)?)?;
        rest = after;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::collections::BTreeMap;

    use super::*;
    use crate::environment::Environment;
    use crate::flags::{CONNECTION, parse};
    use crate::io::Io;

    #[test]
    fn durations_are_read_in_every_spelling() {
        assert_eq!(parse_duration("90"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("1x"), None);
        assert_eq!(parse_duration("h"), None);
    }

    #[test]
    fn an_address_has_a_port_or_not() {
        for (address, expected) in [
            ("https://a:8200", true),
            ("https://a", false),
            ("https://[::1]", false),
            ("https://[::1]:8200/x", true),
            ("unix:///run/x", true),
        ] {
            assert_eq!(has_port(address), expected, "{address}");
        }
    }

    /// What a setting becomes by a flag, a variable and a context, of which some are there.
    fn chosen(flags: &[&str], variables: &[(&str, &str)], context: Option<bool>) -> (String, Option<String>, bool) {
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let environment = Environment::of_pairs(variables.iter().copied());
        let mut io = Io::of_process();
        let mut it = Context::new(&mut io, &environment, parse(&flags, &[CONNECTION]).ok().unwrap());
        it.in_use = context.map(|by_flag| InUse {
            name: "c".to_owned(),
            settings: BTreeMap::from([
                ("address".to_owned(), "http://context:1/".to_owned()),
                ("namespace".to_owned(), "of-context".to_owned()),
            ]),
            by_flag,
            token_file: "/nowhere".into(),
        });
        (it.address(), it.namespace().map(str::to_owned), it.context_of_requests().is_some())
    }

    #[test]
    fn flags_win_over_variables_and_those_over_a_context_that_no_flag_names() {
        let told = |address: &str, namespace: Option<&str>, is_the_contexts: bool| {
            (address.to_owned(), namespace.map(str::to_owned), is_the_contexts)
        };
        let variables = [("VAULT_ADDR", "http://variable:2"), ("BAO_NAMESPACE", "of-variable")];
        assert_eq!(chosen(&[], &[], None), told(DEFAULT_ADDRESS, None, false));
        assert_eq!(chosen(&[], &[], Some(false)), told("http://context:1", Some("of-context"), true));
        assert_eq!(chosen(&[], &variables, Some(false)), told("http://variable:2", Some("of-variable"), false));
        assert_eq!(chosen(&[], &variables, Some(true)), told("http://context:1", Some("of-context"), true));
        assert_eq!(
            chosen(&["-address=http://flag:3", "-ns=x"], &variables, Some(true)),
            told("http://flag:3", Some("x"), false),
            "a context's token goes nowhere else"
        );
        // An agent comes before the server where both are said in the same way.
        let agent = [("VAULT_ADDR", "http://variable:2"), ("VAULT_AGENT_ADDR", "http://agent:4")];
        assert_eq!(chosen(&[], &agent, None).0, "http://agent:4");
        assert_eq!(chosen(&["-address=http://flag:3"], &agent, None).0, "http://flag:3");
        assert_eq!(chosen(&["-address=http://flag:3", "-agent-address=http://a:5"], &agent, None).0, "http://a:5");
        assert_eq!(chosen(&[], &agent, Some(true)).0, "http://context:1");
    }
}
