//! The `uri` of a list: `<public-url>/<list id>`, equal to the token's `sub`. It has no query and no fragment. That of a list made
//! here tells nothing about holder, tenant or time ("Unlinkability", "Colluding Relying Parties").

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use uuid::Uuid;

/// A list's name, the last segment of its `uri`: random for a list made here; an imported list keeps the one it has. Each name has
/// one spelling, so it is safe as a file name and as a path segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListId(Name);

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Name {
    Random(Uuid),
    /// The text, with zeros at its end.
    Given([u8; ListId::LENGTH_MAX]),
}

/// A text that cannot be the name of a list.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "a list's name is 1 to {max} letters, digits, `-`, `_`, `~` and `.`, does not begin with `.`, and is none of `jwks.json`, `aggregation` and `bitstring`",
    max = ListId::LENGTH_MAX
)]
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
    const LENGTH_MAX: usize = 64;
    /// What else is published beside the lists.
    const TAKEN: [&str; 3] = ["jwks.json", "aggregation", "bitstring"];

    /// A new random id, version 4: 122 random bits.
    pub fn random() -> Self {
        Self(Name::Random(Uuid::new_v4()))
    }

    /// Whether it has the form of a list made here: a UUID in lower case with hyphens.
    pub const fn is_uuid(&self) -> bool {
        matches!(self.0, Name::Random(_))
    }

    /// The 16 bytes of a UUID; of a list that was imported under another name, those with which that begins.
    pub fn as_bytes(&self) -> &[u8; 16] {
        match &self.0 {
            Name::Random(uuid) => uuid.as_bytes(),
            Name::Given(name) => name.first_chunk().expect("a name has room for more than 16 bytes"),
        }
    }

    /// The list id that is the UUID of these 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Name::Random(Uuid::from_bytes(bytes)))
    }
}

impl FromStr for ListId {
    type Err = InvalidListId;

    fn from_str(text: &str) -> Result<Self, InvalidListId> {
        // `Uuid` also reads upper case, braces and URNs; a second spelling would be a second URI for one list.
        let hyphenated = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        if let Some(uuid) = Uuid::try_parse(text).ok().filter(|_| hyphenated) {
            return Ok(Self(Name::Random(uuid)));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~.".contains(&byte);
        let good = (1..=Self::LENGTH_MAX).contains(&text.len())
            && text.bytes().all(allowed)
            && !text.starts_with('.')
            && !Self::TAKEN.contains(&text);
        if !good {
            return Err(InvalidListId);
        }
        let mut name = [0; Self::LENGTH_MAX];
        name[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self(Name::Given(name)))
    }
}

impl fmt::Display for ListId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Name::Random(uuid) => uuid.hyphenated().fmt(f),
            Name::Given(name) => {
                let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
                f.write_str(std::str::from_utf8(&name[..end]).expect("a name is ASCII"))
            }
        }
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
        assert!(id.parse::<ListId>().unwrap().is_uuid());
        let longest = "x".repeat(64);
        let names = [
            id,
            "5F1AE880-251C-4EC2-B3D0-B61EA62A306D",
            "5f1ae880251c4ec2b3d0b61ea62a306d",
            "1",
            "list-1.jwt",
            "~a_B",
            &longest,
        ];
        let ids: Vec<ListId> = names.iter().map(|name| name.parse().unwrap()).collect();
        for (id, name) in ids.iter().zip(names) {
            assert_eq!(id.to_string(), name);
        }
        assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), names.len());
        for wrong in [
            "",
            ".",
            "..",
            ".pool-p.lock",
            "jwks.json",
            "aggregation",
            "bitstring",
            "a b",
            "a%20b",
            "ä",
            "a\0",
            &"x".repeat(65),
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
        assert!(ids.iter().all(|id| matches!(id.0, Name::Random(uuid) if uuid.get_version_num() == 4)));
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
