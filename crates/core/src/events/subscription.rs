//! One who listens: what of all that happens may they be told, and for how long?
//!
//! Asked anew for each event, and every few seconds: a token that ended, or may not listen any more, ends the stream; an
//! event at a path where its policies do not say `subscribe` is left out, as if it had not happened (NS-16). Holds nothing
//! that outlives the node's being open. Deliberately absent: the connection.

use std::borrow::Cow;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tresor_env::{BoxFuture, SteadyClock};
use tresor_model::{Ending, Event, Fault, Message, Messages, NamespaceId, Operation, Timestamp};
use tresor_policy::{AskedPath, Capability, matches_glob};
use tresor_secret::TokenSecret;

use super::queue::Queue;
use super::{Events, Form, Told, Wanted, protobuf, spelled};
use crate::cluster::{Cluster, Standing};
use crate::gate::Gate;
use crate::namespaces::Space;
use crate::tokens::FoundToken;

/// How often it is looked whether somebody may still listen when nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where whoever listens has asked, before the types.
const PATH: &str = "sys/events/subscribe/";

pub(super) struct Subscription {
    /// Gone when the node is sealed.
    events: Weak<Events>,
    number: u64,
    queue: Arc<Queue>,
    wanted: Wanted,
    namespace: NamespaceId,
    token: TokenSecret,
    /// In which term of its node.
    standing: Standing,
    waiting: Waiting,
}

/// What ends the waiting for an event; none of it keeps a key in memory.
struct Waiting {
    gate: Gate,
    nodes: Arc<dyn Cluster>,
    clock: SteadyClock,
}

impl Subscription {
    pub(super) fn new(
        events: &Arc<Events>,
        number: u64,
        queue: Arc<Queue>,
        wanted: Wanted,
        namespace: NamespaceId,
        token: TokenSecret,
    ) -> Self {
        let means = &events.means;
        let waiting = Waiting { gate: means.gate.clone(), nodes: Arc::clone(&means.nodes), clock: means.clock.clone() };
        let standing = means.nodes.standing();
        Self { events: Arc::downgrade(events), number, queue, wanted, namespace, token, standing, waiting }
    }

    async fn wait(&mut self) -> Message {
        loop {
            if self.queue.is_too_much() {
                return Message::End(Ending::TooSlow);
            }
            if let Some(told) = self.queue.pop() {
                match self.judge(&told) {
                    Ok(Some(message)) => return message,
                    Ok(None) => continue,
                    Err(ending) => return Message::End(ending),
                }
            }
            let Waiting { gate, nodes, clock } = &self.waiting;
            tokio::select! {
                biased;
                () = gate.closed() => return Message::End(Ending::GoesAway),
                _ = nodes.changed(self.standing.clone()) => return Message::End(Ending::GoesAway),
                () = self.queue.filled() => {}
                () = clock.sleep(LOOK_EVERY) => {
                    if let Err(ending) = self.looked() {
                        return Message::End(ending);
                    }
                }
            }
        }
    }

    /// Whether the caller may still listen.
    fn looked(&self) -> Result<(), Ending> {
        let events = self.events.upgrade().ok_or(Ending::GoesAway)?;
        let _inside = events.means.gate.enter().ok_or(Ending::GoesAway)?;
        self.holder(&events).map(drop)
    }

    /// The message of an event; none when it is not told here.
    fn judge(&self, told: &Told) -> Result<Option<Message>, Ending> {
        let events = self.events.upgrade().ok_or(Ending::GoesAway)?;
        // Whoever seals waits until this is over.
        let _inside = events.means.gate.enter().ok_or(Ending::GoesAway)?;
        let spaces = &events.means.spaces;
        let (Some(own), Some(space)) = (spaces.with_id(&self.namespace), spaces.with_id(&told.event.mount.namespace))
        else {
            return Ok(None);
        };
        if space.is_sealed || !self.is_wanted(&told.event, &own, &space) {
            return Ok(None);
        }
        // What happens where nobody may ask anything is told to nobody.
        if spaces.locked_by(&space).is_some() {
            return Ok(None);
        }
        let (holder, now) = self.holder(&events)?;
        let record = &holder.record;
        let permissions = spaces.permissions(&space, &record.namespace, &record.policies, now);
        let path = space.mounts.policy_path(&told.event.path, false);
        let decision = permissions.set().decide(&tresor_policy::Request {
            path: (&*permissions.asked(&path)).into(),
            operation: Operation::Subscribe,
            parameters: None,
            wrap_ttl_seconds: None,
            is_protected: false,
            event_type: Some(told.event.kind),
        });
        if decision.allowed_with_sudo().is_none() {
            return Ok(None);
        }
        Ok(Some(match self.wanted.form {
            Form::Json => Message::Text(spelled::cloud_event(told, &events.means.source, &space.path)),
            Form::Protobuf => Message::Bytes(protobuf::event_received(told, &space.path)),
        }))
    }

    /// Whether it was asked for.
    fn is_wanted(&self, event: &Event, own: &Space, space: &Space) -> bool {
        let Some(below) = space.path.strip_prefix(own.path.as_str()) else { return false };
        let below = below.trim_end_matches('/');
        let is_named = |pattern: &String| matches_glob(pattern.trim_matches('/'), below);
        if !below.is_empty() && !self.wanted.namespaces.iter().any(is_named) {
            return false;
        }
        let property = |name| {
            Cow::Borrowed(match name {
                "event_type" => event.kind,
                "namespace" => space.path.as_str(),
                "source_plugin_mount" => event.mount.path.as_str(),
                other => event.known(other),
            })
        };
        self.wanted.filter.as_ref().is_none_or(|filter| filter.holds(&property))
    }

    /// The token that listens, which must still be there and be allowed to.
    fn holder(&self, events: &Events) -> Result<(FoundToken, Timestamp), Ending> {
        let means = &events.means;
        let now = means.clock.now();
        let space = means.spaces.with_id(&self.namespace).ok_or(Ending::NotAllowed)?;
        if space.is_sealed || means.spaces.locked_by(&space).is_some() {
            return Err(Ending::GoesAway);
        }
        let failed = |fault: Fault| {
            tracing::warn!(cause = ?fault, "it cannot be found out what somebody may be told");
            // Whoever connects again may be told more.
            if matches!(fault, Fault::Refusal(_)) { Ending::GoesAway } else { Ending::Failed }
        };
        let mut txn = means.barrier.begin().map_err(|error| failed(tresor_engine::view::fault(error)))?;
        let found = means.tokens.find(&mut txn, &space.line, &self.token, now).map_err(failed)?;
        let found = found.filter(|found| !found.is_used_up()).ok_or(Ending::NotAllowed)?;
        let record = &found.record;
        let permissions = means.spaces.permissions(&space, &record.namespace, &record.policies, now);
        let asked = [permissions.way(), PATH, &self.wanted.kinds].concat();
        let may = permissions.set().capabilities(AskedPath::exact(&asked), AskedPath::exact(&format!("{asked}/")));
        let may_read = may.iter().any(|one| matches!(one, Capability::Read | Capability::Root));
        may_read.then_some((found, now)).ok_or(Ending::NotAllowed)
    }
}

impl Messages for Subscription {
    fn next(&mut self) -> BoxFuture<'_, Message> {
        Box::pin(self.wait())
    }

    fn cut(&self) -> BoxFuture<'static, Ending> {
        let queue = Arc::clone(&self.queue);
        Box::pin(async move {
            queue.overflown().await;
            Ending::TooSlow
        })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(events) = self.events.upgrade() {
            events.unsubscribe(self.number);
        }
    }
}
