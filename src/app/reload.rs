//! Detects changed settings and keys, and pools and keys that operators made in the store, and applies them to the running service.
//!
//! If a file changed, everything is read and checked anew as a whole. If anything is wrong, nothing changes, and the log and the
//! metrics say so until it is repaired. SIGHUP triggers a reload by hand. If only the store's pools and keys changed, they are applied
//! to the settings in use, whatever the files are like by now: nothing that is wrong with those may delay the end of a key.
//!
//! The files are read and compared, not watched. Events (inotify) miss links and network folders, and a folder that also
//! holds the database reports every write to it. The polling library, `notify::PollWatcher`, was tried: it never reports a
//! file that was missing when the watch began, reports one whose time changes but not its content, warns at every poll of a
//! missing one, and cannot know what changed before it began. Each of these would need the comparison below as well.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::{Interval, MissedTickBehavior};
use zeroize::Zeroizing;

use crate::base::stopper::Stopper;
use crate::config::Config;
use crate::model::pool::PoolId;
use crate::model::registry::Registry;
use crate::store::{Registered, Stamp, Store};
use crate::telemetry::metrics::ReloadMetrics;

/// Replacing a key and its chain takes two steps: changes within this time count as one.
const DEBOUNCE: Duration = Duration::from_millis(300);
/// How often the files are read and compared. A few small files take tens of microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often refused settings are tried again.
const RETRY_EVERY: Duration = Duration::from_secs(30);

/// Loads the settings anew.
pub type Load = Arc<dyn Fn() -> Result<Config> + Send + Sync>;
/// Applies new settings to the service. Fails without a change if they cannot be used.
pub type Apply = Arc<dyn Fn(Config, Change) -> Result<LeftOut> + Send + Sync>;
/// Pools made at run time that cannot be served, and why.
pub type LeftOut = Vec<(PoolId, String)>;

/// What may differ from what is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Anything.
    Settings,
    /// Only what operators made at run time.
    Registry,
}

/// The source of the settings.
#[derive(Clone)]
pub struct Source {
    /// The settings files.
    pub files: Vec<PathBuf>,
    /// Loads them.
    pub load: Load,
    /// Content of the files just before the settings in use were read.
    pub seen: Fingerprint,
}

/// A hash of the content of several files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

/// Keeps SIGHUP from ending the process, even before anything listens for it. Needs a runtime.
pub fn survive_hangups() {
    // The handler stays installed when this is dropped.
    if let Err(error) = signal(SignalKind::hangup()) {
        tracing::warn!(%error, "cannot listen for SIGHUP");
    }
}

/// Watches what operators make at run time.
pub struct RegistryWatch {
    /// Where it is.
    pub store: Store,
    /// The version at the latest try.
    pub tried: Registered,
    /// Somebody changed it through this instance.
    pub changed: Arc<Notify>,
    /// The version in use.
    pub applied: watch::Sender<Stamp>,
    /// Whether some of its pools were left out at the start.
    pub left_out: bool,
}

/// Why to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    /// SIGHUP.
    Asked,
    /// The registry was changed through this instance.
    Registry,
    /// It is time.
    Look,
    /// It is time to try again: the reason may lie outside the files.
    Retry,
}

/// Watches the files that the settings depend on.
pub struct Reload {
    source: Source,
    registry: Option<RegistryWatch>,
    apply: Apply,
    metrics: ReloadMetrics,
    /// The settings in use.
    current: Config,
    files: Vec<PathBuf>,
    /// Content of the files at the latest try.
    tried: Fingerprint,
    /// Whether that try was refused.
    stale: bool,
    /// Whether something of the registry is not in use.
    incomplete: bool,
}

impl Reload {
    /// Watches the files of `current`, the settings in use. The first comparison finds everything changed since
    /// `source.seen`.
    pub fn new(source: Source, current: &Config, apply: Apply, metrics: ReloadMetrics) -> Self {
        let files = files_of(&source.files, current.files());
        let (tried, current) = (source.seen, current.clone());
        Self {
            source,
            registry: None,
            apply,
            metrics,
            current,
            files,
            tried,
            stale: false,
            incomplete: false,
        }
    }

