//! A hash over several parts that no other parts, and no other purpose, have.
//!
//! Leaves it to callers what is hashed and what the hash means to them.

use aws_lc_rs::digest::{Context, SHA256};

/// SHA-256 over `parts` for this purpose. The length of each part is hashed before it, so no two rows of parts give the same
/// text; the purpose is the first of them.
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
    fn other_parts_or_another_purpose_give_another_hash() {
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
