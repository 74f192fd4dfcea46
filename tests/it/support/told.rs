//! The answers to clients, such as those of `tests/load/instances.js`, and whether the service keeps them: no reference was
//! repeated, and every acknowledged status is in the store and in the files.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::app::Reference;
use super::fleet::{Issuer, PUBLIC_URL};
use super::k6::Notes;
use super::relying_party::published;

/// The answers to the clients.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) references: Vec<Reference>,
    /// The pool of each list.
    pub(crate) lists: HashMap<String, String>,
    /// The number of acknowledged changes.
    pub(crate) updates: usize,
    /// The latest acknowledged value of each reference, and the references whose latest change may have been made or not.
    pub(crate) acknowledged: HashMap<Reference, u8>,
    pub(crate) unknown: HashSet<Reference>,
}

impl Told {
    /// Reads the notes. No two clients change the same reference, so only the order of each client's notes matters.
    pub(crate) fn read(notes: &Notes) -> Self {
        let mut told = Self::default();
        for client in notes {
            let mut tried: (u8, Vec<Reference>) = (0, Vec::new());
            for note in client {
                let mut words = note.split(' ');
                match words.next() {
                    Some("issued") => {
                        let pool = words.next().unwrap();
                        for reference in words.map(reference) {
                            told.lists.insert(reference.uri.clone(), pool.to_owned());
                            told.references.push(reference);
                        }
                    }
                    Some("try") => {
                        tried = (words.next().unwrap().parse().unwrap(), words.map(reference).collect());
                        told.unknown.extend(tried.1.iter().cloned());
                    }
                    Some("done") => {
                        told.updates += tried.1.len();
                        for reference in &tried.1 {
                            told.unknown.remove(reference);
                            told.acknowledged.insert(reference.clone(), tried.0);
                        }
                    }
                    _ => panic!("no such note: {note}"),
                }
            }
        }
        told
    }

    /// The number of repeated references.
    pub(crate) fn duplicates(&self) -> usize {
        self.references.len() - self.references.iter().collect::<HashSet<_>>().len()
    }

    /// The statuses that must be found everywhere.
    pub(crate) fn known(&self) -> impl Iterator<Item = (&Reference, u8)> {
        let known = self.acknowledged.iter().filter(|(reference, _)| !self.unknown.contains(reference));
        known.map(|(reference, value)| (reference, *value))
    }

    /// The number of acknowledged statuses that are missing in the files below `folder`, even after `patience`.
    pub(crate) async fn lost_from_files(&self, folder: &Path, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        loop {
            let read = |uri| published(folder, uri).unwrap_or_else(|error| panic!("{uri}: {error}"));
            let lists: HashMap<_, _> = self.lists.keys().map(|uri| (uri.as_str(), read(uri))).collect();
            let is_lost =
                |reference: &Reference, value| lists[reference.uri.as_str()].status(reference.index) != value;
            let lost = self.known().filter(|(reference, value)| is_lost(reference, *value)).count();
            if lost == 0 || Instant::now() > deadline {
                return lost;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The number of acknowledged statuses that differ from the store, each queried through the API.
    pub(crate) async fn lost_from_store(&self, issuers: &[Issuer]) -> usize {
        const ASKERS: usize = 8;
        let known: Vec<_> = self.known().map(|(reference, value)| (reference.clone(), value)).collect();
        let known = Arc::new(known);
        let pools = Arc::new(self.lists.clone());
        let asking = (0..ASKERS).zip(issuers.iter().cycle()).map(|(asker, issuer)| {
            let (known, pools, issuer) = (Arc::clone(&known), Arc::clone(&pools), issuer.clone());
            tokio::spawn(async move {
                let mut lost = 0;
                for (reference, value) in known.iter().skip(asker).step_by(ASKERS) {
                    let stored = issuer.stored(&pools[&reference.uri], reference).await;
                    lost += usize::from(stored != Some(u64::from(*value)));
                }
                lost
            })
        });
        let asking: Vec<_> = asking.collect();
        let mut lost = 0;
        for asked in asking {
            lost += asked.await.unwrap();
        }
        lost
    }
}

/// A reference as written in the notes.
fn reference(text: &str) -> Reference {
    let (index, list) = text.split_once('@').unwrap();
    Reference { uri: format!("{PUBLIC_URL}/{list}"), index: index.parse().unwrap() }
}
