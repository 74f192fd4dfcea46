//! What happened, in the order in which it did, for whoever reads a failing seed.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The most lines kept; the end is what matters.
const LINES_MAX: usize = 20_000;

/// The lines of the latest simulation, for whoever waits for its end in vain.
static LATEST: Mutex<Option<Arc<Mutex<Vec<String>>>>> = Mutex::new(None);

/// Clones share the lines.
#[derive(Clone, Debug)]
pub(crate) struct History {
    begun: Instant,
    lines: Arc<Mutex<Vec<String>>>,
}

impl History {
    pub(crate) fn begin() -> Self {
        let lines = Arc::default();
        *LATEST.lock() = Some(Arc::clone(&lines));
        Self { begun: Instant::now(), lines }
    }

    /// Adds a line with the simulated time.
    pub(crate) fn note(&self, line: impl AsRef<str>) {
        let mut lines = self.lines.lock();
        if lines.len() < LINES_MAX {
            lines.push(format!("{:>9.3}  {}", self.begun.elapsed().as_secs_f64(), line.as_ref()));
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }
}

/// What happened so far in the simulation that was begun last.
pub(crate) fn latest() -> Vec<String> {
    let latest = LATEST.lock();
    latest.as_ref().map(|lines| lines.lock().clone()).unwrap_or_default()
}
