//! `#[derive(Input)]`, `#[derive(Output)]`, `#[derive(Record)]` and `#[derive(Part)]`: one struct gives decoding, schema
//! and help, the data of an answer, or the bytes that are stored.
//!
//! Deliberately absent: any behaviour. What is generated only calls `tresor_wire` and `tresor_record`, where
//! the rules can be read.

mod input;
mod output;
mod record;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Decodes a struct from what a request brings. Attributes of a field, in `#[input(..)]`: `path` (a parameter of the
/// route), `query` (may also come from the query string), `rest` (a `Map` of everything that no other field took),
/// `name = ".."`, `alias = ".."`, `default = ".."` (read as if the client had sent this text), `secret`. The doc
/// comment is the help text.
#[proc_macro_derive(Input, attributes(input))]
pub fn derive_input(tokens: TokenStream) -> TokenStream {
    let parsed = parse_macro_input!(tokens as DeriveInput);
    input::expand(&parsed).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a struct the data of an answer. Attributes of a field, in `#[output(..)]`: `name = ".."`, `optional` (an
/// `Option` that is left out instead of `null`), `rest` (a `Map` whose entries stand beside the fields), `secret`. The
/// doc comment is the help text.
#[proc_macro_derive(Output, attributes(output))]
pub fn derive_output(tokens: TokenStream) -> TokenStream {
    let parsed = parse_macro_input!(tokens as DeriveInput);
    output::expand(&parsed).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Spells a struct as stored bytes with a version: `#[record(kind = "..", version = 2, previous = OlderType)]`.
#[proc_macro_derive(Record, attributes(record))]
pub fn derive_record(tokens: TokenStream) -> TokenStream {
    let parsed = parse_macro_input!(tokens as DeriveInput);
    record::expand_record(&parsed).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Spells a struct (fields in order) or an enum (`#[part(tag = 1)]` on every variant) as a part of a record.
#[proc_macro_derive(Part, attributes(part))]
pub fn derive_part(tokens: TokenStream) -> TokenStream {
    let parsed = parse_macro_input!(tokens as DeriveInput);
    record::expand_part(&parsed).unwrap_or_else(syn::Error::into_compile_error).into()
}
