//! The exit codes, which scripts rely on.

/// The service refuses, or the input is invalid. For `check`: the status is not valid.
pub(super) const REFUSED: u8 = 1;
/// The command failed: no response, a timeout, or an unknown outcome.
pub const FAILED: u8 = 2;
/// The last line of `--help` of each command that calls a running service.
pub(super) const EXIT_CODES: &str =
    "Exits with 0 if it was done, 1 if it was refused, 2 if it failed or its outcome is unknown.";
