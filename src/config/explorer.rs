//! What the world sees of the pools on the status page: which pools, under which titles, and who runs them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::hint::nearest;
use super::{ConfigError, POOLS};
use crate::model::pool::PoolId;

/// The longest title, and the longest name of the operator, in characters.
const TEXT_MAX: usize = 100;

/// The status page. Without a pool there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExplorerConfig {
    /// Who runs the service, if the page says so.
    pub operator: Option<OperatorConfig>,
    /// The pools on the page.
    pub pools: BTreeMap<PoolId, ShownPool>,
}

/// Who runs the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorConfig {
    /// The name.
    pub name: String,
    /// The address of a page about the operator.
    pub url: Option<String>,
    /// The address of what the operator says of these lists.
    pub documentation: Option<String>,
}

/// A pool on the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownPool {
    /// What the page calls it.
    pub title: Title,
    /// Whether a public file keeps how its counts develop.
    pub statistics: bool,
}

/// A title in the languages of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Title {
    /// English.
    pub en: String,
    /// German.
    pub de: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawExplorer {
    operator: Option<RawOperator>,
    pools: BTreeMap<String, Option<RawShownPool>>,
}

/// Null by default, so the defaults of its members are here and, for readers, in config/default.yaml.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawOperator {
    name: String,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    documentation: Option<String>,
}

/// There is none by default, so the defaults of its members are here and, for readers, in config/default.yaml.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawShownPool {
    #[serde(default)]
    title: Option<RawTitle>,
    #[serde(default)]
    statistics: bool,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a text, or one for each language: { en: …, de: … }")]
enum RawTitle {
    One(String),
    Each(RawTitles),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTitles {
    #[serde(default)]
    en: Option<String>,
    #[serde(default)]
    de: Option<String>,
}

impl ExplorerConfig {
    /// Checks the section. `known` are the pools, and whether they have an aggregation.
    pub(super) fn check(raw: RawExplorer, known: &BTreeMap<PoolId, bool>) -> Result<Self, ConfigError> {
        let operator = raw.operator.map(OperatorConfig::check).transpose()?;
        let mut pools = BTreeMap::new();
        for (name, raw) in raw.pools {
            let key = format!("explorer.pools.{name}");
            let Some((id, aggregation)) = known.iter().find(|(id, _)| id.as_str() == name) else {
                let nearest = nearest(&name, known.keys().map(PoolId::as_str));
                let advice = nearest.map(|nearest| format!("; did you mean `{nearest}`?"));
                let why = format!("there is no pool `{name}` in {POOLS}{}", advice.unwrap_or_default());
                return Err(ConfigError::at(key, why));
            };
            if !aggregation {
                let why = format!(
                    "the page finds lists by the aggregation: set {POOLS}.{name}.aggregation to true"
                );
                return Err(ConfigError::at(key, why));
            }
            let RawShownPool { title, statistics } = raw.unwrap_or_default();
            let title =
                Title::check(title, &name).map_err(|why| ConfigError::at(format!("{key}.title"), why))?;
            pools.insert(id.clone(), ShownPool { title, statistics });
        }
        Ok(Self { operator, pools })
    }
}

impl ExplorerConfig {
    /// Shows one more pool, under `title`; `key` names that setting.
    pub(super) fn show(
        &mut self,
        id: &PoolId,
        title: serde_json::Value,
        aggregation: bool,
        key: &str,
    ) -> Result<(), ConfigError> {
        if !aggregation {
            let why = "the status page finds lists by the aggregation, which the template does not have";
            return Err(ConfigError::at(key, why));
        }
        let raw: RawTitle =
            serde_json::from_value(title).map_err(|why| ConfigError::at(key, why.to_string()))?;
        let title = Title::check(Some(raw), id.as_str()).map_err(|why| ConfigError::at(key, why))?;
        self.pools.insert(id.clone(), ShownPool { title, statistics: false });
        Ok(())
    }
}

impl OperatorConfig {
    fn check(raw: RawOperator) -> Result<Self, ConfigError> {
        let at = |name: &str| format!("explorer.operator.{name}");
        check_text(&raw.name).map_err(|why| ConfigError::at(at("name"), why))?;
        for (name, url) in [("url", &raw.url), ("documentation", &raw.documentation)] {
            let is_web = |url: &String| {
                reqwest::Url::parse(url).is_ok_and(|url| ["https", "http"].contains(&url.scheme()))
            };
            if !url.as_ref().is_none_or(is_web) {
                return Err(ConfigError::at(
                    at(name),
                    "must be an address that begins with https:// or http://",
                ));
            }
        }
        Ok(Self { name: raw.name, url: raw.url, documentation: raw.documentation })
    }
}

impl Title {
    /// A language without a title of its own gets the other's; a pool without any has its name.
    fn check(raw: Option<RawTitle>, pool: &str) -> Result<Self, String> {
        let (en, de) = match raw {
            None => (Some(pool.to_owned()), None),
            Some(RawTitle::One(title)) => (Some(title), None),
            Some(RawTitle::Each(RawTitles { en, de })) => (en, de),
        };
        let either = en.clone().or_else(|| de.clone()).ok_or("must have a text in `en`, `de` or both")?;
        let title = Self { en: en.unwrap_or_else(|| either.clone()), de: de.unwrap_or(either) };
        [&title.en, &title.de].into_iter().try_for_each(|text| check_text(text))?;
        Ok(title)
    }
}

fn check_text(text: &str) -> Result<(), String> {
    let fits = (1..=TEXT_MAX).contains(&text.chars().count());
    if fits && !text.trim().is_empty() && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(format!("must be a text of 1 to {TEXT_MAX} characters in one line"))
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Mistakes, SettingsFile};

