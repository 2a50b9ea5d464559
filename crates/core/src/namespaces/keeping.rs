//! Keys of realms in a cluster: the node that leads has them in use, the others keep them in case that they lead next.
//!
//! A node that stands by asks the leader each second which realms are open there, and keeps the root keys of these and of no
//! others. They go from memory to memory, over the cluster port, sealed for this one question by a key that only an open
//! barrier of the cluster has; nothing of it is stored or logged. Whoever begins to lead opens what it keeps before it is active,
//! and whoever stops keeps what it had open. So a realm is open or sealed for the whole cluster, by what the leader has; and a
//! seal, which is in the namespace's record, takes the keys from every node that follows it. Deliberately absent: requests in a
//! realm on a node that stands by, which are passed on (`pipeline/place.rs`), and keys on any disk.

use std::collections::BTreeMap;
use std::time::Duration;

use tresor_barrier::RealmRoot;
use tresor_env::Entropy;
use tresor_model::ids::RealmId;
use tresor_model::{Fault, Timestamp};
use tresor_record::{Part, Record};

use super::Spaces;
use super::realms::{Held, Keys, Realms};
use super::record::NamespaceRecord;
use crate::cluster::{About, Message, Standing};
use crate::role::Role;
use crate::unsealed::Unsealed;

/// How long the leader has to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// How long a question is: nobody asks it twice.
const QUESTION_BYTES: usize = 32;

/// Which keys a leader holds: another one whenever they are others.
#[derive(Part, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edition {
    term: u64,
    number: u64,
}

/// What a node asks.
#[derive(Record)]
#[record(kind = "question for keys", version = 1)]
struct Question {
    nonce: Vec<u8>,
    /// What it was told last.
    known: Option<Edition>,
}

/// What the leader answers.
#[derive(Record)]
#[record(kind = "answer with keys", version = 1)]
struct Answer {
    answer: AnswerPart,
}

#[derive(Part)]
enum AnswerPart {
    /// It does not lead, or is not active yet.
    #[part(tag = 1)]
    Elsewhere,
    /// Nothing is other than what the node was told last.
    #[part(tag = 2)]
    Same,
    /// All that it holds.
    #[part(tag = 3)]
    Keys { edition: Edition, realms: Vec<HandedOver> },
}

#[derive(Part)]
struct HandedOver {
    realm: String,
    epoch: u64,
    sealed: Vec<u8>,
}

/// Answers a node that asks which realms are open here.
pub(crate) fn answer(unsealed: Option<&Unsealed>, question: &[u8]) -> Message {
    let answer = unsealed.zip(Question::decode(question).ok()).and_then(|(unsealed, question)| {
        let Role::Active { term, .. } = unsealed.duties.role() else { return None };
        unsealed.handles.cluster.standing().leads().then(|| unsealed.handles.spaces.realms.hand_over(term, &question))
    });
    Answer { answer: answer.unwrap_or(AnswerPart::Elsewhere) }.encode()
}

/// On a node that stands by: nothing of a realm is open here, and what is kept is what the leader has. It is called each second.
///
/// # Errors
/// When what is in memory could not be brought to that; it is tried again.
pub(crate) async fn keep_up(unsealed: &Unsealed) -> Result<(), Fault> {
    let (spaces, cluster) = (&unsealed.handles.spaces, &unsealed.handles.cluster);
    let open: Vec<_> = spaces.every_sealable()?.into_iter().filter(|(space, _)| !space.is_sealed).collect();
    if !open.is_empty() {
        let names = open.into_iter().map(|(_, at)| at).collect();
        spaces.realms.barrier().follow_anew(names).await.map_err(Fault::internal)?;
    }
    if cluster.is_removed() {
        spaces.realms.keep_nothing();
        return Ok(());
    }
    if !matches!(cluster.standing(), Standing::Follows(_)) || spaces.realms.table().stored.is_empty() {
        return Ok(());
    }
    let (nonce, known) = (nonce(&*unsealed.doors.entropy), spaces.realms.told());
    let question = Question { nonce: nonce.clone(), known }.encode();
    let answered = cluster.ask_leader(About::Keys, question, ANSWERS_WITHIN).await;
    // Nobody leads at the moment, or somebody of another release.
    let Ok(Ok(Answer { answer })) = answered.map(|answer| Answer::decode(&answer)) else { return Ok(()) };
    if let AnswerPart::Keys { edition, realms } = answer {
        spaces.realms.keep(edition, realms, &nonce);
    }
    Ok(())
}

fn nonce(entropy: &dyn Entropy) -> Vec<u8> {
    let mut nonce = vec![0; QUESTION_BYTES];
    entropy.fill(&mut nonce);
    nonce
}

