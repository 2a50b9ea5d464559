//! The expansions of `#[derive(Record)]` and `#[derive(Part)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, LitInt, LitStr, Result, Type};

pub(crate) fn expand_record(input: &DeriveInput) -> Result<TokenStream> {
    let (mut kind, mut version, mut previous) = (None::<LitStr>, None::<LitInt>, None::<Type>);
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("record")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("kind") {
                kind = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("version") {
                version = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("previous") {
                previous = Some(meta.value()?.parse()?);
            } else {
                return Err(meta.error("unknown option: one of kind, version, previous"));
            }
            Ok(())
        })?;
    }
    let name = &input.ident;
    let kind =
        kind.ok_or_else(|| Error::new_spanned(name, "a record needs `#[record(kind = \"..\", version = 1)]`"))?;
    let version = version.ok_or_else(|| Error::new_spanned(name, "a record needs a version"))?;
    let (write, read) = struct_body(input)?;
    let older = previous.map_or_else(
        || {
            quote!(::core::result::Result::Err(::tresor_record::RecordError::UnknownVersion {
                kind: Self::KIND,
                version: found
            }))
        },
        |previous| quote!(<#previous as ::tresor_record::Record>::decode(bytes).map(::core::convert::Into::into)),
    );
    Ok(quote! {
        #[automatically_derived]
        impl ::tresor_record::Record for #name {
            const KIND: &'static str = #kind;
            const VERSION: u8 = #version;

            fn encode(&self) -> ::tresor_record::Encoded {
                let mut writer = ::tresor_record::Writer::new();
                ::tresor_record::Part::write(&<Self as ::tresor_record::Record>::VERSION, &mut writer);
                #write
                writer.finish()
            }

            fn decode(bytes: &[u8]) -> ::core::result::Result<Self, ::tresor_record::RecordError> {
                let mut reader = ::tresor_record::Reader::new(Self::KIND, bytes);
                let found = <u8 as ::tresor_record::Part>::read(&mut reader)?;
                if found != <Self as ::tresor_record::Record>::VERSION {
                    return #older;
                }
                let record = #read;
                reader.finish()?;
                ::core::result::Result::Ok(record)
            }
        }
    })
}

/// Statements that write every field of `self`, and an expression that reads them all.
fn struct_body(input: &DeriveInput) -> Result<(TokenStream, TokenStream)> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(input, "a record is a struct"));
    };
    match &data.fields {
        Fields::Named(fields) => {
            let names: Vec<_> = fields.named.iter().filter_map(|field| field.ident.as_ref()).collect();
            Ok((
                quote! { #( ::tresor_record::Part::write(&self.#names, &mut writer); )* },
                quote! { Self { #( #names: ::tresor_record::Part::read(&mut reader)? ),* } },
            ))
        }
        Fields::Unnamed(_) | Fields::Unit => Err(Error::new_spanned(input, "name the fields of what is stored")),
    }
}

pub(crate) fn expand_part(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let (write, read) = match &input.data {
        Data::Struct(_) => {
            let (write, read) = struct_body(input)?;
            (
                quote! { let mut writer = writer; #write },
                quote! { let mut reader = reader; ::core::result::Result::Ok(#read) },
            )
        }
        Data::Enum(data) => enum_body(data)?,
        Data::Union(_) => return Err(Error::new_spanned(input, "unions cannot be stored")),
    };
    Ok(quote! {
        #[automatically_derived]
        impl ::tresor_record::Part for #name {
            #[allow(unused_mut, unused_variables, reason = "fieldless types use neither")]
            fn write(&self, writer: &mut ::tresor_record::Writer) {
                #write
            }

            #[allow(unused_mut, unused_variables, reason = "fieldless types use neither")]
            fn read(
                reader: &mut ::tresor_record::Reader<'_>,
            ) -> ::core::result::Result<Self, ::tresor_record::RecordError> {
                #read
            }
        }
    })
}

fn enum_body(data: &syn::DataEnum) -> Result<(TokenStream, TokenStream)> {
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for variant in &data.variants {
        let mut tag = None::<LitInt>;
        for attribute in variant.attrs.iter().filter(|attribute| attribute.path().is_ident("part")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("tag") {
                    tag = Some(meta.value()?.parse()?);
                    return Ok(());
                }
                Err(meta.error("unknown option: tag"))
            })?;
        }
        let tag = tag.ok_or_else(|| Error::new_spanned(variant, "every variant needs `#[part(tag = ..)]`"))?;
        let name = &variant.ident;
        let (pattern, fields): (TokenStream, Vec<_>) = match &variant.fields {
            Fields::Unit => (quote!(Self::#name), Vec::new()),
            Fields::Unnamed(fields) => {
                let names: Vec<_> = (0..fields.unnamed.len()).map(|at| quote::format_ident!("part_{at}")).collect();
                (quote!(Self::#name(#(#names),*)), names)
            }
            Fields::Named(fields) => {
                let names: Vec<_> = fields.named.iter().filter_map(|field| field.ident.clone()).collect();
                (quote!(Self::#name { #(#names),* }), names)
            }
        };
        writes.push(quote! {
            #pattern => {
                <u8 as ::tresor_record::Part>::write(&#tag, writer);
                #( ::tresor_record::Part::write(#fields, writer); )*
            }
        });
        reads.push(quote! {
            #tag => {
                #( let #fields = ::tresor_record::Part::read(reader)?; )*
                ::core::result::Result::Ok(#pattern)
            }
        });
    }
    Ok((
        quote! { match self { #(#writes)* } },
        quote! {
            match <u8 as ::tresor_record::Part>::read(reader)? {
                #(#reads)*
                tag => ::core::result::Result::Err(reader.unknown_tag(tag)),
            }
        },
    ))
}
