//! What the published tokens show and a restored store does not have.
//!
//! A token is taken only if a key of the pool signed it, and it is later than every publication that the store knows of: then the
//! store lost data, and the token shows what was acknowledged after the copy. It never ends a status that the store has, nor replaces
//! a change that was not published yet: those are reported, and the issuer's register decides.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;

use super::register::{apply_all, leaves_final};
use super::take::{Fitting, Taken, take};
use super::{Import, ImportError, Refused, Report};
use crate::config::PoolConfig;
use crate::publish::published;
use crate::sign::KeyRing;
use crate::site::folder::Site;
use crate::status_list::{Claims, Format, Index, ListId, StatusArray, lst};
use crate::store::{ListRecord, StatusChange, Store};

/// A pool, and the keys that may have signed its tokens.
#[derive(Debug)]
pub struct SitePool {
    /// Its settings.
    pub config: PoolConfig,
    /// Its keys.
    pub keys: KeyRing,
}

/// Takes over what the published tokens show: later statuses of lists that the store has, and whole lists that it does not have,
/// which become sealed. `import` has the store and the rules.
pub async fn merge_site(
    import: &Import<'_>,
    store: &Store,
    site: &Site,
    pools: &[SitePool],
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Report, ImportError> {
    let mut records = BTreeMap::new();
    for pool in pools {
        for record in store.lists(&pool.config.shape.id).await? {
            records.insert(record.id, record);
        }
    }
    let mut report = Report::default();
    let mut done = 0;
    for list in lists_of(site) {
        let merged = match newest(site, list, records.get(&list), pools) {
            Some(token) => merge(import, store, list, records.get(&list), token, &mut report.refused).await,
            // Not ours, or damaged: the publisher replaces it.
            None => Ok(Taken::Same),
        };
        match merged {
            Ok(taken) => report.add(&taken),
            Err(Refused::This(why)) => report.refused.push((list.to_string(), why)),
            Err(Refused::All(error)) => return Err(error),
        }
        done += 1;
        progress(done);
    }
    Ok(report)
}

/// The lists that have a token in the folder.
fn lists_of(site: &Site) -> BTreeSet<ListId> {
    let extensions = Format::SIGNED.map(Format::name);
    let files = std::fs::read_dir(site.layout().lists()).into_iter().flatten().filter_map(Result::ok);
    let names = files.filter_map(|file| {
        let path = file.path();
        let extension = path.extension().and_then(OsStr::to_str)?;
        extensions.contains(&extension).then(|| path.file_stem()?.to_str()?.parse().ok()).flatten()
    });
    names.collect()
}

/// The newest published token of a list that a key of its pool signed.
fn newest<'a>(
    site: &Site,
    list: ListId,
    record: Option<&ListRecord>,
    pools: &'a [SitePool],
) -> Option<(&'a SitePool, Claims)> {
    let mut of = pools.iter().filter(|pool| record.is_none_or(|record| record.pool == pool.config.shape.id));
    of.find_map(|pool| {
        let SitePool { config, keys } = pool;
        let uri = config.shape.public_url.join(&list);
        let claims = published(site, &list, config.start.formats, keys, &uri).ok().flatten()?;
        (claims.bits == config.shape.capacity.bits()).then_some((pool, claims))
    })
}

async fn merge(
    import: &Import<'_>,
    store: &Store,
    list: ListId,
    record: Option<&ListRecord>,
    (pool, claims): (&SitePool, Claims),
    refused: &mut Vec<(String, String)>,
) -> Result<Taken, Refused> {
    let shape = &pool.config.shape;
    let array = lst::inflate(&claims.lst, shape.capacity.bytes() as u64);
    let array = array.map_err(|why| Refused::This(why.to_string()))?;
    let array =
        StatusArray::from_bytes(shape.capacity, array).map_err(|why| Refused::This(why.to_string()))?;
    let Some(record) = record else {
        let fitting = Fitting { id: list, shape, leased: shape.capacity.entries(), array };
        return take(store, &fitting, import.dry_run, import.now).await;
    };
    let known = record.published.map(|published| published.iat);
    if record.retired || known.is_some_and(|known| claims.iat <= known) {
        return Ok(Taken::Same);
    }
    let stored = store.snapshot(list).await?;
    // `None` without a journal, as on Redis.
    let unpublished = store.changes_since_publication(list, stored.version).await?.unwrap_or_default();
    let own: HashSet<_> = unpublished.entries.iter().map(|(index, _)| *index).collect();
    let is_own = |index: Index| unpublished.every.is_some() || own.contains(&index.get());
    let (take, leave): (Vec<_>, Vec<_>) = stored.array.changes(&array).partition(|(index, before, after)| {
        *after != shape.default_status && !leaves_final(shape, *before) && !is_own(*index)
    });
    let change = |(index, before, status)| StatusChange { list, index, status, expected: Some(before) };
    let changes: Vec<_> = take.into_iter().map(change).collect();
    let statuses = changes.len() as u64;
    if !import.dry_run {
        apply_all(store, shape, list, changes, import.now).await?;
    }
    for (index, before, after) in leave {
        let what = format!("{} {}", shape.public_url.join(&list), index.get());
        refused.push((what, format!("the store says {before}, the published token says {after}")));
    }
    Ok(if statuses == 0 { Taken::Same } else { Taken::Corrected(statuses) })
}
