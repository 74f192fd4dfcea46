//! The foundation of every part. Nothing here knows status lists: time, sleep, stopping, hints between tasks, durable
//! files, hashes. What Relying Parties need of it is in their crate.

pub mod awake;
pub mod blocking;
pub mod chance;
pub mod clock_watch;
pub mod disk_call;
pub mod durable;
pub mod open_files;
pub mod private_memory;
pub mod signals;
#[cfg(feature = "sim")]
pub mod simulated;
pub mod stopper;

pub use statuslist_client::base::{clock, digest, loopback};
