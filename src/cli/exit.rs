//! The exit codes, which scripts rely on.

/// The service, or the input, says no. Of `check`: a status is not valid.
pub(super) const REFUSED: u8 = 1;
/// The command failed: nobody answered, or not in time, or the outcome is not known.
pub const FAILED: u8 = 2;
/// The last line of `--help` of each command that asks a running service.
pub(super) const EXIT_CODES: &str =
    "Exits with 0 if it was done, 1 if it was refused, 2 if it failed or its outcome is not known.";
