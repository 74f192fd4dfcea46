//! Stopping in order: a task runs until it ends or the service is asked to stop.

use tokio::sync::watch;

/// A handle on the wish to stop; clones share it.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Receiver<bool>);

/// The one that asks. Dropping it asks as well.
#[derive(Debug)]
pub struct StopSwitch(watch::Sender<bool>);

/// A switch and its handle.
pub fn stopper() -> (StopSwitch, Stopper) {
    let (sender, receiver) = watch::channel(false);
    (StopSwitch(sender), Stopper(receiver))
}

impl StopSwitch {
    /// Asks everybody to stop.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stopper {
    /// Runs `future` until it ends; `None` if the service was asked to stop before.
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
