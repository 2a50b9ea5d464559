//! `sys/seal-backend-status`: whether the seal of the node that is asked could open the store by itself.
//!
//! Deliberately absent: more than one seal, which a node does not have.

use tresor_core::AutoSeal;
use tresor_engine::{Cx, Data};
use tresor_model::{Body, Fault, map};
use tresor_wire::input::EmptyInput;
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use super::Sys;

/// How the seal is.
#[derive(Output)]
pub(super) struct SealBackends {
    /// Whether it could open the store, as far as was looked.
    healthy: bool,
    /// Since when it could not.
    #[output(optional)]
    unhealthy_since: Option<String>,
    /// The seal, by its kind.
    backends: Vec<Body>,
    /// Whether everything is sealed by it: always.
    fully_wrapped: bool,
}

pub(super) async fn status(sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Data<SealBackends>, Fault> {
    let since = sys.handles.seal_health.unhealthy_since();
    let kind = sys.handles.settings.auto_seal.as_ref().map_or("shamir", AutoSeal::kind);
    let healthy = since.is_none();
    Ok(Data(SealBackends {
        healthy,
        unhealthy_since: since.map(rfc3339),
        backends: vec![Body::from(map! { "name" => kind, "healthy" => healthy })],
        fully_wrapped: true,
    }))
}
