//! What can go wrong between two nodes, by whose doing it is and what it means for a message.
//!
//! Deliberately absent: addresses and texts of libraries, so that these may be shown to anybody.

use std::io;

use rustls::{AlertDescription, CertificateError};

/// Why a node could not be reached, or why a connection to it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Nobody has tried yet.
    #[error("no connection yet")]
    NotYet,
    /// Its address leads nowhere.
    #[error("its address cannot be resolved ({0})")]
    Address(io::ErrorKind),
    /// Nobody listens there, or the network says no.
    #[error("cannot connect ({0})")]
    Connect(io::ErrorKind),
    /// It, or the network, took too long.
    #[error("no connection in time")]
    Slow,
    /// Whoever answers there is another node, or none.
    #[error("it proved another key than the membership names")]
    WrongKey,
    /// Who connected proved no key that this node's membership names.
    #[error("it proved no key of this node's membership")]
    Stranger,
    /// It does not know this node, or knows it by another key.
    #[error("this node's key is not in its membership")]
    NotAdmitted,
    /// Its certificate ended or begins later: the clocks differ by more than a day.
    #[error("its certificate is out of date: do the clocks agree?")]
    OutOfDate,
    /// It says so of this node's.
    #[error("it finds this node's certificate out of date: do the clocks agree?")]
    FoundOutOfDate,
    /// There is no version of the messages that both know.
    #[error("it speaks another version of the messages between nodes")]
    Version,
    /// Whatever it speaks, it is not TLS as we do.
    #[error("no handshake is possible")]
    Handshake,
    /// It sent what is no frame, or one out of place.
    #[error("it sent what cannot be read")]
    Misread,
    /// It ended the connection, and said why.
    #[error("it ended the connection: {0}")]
    Parted(Parting),
    /// Nothing was heard of it any more.
    #[error("nothing was heard of it any more")]
    Silent,
    /// The connection broke.
    #[error("the connection broke ({0})")]
    Broken(io::ErrorKind),
    /// This node made a new certificate, and connects with it anew.
    #[error("this node has a new certificate")]
    Renewed,
    /// This node does not ask it any more.
    #[error("this node has ended the connection")]
    Ended,
}

impl Trouble {
    /// What a failed handshake or a broken connection means, as far as the alert of TLS tells.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            None => Self::Broken(error.kind()),
            Some(rustls::Error::InvalidCertificate(error)) => match error {
                CertificateError::ApplicationVerificationFailure => Self::WrongKey,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::OutOfDate,
                _ => Self::Handshake,
            },
            Some(rustls::Error::AlertReceived(alert)) => match alert {
                AlertDescription::AccessDenied => Self::NotAdmitted,
                AlertDescription::CertificateExpired => Self::FoundOutOfDate,
                AlertDescription::NoApplicationProtocol => Self::Version,
                _ => Self::Handshake,
            },
            Some(rustls::Error::NoCertificatesPresented) => Self::Stranger,
            Some(rustls::Error::NoApplicationProtocol) => Self::Version,
            Some(_) => Self::Handshake,
        }
    }
}

/// Why a node ends a connection that another made, as it says on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Parting {
    /// Not a member any more, or another key is.
    #[error("this node was removed from the membership, or has another key there")]
    Removed,
    /// A frame that cannot be read, or is out of place.
    #[error("it could not read what this node sent")]
    Misread,
    /// A frame that is too long.
    #[error("this node sent a frame that is too long")]
    TooLong,
    /// The same node connected again.
    #[error("this node has connected again")]
    Replaced,
    /// Older than a certificate lives.
    #[error("the connection was older than a certificate lives")]
    TooOld,
}

impl Parting {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Removed, Self::Misread, Self::TooLong, Self::Replaced, Self::TooOld];

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Removed => 1,
            Self::Misread => 2,
            Self::TooLong => 3,
            Self::Replaced => 4,
            Self::TooOld => 5,
        }
    }

    pub(crate) fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|parting| parting.code() == code)
    }
}

/// Why there is no answer to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No such node in the membership; nothing was sent.
    #[error("the membership has no such node")]
    NotAMember,
    /// The message is longer than its lane allows; nothing was sent.
    #[error("a message of {length} bytes, and {max} is the limit")]
    TooLong {
        /// Its length.
        length: usize,
        /// What is allowed.
        max: usize,
    },
    /// There is no connection; the message was not sent, and will not be.
    #[error("the node cannot be reached: {0}")]
    Unreachable(Trouble),
    /// No answer in time; the message may have arrived.
    #[error("the node did not answer in time")]
    TimedOut,
    /// The connection ended before the answer; the message may have arrived.
    #[error("the answer was lost: {0}")]
    Lost(Trouble),
    /// The node has no answer to it.
    #[error("the node declined the message")]
    Declined,
}
