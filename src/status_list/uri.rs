//! The `uri` of a list: `<public-url>/<list id>`, equal to the token's `sub`. It has no query and no fragment, and tells
//! nothing about holder, tenant or time ("Unlinkability", "Colluding Relying Parties").

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use uuid::Uuid;

/// A list's random name. A UUID has exactly one spelling here, so it is safe as a file name and as a path segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListId(Uuid);

/// A text that is not a UUID in lower case with hyphens.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a list id is a UUID in lower case with hyphens")]
pub struct InvalidListId;

/// The `public-url` of the settings: the base of every list's `uri`, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUri(String);

/// A `public-url` that cannot be the start of a list's URI.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidBaseUri {
    /// Neither `http://` nor `https://`.
    #[error("must begin with http:// or https://, got `{0}`")]
    Scheme(String),
    /// No host.
    #[error("must name a host, got `{0}`")]
    Host(String),
    /// It has a part that a list's URI must not have.
    #[error("must be ASCII without spaces, user name, query or fragment, got `{0}`")]
    Characters(String),
}

impl ListId {
    /// A new random id, version 4: 122 random bits.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// Its 16 bytes, for stores and jitter.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The list id with these 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl FromStr for ListId {
    type Err = InvalidListId;

    fn from_str(text: &str) -> Result<Self, InvalidListId> {
        // `Uuid` also reads upper case, braces and URNs; a second spelling would be a second URI for one list.
        let hyphenated = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        Uuid::try_parse(text).ok().filter(|_| hyphenated).map(Self).ok_or(InvalidListId)
    }
}

impl fmt::Display for ListId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for ListId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl BaseUri {
    /// `<base>/<list id>`.
    pub fn join(&self, list: &ListId) -> String {
        format!("{}/{list}", self.0)
    }

    /// `<base>/<rest>` for what is not a list: aggregations and `jwks.json`.
    pub fn join_path(&self, rest: &str) -> String {
        format!("{}/{rest}", self.0)
    }

    /// The list that `uri` names, if it is byte for byte what [`Self::join`] returns.
    pub fn list_id(&self, uri: &str) -> Option<ListId> {
        uri.strip_prefix(self.0.as_str())?.strip_prefix('/')?.parse().ok()
    }

    /// The path under which lists are served: empty, or beginning with a slash.
    pub fn path(&self) -> &str {
        let after_scheme = self.0.find("://").map_or(0, |at| at + 3);
        self.0[after_scheme..].find('/').map_or("", |at| &self.0[after_scheme + at..])
    }

    /// The base as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BaseUri {
    type Err = InvalidBaseUri;

    fn from_str(text: &str) -> Result<Self, InvalidBaseUri> {
        let base = text.trim_end_matches('/');
        let rest = base
            .strip_prefix("https://")
            .or_else(|| base.strip_prefix("http://"))
            .ok_or_else(|| InvalidBaseUri::Scheme(text.to_owned()))?;
        if rest.is_empty() || rest.starts_with(['/', ':']) {
            return Err(InvalidBaseUri::Host(text.to_owned()));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:[]%!$&'()*+,;=".contains(&byte);
        if !rest.bytes().all(allowed) || rest.contains("//") {
            return Err(InvalidBaseUri::Characters(text.to_owned()));
        }
        Ok(Self(base.to_owned()))
    }
}

impl fmt::Display for BaseUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_id_has_one_spelling() {
        let id = "5f1ae880-251c-4ec2-b3d0-b61ea62a306d";
        assert_eq!(id.parse::<ListId>().unwrap().to_string(), id);
        for wrong in [
            "",
            "..",
            "5F1AE880-251C-4EC2-B3D0-B61EA62A306D",
            "5f1ae880251c4ec2b3d0b61ea62a306d",
            "{5f1ae880-251c-4ec2-b3d0-b61ea62a306d}",
            "5f1ae880-251c-4ec2-b3d0-b61ea62a306d/",
            "../5f1ae880-251c-4ec2-b3d0-b61ea62a30",
        ] {
            assert_eq!(wrong.parse::<ListId>(), Err(InvalidListId), "{wrong}");
        }
    }

    #[test]
    fn new_ids_are_random_and_reveal_no_order() {
        let ids: Vec<_> = (0..1000).map(|_| ListId::random()).collect();
        assert!(ids.iter().all(|id| id.0.get_version_num() == 4));
        assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), ids.len());
        let ascents = ids.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((400..600).contains(&ascents), "{ascents} of 999 ids are above the one before");
    }

    #[test]
    fn base_uri_joins_and_recognises() {
        let base: BaseUri = "http://localhost:8090/lists/".parse().unwrap();
        let id = ListId::random();
        assert_eq!(base.join(&id), format!("http://localhost:8090/lists/{id}"));
        assert_eq!(base.list_id(&base.join(&id)), Some(id));
        assert_eq!(base.path(), "/lists");
        for other in [
            format!("http://localhost:8090/{id}"),
            format!("{}/", base.join(&id)),
            format!("{}?x", base.join(&id)),
        ] {
            assert_eq!(base.list_id(&other), None, "{other}");
        }
        assert_eq!("https://status.example".parse::<BaseUri>().unwrap().path(), "");
    }

    #[test]
    fn base_uri_refuses_what_cannot_start_a_uri() {
        let refused = |text: &str| text.parse::<BaseUri>().unwrap_err();
        assert!(matches!(refused("ftp://x"), InvalidBaseUri::Scheme(_)));
        assert!(matches!(refused("localhost:8090"), InvalidBaseUri::Scheme(_)));
        assert!(matches!(refused("http://"), InvalidBaseUri::Scheme(_) | InvalidBaseUri::Host(_)));
        for text in [
            "https://x/?a=1",
            "https://x/#a",
            "https://x/a b",
            "https://user@x/",
            "https://ü.example",
            "https://x//y",
        ] {
            assert!(matches!(refused(text), InvalidBaseUri::Characters(_)), "{text}");
        }
    }
}
