//! How fresh the published lists of a pool are, computed when somebody asks: a publication that hangs shows too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use crate::base::clock::{NumericDate, Timestamp};
use crate::model::pool::PoolId;

/// The freshness of one pool.
#[derive(Debug, Default)]
pub struct Freshness {
    state: Mutex<State>,
    oldest_unpublished: Gauge,
    pass_running: Gauge,
    last_pass: Gauge,
    tokens_valid_until: Gauge,
    update_interval: Seconds,
    list_lifetime: Seconds,
}

/// A length of time, which may have fractions.
type Seconds = Gauge<f64, AtomicU64>;

#[derive(Debug, Default)]
struct State {
    /// When the oldest unpublished change was made, as the store said last.
    unpublished_since: Option<Timestamp>,
    /// When the running pass began.
    pass_begun: Option<Instant>,
    /// The time before which no published token expires, as the store said last.
    valid_until: Option<NumericDate>,
    /// When the store was last asked.
    asked: Option<Instant>,
}

/// The pools' freshness, and their metrics.
#[derive(Debug, Default)]
pub(super) struct FreshnessMetrics {
    pools: Mutex<BTreeMap<PoolId, Arc<Freshness>>>,
    oldest_unpublished: Family<Labels, Gauge>,
    pass_running: Family<Labels, Gauge>,
    last_pass: Family<Labels, Gauge>,
    tokens_valid_until: Family<Labels, Gauge>,
    update_interval: Family<Labels, Seconds>,
    list_lifetime: Family<Labels, Seconds>,
}

type Labels = [(&'static str, String); 1];

impl FreshnessMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let mut gauge = |name: &str, help: &str, family: &Family<Labels, Gauge>| {
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
        };
        let help = "Age of the oldest unpublished change";
        gauge("oldest_unpublished", help, &metrics.oldest_unpublished);
        let help = "How long the present pass of publishing has been running; 0 between passes: alarm above three beats";
        gauge("pass_running", help, &metrics.pass_running);
        let help = "When this instance last completed a pass of publishing, in seconds since 1970";
        gauge("last_pass_timestamp", help, &metrics.last_pass);
        let help =
            "Time before which no published token expires, at the latest look: alarm when it comes near";
        gauge("tokens_valid_until_timestamp", help, &metrics.tokens_valid_until);
        // Alarms compare with these, so one rule fits all pools.
        let help = "The pool's beat: how often it is published";
        registry.register_with_unit("update_interval", help, Unit::Seconds, metrics.update_interval.clone());
        let help = "How long a token of the pool is valid";
        registry.register_with_unit("list_lifetime", help, Unit::Seconds, metrics.list_lifetime.clone());
        metrics
    }

    /// The freshness of this pool.
    pub(super) fn pool(&self, pool: &PoolId) -> Arc<Freshness> {
        let made = || {
            let labels = [("pool", pool.to_string())];
            let of = |family: &Family<Labels, Gauge>| family.get_or_create_owned(&labels);
            let times = |family: &Family<Labels, Seconds>| family.get_or_create_owned(&labels);
            Arc::new(Freshness {
                oldest_unpublished: of(&self.oldest_unpublished),
                pass_running: of(&self.pass_running),
                last_pass: of(&self.last_pass),
                tokens_valid_until: of(&self.tokens_valid_until),
                update_interval: times(&self.update_interval),
                list_lifetime: times(&self.list_lifetime),
                state: Mutex::default(),
            })
        };
        Arc::clone(self.pools.lock().entry(pool.clone()).or_insert_with(made))
    }

    /// Ends what is told of this pool.
    pub(super) fn forget(&self, pool: &PoolId) {
        self.pools.lock().remove(pool);
        let labels = [("pool", pool.to_string())];
        for gauges in
            [&self.oldest_unpublished, &self.pass_running, &self.last_pass, &self.tokens_valid_until]
        {
            gauges.remove(&labels);
        }
        for times in [&self.update_interval, &self.list_lifetime] {
            times.remove(&labels);
        }
    }

    /// Sets the metrics that depend on the time.
    pub(super) fn refresh(&self, now: Timestamp) {
        self.pools.lock().values().for_each(|pool| pool.refresh(now));
    }
}