    /// The same, also after each change of the registry.
    pub fn of_registry(self, registry: RegistryWatch) -> Self {
        Self { incomplete: registry.left_out, registry: Some(registry), ..self }
    }

    /// Reloads after each change, until the stop.
    pub async fn run(mut self, stopper: &Stopper) {
        // If that fails, `survive_hangups` has logged it.
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut look = interval(LOOK_EVERY);
        let mut retry = interval(RETRY_EVERY);
        loop {
            let wake = async {
                let changed = async {
                    match &self.registry {
                        Some(registry) => registry.changed.notified().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = hung_up(&mut hangup) => Wake::Asked,
                    () = changed => Wake::Registry,
                    _ = look.tick() => Wake::Look,
                    _ = retry.tick() => Wake::Retry,
                }
            };
            let Some(wake) = stopper.until(wake).await else { return };
            if stopper.until(self.reload_if(wake)).await.is_none() {
                return;
            }
        }
    }

    /// Reloads on request, if the files differ from those tried last, or if the registry does.
    async fn reload_if(&mut self, wake: Wake) {
        if wake == Wake::Registry {
            self.take_registry().await;
            return;
        }
        // Before reading: the next comparison finds what changes meanwhile.
        let mut found = self.look().await;
        if wake != Wake::Asked && found != self.tried {
            tokio::time::sleep(DEBOUNCE).await;
            found = self.look().await;
        }
        if wake == Wake::Asked || found != self.tried || (wake == Wake::Retry && self.stale) {
            self.tried = found;
            self.reload().await;
        } else if self.is_registry_newer().await || (wake == Wake::Retry && self.incomplete) {
            self.take_registry().await;
        }
    }

    /// The present content of the files; that of the latest try if they cannot be read.
    async fn look(&self) -> Fingerprint {
        let files = self.files.clone();
        blocking(move || Ok(Fingerprint::of(&files))).await.unwrap_or(self.tried)
    }

    /// Whether the store has another registry than at the latest try. While it does not answer, nothing changes.
    async fn is_registry_newer(&self) -> bool {
        match &self.registry {
            Some(registry) => {
                registry.store.registry_stamp().await.is_ok_and(|stamp| stamp != registry.tried.stamp)
            }
            None => false,
        }
    }

    async fn reload(&mut self) {
        let taken = self.read_and_apply().await;
        self.stale = taken.is_err();
        match taken {
            Ok(left_out) => {
                tracing::info!("applied the changed settings and keys");
                self.tell(&left_out);
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(
                    error,
                    "the changed settings or keys cannot be used; keeping the present ones"
                );
                self.apply_registry().await;
            }
        }
        self.metrics.note(!self.stale && !self.incomplete);
    }

    async fn take_registry(&mut self) {
        if self.apply_registry().await {
            self.metrics.note(!self.stale && !self.incomplete);
        }
    }

    /// Applies the store's pools and keys to the settings in use, unless that is done. Returns whether it tried.
    async fn apply_registry(&mut self) -> bool {
        let Some(watched) = &mut self.registry else { return false };
        // While the store does not answer, nothing changes, and the next look tries again.
        let Ok(registered) = watched.store.registry().await else { return false };
        watched.tried = registered;
        let stamp = watched.tried.stamp.clone();
        if *watched.applied.borrow() == stamp && !self.incomplete {
            return false;
        }
        let config = with_registry(&self.current, &watched.tried.content);
        match self.applied(config, Change::Registry).await {
            Ok(left_out) => {
                tracing::info!("applied the changed pools and keys of the store");
                self.tell(&left_out);
                self.is_in_use(stamp);
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(
                    error,
                    "the pools and keys of the store cannot be used; keeping the present ones"
                );
                self.incomplete = true;
            }
        }
        true
    }

    async fn applied(&mut self, config: Result<Config>, change: Change) -> Result<LeftOut> {
        let (config, apply) = (config?, Arc::clone(&self.apply));
        let taken = config.clone();
        let left_out = blocking(move || apply(taken, change)).await?;
        self.current = config;
        Ok(left_out)
    }

    fn tell(&mut self, left_out: &LeftOut) {
        self.incomplete = !left_out.is_empty();
        for (pool, why) in left_out {
            tracing::error!(
                %pool, why,
                "this pool, which was made at run time, cannot be served; trying again every {} s", RETRY_EVERY.as_secs()
            );
        }
    }

    fn is_in_use(&self, stamp: Stamp) {
        if let Some(watched) = &self.registry {
            watched.applied.send_replace(stamp);
        }
    }

    async fn load(&self) -> Result<Config> {
        let load = Arc::clone(&self.source.load);
        blocking(move || load()).await
    }

    async fn read_and_apply(&mut self) -> Result<LeftOut> {
        let mut config = self.load().await?;
        // Also the files of refused settings: the fault may be corrected in one of them.
        let files = files_of(&self.source.files, config.files());
        if files != self.files {
            self.files = files;
            // Before reading, so that the next comparison finds later changes.
            self.tried = self.look().await;
            config = self.load().await?;
        }
        let mut stamp = None;
        if let Some(watched) = &mut self.registry {
            // While the store does not answer, changed settings are applied with what it had.
            if let Ok(registered) = watched.store.registry().await {
                watched.tried = registered;
            }
            stamp = Some(watched.tried.stamp.clone());
            config = with_registry(&config, &watched.tried.content)?;
        }
        let left_out = self.applied(Ok(config), Change::Settings).await?;
        if let Some(stamp) = stamp {
            self.is_in_use(stamp);
        }
        Ok(left_out)
    }
}

/// `config` with the pools and keys of this registry, as its text.
pub fn with_registry(config: &Config, text: &str) -> Result<Config> {
    let registry = Registry::from_text(text)
        .context("cannot read the pools and keys of the store; an older version of this program cannot use those of a newer one")?;
    config.with_registry(&registry).context("cannot use the pools and keys of the store with these settings")
}

/// Runs `work` on a blocking thread: files, key derivation and security modules are slow.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("reading the settings ended early")?
}

