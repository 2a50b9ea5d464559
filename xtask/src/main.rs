//! Placeholder until the tools land.
fn main() {}
