//! What an unknown setting may have meant. Says nothing rather than something misleading.

use serde_json::Value;

use super::{POOLS, TEMPLATE_POOL};

/// How alike two names must be, from 0 to 1, so that one looks like the other misspelt.
const ALIKE: f64 = 0.7;
/// Sections of the frameworks of other services.
const FRAMEWORKS: [&str; 6] = ["spring", "management", "logging", "quarkus", "eureka", "springdoc"];

/// The advice for the setting `unknown` at `path`, where only `known` ones are. `defaults` has all settings.
pub(super) fn hint(path: &str, unknown: &str, known: &[&str], defaults: &Value) -> String {
    if let Some(nearest) = nearest(unknown, known.iter().copied()) {
        return format!("; did you mean `{nearest}`?");
    }
    if path == unknown && FRAMEWORKS.contains(&unknown) {
        return "; it is for the framework of another service, and has no effect here: leave it out"
            .to_owned();
    }
    match elsewhere(defaults, "", unknown) {
        Some(place) => format!("; it belongs to `{place}`"),
        None => "; config/default.yaml has them all".to_owned(),
    }
}

/// The one of the `known` names that `name` is most likely a misspelling of, if of any.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |known: &str| strsim::normalized_damerau_levenshtein(known, name);
    let nearest = known.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    nearest.filter(|nearest| likeness(nearest) >= ALIKE)
}

/// The section that has a setting of this name, if only one has.
fn elsewhere(defaults: &Value, section: &str, name: &str) -> Option<String> {
    fn find(node: &Value, section: &str, name: &str, found: &mut Vec<String>) {
        for (key, value) in node.as_object().into_iter().flatten() {
            let below = match (section, key.as_str()) {
                ("", key) => key.to_owned(),
                (POOLS, TEMPLATE_POOL) => format!("{section}.<pool>"),
                _ => format!("{section}.{key}"),
            };
            if key == name && !section.is_empty() {
                found.push(section.to_owned());
            }
            find(value, &below, name, found);
        }
    }
    let mut found = Vec::new();
    find(defaults, section, name, &mut found);
    if let [one] = found.as_mut_slice() { Some(std::mem::take(one)) } else { None }
}
