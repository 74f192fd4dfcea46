//! Keeps the memory of this process, which holds keys, from other programs of its user, and out of core dumps.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// From now on the system writes no core dump of this process, and no other process of its user may read its memory, attach a
/// debugger, or list its open files in `/proc`; only root may.
pub fn keep() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "cannot switch off core dumps; a crash may write keys to the disk");
    }
}
