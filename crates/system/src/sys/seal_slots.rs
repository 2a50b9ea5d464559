//! `sys/seal-slots`: what opens the root key beside each other, one slot for shares and one for each key that opens without them.
//!
//! The path is ours. Deliberately absent: the slot of shares, which is changed by a rekey.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_core::StaticKey;
use tresor_engine::{Cx, Data, Nothing};
use tresor_model::{Body, Fault, Map, map};
use tresor_secret::{DataKey, SecretString};
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use super::Sys;

/// The slots.
#[derive(Output)]
pub(super) struct Slots {
    /// Each with its `id`, its `type` (`shamir`, `static` or the service that keeps its key), `key_id` and `created`.
    slots: Vec<Body>,
}

/// A static key.
#[derive(Input)]
pub(super) struct Key {
    /// Its id, which never means another key.
    #[input(default = "")]
    key_id: String,
    /// The 32 bytes of the key, in hexadecimal or base64.
    key: Option<SecretString>,
}

/// A slot.
#[derive(Input)]
pub(super) struct ById {
    /// Its id.
    #[input(path)]
    id: String,
}

/// What a key opens.
#[derive(Output)]
pub(super) struct Opened {
    /// Whether it opens a slot.
    opens: bool,
    /// The ids of those that it opens.
    slots: Vec<String>,
}

fn key(input: &Key) -> Result<StaticKey, Fault> {
    if input.key_id.is_empty() || input.key_id.len() > 128 {
        return Err(Fault::invalid("'key_id' must be given, and have at most 128 bytes"));
    }
    let wrong = || Fault::invalid("'key' must be 32 bytes in hexadecimal or base64");
    let text = input.key.as_ref().ok_or_else(wrong)?.expose().trim();
    let bytes = hex::decode(text).ok().or_else(|| STANDARD.decode(text).ok()).ok_or_else(wrong)?;
    let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| wrong())?;
    Ok(StaticKey::new(input.key_id.clone(), DataKey::new(bytes)))
}

pub(super) async fn list(sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Slots>, Fault> {
    let slots = sys.handles.keyring.slots()?.into_iter().map(|slot| {
        let shown: Map = map! {
            "id" => slot.id,
            "type" => slot.kind,
            "key_id" => slot.key_id.map_or(Body::Null, Body::from),
            "created" => rfc3339(slot.created),
        };
        Body::from(shown)
    });
    Ok(Data(Slots { slots: slots.collect() }))
}

pub(super) async fn add(sys: &Sys, _cx: Cx<'_>, input: Key) -> Result<Data<Opened>, Fault> {
    let key = key(&input)?;
    sys.handles.keyring.add_slot(&key).await?;
    opened(sys, &key)
}

pub(super) async fn remove(sys: &Sys, _cx: Cx<'_>, input: ById) -> Result<Nothing, Fault> {
    sys.handles.keyring.remove_slot(&input.id).await.map(|()| Nothing)
}

pub(super) async fn test(sys: &Sys, _cx: Cx<'_>, input: Key) -> Result<Data<Opened>, Fault> {
    opened(sys, &key(&input)?)
}

fn opened(sys: &Sys, key: &StaticKey) -> Result<Data<Opened>, Fault> {
    let slots = sys.handles.keyring.slots_opened_by(key)?;
    Ok(Data(Opened { opens: !slots.is_empty(), slots }))
}
