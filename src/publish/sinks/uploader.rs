//! What one bucket still needs of one pool, and the rounds that upload it.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::bucket::{Bucket, Content, Outcome, SinkError};
use crate::base::clock::{Clock, Timestamp};
use crate::base::stopper::Stopper;
use crate::bitstring;
use crate::config::PoolLive;
use crate::model::pool::PoolId;
use crate::publish::lease::PublisherLease;
use crate::publish::ours;
use crate::publish::pass::schedule;
use crate::sign::KeyRing;
use crate::site::folder::Site;
use crate::site::layout::{File, aggregation_path};
use crate::status_list::{BaseUri, Format, Formats, ListId, Purpose};
use crate::telemetry::metrics::{PoolMetrics, SinkMetrics};

/// Concurrent uploads. Higher: a bucket that comes back is current sooner, but memory and connections grow.
const CONCURRENT: usize = 16;
/// How long a failed upload waits at first, and at most.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Something that is published for a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::publish) enum Name {
    List(ListId),
    Aggregation,
    Keys,
}

/// The published files of a pool, and how to verify them.
#[derive(Clone, Debug)]
pub(in crate::publish) struct Files {
    pub(in crate::publish) site: Site,
    pub(in crate::publish) base: BaseUri,
    pub(in crate::publish) pool: PoolId,
    pub(in crate::publish) formats: Formats,
    pub(in crate::publish) aggregation: bool,
    pub(in crate::publish) live: Arc<ArcSwap<PoolLive>>,
    pub(in crate::publish) keys: Arc<KeyRing>,
    pub(in crate::publish) lease: Arc<PublisherLease>,
    pub(in crate::publish) clock: Clock,
    pub(in crate::publish) replace_future: Arc<AtomicBool>,
    pub(in crate::publish) metrics: Arc<PoolMetrics>,
}

/// Uploads one pool's files to one bucket.
#[derive(Debug)]
pub(super) struct Uploader {
    bucket: Bucket,
    files: Files,
    metrics: SinkMetrics,
    state: Mutex<State>,
    wake: Notify,
    paid: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    owed: HashMap<Name, Owed>,
    /// Grows with each request, so that a request during the upload is noticed.
    wishes: u64,
    /// Consecutive rounds without a success, and until when the bucket gets no requests.
    fruitless: u32,
    resume: Option<Instant>,
    /// Whether the failure has been logged.
    failing: bool,
}

#[derive(Clone, Copy, Debug)]
struct Owed {
    since: Timestamp,
    wish: u64,
    failures: u32,
    not_before: Option<Instant>,
}

impl Uploader {
    pub(super) fn new(bucket: Bucket, files: Files, paid: watch::Sender<u64>) -> Self {
        let metrics = files.metrics.sink(&bucket.to_string());
        Self { bucket, files, metrics, state: Mutex::default(), wake: Notify::new(), paid }
    }

    pub(super) fn owe(&self, names: impl Iterator<Item = Name>) {
        let now = self.files.clock.now();
        let mut state = self.state();
        for name in names {
            state.wishes += 1;
            let wish = state.wishes;
            let new = Owed { since: now, wish, failures: 0, not_before: None };
            state.owed.entry(name).and_modify(|owed| owed.wish = wish).or_insert(new);
        }
        drop(state);
        self.wake.notify_one();
    }

    pub(super) fn owes(&self, name: &Name) -> bool {
        self.state().owed.contains_key(name)
    }

    pub(super) fn owed_count(&self) -> usize {
        self.state().owed.len()
    }

    pub(super) fn doubt_everything(&self) {
        self.bucket.doubt_everything();
    }

    pub(super) fn forget(&self) {
        self.state().owed.clear();
        self.metrics.oldest_owed.set(0);
    }

