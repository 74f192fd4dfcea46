//! A hash over several parts, distinct for each purpose and each division into parts.
//!
//! Leaves to callers what they hash and what the hash means.

use aws_lc_rs::digest::{Context, SHA256};

/// Returns SHA-256 over `parts` for this purpose. Hashes the length of each part before the part, so that no two sequences of
/// parts give the same input. The purpose is the first part.
pub fn digest(purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in [purpose.as_bytes()].iter().chain(parts) {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn different_parts_or_purposes_give_different_hashes() {
        let cases: [(&str, &[&[u8]]); 8] = [
            ("", &[]),
            ("", &[b""]),
            ("p", &[]),
            ("p", &[b"ab", b"c"]),
            ("p", &[b"a", b"bc"]),
            ("p", &[b"abc"]),
            ("p", &[b"abc", b""]),
            ("q", &[b"abc"]),
        ];
        let hashes: HashSet<_> = cases.iter().map(|(purpose, parts)| digest(purpose, parts)).collect();
        assert_eq!(hashes.len(), cases.len());
        assert_eq!(digest("p", &[b"abc"]), digest("p", &[b"abc"]), "the control");
    }
}
