//! The most files, sockets included, that this process may have open at once (`RLIMIT_NOFILE`).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to the most that the system allows this process (the hard limit), and returns the limit that holds from now on.
/// Many systems start processes with 1,024, for old programs that break above it.
pub fn raise_limit() -> u64 {
    let before = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: before.maximum, ..before }) {
        Ok(()) => before.maximum.unwrap_or(u64::MAX),
        Err(error) => {
            let limit = before.current.unwrap_or(u64::MAX);
            tracing::warn!(%error, limit, "cannot raise the limit of open files; continuing with the present one");
            limit
        }
    }
}
