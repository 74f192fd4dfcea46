//! Work that waits for a disk or takes milliseconds of CPU, kept off the async threads.

use tokio::task::JoinError;

/// Runs `work` on a thread that may block. Fails only if it panics, or the runtime stops before it begins. The simulator, which
/// has one thread, runs it at once.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    #[cfg(feature = "sim")]
    if super::simulated::is_on() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await
}
