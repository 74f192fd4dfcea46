//! What every part stands on and nothing of which knows status lists: time, sleep, stopping, hints between tasks, files that
//! last, hashes.

pub mod awake;
pub mod clock;
pub mod digest;
pub mod durable;
pub mod loopback;
pub mod signals;
pub mod stopper;
