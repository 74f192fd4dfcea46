//! What is odd about `public-url`. It can never change, because every issued credential contains it.

use std::net::{IpAddr, SocketAddr};

use reqwest::Url;

use super::ConfigError;
use crate::status_list::BaseUri;

/// Parses it, the value of the setting `key`. Refuses what no verifier could fetch, and warns of what only some can.
pub(super) fn check(key: &str, given: &str, warnings: &mut Vec<String>) -> Result<BaseUri, ConfigError> {
    let refuse = |why: String| ConfigError::at(key, why);
    let base: BaseUri = given.parse().map_err(|why| refuse(format!("{why}")))?;
    let url = Url::parse(base.as_str()).map_err(|why| refuse(format!("no client can use it: {why}")))?;
    if url.port() == Some(0) {
        return Err(refuse("port 0 cannot be reached".to_owned()));
    }
    let mut warn = |why: String| warnings.push(format!("{key} {why}; it can never change"));
    let sent = url.as_str().trim_end_matches('/');
    if sent != base.as_str() {
        warn(format!(
            "is `{base}`, but clients request `{sent}`, and a token's `sub` must be the `uri` that a credential has"
        ));
    }
    if has_bad_escape(base.path()) {
        warn(format!(
            "has a `%` without two hexadecimal digits after it ({base}): servers and caches differ"
        ));
    }
    if url.scheme() == "http" && !is_local(&url) {
        warn("begins with http: anyone on the way can withhold a revocation; use https".to_owned());
    }
    Ok(base)
}

/// Warns if the lists are to be fetched from this machine at a port where nobody serves them.
pub(super) fn check_port(base: &BaseUri, listen: SocketAddr, warnings: &mut Vec<String>) {
    let Ok(url) = Url::parse(base.as_str()) else { return };
    let port = url.port_or_known_default().unwrap_or_default();
    if is_local(&url) && listen.port() != 0 && port != listen.port() {
        warnings.push(format!(
            "public-url names port {port} of this machine, but the service listens on {} (server.listen): nobody finds the lists there, \
             unless a proxy does",
            listen.port()
        ));
    }
}

/// Whether only this machine reaches it.
fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn has_bad_escape(path: &str) -> bool {
    path.split('%').skip(1).any(|rest| {
        let digits = rest.as_bytes().iter().take(2).take_while(|byte| byte.is_ascii_hexdigit());
        digits.count() < 2
    })
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn warnings(settings: &str) -> Vec<String> {
        let config = Config::load(Some(settings), std::iter::empty()).unwrap();
        config.warnings.into_iter().filter(|warning| warning.starts_with("public-url")).collect()
    }

    #[test]
    fn what_clients_change_is_warned_of() {
        for (url, expected) in [
            ("https://x.example/a/../b", "clients request `https://x.example/b`"),
            ("https://X.example/lists", "clients request `https://x.example/lists`"),
            ("https://x.example:443/lists", "clients request `https://x.example/lists`"),
            ("https://x.example/%zz", "two hexadecimal digits"),
            ("https://x.example/a%2", "two hexadecimal digits"),
            ("http://status.example/lists", "use https"),
        ] {
            let warned = warnings(&format!("public-url: {url}"));
            assert!(warned.len() == 1 && warned[0].contains(expected), "{url}: {warned:?}");
        }
        for url in ["https://x.example", "https://x.example:8443/a/%20b", "http://localhost:8090/lists"] {
            assert_eq!(warnings(&format!("public-url: {url}")), [""; 0], "{url}");
        }
    }

    #[test]
    fn ports_that_cannot_be_reached_are_refused_or_warned_of() {
        for url in ["https://x.example:0/lists", "https://x.example:99999/lists", "https://x.example:a/"] {
            let refused = Config::load(Some(&format!("public-url: {url}")), std::iter::empty());
            assert!(refused.unwrap_err().to_string().starts_with("public-url: "), "{url}");
        }
        let at = |port: u16| {
            warnings(&format!(
                "server: {{ listen: 0.0.0.0:8091 }}\npublic-url: http://127.0.0.1:{port}/lists"
            ))
        };
        assert!(at(8090)[0].contains("listens on 8091"), "{:?}", at(8090));
        assert_eq!(at(8091), [""; 0]);
    }
}
