//! The rules of a cache, each with its default.

use std::time::Duration;

/// How much a cache holds, and how it fetches.
#[derive(Clone, Debug)]
pub struct CacheRules {
    /// The most memory for tokens and their inflated lists. When it is used up, the lists that were asked for the longest ago go. A list
    /// that is larger is told from, but not held. Default: 256 MiB.
    pub bytes_max: usize,
    /// The most lists, those included that could not be fetched. Default: 10,000.
    pub lists_max: usize,
    /// The most fetches at a time that somebody waits for. Default: 64.
    pub fetches_max: usize,
    /// The most renewals in the background at a time. Default: 8.
    pub renewals_max: usize,
    /// Bounds on `ttl`: one outside is taken as the nearest of the two ("bounds before fetches are scheduled", section 11.5). A token
    /// without `ttl` is used for `ttl_max` if it has an `exp`, and for `ttl_min` if not. Default: 5 seconds.
    pub ttl_min: Duration,
    /// The upper bound. Default: a day.
    pub ttl_max: Duration,
    /// How long after its `ttl` a token is told from while its server cannot be reached, never from its `exp` on. The longer, the
    /// longer a revocation may stay unnoticed. Default: not at all.
    pub stale_max: Duration,
    /// How long a failed fetch is remembered, and so not repeated. Default: 10 seconds.
    pub failure_pause: Duration,
    /// After which time the trust anchors are loaded again, from their file or URL. A signature that they do not verify has them loaded
    /// at once, at most once in a `failure_pause`. Default: an hour.
    pub trust_max_age: Duration,
}

impl Default for CacheRules {
    fn default() -> Self {
        Self {
            bytes_max: 256 << 20,
            lists_max: 10_000,
            fetches_max: 64,
            renewals_max: 8,
            ttl_min: Duration::from_secs(5),
            ttl_max: Duration::from_secs(24 * 3600),
            stale_max: Duration::ZERO,
            failure_pause: Duration::from_secs(10),
            trust_max_age: Duration::from_secs(3600),
        }
    }
}
