//! The other nodes: asking them, and answering what they ask.
//!
//! Deliberately absent: what messages mean, trying again, and any opinion on who is a member.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tresor_env::{BoxFuture, Clock, Doors, Entropy, Net, Signal, Tasks};

use crate::accept::accept;
use crate::certificate::Identity;
use crate::key::{NodeKey, PublicKey};
use crate::lane::Lane;
use crate::line::Line;
use crate::members::{Members, NodeId};
use crate::tls;
use crate::trouble::AskError;
use crate::trouble::Trouble;

/// How long whoever is refused has to read why.
pub(crate) const LINGER: Duration = Duration::from_millis(500);

/// How patient a node is with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long making a connection may take, handshake included; also how long an accepted one may take to prove itself.
    pub connect_within: Duration,
    /// How often each end of a connection says something.
    pub beat: Duration,
    /// After so many beats without hearing anything a connection is given up.
    pub silent_beats_max: u32,
    /// How long to wait before the second attempt to connect; doubled each time.
    pub back_off_min: Duration,
    /// The longest wait.
    pub back_off_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect_within: Duration::from_secs(2),
            beat: Duration::from_secs(1),
            silent_beats_max: 4,
            back_off_min: Duration::from_millis(50),
            back_off_max: Duration::from_secs(1),
        }
    }
}

/// There is no answer to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declined;

/// Answers what other nodes ask.
pub trait Handler: Send + Sync + 'static {
    /// Answers a message of a member. The work is dropped where it stands when the one who asked has gone or has waited
    /// long enough.
    fn answer(&self, from: NodeId, lane: Lane, message: Bytes) -> BoxFuture<'_, Result<Bytes, Declined>>;
}

/// Why a node cannot talk to others at all.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on the cluster address {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        error: io::Error,
    },
}

/// What everything here looks at.
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) net: Arc<dyn Net>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) members: Arc<Signal<Arc<Members>>>,
    pub(crate) timing: Timing,
    pub(crate) handler: Arc<dyn Handler>,
}

/// The lines to one node; they end with it.
struct Lines {
    key: PublicKey,
    lines: Vec<(Lane, Arc<Line>)>,
    _driven: Tasks,
}

/// The other nodes of the cluster. Dropping it ends every connection.
pub struct Peers {
    shared: Arc<Shared>,
    lines: Mutex<BTreeMap<NodeId, Lines>>,
    tasks: Tasks,
}

impl Peers {
    /// A node that knows no others yet.
    ///
    /// # Errors
    /// [`PeersError::Certificate`].
    pub fn new(doors: &Doors, key: &NodeKey, handler: Arc<dyn Handler>, timing: Timing) -> Result<Self, PeersError> {
        let shared = Shared {
            clock: Arc::clone(&doors.clock),
            entropy: Arc::clone(&doors.entropy),
            net: Arc::clone(&doors.net),
            identity: Arc::new(Identity::new(key, Arc::clone(&doors.clock))?),
            members: Arc::new(Signal::new(Arc::default())),
            timing,
            handler,
        };
        Ok(Self { shared: Arc::new(shared), lines: Mutex::default(), tasks: Tasks::new() })
    }

    /// Takes connections on an address from now on; tells the real one. Must be called within a runtime.
    ///
    /// # Errors
    /// [`PeersError`].
    pub async fn listen(&self, address: SocketAddr) -> Result<SocketAddr, PeersError> {
        let shared = &self.shared;
        let config = tls::from_members(&shared.members, &shared.identity, &shared.clock)?;
        let listener = shared.net.listen(address).await.map_err(|error| PeersError::Listen { address, error })?;
        let address = listener.local_address();
        self.tasks.spawn(accept(Arc::clone(shared), config, listener));
        Ok(address)
    }

    /// Who the members are from now on: the others may connect, and can be asked; whoever is not among them, or has
    /// another key, is cut off at once. This node may be among them. Must be called within a runtime.
    ///
    /// # Errors
    /// [`PeersError::Tls`]; the members are as before.
    pub fn set_members(&self, members: Members) -> Result<(), PeersError> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = BTreeMap::new();
        let mut fresh = Vec::new();
        for (node, member) in members.iter().filter(|(_, member)| member.key != self.shared.identity.public()) {
            match lines.get(&node) {
                Some(known) if known.key == member.key => {}
                _ => {
                    let config = tls::to_node(member.key, &self.shared.identity, &self.shared.clock)?;
                    fresh.push((node, member.key, config));
                }
            }
        }
        // Before the lines are driven, which look here for the address.
        let members = Arc::new(members);
        self.shared.members.update(|known| *known = Arc::clone(&members));
        for (node, key, config) in fresh {
            let (driven, turn) = (Tasks::new(), Arc::<AtomicUsize>::default());
            let opened = Lane::ALL.into_iter().map(|lane| {
                let (line, asked) = Line::new(Arc::clone(&self.shared), node, lane, Arc::clone(&turn));
                driven.spawn(Arc::clone(&line).drive(Arc::clone(&config), asked));
                (lane, line)
            });
            let opened = opened.collect();
            kept.insert(node, Lines { key, lines: opened, _driven: driven });
        }
        for (node, known) in std::mem::take(&mut *lines) {
            if members.member(node).is_some_and(|member| member.key == known.key) {
                kept.entry(node).or_insert(known);
            }
        }
        *lines = kept;
        Ok(())
    }

    /// What keeps this node from talking to each other one now; nothing when it can. By the connection that is always
    /// made again.
    #[must_use]
    pub fn troubles(&self) -> BTreeMap<NodeId, Option<Trouble>> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let of =
            |known: &Lines| known.lines.iter().find(|(lane, _)| lane.is_kept_open()).map(|(_, line)| line.trouble());
        lines.iter().filter_map(|(node, known)| Some((*node, of(known)?))).collect()
    }

    /// Sends a message to a node and waits for its answer, for at most `within`, connecting included. Nothing is sent
    /// twice. Whoever drops the future gives the message up, and the other node learns of it.
    #[must_use]
    pub fn ask(
        &self,
        to: NodeId,
        lane: Lane,
        message: Bytes,
        within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, AskError>> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let found = lines.get(&to).and_then(|known| known.lines.iter().find(|(of, _)| *of == lane));
        let line = found.map(|(_, line)| Arc::clone(line));
        Box::pin(async move {
            match line {
                Some(line) => line.ask(message, within).await,
                None => Err(AskError::NotAMember),
            }
        })
    }
}
