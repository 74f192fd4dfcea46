//! Random lists from fixed seeds: every run measures the same bytes.

/// The array of a list of one bit per entry, each entry set with the probability `rate`, independently of the others.
pub(crate) fn random_array(entries: usize, rate: f64, seed: u64) -> Vec<u8> {
    // A probability of 1 saturates, so it needs no special case.
    let below = (rate * 2_f64.powi(64)) as u64;
    // xorshift64*: not for cryptography. Its state must not be 0.
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    };
    let mut array = vec![0; entries.div_ceil(8)];
    for entry in 0..entries {
        if next() <= below && rate > 0.0 {
            array[entry / 8] |= 1 << (entry % 8);
        }
    }
    array
}
