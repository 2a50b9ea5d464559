//! `sys/config/cors`, `sys/config/auditing/request-headers` and `sys/config/ui/headers`: from where browsers may ask, which
//! headers are recorded, and which the answers below `/ui` have.
//!
//! Deliberately absent: a refusal of headers that the configuration of a listener has too; those stand before these.

use tresor_core::edge::{AuditedRecord, CorsRecord};
use tresor_engine::{Cx, Data, Keys, Mirrored, Nothing, Warned, Widened};
use tresor_model::{Body, Fault, Map, map};
use tresor_wire::input::{CommaList, EmptyInput, Input};
use tresor_wire::output::Output;

use super::Sys;

/// From where browsers may ask.
#[derive(Input)]
pub(super) struct WriteCors {
    /// Whether they may; what is written at all says so, unless this is false.
    #[input(default = "true")]
    enable: bool,
    /// The origins; `*` alone is every one.
    #[input(default = "")]
    allowed_origins: CommaList,
    /// Headers that they may send beside those of the API.
    #[input(default = "")]
    allowed_headers: CommaList,
    /// Whether browsers may send along what they keep for this server.
    #[input(default = "false")]
    allow_credentials: bool,
}

/// The same as it is shown.
#[derive(Output)]
pub(super) struct CorsShown {
    /// Whether they may.
    enabled: bool,
    /// The origins.
    #[output(optional)]
    allowed_origins: Option<Vec<String>>,
    /// The headers.
    #[output(optional)]
    allowed_headers: Option<Vec<String>>,
    /// Whether browsers may send along what they keep for this server.
    #[output(optional)]
    allow_credentials: Option<bool>,
}

/// A header by its name.
#[derive(Input)]
pub(super) struct ByName {
    /// Its name.
    #[input(path)]
    header: String,
}

/// A header that is to be recorded.
#[derive(Input)]
pub(super) struct Audit {
    /// Its name.
    #[input(path)]
    header: String,
    /// Whether devices show it hashed.
    #[input(default = "false")]
    hmac: bool,
}

/// The headers that are recorded.
#[derive(Output)]
pub(super) struct Audited {
    /// Each by its name.
    headers: Map,
}

