//! A registry of services is told what this node is: initialised, sealed, active. Whoever looks for the active node finds it
//! there.
//!
//! The node is looked at each second, and the registry told when something changed or when it wants to hear that the
//! node is alive. Nothing waits for the registry: one that cannot be told is told later, and the log says when that begins
//! and ends. A server that stops says so first, before its clients leave. Deliberately absent: finding other nodes by it.

mod consul;
mod kubernetes;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tresor_core::Node;
use tresor_core::role::Role;
use tresor_env::outgoing::{OutgoingAnswer, OutgoingError, Trust};
use tresor_env::{Clock, Doors, Tasks};
use zeroize::Zeroizing;

use crate::config::RegistrationConfig;
use consul::Consul;
use kubernetes::Kubernetes;

/// How often the node is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long one exchange with a registry may take.
const EXCHANGE_MAX: Duration = Duration::from_secs(5);
/// How much a registry may answer; none of it is needed.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What a node is, as registries show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    initialized: bool,
    sealed: bool,
    active: bool,
}

impl Standing {
    fn of(node: &Node) -> Self {
        match node.standing() {
            Ok(standing) => Self {
                initialized: standing.facts.initialized,
                sealed: standing.sealed,
                active: !standing.sealed && matches!(node.role(), Some(Role::Active { .. })),
            },
            // Nobody is served by a node that cannot read its store.
            Err(_) => Self { initialized: false, sealed: true, active: false },
        }
    }
}

enum Registry {
    Consul(Consul),
    Kubernetes(Kubernetes),
}

impl Registry {
    /// Tells what the node is, where the registry does not know it or wants to hear it again.
    async fn tell(&mut self, standing: Standing, now: Duration) -> Result<(), String> {
        match self {
            Self::Consul(consul) => consul.tell(standing, now).await,
            Self::Kubernetes(kubernetes) => kubernetes.tell(standing).await,
        }
    }

    /// Says that the node serves nobody any more.
    async fn leave(&mut self) -> Result<(), String> {
        match self {
            Self::Consul(consul) => consul.leave().await,
            Self::Kubernetes(kubernetes) => kubernetes.leave().await,
        }
    }
}

/// What keeps a registry told, to its end.
pub(crate) struct Registration {
    stopping: watch::Sender<bool>,
    tasks: Tasks,
    clock: Arc<dyn Clock>,
}

impl Registration {
    /// Tells the configured registry from now on. `api` is the address that clients are told.
    ///
    /// # Errors
    /// Text, when the registry cannot be asked with what is configured.
    pub(crate) fn start(
        config: &RegistrationConfig,
        api: &str,
        node: &Arc<Node>,
        doors: &Doors,
    ) -> Result<Self, String> {
        let registry = match config {
            RegistrationConfig::Consul(config) => {
                let trust = Trust {
                    authorities: read(config.ca_file.as_deref())?,
                    identity: identity(config)?,
                    anybody: false,
                    server_name: None,
                };
                Registry::Consul(Consul::new(config, api, trusting(doors, trust)?)?)
            }
            RegistrationConfig::Kubernetes(config) => {
                let authorities = read(Some(&config.service_account.join("ca.crt")))?;
                let outgoing =
                    trusting(doors, Trust { authorities, identity: None, anybody: false, server_name: None })?;
                Registry::Kubernetes(Kubernetes::new(config, &|name| std::env::var(name).ok(), outgoing)?)
            }
        };
        let (stopping, stopped) = watch::channel(false);
        let tasks = Tasks::new();
        tasks.spawn(keep_told(registry, Arc::clone(node), Arc::clone(&doors.clock), stopped));
        Ok(Self { stopping, tasks, clock: Arc::clone(&doors.clock) })
    }

    /// Takes the node out of the registry; waits for that, within a bound.
    pub(crate) async fn end(&self) {
        self.stopping.send_replace(true);
        self.tasks.finish(self.clock.sleep(EXCHANGE_MAX)).await;
    }
}

fn trusting(doors: &Doors, trust: Trust) -> Result<Arc<dyn tresor_env::Outgoing>, String> {
    if trust.authorities.is_none() && trust.identity.is_none() {
        return Ok(Arc::clone(&doors.outgoing));
    }
    let unusable = |_| "service_registration: a certificate, or the key that goes with it, is none".to_owned();
    doors.outgoing.trusting(&trust).map_err(unusable)
}

fn read(file: Option<&std::path::Path>) -> Result<Option<Zeroizing<String>>, String> {
    let Some(file) = file else { return Ok(None) };
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| format!("service_registration: `{}` cannot be read: {error}", file.display()))?;
    Ok(Some(Zeroizing::new(text)))
}

fn identity(config: &crate::config::ConsulConfig) -> Result<Option<Zeroizing<String>>, String> {
    let Some((certificate, key)) = &config.client else { return Ok(None) };
    let (certificate, key) = (read(Some(certificate))?.unwrap_or_default(), read(Some(key))?.unwrap_or_default());
    Ok(Some(Zeroizing::new([certificate.as_str(), "\n", key.as_str()].concat())))
}

async fn keep_told(mut registry: Registry, node: Arc<Node>, clock: Arc<dyn Clock>, mut stopped: watch::Receiver<bool>) {
    let mut is_failing = false;
    loop {
        let told = registry.tell(Standing::of(&node), clock.monotonic()).await;
        match told {
            Err(error) if !is_failing => {
                tracing::warn!(error, "the registry of services cannot be told what this node is");
                is_failing = true;
            }
            Ok(()) if is_failing => {
                tracing::info!("the registry of services is told again what this node is");
                is_failing = false;
            }
            Ok(()) | Err(_) => {}
        }
        tokio::select! {
            () = clock.sleep(LOOK) => {}
            // Either way this is the end.
            _ = stopped.wait_for(|is_stopping| *is_stopping) => break,
        }
    }
    if let Err(error) = registry.leave().await {
        tracing::warn!(error, "this node could not be taken out of the registry of services");
    }
}

/// What came of an exchange, where a status of 2xx is all that is wanted. What a registry answers is not repeated.
fn done(answer: Result<OutgoingAnswer, OutgoingError>) -> Result<(), String> {
    match answer {
        Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
        Ok(answer) => Err(format!("it answered with status {}", answer.status)),
        Err(error) => Err(error.to_string()),
    }
}
