//! The expansion of `#[derive(Input)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Expr, ExprLit, Field, Fields, Lit, LitStr, Meta, Result};

#[derive(Default)]
struct Options {
    name: Option<String>,
    aliases: Vec<String>,
    default: Option<String>,
    path: bool,
    query: bool,
    rest: bool,
    secret: bool,
    flatten: bool,
}

fn options(field: &Field) -> Result<Options> {
    let mut options = Options::default();
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("input")) {
        attribute.parse_nested_meta(|meta| {
            let text = || -> Result<String> { Ok(meta.value()?.parse::<LitStr>()?.value()) };
            if meta.path.is_ident("name") {
                options.name = Some(text()?);
            } else if meta.path.is_ident("alias") {
                options.aliases.push(text()?);
            } else if meta.path.is_ident("default") {
                options.default = Some(text()?);
            } else if meta.path.is_ident("path") {
                options.path = true;
            } else if meta.path.is_ident("query") {
                options.query = true;
            } else if meta.path.is_ident("rest") {
                options.rest = true;
            } else if meta.path.is_ident("secret") {
                options.secret = true;
            } else if meta.path.is_ident("flatten") {
                options.flatten = true;
            } else {
                return Err(
                    meta.error("unknown option: one of path, query, rest, name, alias, default, secret, flatten")
                );
            }
            Ok(())
        })?;
    }
    Ok(options)
}

/// The doc comment of a field, as one line.
pub(crate) fn description(field: &Field) -> String {
    let lines = field.attrs.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join(" ")
}

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(input, "Input can be derived for structs only"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new_spanned(input, "Input needs named fields"));
    };
    let (mut specs, mut reads, mut names) = (Vec::new(), Vec::new(), Vec::new());
    let (mut rest, mut flattened) = (None, Vec::new());
    for field in &fields.named {
        let options = options(field)?;
        let Some(ident) = &field.ident else { continue };
        let kind = &field.ty;
        if options.flatten {
            reads.push(quote! { let #ident = <#kind as ::tresor_wire::input::Input>::take(fields)?; });
            flattened.push(kind);
            names.push(ident.clone());
            continue;
        }
        let name = options.name.unwrap_or_else(|| ident.to_string().trim_start_matches("r#").to_owned());
        let help = description(field);
        let aliases = &options.aliases;
        let may_be_absent = options.default.is_some() || options.rest;
        let default = options.default.map_or_else(|| quote!(None), |text| quote!(Some(#text)));
        let (query, secret) = (options.query, options.secret);
        let place = if options.rest {
            quote!(Rest)
        } else if options.path {
            quote!(Path)
        } else {
            quote!(Body)
        };
        specs.push(quote! {
            ::tresor_wire::input::FieldSpec {
                name: #name,
                kind: <#kind as ::tresor_wire::input::Form>::KIND,
                default: #default,
                description: #help,
                aliases: &[#(#aliases),*],
                query: #query,
                secret: #secret || <#kind as ::tresor_wire::input::Form>::SECRET,
                required: !#may_be_absent && <#kind as ::tresor_wire::input::Form>::REQUIRED,
                place: ::tresor_wire::input::Place::#place,
            }
        });
        names.push(ident.clone());
        if options.rest {
            if rest.is_some() {
                return Err(Error::new_spanned(field, "only one field can take the rest"));
            }
            rest = Some(quote! { let #ident: ::tresor_model::Map = fields.take_rest(); });
        } else {
            let at = specs.len() - 1;
            reads.push(quote! { let #ident: #kind = fields.take(&OWN[#at])?; });
        }
    }
    let name = &input.ident;
    let all =
        joined(&quote!(::tresor_wire::input::FieldSpec), &quote!(::tresor_wire::input::Input), &specs, &flattened);
    Ok(quote! {
        #[automatically_derived]
        impl ::tresor_wire::input::Input for #name {
            const SPEC: &'static [::tresor_wire::input::FieldSpec] = #all;

            #[allow(
                clippy::indexing_slicing,
                unused_variables,
                dead_code,
                reason = "the index is the field's own position; without fields of its own, a struct has none to take"
            )]
            fn take(
                fields: &mut ::tresor_wire::input::Fields,
            ) -> ::core::result::Result<Self, ::tresor_wire::input::InputError> {
                const OWN: &[::tresor_wire::input::FieldSpec] = &[#(#specs),*];
                #(#reads)*
                #rest
                ::core::result::Result::Ok(Self { #(#names),* })
            }
        }
    })
}

/// The declarations of a struct's own fields, followed by those of the structs that are a part of it.
pub(crate) fn joined(
    declaration: &TokenStream,
    of: &TokenStream,
    own: &[TokenStream],
    flattened: &[&syn::Type],
) -> TokenStream {
    if flattened.is_empty() {
        return quote!(&[#(#own),*]);
    }
    quote! {{
        const PARTS: &[&[#declaration]] = &[&[#(#own),*], #(<#flattened as #of>::SPEC),*];
        const ALL: [#declaration; ::tresor_wire::joined::count(PARTS)] =
            ::tresor_wire::joined::joined(PARTS, #declaration::BLANK);
        &ALL
    }}
}
