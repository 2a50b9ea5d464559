//! The version line. Called `vault`, the program states the API level it stands in for, because tools that start
//! `vault -version` compare its second word with Vault's releases.

use tresor_wire::API_LEVEL;

/// The line for a program of this name.
pub(crate) fn text(program: &str) -> String {
    let release = env!("CARGO_PKG_VERSION");
    match program {
        "vault" => format!("Vault v{API_LEVEL} (tresor {release})"),
        _ => format!("Tresor v{release}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_word_is_a_plain_version() {
        assert!(text("vault").starts_with("Vault v1.16.3 (tresor "));
        assert!(text("tresor").starts_with("Tresor v0."));
    }
}