    /// Uploads what is owed, repeatedly, until the stop.
    pub(super) async fn run(self: &Arc<Self>, stopper: &Stopper) {
        let rounds = async {
            loop {
                match self.next_round() {
                    Some(at) => tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = self.wake.notified() => {}
                    },
                    None => self.wake.notified().await,
                }
                self.round(false).await;
            }
        };
        let _: Option<()> = stopper.until(rounds).await;
    }

    /// Returns when the next upload is due.
    fn next_round(&self) -> Option<Instant> {
        let state = self.state();
        let earliest = state.owed.values().map(|owed| owed.not_before).min()?;
        Some(earliest.max(state.resume).unwrap_or_else(Instant::now))
    }

    /// Uploads what is due, or with `all` everything that is owed. Ends early when nothing succeeds.
    pub(super) async fn round(self: &Arc<Self>, all: bool) {
        let mut due = self.due(all);
        let mut uploads = JoinSet::new();
        let (mut failed, mut succeeded) = (0, 0);
        loop {
            while uploads.len() < CONCURRENT
                && (succeeded > 0 || failed < CONCURRENT)
                && let Some((name, wish)) = due.pop()
            {
                let uploader = Arc::clone(self);
                uploads.spawn(async move { (name, wish, uploader.upload(name).await) });
                // Nobody should get a token before the key that verifies it. If the keys fail, revocations do not wait for them.
                if name == Name::Keys {
                    break;
                }
            }
            match uploads.join_next().await {
                Some(Ok((name, wish, uploaded))) => match self.note(name, wish, uploaded) {
                    true => succeeded += 1,
                    false => failed += 1,
                },
                Some(Err(error)) => tracing::error!(%error, "an upload ended early"),
                None => break,
            }
        }
        self.note_round(succeeded, failed);
    }

    /// Returns what is due, the most promising last, except for the keys, which come after all others.
    fn due(&self, all: bool) -> Vec<(Name, u64)> {
        let now = Instant::now();
        let state = self.state();
        if !all && state.resume.is_some_and(|resume| resume > now) {
            return Vec::new();
        }
        let due = state.owed.iter().filter(|(_, owed)| all || owed.not_before.is_none_or(|at| at <= now));
        let mut due: Vec<_> = due.map(|(name, owed)| (*name, *owed)).collect();
        due.sort_by_key(|(name, owed)| (*name == Name::Keys, Reverse((owed.failures, owed.since))));
        due.into_iter().map(|(name, owed)| (name, owed.wish)).collect()
    }

    async fn upload(&self, name: Name) -> Result<Outcome, SinkError> {
        let files = self.files.clone();
        let cache_control = self.bucket.cache_control(files.live.load().update_interval);
        let read = tokio::task::spawn_blocking(move || files.objects(name, &cache_control)).await;
        let objects = read.map_err(|error| SinkError::Files(error.to_string()))??;
        let uri = match name {
            Name::List(list) => Some(self.files.base.join(&list)),
            Name::Aggregation | Name::Keys => None,
        };
        let issued_at = |bytes: &[u8]| {
            let token = |format| ours::token(format, bytes, &self.files.keys, uri.as_deref()?);
            let credential =
                |purpose| ours::credential(purpose, bytes, &self.files.keys, uri.as_deref()?)?.claims.iat;
            let iat = Format::SIGNED.into_iter().find_map(token).map(|token| token.claims.iat);
            let iat = iat.or_else(|| Purpose::ALL.into_iter().find_map(credential));
            // One that is to be replaced whatever its `iat` is like one that is not ours.
            let replace = self.files.replace_future.load(Ordering::Relaxed);
            iat.filter(|iat| !replace || !schedule::is_ahead(*iat, self.files.clock.now()))
        };
        let mut outcome = Outcome::Unchanged;
        for (name, wanted) in &objects {
            if self.bucket.make_current(name, wanted.as_ref(), &issued_at, &self.files.lease).await?
                == Outcome::Written
            {
                outcome = Outcome::Written;
            }
        }
        Ok(outcome)
    }

    /// Records the result of an upload. Returns whether it succeeded.
    fn note(&self, name: Name, wish: u64, uploaded: Result<Outcome, SinkError>) -> bool {
        let (pool, bucket) = (&self.files.pool, &self.bucket);
        let mut state = self.state();
        match uploaded {
            Err(SinkError::NotOurs) => state.owed.clear(),
            Err(error @ SinkError::Newer { .. }) => {
                tracing::warn!(%pool, %bucket, %error, "not uploaded");
                self.metrics.failed.inc();
                state.pay(name, wish);
            }
            Err(error) => {
                self.metrics.failed.inc();
                if !std::mem::replace(&mut state.failing, true) {
                    tracing::error!(%pool, %bucket, %error, "an upload failed; the local files are current; retrying until it succeeds");
                } else {
                    tracing::debug!(%pool, %bucket, %error, "an upload failed again");
                }
                if let Some(owed) = state.owed.get_mut(&name) {
                    owed.not_before = Some(Instant::now() + pause(owed.failures));
                    owed.failures = owed.failures.saturating_add(1);
                }
                return false;
            }
            Ok(outcome) => {
                if outcome == Outcome::Written {
                    self.metrics.uploaded.inc();
                }
                state.pay(name, wish);
            }
        }
        drop(state);
        self.paid.send_modify(|paid| *paid += 1);
        true
    }

    fn note_round(&self, succeeded: usize, failed: usize) {
        let (pool, bucket) = (&self.files.pool, &self.bucket);
        let mut state = self.state();
        match succeeded {
            0 if failed >= CONCURRENT => {
                state.resume = Some(Instant::now() + pause(state.fruitless));
                state.fruitless = state.fruitless.saturating_add(1);
            }
            0 => {}
            _ => (state.resume, state.fruitless) = (None, 0),
        }
        if state.failing && succeeded > 0 && failed == 0 {
            state.failing = false;
            tracing::info!(%pool, %bucket, "uploads succeed again");
        }
        let oldest = state.owed.values().map(|owed| owed.since).min();
        let age = oldest.map_or(0, |oldest| self.files.clock.now().since(oldest).as_secs());
        self.metrics.oldest_owed.set(i64::try_from(age).unwrap_or(i64::MAX));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// Removes a fulfilled request; a later one for the same file stays.
    fn pay(&mut self, name: Name, wish: u64) {
        if self.owed.get(&name).is_some_and(|owed| owed.wish == wish) {
            self.owed.remove(&name);
        }
    }
}

