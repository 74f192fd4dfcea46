//! The European Digital Identity Wallet: Technical Specification 3 of the Commission, version 1.5, sections 2.4 to 2.6. That a
//! revocation is never reversed, and for how long a status is maintained, no token shows: `config/pools.rs` checks that.

use super::{Broken, Facts};

/// The least entries of a list (section 2.5.1).
pub const ENTRIES_MIN: u32 = 10_000;

/// The least days for which a Wallet Provider maintains a status, from its presentation on (section 2.4.2).
pub const MAINTAINED_DAYS_MIN: u64 = 31;

/// The algorithms for Token Status Lists (section 2.6).
const ALGORITHMS: [&str; 3] = ["ES256", "ES384", "ES512"];

pub(super) fn broken(token: &Facts<'_>) -> Vec<Broken> {
    let mut broken = Vec::new();
    if !ALGORITHMS.contains(&token.alg) {
        broken.push(("E-01", format!("it is signed with {}, not with {}", token.alg, ALGORITHMS.join(", "))));
    }
    if token.entries < ENTRIES_MIN {
        broken.push(("E-02", format!("the list has {} entries, less than {ENTRIES_MIN}", token.entries)));
    }
    broken
}
