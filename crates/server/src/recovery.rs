//! A server in recovery mode: the same listeners and store, and nothing else of a server.
//!
//! Deliberately absent: what is answered (`tresor_system::recovery`), audit devices, and everything that a node does by itself.

use std::io::Write;
use std::sync::Arc;

use tresor_audit::{Audited, Exempt};
use tresor_core::shareholders::recovery::Recovery;
use tresor_crypto::token_text::random_uuid;
use tresor_env::{BoxFuture, Doors};
use tresor_http::{Outcome, RequestLog, Serve};
use tresor_model::{Request, RequestId};

use crate::config::ServerConfig;
use crate::listen::BoundListeners;
use crate::run::{EndSignals, print_block};
use crate::storage::Opened;

struct RecoveryService {
    recovery: Arc<Recovery>,
    doors: Doors,
}

impl Serve for RecoveryService {
    fn serve(&self, request: Request) -> BoxFuture<'_, Audited<Outcome>> {
        Box::pin(async move {
            let answer = tresor_builtin::answer_in_recovery(&self.recovery, request).await;
            Audited::exempt(answer, Exempt::UnauditedRoute)
        })
    }

    fn next_request_id(&self) -> RequestId {
        RequestId::new(random_uuid(&*self.doors.entropy))
    }
}

/// Serves until it is told to stop.
pub(crate) async fn serve(
    opened: Opened,
    bound: BoundListeners,
    config: &ServerConfig,
    doors: &Doors,
    output: &mut dyn Write,
) -> Result<(), String> {
    let Opened { store, others } = opened;
    let recovery = Recovery::start(store, doors.clone()).map_err(|fault| fault.for_operators())?;
    let recovery = Arc::new(recovery);
    let service: Arc<dyn Serve> = Arc::new(RecoveryService { recovery: Arc::clone(&recovery), doors: doors.clone() });
    let listeners = bound.serve(&service, doors, &[], &RequestLog::default());
    // A reader that went away is no reason to stop.
    drop(print_block(output, config, &listeners, &others, true));
    tracing::warn!("recovery mode: what is stored is served to whoever has a recovery token, and nothing else");
    EndSignals::listen()?.next().await;
    listeners.drain().await;
    recovery.close().await;
    others.close().await;
    tracing::info!("server stopped");
    Ok(())
}
