//! The trust anchors of a cache: loaded when they are needed, again after a time, and when a signature calls for newer ones.

use std::sync::Arc;
use std::time::Duration;

use super::answer::NoStatus;
use crate::check::{CannotTell, Check, Trust, load};

/// Loads the trust anchors that the rules of a check name, for one caller at a time.
#[derive(Debug, Default)]
pub(super) struct Anchors(tokio::sync::Mutex<Loaded>);

#[derive(Debug, Default)]
struct Loaded {
    trust: Option<(Arc<Trust>, Duration)>,
    failure: Option<(NoStatus, Duration)>,
}

impl Anchors {
    /// Returns anchors that were loaded less than `age` before `now`, an uptime. A failure is remembered for `pause`.
    pub(super) async fn no_older_than(
        &self,
        age: Duration,
        rules: &Check,
        (now, pause): (Duration, Duration),
    ) -> Result<Arc<Trust>, NoStatus> {
        let source = rules.trust.as_ref().ok_or(CannotTell::NoTrust)?;
        let mut loaded = self.0.lock().await;
        if let Some((trust, at)) = &loaded.trust
            && now.saturating_sub(*at) < age
        {
            return Ok(Arc::clone(trust));
        }
        if let Some((why, at)) = &loaded.failure
            && now.saturating_sub(*at) < pause
        {
            return Err(why.clone());
        }
        match load(source, rules).await {
            Ok(trust) => {
                let trust = Arc::new(trust);
                *loaded = Loaded { trust: Some((Arc::clone(&trust), now)), failure: None };
                Ok(trust)
            }
            Err(why) => {
                let why = NoStatus::from(CannotTell::from(why));
                loaded.failure = Some((why.clone(), now));
                Err(why)
            }
        }
    }
}
