//! What every part stands on and nothing of which knows status lists: time, sleep, stopping, hints between tasks.

pub mod awake;
pub mod clock;
pub mod signals;
pub mod stopper;