/// A running pass; it ends when this is dropped.
#[derive(Debug)]
pub struct Pass<'a>(&'a Freshness);

impl Freshness {
    /// Whether the store was last asked longer ago than `age`; then it counts as asked now.
    pub fn ask_after(&self, age: Duration) -> bool {
        let mut state = self.state.lock();
        let is_due = state.asked.is_none_or(|asked| asked.elapsed() >= age);
        if is_due {
            state.asked = Some(Instant::now());
        }
        is_due
    }

    /// Notes when the oldest unpublished change was made; `None` if everything is published.
    pub fn note_unpublished(&self, since: Option<Timestamp>) {
        self.state.lock().unpublished_since = since;
    }

    /// Notes the time before which no published token expires.
    pub fn note_valid_until(&self, until: NumericDate) {
        self.state.lock().valid_until = Some(until);
        self.tokens_valid_until.set(i64::try_from(until.secs()).unwrap_or(i64::MAX));
    }

    /// Notes the pool's beat and the lifetime of its tokens.
    pub fn set_times(&self, update_interval: Duration, list_lifetime: Duration) {
        self.update_interval.set(update_interval.as_secs_f64());
        self.list_lifetime.set(list_lifetime.as_secs_f64());
    }

    /// Notes that a pass begins.
    pub fn begin_pass(&self) -> Pass<'_> {
        self.state.lock().pass_begun = Some(Instant::now());
        Pass(self)
    }

    /// How long a change has been waiting for its publication; zero if none is.
    pub fn unpublished_for(&self, now: Timestamp) -> Duration {
        self.state.lock().unpublished_since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// Whether a published token may have expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.state.lock().valid_until.is_some_and(|until| until <= now.date())
    }

    fn refresh(&self, now: Timestamp) {
        let secs = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        self.oldest_unpublished.set(secs(self.unpublished_for(now)));
        let begun = self.state.lock().pass_begun;
        self.pass_running.set(begun.map_or(0, |begun| secs(begun.elapsed())));
    }
}

impl Pass<'_> {
    /// Notes that everything that was to be published at its beginning is, at `now`.
    pub fn complete(self, now: Timestamp) {
        self.0.last_pass.set(i64::try_from(now.date().secs()).unwrap_or(i64::MAX));
        self.0.note_unpublished(None);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.state.lock().pass_begun = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_grow_while_nobody_reports() {
        let (freshness, begin) = (Freshness::default(), Timestamp::from_secs(1_800_000_000));
        freshness.refresh(begin);
        assert_eq!(freshness.oldest_unpublished.get(), 0);
        freshness.note_unpublished(Some(begin));
        let later = begin.plus(Duration::from_secs(40));
        freshness.refresh(later);
        assert_eq!(
            (freshness.oldest_unpublished.get(), freshness.unpublished_for(later).as_secs()),
            (40, 40)
        );
        freshness.note_unpublished(None);
        freshness.refresh(later);
        assert_eq!(freshness.oldest_unpublished.get(), 0);
        freshness.note_valid_until(later.date());
        assert!(!freshness.is_expired(begin) && freshness.is_expired(later));
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_is_not_asked_more_often_than_that() {
        let (freshness, second) = (Freshness::default(), Duration::from_secs(1));
        assert!(freshness.ask_after(second) && !freshness.ask_after(second));
        tokio::time::advance(second).await;
        assert!(freshness.ask_after(second));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_that_runs_shows_how_long() {
        let (freshness, now) = (Freshness::default(), Timestamp::from_secs(1_800_000_000));
        let pass = freshness.begin_pass();
        tokio::time::advance(Duration::from_secs(7)).await;
        freshness.refresh(now);
        assert_eq!((freshness.pass_running.get(), freshness.last_pass.get()), (7, 0));
        pass.complete(now);
        freshness.refresh(now);
        assert_eq!((freshness.pass_running.get(), freshness.last_pass.get()), (0, 1_800_000_000));
    }
}
