//! Notices changed settings and keys, and has the running service take them.
//!
//! Everything is read and checked anew, whole, whatever has changed; if anything is wrong, nothing changes, and the log and
//! the metrics say so until it is put right. Folders are watched rather than files, because editors and Kubernetes replace files
//! by renaming; a slow look at all files catches what no event told of. SIGHUP asks for it by hand.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::config::Config;
use crate::metrics::ReloadMetrics;
use crate::stopper::Stopper;

/// Replacing key and chain takes two steps; what comes within this time is one change.
const DEBOUNCE: Duration = Duration::from_millis(300);
/// How often all files are looked at without being told to.
const LOOK_EVERY: Duration = Duration::from_secs(30);

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

/// Watches what the settings depend on.
pub struct Reload {
    source: Source,
    take: Take,
    metrics: ReloadMetrics,
    changed: Arc<Notify>,
    /// `None` where the system does not tell of changes.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    files: Vec<PathBuf>,
    /// What the files held when they were last tried.
    tried: Fingerprint,
    /// Whether that was refused.
    stale: bool,
}

impl Reload {
    /// Watches the files of `current`, which is in use.
    pub fn new(source: Source, current: &Config, take: Take, metrics: ReloadMetrics) -> Self {
        let changed = Arc::new(Notify::new());
        let tell = Arc::clone(&changed);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Reading a file is an event as well; looking at it must not lead to the next look.
            if event.is_err() || event.is_ok_and(|event| is_change(&event.kind)) {
                tell.notify_one();
            }
        });
        let watcher = watcher.map_err(
            |error| tracing::warn!(%error, "cannot watch files; changes are noticed within {LOOK_EVERY:?}"),
        );
        // What has changed since then shows at the first look, which is at once.
        let (folders, files, tried) = (BTreeSet::new(), Vec::new(), source.seen);
        let mut reload = Self {
            source,
            take,
            metrics,
            changed,
            watcher: watcher.ok(),
            folders,
            files,
            tried,
            stale: false,
        };
        reload.watch(current.files());
        reload
    }

    /// Reloads when something has changed, until asked to stop.
    pub async fn run(mut self, stopper: &Stopper) {
        // If that fails, `survive_hangups` has said so.
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stale = self.stale;
            let wake = async {
                tokio::select! {
                    () = hung_up(&mut hangup) => true,
                    () = self.changed.notified() => {
                        tokio::time::sleep(DEBOUNCE).await;
                        false
                    }
                    // What was refused may be put right where nobody watches.
                    _ = look.tick() => stale,
                }
            };
            let Some(asked) = stopper.until(wake).await else { return };
            // Before reading: what changes meanwhile shows at the next look.
            let found = Fingerprint::of(&self.files);
            if asked || found != self.tried {
                self.tried = found;
                if stopper.until(self.reload()).await.is_none() {
                    return;
                }
            }
        }
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
        if self.watch(config.files()) {
            // Before reading, as ever: what changes from now on shows.
            self.tried = Fingerprint::of(&self.files);
            config = self.load().await?;
        }
        let take = Arc::clone(&self.take);
        blocking(move || take(config)).await
    }

    /// Watches the settings file and these; answers whether they are others than before.
    fn watch(&mut self, files: Vec<PathBuf>) -> bool {
        let files = files_of(self.source.file.as_ref(), files);
        let are_others = files != self.files;
        self.files = files;
        let Some(watcher) = &mut self.watcher else { return are_others };
        let folders: BTreeSet<_> = self.files.iter().map(|file| folder_of(file)).collect();
        for folder in self.folders.difference(&folders) {
            let _ = watcher.unwatch(folder);
        }
        for folder in folders.difference(&self.folders) {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!(folder = %folder.display(), %error, "cannot watch this folder; changes in it are noticed within {LOOK_EVERY:?}");
            }
        }
        self.folders = folders;
        are_others
    }
}

/// Files, key derivation and security modules take their time.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("reading them ended early")?
}

fn is_change(kind: &EventKind) -> bool {
    !matches!(kind, EventKind::Access(_)) || *kind == EventKind::Access(AccessKind::Close(AccessMode::Write))
}

async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => _ = hangup.recv().await,
        None => std::future::pending().await,
    }
}

fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_owned()
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
            let metrics = crate::metrics::Metrics::default().reloads;
            let source = Source { file: Some(file.clone()), load, seen };
            let reload = Reload::new(source, &config, take, metrics);
            let (_switch, stopper) = crate::stopper::stopper();
            tokio::spawn(async move { reload.run(&stopper).await });
            let patience = taken.map_or(DEBOUNCE, |_| DEBOUNCE * 100);
            assert_eq!(tokio::time::timeout(patience, told.recv()).await.ok().flatten(), taken);
        }
    }
}
