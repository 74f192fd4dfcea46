//! Shared by the tests.

pub(crate) mod app;
pub(crate) mod authority;
pub(crate) mod disk;
pub(crate) mod fleet;
pub(crate) mod k6;
pub(crate) mod nginx;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod relying_party;
pub(crate) mod s3;
pub(crate) mod site;
pub(crate) mod told;
pub(crate) mod wire;

use std::time::{Duration, Instant};

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
