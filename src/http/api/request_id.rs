//! `X-Request-Id`: identifies a request in answers, log lines and the audit trail.

use std::fmt;
use std::io::Write;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id accepted from a caller. Longer ones are replaced, because ids go into log lines.
const CHARS_MAX: usize = 128;

/// Identifies a request in answers and log lines: the caller's `X-Request-Id`, or a generated one.
#[derive(Clone, Debug)]
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    /// Returns the id of the request with these headers.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let theirs = headers.get(&HEADER).filter(|id| is_plain(id.as_bytes()));
        Self(theirs.cloned().unwrap_or_else(Self::next))
    }

    /// Sets `X-Request-Id` of the answer.
    pub(super) fn set_in(self, headers: &mut HeaderMap) {
        headers.insert(HEADER, self.0);
    }

    /// Generates an id: a number makes it unique in this process, random digits make it unique among processes.
    fn next() -> HeaderValue {
        static PROCESS: LazyLock<u32> = LazyLock::new(|| uuid::Uuid::new_v4().as_fields().0);
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut id = [0; 32];
        let mut rest = &mut id[..];
        write!(rest, "{:08x}-{number:08x}", *PROCESS).expect("25 bytes have room in 32");
        let left = rest.len();
        HeaderValue::from_bytes(&id[..id.len() - left]).expect("hexadecimal digits can stand in a header")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

/// Whether an id can go into log lines of any format, and be searched for.
fn is_plain(id: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    (1..=CHARS_MAX).contains(&id.len()) && id.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(theirs: Option<&str>) -> String {
        let mut headers = HeaderMap::new();
        if let Some(id) = theirs {
            headers.insert(HEADER, HeaderValue::from_str(id).unwrap());
        }
        RequestId::of(&headers).to_string()
    }

    #[test]
    fn plain_ids_of_callers_are_kept() {
        assert_eq!(id_for(Some("4bf92f35-77b3.a_1:2")), "4bf92f35-77b3.a_1:2");
        for odd in ["", "two words", "a\"b", "a{b}", &"x".repeat(CHARS_MAX + 1)] {
            assert_ne!(id_for(Some(odd)), odd);
        }
    }

    #[test]
    fn ids_of_ours_differ() {
        let (one, other) = (id_for(None), id_for(None));
        assert_ne!(one, other);
        assert!(is_plain(one.as_bytes()) && one.len() == 17, "{one}");
    }
}
