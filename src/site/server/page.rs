//! The explorer page and the status page, built into the program: the files of `public/`, served at `/` and `/status.html` beside the
//! lists.
//!
//! Responsible for the pages' files and their headers. They are readers like any other: they know about a list only what the site
//! answers. If the lists are at `/` or under `/assets`, they take precedence and there is no page. The status page is there only if it
//! has something to show.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::body::MessageBody;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{Data, ServiceConfig};
use serde::{Deserialize, Serialize};

use super::{NOSNIFF, Problem, SiteServer, resource};
use crate::site::layout::File;

/// The policy in the page itself, and `frame-ancestors`, which only a header can set.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src *; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
);
/// The files' names do not change with their content, so a browser revalidates each time.
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const JSON: &str = "application/json";

const INDEX: &str = include_str!("../../../public/index.html");
const STATUS: &str = include_str!("../../../public/status.html");
const SETTINGS: &str = include_str!("../../../public/explorer.json");

/// A file below `/assets`. Those of others are below `/assets/vendor`, unmodified, with their version and licence.
struct Asset {
    name: &'static str,
    media_type: &'static str,
    content: &'static str,
}

macro_rules! assets {
    ($($name:literal: $media_type:ident),* $(,)?) => {
        &[$(Asset {
            name: $name,
            media_type: $media_type,
            content: include_str!(concat!("../../../public/assets/", $name)),
        }),*]
    };
}

const ASSETS: &[Asset] = assets! {
    "base64url.js": SCRIPT,
    "bitmap.js": SCRIPT,
    "cbor.js": SCRIPT,
    "chart.js": SCRIPT,
    "claims.js": SCRIPT,
    "credential.js": SCRIPT,
    "cwt.js": SCRIPT,
    "icon.svg": SVG,
    "indices.js": SCRIPT,
    "intake.js": SCRIPT,
    "json.js": SCRIPT,
    "judge.js": SCRIPT,
    "list.js": SCRIPT,
    "main.js": SCRIPT,
    "mdoc.js": SCRIPT,
    "pool.js": SCRIPT,
    "qr.js": SCRIPT,
    "reference.js": SCRIPT,
    "site.js": SCRIPT,
    "status.js": SCRIPT,
    "statuses.js": SCRIPT,
    "style.css": CSS,
    "texts.js": SCRIPT,
    "texts/de.js": SCRIPT,
    "texts/en.js": SCRIPT,
    "theme.js": SCRIPT,
    "timeline.js": SCRIPT,
    "token.js": SCRIPT,
    "vendor/jsqr-1.4.0.LICENSE.txt": TEXT,
    "vendor/jsqr-1.4.0.js": SCRIPT,
    "verify.js": SCRIPT,
    "view.js": SCRIPT,
    "words.js": SCRIPT,
};

/// The content of `explorer.json`.
#[derive(Serialize, Deserialize)]
struct Settings {
    lists: String,
    pools: Vec<String>,
    /// Whether there is a status page.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    status: bool,
}

/// Mounts the page, unless the lists use its paths. Must come before the site.
pub(super) fn configure(site: &Arc<SiteServer>, config: &mut ServiceConfig) {
    let base = site.base.as_str();
    if site.others.iter().any(String::is_empty)
        || base.is_empty()
        || base == "/assets"
        || base.starts_with("/assets/")
    {
        return;
    }
    let settings = resource("/explorer.json", settings).app_data(Data::from(Arc::clone(site)));
    let status = resource("/status.html", status).app_data(Data::from(Arc::clone(site)));
    config.service(resource("/", index)).service(settings).service(status);
    for asset in ASSETS {
        let get = move || async { answer(asset.media_type, asset.content) };
        config.service(resource(&format!("/assets/{}", asset.name), get));
    }
}

async fn index() -> HttpResponse {
    answer(HTML, INDEX)
}

async fn status(site: Data<SiteServer>) -> Result<HttpResponse, Problem> {
    match site.cache.contains(&File::StatusPage) {
        true => Ok(answer(HTML, STATUS)),
        false => Err(Problem::NoSuchPath),
    }
}

/// The tracked settings, with the actual address of the lists, and without pools that have nothing to show.
async fn settings(site: Data<SiteServer>) -> HttpResponse {
    let mut settings: Settings = serde_json::from_str(SETTINGS).expect("a test reads the tracked settings");
    settings.lists = format!("{}/", site.base);
    settings.status = site.cache.contains(&File::StatusPage);
    settings
        .pools
        .retain(|pool| pool.parse().is_ok_and(|pool| site.cache.contains(&File::Aggregation(pool))));
    answer(JSON, serde_json::to_string(&settings).expect("strings always serialize"))
}

fn answer(media_type: &'static str, content: impl MessageBody + 'static) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static(media_type)))
        .insert_header((header::CACHE_CONTROL, NO_CACHE))
        .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, NOSNIFF))
        .insert_header((header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")))
        .body(content)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_page_is_built_in() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("public/assets");
        let files = walkdir::WalkDir::new(&folder)
            .into_iter()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| entry.path().strip_prefix(&folder).unwrap().to_str().unwrap().to_owned());
        let built_in = ASSETS.iter().map(|asset| asset.name.to_owned());
        assert_eq!(built_in.collect::<BTreeSet<_>>(), files.collect());
    }

    /// The digest of `dist/jsQR.js` in the package `jsqr` of npm, whose own is
    /// `sha512-dxLob7q65Xg2DvstYkRpkYtmKm2sPJ9oFhrhmudT1dZvNFFTlroai3AWSpLey/w5vMcLBXRgOJsbXpdN9HzU/A==`.
    #[test]
    fn the_reader_of_qr_codes_is_unmodified() {
        let published = "bc40c8a15196236b2314db0856f72ca0b49980cd5413b8c852a7349f5fee0859";
        let file = ASSETS.iter().find(|asset| asset.name == "vendor/jsqr-1.4.0.js").unwrap();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, file.content.as_bytes());
        let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(digits, published);
    }

    #[test]
    fn headers_and_pages_have_one_policy() {
        for page in [INDEX, STATUS] {
            let (_, rest) = page.split_once("Content-Security-Policy\" content=\"").unwrap();
            let policy = rest.split_once('"').unwrap().0;
            // Only a header can set frame-ancestors.
            let header = CONTENT_SECURITY_POLICY.to_str().unwrap().replace(" frame-ancestors 'none';", "");
            assert_eq!(policy, header);
        }
    }

    #[test]
    fn tracked_settings_can_be_read() {
        let settings: Settings = serde_json::from_str(SETTINGS).unwrap();
        assert_eq!((settings.lists.as_str(), settings.pools), ("lists/", vec!["demo".to_owned()]));
    }
}
