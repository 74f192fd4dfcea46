//! What pools can be made of at run time: trees of settings, with every default. `registered.rs` makes pools of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use zeroize::Zeroize;

/// The setting with the templates.
pub(super) const TEMPLATES: &str = "templates";

/// The templates, as trees of settings with every default.
#[derive(Clone, Default)]
pub struct Templates(Arc<BTreeMap<String, Tree>>);

/// Settings, some of which are secret.
#[derive(Clone)]
pub(super) struct Tree(pub(super) Value);

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Wipes all texts.
pub(super) fn wipe(node: &mut Value) {
    match node {
        Value::String(text) => text.zeroize(),
        Value::Array(entries) => entries.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        _ => {}
    }
}

impl Templates {
    pub(super) fn new(trees: Value) -> Self {
        let Value::Object(trees) = trees else { return Self::default() };
        Self(Arc::new(trees.into_iter().map(|(name, tree)| (name, Tree(tree))).collect()))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Tree> {
        self.0.get(name)
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
