//! `sim`: any number of seeds, or one with its history.

fn main() {}
