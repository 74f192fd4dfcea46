//! Random numbers that are no secrets: the system's, or the simulator's. Keys and ids have sources of their own.

/// A source for one purpose.
#[cfg(not(feature = "sim"))]
pub fn rng() -> impl rand::Rng {
    rand::rng()
}

/// A source for one purpose.
#[cfg(feature = "sim")]
pub fn rng() -> impl rand::Rng {
    use rand::SeedableRng;
    super::simulated::rng().unwrap_or_else(|| rand::rngs::StdRng::from_rng(&mut rand::rng()))
}
