//! Notices changed settings and keys, and has the running service take them.
//!
//! Everything is read and checked anew, whole, whatever has changed; if anything is wrong, nothing changes, and the log and
//! the metrics say so until it is put right. SIGHUP asks for it by hand.
//!
//! The files are read and compared, not watched. Events (inotify) tell nothing of links and network folders, and those of a
//! folder that also holds the database come with every write to it. The library for polling, `notify::PollWatcher`, was
//! tried: it never reports a file that was missing when it was told to watch it, reports one whose time changes and content
//! does not, warns at every poll of one that is gone, and cannot know what changed before it began. Each of these needs the
//! comparison below again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior};

use crate::base::stopper::Stopper;
use crate::config::Config;
use crate::telemetry::metrics::ReloadMetrics;

/// Replacing key and chain takes two steps; what comes within this time is one change.
const DEBOUNCE: Duration = Duration::from_millis(300);
/// How often the files are read, to see whether they are others. Some small files: tens of microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often what was refused is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(30);

/// Reads the settings anew.
pub type Load = Arc<dyn Fn() -> Result<Config> + Send + Sync>;
/// Makes the service go on with other settings, or says why it cannot.
pub type Take = Arc<dyn Fn(Config) -> Result<()> + Send + Sync>;

/// Where the settings come from.
#[derive(Clone)]
pub struct Source {
    /// The settings file, if there is one.
    pub file: Option<PathBuf>,
    /// Reads it.
    pub load: Load,
    /// What the files held just before the settings in use were read.
    pub seen: Fingerprint,
}

/// Some files' content, in a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

/// From now on SIGHUP does not end the process, not even before anybody listens for it. Needs a runtime.
pub fn survive_hangups() {
    // The handler stays when this is dropped.
    if let Err(error) = signal(SignalKind::hangup()) {
        tracing::warn!(%error, "cannot listen for SIGHUP");
    }
}

/// Looks at what the settings depend on.
pub struct Reload {
    source: Source,
    take: Take,
    metrics: ReloadMetrics,
    files: Vec<PathBuf>,
    /// What the files held when they were last tried.
    tried: Fingerprint,
    /// Whether that was refused.
    stale: bool,
}

impl Reload {
    /// Looks at the files of `current`, which is in use. What has changed since its source was `seen` shows at the first look.
    pub fn new(source: Source, current: &Config, take: Take, metrics: ReloadMetrics) -> Self {
        let files = files_of(source.file.as_ref(), current.files());
        let tried = source.seen;
        Self { source, take, metrics, files, tried, stale: false }
    }

    /// Reloads when something has changed, until asked to stop.
    pub async fn run(mut self, stopper: &Stopper) {
        // If that fails, `survive_hangups` has said so.
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut look = interval(LOOK_EVERY);
        let mut retry = interval(RETRY_EVERY);
        loop {
            let stale = self.stale;
            let wake = async {
                tokio::select! {
                    () = hung_up(&mut hangup) => true,
                    _ = look.tick() => false,
                    // It may have been for a reason that is in no file.
                    _ = retry.tick() => stale,
                }
            };
            let Some(asked) = stopper.until(wake).await else { return };
            if stopper.until(self.reload_if(asked)).await.is_none() {
                return;
            }
        }
    }

    /// Reloads if asked to, or if the files are others than those that were tried last.
    async fn reload_if(&mut self, asked: bool) {
        // Before reading: what changes meanwhile shows at the next look.
        let mut found = self.look().await;
        if !asked {
            if found == self.tried {
                return;
            }
            tokio::time::sleep(DEBOUNCE).await;
            found = self.look().await;
        }
        self.tried = found;
        self.reload().await;
    }

    /// What the files hold now; as it was when last tried if that cannot be found out.
    async fn look(&self) -> Fingerprint {
        let files = self.files.clone();
        blocking(move || Ok(Fingerprint::of(&files))).await.unwrap_or(self.tried)
    }

    async fn reload(&mut self) {
        let taken = self.read_and_take().await;
        self.stale = taken.is_err();
        match taken {
            Ok(()) => tracing::info!("took the changed settings and keys"),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(
                    error,
                    "the changed settings or keys cannot be used; everything stays as it was"
                );
            }
        }
        self.metrics.note(!self.stale);
    }

    async fn load(&self) -> Result<Config> {
        let load = Arc::clone(&self.source.load);
        blocking(move || load()).await
    }

    async fn read_and_take(&mut self) -> Result<()> {
        let mut config = self.load().await?;
        // Of settings that are refused as well: what is wrong may be put right in one of their files.
        let files = files_of(self.source.file.as_ref(), config.files());
        if files != self.files {
            self.files = files;
            // Before reading, as ever: what changes from now on shows.
            self.tried = self.look().await;
            config = self.load().await?;
        }
        let take = Arc::clone(&self.take);
        blocking(move || take(config)).await
    }
}

/// Files, key derivation and security modules take their time.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("reading them ended early")?
}

/// Late ticks are not made up for.
fn interval(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => _ = hangup.recv().await,
        None => std::future::pending().await,
    }
}

/// The settings file and what the settings name.
fn files_of(settings: Option<&PathBuf>, named: Vec<PathBuf>) -> Vec<PathBuf> {
    settings.cloned().into_iter().chain(named).collect()
}

impl Fingerprint {
    /// Of this settings file and of what the settings that were read from it name.
    pub fn of_settings(file: Option<&PathBuf>, config: &Config) -> Self {
        Self::of(&files_of(file, config.files()))
    }

    /// A file that cannot be read is as good as any other content.
    fn of(files: &[PathBuf]) -> Self {
        let mut hasher = DefaultHasher::new();
        for file in files {
            file.hash(&mut hasher);
            std::fs::read(file).map_err(|error| error.kind().to_string()).hash(&mut hasher);
        }
        Self(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    /// Opening the store or waiting for Redis takes its time; what an operator changes meanwhile must not be missed.
    #[tokio::test]
    async fn what_changed_between_reading_the_settings_and_watching_them_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.yaml");
        let write = |text: &str| {
            std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), text.as_bytes()).unwrap();
        };
        let read = |file: &PathBuf| {
            Config::load(Some(&std::fs::read_to_string(file).unwrap()), std::iter::empty()).unwrap()
        };
        for (later, taken) in [(Some("limits: { amount: 9 }"), Some(9)), (None, None)] {
            write("limits: { amount: 7 }");
            let config = read(&file);
            let seen = Fingerprint::of_settings(Some(&file), &config);
            later.into_iter().for_each(write);
            let named = file.clone();
            let load: Load = Arc::new(move || Ok(read(&named)));
            let (tell, mut told) = mpsc::unbounded_channel();
            let take: Take = Arc::new(move |config: Config| Ok(tell.send(config.limits.amount_max)?));
            let metrics = crate::telemetry::metrics::Metrics::default().reloads;
            let source = Source { file: Some(file.clone()), load, seen };
            let reload = Reload::new(source, &config, take, metrics);
            let (_switch, stopper) = crate::base::stopper::stopper();
            tokio::spawn(async move { reload.run(&stopper).await });
            let patience = taken.map_or((LOOK_EVERY + DEBOUNCE) * 2, |_| DEBOUNCE * 100);
            assert_eq!(tokio::time::timeout(patience, told.recv()).await.ok().flatten(), taken);
        }
    }
}