impl Spaces {
    /// Opens what this node kept, now that it leads.
    ///
    /// # Errors
    /// When the store fails; what is left to do is tried again by the background task.
    pub(crate) async fn take_over(&self, now: Timestamp, entropy: &dyn Entropy) -> Result<(), Fault> {
        for (space, _) in self.every_sealable()? {
            if let Some(record) = &space.record {
                self.realms.take_over(record);
            }
        }
        self.finish_opening(now, entropy).await
    }

    /// From now on no realm is open here, and what was is kept.
    pub(crate) fn stand_by(&self) {
        self.realms.stand_by();
    }
}

impl Realms {
    /// What the leader told last.
    fn told(&self) -> Option<Edition> {
        self.table().told
    }

    fn hand_over(&self, term: u64, question: &Question) -> AnswerPart {
        let table = self.table();
        let edition = Edition { term, number: table.edition };
        if question.known == Some(edition) {
            return AnswerPart::Same;
        }
        let handed = |(realm, held): (&RealmId, &Held)| {
            let root = match &held.keys {
                Keys::Kept(root) => root.clone(),
                Keys::Opening | Keys::Served => self.barrier().realm_root(realm)?,
            };
            let sealed = self.barrier().hand_over(realm, held.epoch, &root, &question.nonce);
            Some(HandedOver { realm: realm.as_str().to_owned(), epoch: held.epoch, sealed })
        };
        AnswerPart::Keys { edition, realms: table.held.iter().filter_map(handed).collect() }
    }

    /// Keeps what the leader has, and nothing else. What was sealed since, as far as is known here, is left out.
    fn keep(&self, edition: Edition, realms: Vec<HandedOver>, nonce: &[u8]) {
        let mut received = Vec::with_capacity(realms.len());
        let mut is_whole = true;
        for HandedOver { realm, epoch, sealed } in realms {
            let realm = RealmId::new(realm);
            match self.barrier().receive(&realm, epoch, &sealed, nonce) {
                Ok(root) => received.push((realm, epoch, root)),
                Err(error) => {
                    tracing::warn!(%error, "the leader's keys of a namespace cannot be read");
                    is_whole = false;
                }
            }
        }
        let mut table = self.table_mut();
        if table.held.values().any(|held| !matches!(held.keys, Keys::Kept(_))) {
            return;
        }
        let depth = |realm: &RealmId| table.stored.get(realm).map_or(0, |stored| stored.chain.len());
        received.sort_by_key(|(realm, ..)| depth(realm));
        let before = std::mem::take(&mut table.held);
        for (realm, epoch, root) in received {
            let is_current = table.stored.get(&realm).is_some_and(|stored| stored.epoch == epoch);
            if is_current && table.has_around(&realm) {
                table.held.insert(realm, Held { epoch, keys: Keys::Kept(root) });
            } else {
                // This node lags behind, or the answer does: the next one is whole.
                is_whole = false;
            }
        }
        table.told = Some(edition).filter(|_| is_whole);
        table.edition = table.edition.wrapping_add(1);
        let lost = before.keys().filter(|realm| !table.held.contains_key(*realm)).count();
        drop(table);
        if lost > 0 {
            tracing::info!(lost, "namespaces were sealed: their keys are kept no more");
        }
    }

    fn keep_nothing(&self) {
        let mut table = self.table_mut();
        table.held.retain(|_, held| !matches!(held.keys, Keys::Kept(_)));
        table.told = None;
    }

    fn take_over(&self, record: &NamespaceRecord) {
        let Some((realm, seal)) = record.id.realm().zip(record.seal.as_ref()) else { return };
        let mut table = self.table_mut();
        table.told = None;
        let has_around = table.has_around(&realm);
        let Some(held) = table.held.get_mut(&realm) else { return };
        let opened = match &held.keys {
            Keys::Kept(root) if has_around => self.barrier().open_realm_by(&realm, seal, root).is_ok(),
            Keys::Kept(_) => false,
            Keys::Opening | Keys::Served => true,
        };
        if opened {
            held.keys = Keys::Opening;
        } else {
            tracing::warn!(namespace = %record.path, "the keys that were kept do not open the namespace: it is sealed");
            table.held.remove(&realm);
        }
        table.edition = table.edition.wrapping_add(1);
    }

    fn stand_by(&self) {
        let mut table = self.table_mut();
        table.told = None;
        let held = std::mem::take(&mut table.held);
        let kept = held.into_iter().filter_map(|(realm, Held { epoch, keys })| {
            let root: Option<RealmRoot> = match keys {
                Keys::Kept(root) => Some(root),
                Keys::Opening | Keys::Served => self.barrier().realm_root(&realm),
            };
            self.barrier().close_realm(&realm);
            Some((realm, Held { epoch, keys: Keys::Kept(root?) }))
        });
        table.held = kept.collect::<BTreeMap<_, _>>();
        self.attempts().clear();
    }
}
