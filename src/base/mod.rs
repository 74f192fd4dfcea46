//! The foundation of every part. Nothing here knows status lists: time, sleep, stopping, hints between tasks, durable
//! files, hashes.

pub mod awake;
pub mod blocking;
pub mod chance;
pub mod clock;
pub mod clock_watch;
pub mod digest;
pub mod disk_call;
pub mod durable;
pub mod loopback;
pub mod open_files;
pub mod private_memory;
pub mod signals;
#[cfg(feature = "sim")]
pub mod simulated;
pub mod stopper;
