//! What every part stands on and nothing of which knows status lists: time, sleep, stopping, hints between tasks, files that
//! last, hashes.

pub mod awake;
pub mod blocking;
pub mod calls;
pub mod chance;
pub mod clock;
pub mod digest;
pub mod durable;
pub mod signals;
#[cfg(feature = "sim")]
pub mod simulated;
pub mod stopper;
