//! What every part stands on and nothing of which knows status lists: time, stopping, hints between tasks.

pub mod clock;
pub mod signals;
pub mod stopper;