impl Files {
    /// Returns the objects of `name` in a bucket; `None` for an object that must not exist. A bucket does not negotiate, so the `uri`
    /// of a list is a key of its own, with the JWT, or with the CWT if the list has no JWT.
    fn objects(&self, name: Name, cache_control: &str) -> Result<Vec<(String, Option<Content>)>, SinkError> {
        let failed = |error: &dyn std::fmt::Display| SinkError::Files(error.to_string());
        let content = |bytes, content_type, iat| {
            Some(Content { bytes, content_type, cache_control: cache_control.to_owned(), iat })
        };
        let json = |bytes| content(bytes, "application/json", None);
        let pool = &self.pool;
        Ok(match name {
            Name::List(list) => {
                let key = |format| File::of_list(list, format).name();
                if self.site.is_retired(&list) {
                    let keys = [list.to_string()].into_iter().chain(Format::SIGNED.map(key));
                    let keys = keys.chain(Purpose::ALL.map(|purpose| bitstring::path(purpose, &list)));
                    return Ok(keys.map(|key| (key, None)).collect());
                }
                let (uri, formats) = (self.base.join(&list), self.formats);
                let files = self.site.read(&list, formats).map_err(|error| failed(&error))?;
                let tokens = Format::SIGNED.map(|format| {
                    let bytes = files.form(format)?;
                    let iat = ours::token(format, bytes, &self.keys, &uri)?.claims.iat;
                    content(bytes.to_vec(), format.media_type(), Some(iat))
                });
                if Format::SIGNED
                    .into_iter()
                    .zip(&tokens)
                    .any(|(format, token)| token.is_some() != formats.contains(format))
                {
                    // Missing or damaged files are restored from the store, and uploaded then.
                    return Ok(Vec::new());
                }
                let credentials = Purpose::ALL.map(|purpose| {
                    let format = Format::Bitstring(purpose);
                    let bytes = files.form(format)?;
                    let iat = ours::credential(purpose, bytes, &self.keys, &uri)?.claims.iat;
                    content(bytes.to_vec(), format.media_type(), iat)
                });
                if Purpose::ALL
                    .into_iter()
                    .zip(&credentials)
                    .any(|(purpose, there)| there.is_some() != formats.contains(Format::Bitstring(purpose)))
                {
                    return Ok(Vec::new());
                }
                let at_uri = tokens.iter().flatten().next().cloned();
                let of_formats = Format::SIGNED.map(key).into_iter().zip(tokens);
                let of_purposes = Purpose::ALL.map(|purpose| bitstring::path(purpose, &list));
                let of_purposes = of_purposes.into_iter().zip(credentials);
                [(list.to_string(), at_uri)].into_iter().chain(of_formats).chain(of_purposes).collect()
            }
            Name::Aggregation => {
                let document = match self.aggregation.then(|| self.site.read_aggregation(pool)).transpose() {
                    Ok(Some(None)) => return Ok(Vec::new()),
                    Ok(document) => document.flatten().and_then(json),
                    Err(error) => return Err(failed(&error)),
                };
                let keys = [aggregation_path(pool), File::Aggregation(pool.clone()).name()];
                keys.map(|key| (key, document.clone())).to_vec()
            }
            Name::Keys => {
                let document = self.site.read_jwks().map_err(|error| failed(&error))?;
                document.map(|document| (File::Jwks.name(), json(document))).into_iter().collect()
            }
        })
    }
}

/// 1 s, 2 s, 4 s, … up to a minute.
fn pause(failures: u32) -> Duration {
    PAUSE.saturating_mul(2_u32.saturating_pow(failures)).min(PAUSE_MAX)
}
