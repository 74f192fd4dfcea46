//! Shared by the tests.

pub(crate) mod app;
pub(crate) mod authority;
pub(crate) mod disk;
pub(crate) mod fake_clock;
pub(crate) mod fleet;
pub(crate) mod k6;
pub(crate) mod nginx;
pub(crate) mod original;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod reader;
pub(crate) mod relying_party;
pub(crate) mod s3;
pub(crate) mod servers;
pub(crate) mod site;
pub(crate) mod told;

pub(crate) use servers::{patroni, postgres, redis, wire};

use std::time::{Duration, Instant};

/// How often a proof tries what it is about: the value of an environment variable, in long forms, or `short`.
pub(crate) fn tries(variable: &str, short: u64) -> u64 {
    std::env::var_os(variable).map_or(short, |tries| tries.to_str().unwrap().parse().unwrap())
}

/// Prints a row of the table of `scripts/proof processes`: what was tried, how often, and what was found.
pub(crate) fn proof(what: &str, tried: &str, found: &str) {
    println!("proof | {what} | {tried} | {found} |");
}

/// Retries until `attempt` has a result; panics with `what` after half a minute.
pub(crate) async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = attempt().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Decompresses these bytes.
pub(crate) fn gunzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(bytes), &mut plain)?;
    Ok(plain)
}
