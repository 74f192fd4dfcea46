//! What every part stands on and nothing of which knows status lists: time, stopping, hints between tasks, hashing.

pub mod clock;
pub mod digest;
pub mod signals;
pub mod stopper;
