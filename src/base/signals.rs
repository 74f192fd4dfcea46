//! Hints between parts that do not know each other. The store is the truth: a hint that is lost costs time, nothing else.

use tokio::sync::{Notify, watch};

/// What the parts that serve one pool tell each other.
#[derive(Debug)]
pub struct Signals {
    /// From allocation to the publisher: a list was opened and is wanted before the next beat.
    pub list_wanted: Notify,
    /// From the publisher to allocation: counts the passes that published a new list.
    list_published: watch::Sender<u64>,
}

impl Default for Signals {
    fn default() -> Self {
        Self { list_wanted: Notify::new(), list_published: watch::Sender::new(0) }
    }
}

impl Signals {
    /// A list was published for the first time.
    pub fn list_published(&self) {
        self.list_published.send_modify(|passes| *passes += 1);
    }

    /// Sees every [`Self::list_published`] from now on.
    pub fn watch_published(&self) -> watch::Receiver<u64> {
        self.list_published.subscribe()
    }
}
