//! The operator's settings: which files are read, and from where a running service reads them again.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use zeroize::Zeroizing;

use crate::app::reload::{self, Fingerprint, Source};
use crate::config::{Config, Mistakes, SettingsFile};
use crate::store::Store;

/// Read if no settings file is named.
const DEFAULT_FILE: &str = "statuslist.yaml";

/// The operator's settings.
pub(super) struct Settings {
    /// Empty for the built-in settings.
    pub(super) files: Vec<PathBuf>,
    read: Vec<SettingsFile>,
    /// What arguments say, as if these environment variables were set.
    given: Vec<(&'static str, String)>,
}

impl Settings {
    /// Reads these files, or the default one if there is one.
    pub(super) fn read(files: &[PathBuf]) -> Result<Self> {
        Self::read_with(files, Vec::new())
    }

    /// As [`Self::read`], as if these environment variables were set.
    pub(super) fn read_with(files: &[PathBuf], given: Vec<(&'static str, String)>) -> Result<Self> {
        let default = || Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists());
        let files = if files.is_empty() { default().into_iter().collect() } else { files.to_owned() };
        let read = |file: &PathBuf| {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(file).map(Zeroizing::new);
            text.with_context(|| format!("cannot read {name}")).map(|text| SettingsFile { name, text })
        };
        let read = files.iter().map(read).collect::<Result<_>>()?;
        Ok(Self { files, read, given })
    }

    /// Whether there are only the built-in settings and the environment.
    pub(super) fn are_built_in(&self) -> bool {
        self.files.is_empty()
    }

    /// The source from which a running service reloads them. `config` is in use until then.
    pub(super) fn source(&self, config: &Config) -> Source {
        let (files, named, given) = (self.files.clone(), self.files.clone(), self.given.clone());
        let load = move || Self::read_with(&named, given.clone())?.load();
        let seen = Fingerprint::of_settings(&files, config);
        Source { files, load: Arc::new(load), seen }
    }

    /// Checks them. Fails with every mistake.
    pub(super) fn load(&self) -> Result<Config> {
        self.load_with(std::iter::empty())
    }

    /// Every mistake, and the settings with defaults in place of what is wrong.
    pub(super) fn examine(&self) -> (Option<Config>, Mistakes) {
        Config::examine(&self.read, self.environment())
    }

    /// As [`Self::load`], as if these environment variables were set as well.
    pub(super) fn load_with(&self, more: impl Iterator<Item = (String, String)>) -> Result<Config> {
        Config::load_files(&self.read, self.environment().chain(more)).context("cannot use the settings")
    }

    fn environment(&self) -> impl Iterator<Item = (String, String)> {
        let given = self.given.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        environment().chain(given)
    }
}

/// The settings with the pools and keys that were made at run time, which the store has.
pub(super) async fn with_pools_of(store: &Store, config: &Config) -> Result<Config> {
    let registered = store.registry().await.context("cannot read the pools of the store")?;
    reload::with_registry(config, &registered.content)
}

/// The environment variables. Skips values that are not text: none of ours are.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