/// An interval that skips late ticks.
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

/// The settings files and the files that the settings name.
fn files_of(settings: &[PathBuf], named: Vec<PathBuf>) -> Vec<PathBuf> {
    // Pools that are made of one template share its key.
    settings.iter().cloned().chain(named.into_iter().collect::<BTreeSet<_>>()).collect()
}

impl Fingerprint {
    /// The fingerprint of these settings files and of the files that `config` names.
    pub fn of_settings(files: &[PathBuf], config: &Config) -> Self {
        Self::of(&files_of(files, config.files()))
    }

    /// An unreadable file counts as a content of its own.
    fn of(files: &[PathBuf]) -> Self {
        let mut hasher = DefaultHasher::new();
        for file in files {
            file.hash(&mut hasher);
            // They are read twice a second, and some are keys.
            let content = std::fs::read(file).map(Zeroizing::new);
            content.as_deref().map_err(|error| error.kind().to_string()).hash(&mut hasher);
        }
        Self(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    /// Opening the store or waiting for Redis takes time. Changes that an operator makes meanwhile must not be missed.
    #[tokio::test]
    async fn changes_between_reading_and_watching_the_settings_are_applied() {
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
            let seen = Fingerprint::of_settings(std::slice::from_ref(&file), &config);
            later.into_iter().for_each(write);
            let named = file.clone();
            let load: Load = Arc::new(move || Ok(read(&named)));
            let (tell, mut told) = mpsc::unbounded_channel();
            let apply: Apply = Arc::new(move |config: Config, _| {
                tell.send(config.limits.amount_max)?;
                Ok(LeftOut::new())
            });
            let metrics = crate::telemetry::metrics::Metrics::default().reloads;
            let source = Source { files: vec![file.clone()], load, seen };
            let reload = Reload::new(source, &config, apply, metrics);
            let (_switch, stopper) = crate::base::stopper::stopper();
            tokio::spawn(async move { reload.run(&stopper).await });
            let patience = taken.map_or((LOOK_EVERY + DEBOUNCE) * 2, |_| DEBOUNCE * 100);
            assert_eq!(tokio::time::timeout(patience, told.recv()).await.ok().flatten(), taken);
        }
    }
}
