//! Where each setting was written: its line in the settings files, or its environment variable.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::mistakes::Place;

/// The places of all settings, by their paths. A later file's replace an earlier one's.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    lines: HashMap<String, Place>,
    variables: Vec<Override>,
}

/// A setting that an environment variable overrides.
#[derive(Clone, Debug)]
struct Override {
    /// Its path.
    setting: String,
    /// The variable's name.
    variable: String,
}

impl Override {
    /// Whether the setting `key` is this one, or a part of it.
    fn holds(&self, key: &str) -> bool {
        let rest = key.strip_prefix(self.setting.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }
}

impl Places {
    /// Adds the lines of a file. `within` is the key that holds the settings, and is no part of their paths.
    pub(super) fn add(&mut self, file: &str, yaml: &str, within: Option<&str>) {
        // The text was read before, so this succeeds; without lines a mistake is still named.
        let Ok(document) = serde_saphyr::from_str::<Node>(yaml) else { return };
        let within = within.map(|key| format!("{key}."));
        document.walk("", &mut |path, line| {
            let path = match &within {
                Some(within) => path.strip_prefix(within.as_str()),
                None => Some(path),
            };
            if let Some(path) = path {
                self.lines.insert(path.to_owned(), Place::Line { file: file.to_owned(), line });
            }
        });
    }

    /// Adds a setting that an environment variable overrides.
    pub(super) fn add_variable(&mut self, setting: String, variable: String) {
        self.variables.push(Override { setting, variable });
    }

    /// The environment variable that sets this, if one does.
    pub(super) fn variable(&self, path: &str) -> Option<&str> {
        self.variables.iter().find(|one| one.holds(path)).map(|one| one.variable.as_str())
    }

    /// The place of a setting, or of the nearest one that holds it.
    pub(super) fn of(&self, path: &str) -> Option<Place> {
        if let Some(variable) = self.variable(path) {
            return Some(Place::Variable(variable.to_owned()));
        }
        let mut path = path;
        loop {
            if let Some(place) = self.lines.get(path) {
                return Some(place.clone());
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

/// A YAML value without its scalars, which may be secret.
enum Node {
    Map(Vec<(Spanned<String>, Node)>),
    Seq(Vec<Spanned<Node>>),
    Scalar,
}

impl Node {
    fn walk(&self, path: &str, see: &mut impl FnMut(&str, u64)) {
        match self {
            Self::Map(members) => {
                for (key, value) in members {
                    let path =
                        if path.is_empty() { key.value.clone() } else { format!("{path}.{}", key.value) };
                    see(&path, key.referenced.line());
                    value.walk(&path, see);
                }
            }
            Self::Seq(entries) => {
                for (number, entry) in entries.iter().enumerate() {
                    let path = format!("{path}[{number}]");
                    see(&path, entry.referenced.line());
                    entry.value.walk(&path, see);
                }
            }
            Self::Scalar => {}
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Nodes)
    }
}

struct Nodes;

impl<'de> Visitor<'de> for Nodes {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Node::Map(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = seq.next_element()? {
            entries.push(entry);
        }
        Ok(Node::Seq(entries))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_its_line() {
        let mut places = Places::default();
        places.add("a.yaml", "x: 1\ny:\n  z: [p,\n    q]\nn:\n- k: ~\n  l: { m: 2 }\n", None);
        let line_in = |places: &Places, path: &str| match places.of(path) {
            Some(Place::Line { line, .. }) => line,
            place => panic!("{path}: {place:?}"),
        };
        for (path, expected) in
            [("x", 1), ("y", 2), ("y.z", 3), ("y.z[1]", 4), ("n[0].k", 6), ("n[0].l.m", 7), ("y.none", 2)]
        {
            assert_eq!(line_in(&places, path), expected, "{path}");
        }
        assert_eq!(places.of("none"), None);
        places.add("b.yaml", "app:\n  x: 1\n", Some("app"));
        assert_eq!(places.of("x"), Some(Place::Line { file: "b.yaml".to_owned(), line: 2 }));
        assert_eq!(line_in(&places, "y"), 2, "what the later file leaves out stays");
    }
}