pub(super) async fn read_cors(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Mirrored<CorsShown>, Fault> {
    let stored = sys.handles.edge.cors(cx.view.widen(Widened::assertion()))?;
    Ok(Mirrored(CorsShown {
        enabled: stored.is_some(),
        allowed_headers: stored.as_ref().map(CorsRecord::headers),
        allow_credentials: stored.as_ref().map(|cors| cors.allow_credentials),
        allowed_origins: stored.map(|cors| cors.allowed_origins),
    }))
}

pub(super) async fn write_cors(sys: &Sys, mut cx: Cx<'_>, input: WriteCors) -> Result<Nothing, Fault> {
    let txn = cx.view.widen(Widened::assertion());
    if !input.enable {
        sys.handles.edge.write_cors(txn, None)?;
        return Ok(Nothing);
    }
    let (origins, headers) = (input.allowed_origins.0, input.allowed_headers.0);
    if origins.is_empty() {
        return Err(Fault::invalid("at least one origin or the wildcard must be provided"));
    }
    if origins.len() > 1 && origins.iter().any(|origin| origin == "*") {
        return Err(Fault::invalid("to allow all origins the '*' must be the only value for allowed_origins"));
    }
    let is_visible = |text: &String| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !origins.iter().chain(&headers).all(is_visible) {
        return Err(Fault::invalid("origins and names of headers are visible ASCII characters without blanks"));
    }
    let allow_credentials = input.allow_credentials;
    let cors = CorsRecord { allowed_origins: origins, allowed_headers: headers, allow_credentials };
    sys.handles.edge.write_cors(txn, Some(&cors))?;
    Ok(Nothing)
}

pub(super) async fn delete_cors(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Nothing, Fault> {
    sys.handles.edge.write_cors(cx.view.widen(Widened::assertion()), None)?;
    Ok(Nothing)
}

fn shown(hmac: bool) -> Body {
    Body::from(map! { "hmac" => hmac })
}

pub(super) async fn audited(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Mirrored<Audited>, Fault> {
    let stored = sys.handles.edge.audited_headers(cx.view.widen(Widened::assertion()))?;
    Ok(Mirrored(Audited { headers: stored.into_iter().map(|(name, hmac)| (name, shown(hmac))).collect() }))
}

pub(super) async fn audited_one(sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Mirrored<Map>, Fault> {
    let stored = sys.handles.edge.audited_headers(cx.view.widen(Widened::assertion()))?;
    let hmac = stored.get(&input.header.to_ascii_lowercase());
    let hmac = hmac.ok_or_else(|| Fault::invalid("Could not find header in config"))?;
    // Clients look for the name that they asked for.
    Ok(Mirrored(Map::new().with(input.header, shown(*hmac))))
}

pub(super) async fn audit(sys: &Sys, mut cx: Cx<'_>, input: Audit) -> Result<Nothing, Fault> {
    let record = AuditedRecord { hmac: input.hmac };
    sys.handles.edge.write_audited(cx.view.widen(Widened::assertion()), &input.header, Some(record))?;
    Ok(Nothing)
}

pub(super) async fn unaudit(sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    sys.handles.edge.write_audited(cx.view.widen(Widened::assertion()), &input.header, None)?;
    Ok(Nothing)
}

/// A header of answers below `/ui`, and how it is to be shown.
#[derive(Input)]
pub(super) struct WhichOfPages {
    /// Its name.
    #[input(path)]
    header: String,
    /// Whether all of its values are shown.
    #[input(query, default = "false")]
    multivalue: bool,
}

/// A header that answers below `/ui` are to have.
#[derive(Input)]
pub(super) struct WriteOfPages {
    /// Its name.
    #[input(path)]
    header: String,
    /// Its values.
    #[input(default = "")]
    values: Vec<String>,
    /// Whether all of its values are shown: of no meaning where it is written.
    #[input(default = "false")]
    multivalue: bool,
}

/// A header of answers below `/ui`.
#[derive(Output)]
pub(super) struct OfPages {
    /// Its first value.
    #[output(optional)]
    value: Option<String>,
    /// All of its values.
    #[output(optional)]
    values: Option<Vec<String>>,
}

pub(super) async fn of_pages(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Keys, Fault> {
    let stored = sys.handles.edge.stored_page_headers(cx.view.widen(Widened::assertion()))?;
    Ok(Keys(stored.into_values().map(|header| header.name).collect()))
}

pub(super) async fn one_of_pages(
    sys: &Sys,
    mut cx: Cx<'_>,
    input: WhichOfPages,
) -> Result<Option<Data<OfPages>>, Fault> {
    let mut stored = sys.handles.edge.stored_page_headers(cx.view.widen(Widened::assertion()))?;
    let found = stored.remove(&input.header.to_ascii_lowercase()).map(|header| header.values);
    Ok(found.map(|values| {
        Data(if input.multivalue {
            OfPages { value: None, values: Some(values) }
        } else {
            OfPages { value: values.into_iter().next(), values: None }
        })
    }))
}

/// Unlike other writes this is answered with a body, as in the reference.
pub(super) async fn write_of_pages(sys: &Sys, mut cx: Cx<'_>, input: WriteOfPages) -> Result<Warned<Data<Map>>, Fault> {
    let _ = input.multivalue;
    let name = input.header.to_ascii_lowercase();
    if input.values.is_empty() {
        return Err(Fault::invalid("header and values must be specified"));
    }
    if name.starts_with("x-vault-") {
        return Err(Fault::invalid("X-Vault headers cannot be set"));
    }
    let txn = cx.view.widen(Widened::assertion());
    sys.handles.edge.write_page_header(txn, &input.header, Some(input.values))?;
    let warning = "overriding default Content-Security-Policy which is secure by default, proceed with caution";
    let warnings = if name == "content-security-policy" { vec![warning.to_owned()] } else { Vec::new() };
    Ok(Warned(Data(Map::new()), warnings))
}

pub(super) async fn delete_of_pages(sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    sys.handles.edge.write_page_header(cx.view.widen(Widened::assertion()), &input.header, None)?;
    Ok(Nothing)
}
