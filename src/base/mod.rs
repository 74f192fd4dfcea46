//! What every part stands on and nothing of which knows status lists: time, stopping, hints between tasks, files that last.

pub mod clock;
pub mod durable;
pub mod signals;
pub mod stopper;
