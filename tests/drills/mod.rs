//! The runbook as tests: each drill follows the commands of a section of docs/OPERATIONS.md, or of docs/SWITCHING.md, read from the
//! page, with real processes.

mod backup;
mod callers;
mod clock;
mod keys;
mod losses;
mod machine;
mod moves;
mod night;
mod run_time_pools;
pub(crate) mod runbook;
pub(crate) mod switching;
mod upgrade;
