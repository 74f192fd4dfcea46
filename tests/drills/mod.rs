//! The runbook as tests: each drill follows the commands of a section of docs/OPERATIONS.md, read from the page, with real processes.

mod backup;
pub(crate) mod runbook;
