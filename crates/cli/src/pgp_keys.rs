//! Public keys as operators name them: a file, base64, or `keybase:NAME`, which is looked up over HTTPS.
//!
//! What is sent to the server is base64, of a file the bytes as they are. The server judges the key. Deliberately absent:
//! everything else that one could do with a key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::context::Context;
use crate::failure::Failure;

/// Where names are looked up, unless `TRESOR_KEYBASE_ADDR` says otherwise.
const KEYBASE: &str = "https://keybase.io";
const KEYBASE_VARIABLE: &str = "TRESOR_KEYBASE_ADDR";

/// The keys of a flag, in order; each may list several.
pub(crate) fn read(context: &Context<'_, '_>, flag: &str) -> Result<Vec<String>, Failure> {
    let named = context.flags.texts(flag).iter().flat_map(|list| list.split(',')).map(str::trim);
    named.filter(|name| !name.is_empty()).map(|name| one(context, name)).collect()
}

/// One key.
pub(crate) fn one(context: &Context<'_, '_>, named: &str) -> Result<String, Failure> {
    if let Some(name) = named.strip_prefix("keybase:") {
        return from_keybase(context, name);
    }
    let file = named.strip_prefix('@').unwrap_or(named);
    match std::fs::read(file) {
        // Files of base64 are common: the command line of before wanted them.
        Ok(bytes) => Ok(match String::from_utf8(bytes) {
            Ok(text) if text.trim_start().starts_with("-----BEGIN") => STANDARD.encode(text),
            Ok(text) => text.split_whitespace().collect(),
            Err(binary) => STANDARD.encode(binary.into_bytes()),
        }),
        Err(_) if !named.starts_with('@') && STANDARD.decode(named).is_ok() => Ok(named.to_owned()),
        Err(error) => Err(Failure::local(format!("Error reading the PGP key {named:?}: {error}"))),
    }
}

fn from_keybase(context: &Context<'_, '_>, name: &str) -> Result<String, Failure> {
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        return Err(Failure::Usage(format!("keybase:{name} is no name: it has letters, digits and underscores")));
    }
    let address = context.environment.variable(KEYBASE_VARIABLE).unwrap_or(KEYBASE);
    let failed = |cause: &dyn std::fmt::Display| {
        Failure::local(format!(
            "Error fetching the PGP key of keybase:{name} from {address}: {cause}\n\nGive the key itself instead: a file of \
             it, or its base64."
        ))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(&error))?;
    let place = format!("{}/{name}/pgp_keys.asc", address.trim_end_matches('/'));
    let text = runtime.block_on(tresor_client::fetch_text(&place)).map_err(|error| failed(&error))?;
    if text.trim_start().starts_with("-----BEGIN") {
        Ok(STANDARD.encode(text))
    } else {
        Err(failed(&"there is no key"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::environment::Environment;
    use crate::flags;
    use crate::io::Io;

    #[test]
    fn who_cannot_look_a_name_up_is_told_why_and_what_to_do() {
        // A port that nobody listens on any more.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let environment = Environment::of_pairs([(KEYBASE_VARIABLE, format!("http://{address}").as_str())]);
        let mut io = Io::of_nobody();
        let context = Context::new(&mut io, &environment, flags::parse(&[], &[]).unwrap());
        let told = match one(&context, "keybase:alice") {
            Err(Failure::Message { code: 1, text }) => text,
            _ => String::new(),
        };
        assert!(told.contains("keybase:alice") && told.contains("refused") && told.contains("a file"), "{told}");
    }
}
