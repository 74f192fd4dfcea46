//! The most that a caller can request or send.

use std::time::Duration;

use super::ConfigError;
use super::raw::RawLimits;

/// Bounds on requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest a request may take, waiting for references included.
    pub request_timeout: Duration,
    /// The most references of one request.
    pub amount_max: u32,
    /// The most entries of one batch update.
    pub batch_max: usize,
    /// The largest body in bytes.
    pub body_bytes_max: usize,
    /// The most bytes of all bodies in memory together.
    pub bodies_bytes_max: usize,
    /// The lowest rate of a body, in bytes per second.
    pub body_bytes_per_second_min: u64,
    /// The most entries whose updates may wait for the store in one pool; room for at least one batch.
    pub queue_max: usize,
    /// The most bytes that the answers kept under `Idempotency-Key`s may take in one pool.
    pub idempotency_bytes_max: u64,
}

/// Redis takes a million arguments. A change on a list of its own has six.
const BATCH_MAX: usize = 150_000;

/// How many of the largest bodies fit into memory at the same time, unless the settings say otherwise.
const BODIES: usize = 4;

impl Limits {
    pub(super) fn check(raw: RawLimits) -> Result<Self, ConfigError> {
        let at_least_one = [
            ("limits.amount", raw.amount as usize),
            ("limits.batch", raw.batch),
            ("limits.body-bytes", raw.body_bytes),
            ("limits.queue", raw.queue),
        ];
        if let Some((key, _)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::at(key, "must be at least 1"));
        }
        if raw.batch > BATCH_MAX {
            let why = format!("must be at most {BATCH_MAX}, which is one atomic step in every store");
            return Err(ConfigError::at("limits.batch", why));
        }
        let bodies = raw.bodies_bytes.unwrap_or_else(|| raw.body_bytes.saturating_mul(BODIES));
        if bodies < raw.body_bytes {
            let why = format!(
                "must be at least limits.body-bytes ({}), or no body could be that large",
                raw.body_bytes
            );
            return Err(ConfigError::at("limits.bodies-bytes", why));
        }
        if raw.request_timeout.0.is_zero() {
            return Err(ConfigError::at("limits.request-timeout", "must be above 0s"));
        }
        Ok(Self {
            request_timeout: raw.request_timeout.0,
            amount_max: raw.amount,
            batch_max: raw.batch,
            body_bytes_max: raw.body_bytes,
            bodies_bytes_max: bodies,
            body_bytes_per_second_min: raw.body_bytes_per_second,
            queue_max: raw.queue,
            idempotency_bytes_max: raw.idempotency_bytes,
        })
    }
}
