//! Publishes which pools the status page shows, as the settings say.

use crate::config::{self, Config};
use crate::site::folder::Site;
use crate::site::status_page::{Operator, ShownPool, StatusPage, Title};

/// The document of the page; `None` if the page shows no pool.
pub(super) fn document(config: &Config) -> Option<Vec<u8>> {
    (!config.explorer.pools.is_empty()).then(|| page_of(config).to_json())
}

/// Writes the document, or removes the one that is there. The page is a courtesy: the service runs without it.
pub(super) fn write(site: &Site, document: Option<&[u8]>) {
    if let Err(error) = site.write_status_page(document) {
        tracing::error!(%error, "cannot write which pools the status page shows; retrying at the next start or reload");
    }
}

fn page_of(config: &Config) -> StatusPage {
    let operator = config.explorer.operator.clone();
    let pools = config.explorer.pools.iter().map(|(id, shown)| {
        let config::Title { en, de } = shown.title.clone();
        ShownPool {
            pool: id.to_string(),
            title: Title { en, de },
            update_interval: config.pools[id].live.update_interval.as_secs(),
            statistics: shown.statistics,
        }
    });
    StatusPage {
        operator: operator.map(|config::OperatorConfig { name, url, documentation }| Operator {
            name,
            url,
            documentation,
        }),
        pools: pools.collect(),
    }
}