    const POOLS: &str =
        "status-list-pools: { licences: { api-key: x }, cards: { api-key: y, aggregation: false } }";

    fn load(explorer: &str) -> Result<Config, String> {
        let file = format!("{POOLS}\nexplorer: {{ {explorer} }}");
        Config::load(Some(&file), std::iter::empty()).map_err(|error| error.to_string())
    }

    #[test]
    fn without_the_section_no_pool_is_shown_and_none_is_counted() {
        let config = Config::load(Some(POOLS), std::iter::empty()).unwrap();
        assert!(config.explorer.pools.is_empty() && config.explorer.operator.is_none());
        assert!(config.pools.values().all(|pool| !pool.live.statistics));
    }

    #[test]
    fn titles_are_one_text_or_one_for_each_language() {
        for (given, en, de) in [
            ("licences:", "licences", "licences"),
            ("licences: {}", "licences", "licences"),
            ("licences: { title: Driving licences }", "Driving licences", "Driving licences"),
            ("licences: { title: { en: Licences, de: Führerscheine } }", "Licences", "Führerscheine"),
            ("licences: { title: { de: Führerscheine } }", "Führerscheine", "Führerscheine"),
        ] {
            let config = load(&format!("pools: {{ {given} }}")).unwrap();
            let shown = config.explorer.pools.values().next().unwrap();
            assert_eq!((shown.title.en.as_str(), shown.title.de.as_str()), (en, de), "{given}");
            assert!(!shown.statistics, "opt-in");
        }
        let counted = load("pools: { licences: { statistics: true } }").unwrap();
        let statistics: Vec<_> = counted.pools.values().map(|pool| pool.live.statistics).collect();
        assert_eq!(statistics, [false, true], "of that pool alone");
    }

    #[test]
    fn what_the_page_could_not_show_is_refused_by_name() {
        let long = "x".repeat(101);
        let long = format!("pools: {{ licences: {{ title: {long} }} }}");
        for (explorer, key, why) in [
            ("pools: { licence: {} }", "explorer.pools.licence", "no pool `licence`"),
            ("pools: { licence: {} }", "explorer.pools.licence", "did you mean `licences`?"),
            ("pools: { cards: {} }", "explorer.pools.cards", "status-list-pools.cards.aggregation"),
            ("pools: { licences: { titel: a } }", "explorer.pools.licences.titel", "did you mean `title`?"),
            (
                "pools: { licences: { title: { fr: a } } }",
                "explorer.pools.licences.title",
                "for each language",
            ),
            ("pools: { licences: { title: {} } }", "explorer.pools.licences.title", "`en`, `de` or both"),
            ("pools: { licences: { title: ' ' } }", "explorer.pools.licences.title", "1 to 100"),
            ("pools: { licences: { title: \"a\\nb\" } }", "explorer.pools.licences.title", "one line"),
            (&long, "explorer.pools.licences.title", "1 to 100"),
            ("operator: { url: https://a.example }", "explorer.operator", "missing field `name`"),
            ("operator: { name: '' }", "explorer.operator.name", "1 to 100"),
            ("operator: { name: A, url: 'javascript:alert(1)' }", "explorer.operator.url", "https://"),
            ("operator: { name: A, documentation: /docs }", "explorer.operator.documentation", "https://"),
        ] {
            let error = load(explorer).unwrap_err();
            assert!(error.starts_with(key) && error.contains(why), "{explorer}: {error}");
        }
    }

    #[test]
    fn each_mistake_has_its_line() {
        let text =
            format!("{POOLS}\nexplorer:\n  pools:\n    licence: {{}}\n    licences: {{ title: '' }}\n");
        let file = SettingsFile { name: "a.yaml".to_owned(), text: text.into() };
        let mistakes: Mistakes = Config::load_files(&[file], std::iter::empty()).unwrap_err();
        let said: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("a.yaml:4: explorer.pools.licence: "), "{said:?}");
        assert!(said[1].starts_with("a.yaml:5: explorer.pools.licences.title: "), "{said:?}");
    }

    #[test]
    fn titles_and_statistics_change_without_a_restart() {
        let old = load("pools: {}").unwrap();
        let new = load("operator: { name: A }, pools: { licences: { statistics: true } }").unwrap();
        assert!(old.needs_restart(&new).is_empty(), "{:?}", old.needs_restart(&new));
    }
}
