//! Hints between parts that do not know each other. The store is the truth: a lost hint only costs time.

use tokio::sync::{Notify, watch};

/// The hints that the parts of one pool send each other.
#[derive(Debug)]
pub struct Signals {
    /// From allocation to the publisher: a list was opened and is wanted before the next beat.
    pub list_wanted: Notify,
    /// From the publisher to allocation: the number of passes that published a new list.
    list_published: watch::Sender<u64>,
}

impl Default for Signals {
    fn default() -> Self {
        Self { list_wanted: Notify::new(), list_published: watch::Sender::new(0) }
    }
}

impl Signals {
    /// Records that a list was published for the first time.
    pub fn list_published(&self) {
        self.list_published.send_modify(|passes| *passes += 1);
    }

    /// A receiver of every later [`Self::list_published`].
    pub fn watch_published(&self) -> watch::Receiver<u64> {
        self.list_published.subscribe()
    }
}
