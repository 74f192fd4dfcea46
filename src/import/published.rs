//! Lists that any service publishes: each is fetched and verified as a Relying Party does it.

use super::{Found, Refused};
use crate::base::clock::Clock;
use crate::check::{self, Check, Trust};

/// The lists at these addresses, and the rules for their tokens.
#[derive(Debug)]
pub struct PublishedLists {
    uris: Vec<String>,
    rules: Check,
    trust: Trust,
    clock: Clock,
}

impl PublishedLists {
    /// The lists at `uris`, whose tokens must be good by `rules` and signed by someone in `trust`.
    pub fn new(mut uris: Vec<String>, rules: Check, trust: Trust, clock: Clock) -> Self {
        uris.sort_unstable();
        uris.dedup();
        Self { uris, rules, trust, clock }
    }

    pub(super) fn uris(&self) -> &[String] {
        &self.uris
    }

    /// All of its references count as handed out: a token does not tell.
    pub(super) async fn read(&self, uri: &str) -> Result<Found, Refused> {
        let request = Check { uri: uri.to_owned(), ..self.rules.clone() };
        let array = check::list(&request, &self.trust, self.clock.now().date()).await;
        let array = array.map_err(|why| Refused::This(why.to_string()))?;
        let capacity = array.capacity();
        Ok(Found {
            pool: None,
            bits: capacity.bits().get().into(),
            entries: capacity.entries().into(),
            free: 0,
            final_status: None,
            bytes: array.as_bytes().to_vec(),
        })
    }
}
