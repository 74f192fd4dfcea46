//! What is wrong with settings: every mistake, with its place in the files or its environment variable.

use std::fmt;

use super::ConfigError;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In a settings file, on this line, counted from 1.
    Line { file: String, line: u64 },
    /// In this environment variable.
    Variable(String),
}

/// A setting that cannot be used.
#[derive(Debug)]
pub struct Mistake {
    place: Option<Place>,
    error: ConfigError,
}

/// Every mistake in the settings; never empty where it is an error.
#[derive(Debug, Default)]
pub struct Mistakes(Vec<Mistake>);

impl Mistake {
    pub(super) fn new(error: ConfigError, place: Option<Place>) -> Self {
        Self { place, error }
    }
}

impl Mistakes {
    /// Adds a mistake, unless there is one about the same setting: it would only follow from that one.
    pub(super) fn add(&mut self, error: ConfigError, place: Option<Place>) {
        self.push(Mistake { place, error });
    }

    /// Adds a mistake, unless there is one about the same setting.
    pub fn push(&mut self, mistake: Mistake) {
        let key = mistake.error.key();
        if key.is_none() || self.0.iter().all(|known| known.error.key() != key) {
            self.0.push(mistake);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is one in this section.
    pub fn are_in(&self, section: &str) -> bool {
        let within = |key: &str| {
            let rest = key.strip_prefix(section);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.0.iter().filter_map(|mistake| mistake.error.key()).any(within)
    }

    /// The one that was found first.
    pub(super) fn into_first(self) -> Option<ConfigError> {
        self.0.into_iter().next().map(|mistake| mistake.error)
    }

    /// In the order of their lines; those of environment variables last.
    pub fn sorted(mut self) -> Self {
        self.0.sort_by_cached_key(|mistake| match &mistake.place {
            Some(Place::Line { file, line }) => (0, file.clone(), *line),
            None => (1, String::new(), 0),
            Some(Place::Variable(name)) => (2, name.clone(), 0),
        });
        self
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.0.iter()
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.error.to_string();
        match &self.place {
            Some(Place::Line { file, line }) => write!(f, "{file}:{line}: {message}"),
            Some(Place::Variable(name)) if !message.contains(name.as_str()) => {
                write!(f, "{message} (set by {name})")
            }
            _ => f.write_str(&message),
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "{one}"),
            several => {
                write!(f, "{} mistakes", several.len())?;
                several.iter().try_for_each(|mistake| write!(f, "\n    {mistake}"))
            }
        }
    }
}

impl std::error::Error for Mistakes {}
