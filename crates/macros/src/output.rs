//! The expansion of `#[derive(Output)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Field, Fields, LitStr, Result};

use crate::input::{description, joined};

#[derive(Default)]
struct Options {
    name: Option<String>,
    optional: bool,
    rest: bool,
    secret: bool,
    flatten: bool,
}

fn options(field: &Field) -> Result<Options> {
    let mut options = Options::default();
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("output")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("name") {
                options.name = Some(meta.value()?.parse::<LitStr>()?.value());
            } else if meta.path.is_ident("optional") {
                options.optional = true;
            } else if meta.path.is_ident("rest") {
                options.rest = true;
            } else if meta.path.is_ident("secret") {
                options.secret = true;
            } else if meta.path.is_ident("flatten") {
                options.flatten = true;
            } else {
                return Err(meta.error("unknown option: one of name, optional, rest, secret, flatten"));
            }
            Ok(())
        })?;
    }
    Ok(options)
}

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(input, "Output can be derived for structs only"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new_spanned(input, "Output needs named fields"));
    };
    let (mut specs, mut writes, mut flattened) = (Vec::new(), Vec::new(), Vec::new());
    for field in &fields.named {
        let options = options(field)?;
        let Some(ident) = &field.ident else { continue };
        let kind = &field.ty;
        let help = description(field);
        let secret = options.secret;
        if options.flatten {
            writes.push(quote! { map.extend(::tresor_wire::output::Output::into_map(self.#ident)); });
            flattened.push(kind);
            continue;
        }
        if options.rest {
            specs.push(quote! {
                ::tresor_wire::output::OutputSpec {
                    name: "*",
                    kind: ::tresor_wire::input::Kind::Any,
                    description: #help,
                    optional: true,
                    secret: #secret,
                }
            });
            writes.push(quote! { map.extend(self.#ident); });
            continue;
        }
        let name = options.name.unwrap_or_else(|| ident.to_string().trim_start_matches("r#").to_owned());
        let optional = options.optional;
        specs.push(quote! {
            ::tresor_wire::output::OutputSpec {
                name: #name,
                kind: <#kind as ::tresor_wire::output::Shown>::KIND,
                description: #help,
                optional: #optional,
                secret: #secret,
            }
        });
        writes.push(if optional {
            quote! {
                if let ::core::option::Option::Some(value) = self.#ident {
                    map.insert(#name, ::tresor_wire::output::Shown::into_body(value));
                }
            }
        } else {
            quote! { map.insert(#name, ::tresor_wire::output::Shown::into_body(self.#ident)); }
        });
    }
    let name = &input.ident;
    let all =
        joined(&quote!(::tresor_wire::output::OutputSpec), &quote!(::tresor_wire::output::Output), &specs, &flattened);
    Ok(quote! {
        #[automatically_derived]
        impl ::tresor_wire::output::Output for #name {
            const SPEC: &'static [::tresor_wire::output::OutputSpec] = #all;

            fn into_map(self) -> ::tresor_model::Map {
                let mut map = ::tresor_model::Map::new();
                #(#writes)*
                map
            }
        }
    })
}
