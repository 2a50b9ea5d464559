//! `sys/storage/raft/join`, by which an operator lets this node join a cluster, the two routes of a leader that it asks, and
//! the one by which members find each other again.
//!
//! Nobody has a token yet: the node that joins proves that it could open the store, and the leader that it is of its
//! cluster. Deliberately absent: what is proven, and what follows (`tresor-core`).

use tresor_core::Node;
use tresor_core::cluster::finding::Told;
use tresor_core::cluster::join::{Applicant, NotAnApplicant, is_name};
use tresor_core::cluster::joining::{LeaderAddress, spell};
use tresor_core::cluster::{Contact, finding};
use tresor_model::{Body, Fault};
use tresor_secret::SecretString;
use tresor_wire::input::Input;
use tresor_wire::output::Output;

/// A node that wants to join.
#[derive(Input)]
pub(crate) struct Knock {
    /// What it is to be called.
    #[input(default = "")]
    server_id: String,
    /// The public half of its key, in hexadecimal.
    #[input(default = "")]
    node_key: String,
}

/// What it is shown.
#[derive(Output)]
pub(crate) struct Challenge {
    /// What it is to prove something over, in hexadecimal.
    challenge: String,
    /// Key slots and key ring of the cluster, as they are stored, in hexadecimal.
    offer: String,
}

pub(crate) async fn challenge(node: &Node, input: Knock) -> Result<Challenge, Fault> {
    if !is_name(&input.server_id) {
        return Err(Fault::invalid(NotAnApplicant::Name.to_string()));
    }
    let shown = node.challenge(&input.server_id, &key(&input.node_key)?)?;
    Ok(Challenge { challenge: hex::encode(shown.challenge), offer: hex::encode(shown.offer) })
}

/// A node that proves that it may join.
#[derive(Input)]
pub(crate) struct Answer {
    /// What it is to be called.
    #[input(default = "")]
    server_id: String,
    /// The public half of its key, in hexadecimal.
    #[input(default = "")]
    node_key: String,
    /// Host and port of its cluster port.
    #[input(default = "")]
    cluster_addr: String,
    /// The address of its API.
    #[input(default = "")]
    api_addr: String,
    /// Whether it is never to vote.
    #[input(default = "false")]
    non_voter: bool,
    /// What it was shown, in hexadecimal.
    #[input(default = "")]
    challenge: String,
    /// The proof over all of this, in hexadecimal.
    #[input(default = "")]
    proof: String,
}

/// What it is told.
#[derive(Output)]
pub(crate) struct Welcome {
    /// The members, each with `server_id`, `node_key`, `cluster_addr` and `api_addr`.
    members: Vec<Body>,
    /// The proof that these are, in hexadecimal.
    proof: String,
}

pub(crate) async fn answer(node: &Node, input: Answer) -> Result<Welcome, Fault> {
    let contact = Contact {
        name: input.server_id,
        key: key(&input.node_key)?,
        cluster_address: input.cluster_addr,
        api_address: input.api_addr,
    };
    let applicant = Applicant::new(contact, !input.non_voter).map_err(|error| Fault::invalid(error.to_string()))?;
    let (challenge, proof) = (bytes("challenge", &input.challenge)?, bytes("proof", &input.proof)?);
    let welcome = node.admit(&challenge, applicant, &proof).await?;
    let members = welcome.members.into_iter().map(|member| Body::from(spell(member))).collect();
    Ok(Welcome { members, proof: hex::encode(welcome.proof) })
}

/// A member that finds nobody.
#[derive(Input)]
pub(crate) struct Lost {
    /// The public half of its key, in hexadecimal.
    #[input(default = "")]
    node_key: String,
}

/// What it is told.
#[derive(Output)]
pub(crate) struct Addresses {
    /// The members, each with `node_key` and `cluster_addr`.
    members: Vec<Body>,
    /// The key of the node that answers, in hexadecimal, when the one that asks was removed.
    #[output(optional)]
    removed_by: Option<String>,
    /// The signature of that, in hexadecimal.
    #[output(optional)]
    signature: Option<String>,
}

pub(crate) async fn addresses(node: &Node, input: Lost) -> Result<Addresses, Fault> {
    Ok(match node.direct(&key(&input.node_key)?)? {
        Told::Members(members) => {
            let members = members.into_iter().map(|member| Body::from(finding::spell(member))).collect();
            Addresses { members, removed_by: None, signature: None }
        }
        Told::Removed { by, signature } => {
            let (removed_by, signature) = (Some(hex::encode(by)), Some(hex::encode(signature)));
            Addresses { members: Vec::new(), removed_by, signature }
        }
    })
}

fn key(text: &str) -> Result<[u8; 32], Fault> {
    bytes("node_key", text)?.try_into().map_err(|_| Fault::invalid("`node_key` is 32 bytes in hexadecimal"))
}

fn bytes(name: &str, text: &str) -> Result<Vec<u8>, Fault> {
    hex::decode(text).map_err(|_| Fault::invalid(format!("`{name}` is not hexadecimal")))
}

/// Which cluster to join.
#[derive(Input)]
pub(crate) struct Join {
    /// The API of a node that belongs to it.
    #[input(default = "")]
    leader_api_addr: String,
    /// The authority of that node's certificate, in PEM.
    #[input(default = "")]
    leader_ca_cert: String,
    /// The certificate to show to that node, in PEM.
    #[input(default = "")]
    leader_client_cert: String,
    /// The key of that certificate, in PEM.
    leader_client_key: Option<SecretString>,
    /// The name that the node's certificate is to have.
    #[input(default = "")]
    leader_tls_servername: String,
    /// Go on trying when it cannot be done now.
    #[input(default = "false")]
    retry: bool,
    /// Whether this node is never to vote.
    #[input(default = "false")]
    non_voter: bool,
    /// Finding nodes with a cloud's help is not available.
    #[input(default = "")]
    auto_join: String,
}

/// Whether the node joined.
#[derive(Output)]
pub(crate) struct Joined {
    /// Whether it has, as far as it can before shares are entered.
    joined: bool,
}

pub(crate) async fn join(node: &Node, input: Join) -> Result<Joined, Fault> {
    if !input.auto_join.is_empty() {
        return Err(Fault::invalid("`auto_join` is not available: name a node by `leader_api_addr`"));
    }
    let given = |text: String| (!text.is_empty()).then_some(text);
    let leader = LeaderAddress {
        api_address: input.leader_api_addr,
        ca_certificate: given(input.leader_ca_cert),
        client_certificate: given(input.leader_client_cert),
        client_key: input.leader_client_key.filter(|key| !key.is_empty()),
        tls_server_name: given(input.leader_tls_servername),
    };
    Ok(Joined { joined: node.join(leader, input.retry, input.non_voter).await? })
}
