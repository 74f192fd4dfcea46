//! What happened, in the order in which it did, for whoever reads a failing seed.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::time::Instant;

/// The most lines kept; the end is what matters.
const LINES_MAX: usize = 20_000;

/// Clones share the lines.
#[derive(Clone)]
pub(crate) struct History {
    begun: Instant,
    lines: Rc<RefCell<Vec<String>>>,
}

impl History {
    pub(crate) fn begin() -> Self {
        Self { begun: Instant::now(), lines: Rc::default() }
    }

    /// Adds a line with the simulated time.
    pub(crate) fn note(&self, line: impl AsRef<str>) {
        let mut lines = self.lines.borrow_mut();
        if lines.len() < LINES_MAX {
            lines.push(format!("{:>9.3}  {}", self.begun.elapsed().as_secs_f64(), line.as_ref()));
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }
}
