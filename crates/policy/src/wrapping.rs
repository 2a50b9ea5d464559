//! The policy of wrapping tokens: they open one answer, and nothing else.

/// Its name. No other token has it, and it cannot be changed.
pub const WRAPPING_POLICY: &str = "response-wrapping";

/// What it says.
pub const WRAPPING_POLICY_TEXT: &str = r#"# What a wrapping token may do, once.
path "sys/wrapping/unwrap" {
    capabilities = ["update"]
}
path "sys/wrapping/rewrap" {
    capabilities = ["update"]
}
# How old clients unwrap.
path "cubbyhole/response" {
    capabilities = ["read"]
}
"#;
