//! `sys/raw`: what is stored, record by record, where the operator opened it (`raw_storage_endpoint`) and in recovery mode.
//!
//! A record is bytes of our own spelling, so it is asked for and sent as base64; nothing of it is compressed. Deliberately absent:
//! what lies outside the barrier (`tresor_core::raw`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_barrier::Txn;
use tresor_core::raw;
use tresor_engine::{Cx, Data, Keys, Nothing, Widened};
use tresor_model::{Fault, Refusal};
use tresor_secret::SecretString;
use tresor_wire::input::Input;
use tresor_wire::output::Output;

use super::Sys;

/// How many names a page has where nobody says it.
const PAGE: usize = 100_000;

/// Which record.
#[derive(Input)]
pub(crate) struct Which {
    /// Its whole name.
    #[input(path)]
    path: String,
    /// Nothing that is stored is compressed: says nothing.
    #[input(query)]
    compressed: Option<bool>,
    /// `base64`, or nothing for text.
    #[input(query, default = "")]
    encoding: String,
}

/// A record to write.
#[derive(Input)]
pub(crate) struct Written {
    /// Its whole name.
    #[input(path)]
    path: String,
    /// What it is to hold.
    #[input(secret)]
    value: Option<SecretString>,
    /// `base64`, or nothing for text.
    #[input(default = "")]
    encoding: String,
    /// Nothing that is stored is compressed: empty.
    #[input(default = "")]
    compression_type: String,
}

/// Which directory.
#[derive(Input)]
pub(crate) struct Directory {
    /// Its whole name.
    #[input(path)]
    path: String,
    /// The name that the page begins behind.
    #[input(query, default = "")]
    after: String,
    /// How many names it has at most.
    #[input(query, default = "0")]
    limit: i64,
}

/// A record.
#[derive(Output)]
pub(crate) struct Shown {
    /// What it holds.
    #[output(secret)]
    value: String,
}

fn checked(encoding: &str) -> Result<bool, Fault> {
    match encoding {
        "" => Ok(false),
        "base64" => Ok(true),
        _ => Err(Fault::invalid(format!("invalid encoding {encoding:?}"))),
    }
}

/// Shows a record.
pub(crate) fn show(txn: &mut Txn, which: &Which) -> Result<Option<Data<Shown>>, Fault> {
    let is_base64 = checked(&which.encoding)?;
    // Whichever is said, it is stored as it is.
    let _ = which.compressed;
    let Some(bytes) = raw::read(txn, &which.path)? else { return Ok(None) };
    let value = if is_base64 {
        STANDARD.encode(&bytes)
    } else {
        String::from_utf8(bytes)
            .map_err(|_| Fault::invalid("the record is no text: ask for it with encoding=base64"))?
    };
    Ok(Some(Data(Shown { value })))
}

/// Writes a record.
pub(crate) fn put(txn: &mut Txn, written: &Written) -> Result<(), Fault> {
    let is_base64 = checked(&written.encoding)?;
    if !written.compression_type.is_empty() {
        return Err(Fault::invalid(format!("invalid compression type {:?}", written.compression_type)));
    }
    let value = written.value.as_ref().ok_or_else(|| Fault::invalid("'value' must be given"))?.expose();
    let bytes = if is_base64 {
        STANDARD.decode(value).map_err(|_| Fault::invalid("'value' is not base64"))?
    } else {
        value.clone().into_bytes()
    };
    raw::write(txn, &written.path, &bytes)
}

/// A page of names.
pub(crate) fn names(txn: &mut Txn, directory: &Directory) -> Result<Keys, Fault> {
    let limit = usize::try_from(directory.limit).ok().filter(|limit| *limit > 0).unwrap_or(PAGE);
    let after = Some(directory.after.as_str()).filter(|after| !after.is_empty());
    Ok(Keys(raw::list(txn, &directory.path, after, limit)?))
}

/// The record that is to be deleted.
pub(crate) fn remove(txn: &mut Txn, which: &Which) -> Result<(), Fault> {
    raw::delete(txn, &which.path)
}

/// The transaction, where the operator opened this.
fn opened<'c>(sys: &Sys, cx: &'c mut Cx<'_>) -> Result<&'c mut Txn, Fault> {
    if !sys.handles.settings.has_raw_storage {
        let text = "sys/raw is not open: `raw_storage_endpoint` in the configuration opens it";
        return Err(Refusal::Absent(text.into()).into());
    }
    Ok(cx.view.widen(Widened::assertion()))
}

pub(super) async fn read(sys: &Sys, mut cx: Cx<'_>, input: Which) -> Result<Option<Data<Shown>>, Fault> {
    show(opened(sys, &mut cx)?, &input)
}

pub(super) async fn write(sys: &Sys, mut cx: Cx<'_>, input: Written) -> Result<Nothing, Fault> {
    put(opened(sys, &mut cx)?, &input).map(|()| Nothing)
}

pub(super) async fn delete(sys: &Sys, mut cx: Cx<'_>, input: Which) -> Result<Nothing, Fault> {
    remove(opened(sys, &mut cx)?, &input).map(|()| Nothing)
}

pub(super) async fn list(sys: &Sys, mut cx: Cx<'_>, input: Directory) -> Result<Keys, Fault> {
    names(opened(sys, &mut cx)?, &input)
}
