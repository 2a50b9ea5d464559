//! Servers of others in memory: a test says what they answer.

use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

use crate::BoxFuture;
use crate::outgoing::{Outgoing, OutgoingAnswer, OutgoingError, OutgoingRequest};

type Server = Box<dyn Fn(&OutgoingRequest) -> Result<(u16, Vec<u8>), OutgoingError> + Send>;

/// Servers that are not there until a test says what they answer.
#[derive(Default)]
pub struct FakeServers(Mutex<Option<Server>>);

impl FakeServers {
    /// From now on everything that is asked is answered like this: by status and body.
    pub fn answer(&self, server: impl Fn(&OutgoingRequest) -> Result<(u16, Vec<u8>), OutgoingError> + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(server));
    }
}

impl Outgoing for FakeServers {
    fn ask(&self, request: OutgoingRequest) -> BoxFuture<'_, Result<OutgoingAnswer, OutgoingError>> {
        let answer = match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(server) => server(&request),
            None => Err(OutgoingError::Unreached("nobody is there".to_owned())),
        };
        let answer = answer.and_then(|(status, body)| {
            let fits = body.len() <= request.body_bytes_max;
            if fits { Ok(OutgoingAnswer { status, body: Zeroizing::new(body) }) } else { Err(OutgoingError::TooLarge) }
        });
        Box::pin(async move { answer })
    }
}
