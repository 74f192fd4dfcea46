//! Graceful stopping: a task runs until it ends or the service is told to stop.

use tokio::sync::watch;

/// Tells a task when to stop. Clones share the signal.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Receiver<bool>);

/// Sends the signal. Dropping it also stops.
#[derive(Debug)]
pub struct StopSwitch(watch::Sender<bool>);

/// A switch and a stopper that belong together.
pub fn stopper() -> (StopSwitch, Stopper) {
    let (sender, receiver) = watch::channel(false);
    (StopSwitch(sender), Stopper(receiver))
}

impl StopSwitch {
    /// Tells all tasks to stop.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stopper {
    /// Whether the signal was sent.
    pub fn has_stopped(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Runs `future` until it ends; `None` if the stop comes first.
    pub async fn until<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut asked = self.0.clone();
        tokio::select! {
            biased;
            _ = asked.wait_for(|stop| *stop) => None,
            output = future => Some(output),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_wins_over_a_future_that_never_ends() {
        let (switch, stopper) = stopper();
        assert_eq!(stopper.until(async { 7 }).await, Some(7));
        let waiting = tokio::spawn(async move { stopper.until(std::future::pending::<()>()).await });
        switch.stop();
        assert_eq!(waiting.await.unwrap(), None);
    }

    #[tokio::test]
    async fn dropping_the_switch_stops() {
        let (switch, stopper) = stopper();
        drop(switch);
        assert_eq!(stopper.until(std::future::pending::<()>()).await, None);
    }
}
