//! The whole published folder against the store, changing neither: for `statuslist verify`.
//!
//! Reads every file that the store and the settings explain, and looks for every file that they do not. Decides with the functions
//! that the publisher itself uses: which files are whole (`ours`), which differences the journal explains (`pass/gate`), which files
//! are leftovers (`sweep`), what an aggregation holds. The service may run meanwhile: a list is faulty only if it still is after
//! several looks, because a publication may fall between a question to the store and the reading of a file.

mod fault;
mod list;

pub use fault::{Fault, FaultKind};

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use walkdir::{DirEntry, WalkDir};

use super::{aggregation, sweep};
use crate::base::blocking::blocking;
use crate::base::clock::Clock;
use crate::config::PoolConfig;
use crate::model::pool::{PoolId, PoolShape};
use crate::sign::profile::Profiles;
use crate::sign::{Jwk, JwkSet, PublicKey, Signer};
use crate::site::folder::Site;
use crate::site::layout::{self, File, ListFile, Lock};
use crate::status_list::{Aggregation, BaseUri, Formats, ListId};
use crate::store::{ListRecord, Store, StoreError};
use list::Stored;

/// How often a list is looked at until it counts as faulty, and the pause before each further look.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(700);

/// What is verified, and against what.
pub struct Verification {
    store: Store,
    site: Site,
    clock: Clock,
    jwks: Result<JwkSet, String>,
    pools: Vec<Arc<PoolToVerify>>,
    signers: Vec<(PoolId, Jwk)>,
}

/// One pool.
struct PoolToVerify {
    shape: PoolShape,
    formats: Formats,
    profiles: Profiles,
    aggregation: bool,
    history: bool,
    base: BaseUri,
    /// The key that signs, the next one, and those of `jwks.json`.
    keys: Vec<PublicKey>,
}

/// The result.
#[derive(Debug, Default)]
pub struct Verified {
    /// Lists that are published, or were retired.
    pub lists: usize,
    /// Files that were read.
    pub files: usize,
    /// Lists with changes that are not published yet. Without a journal (on Redis) their statuses could not be compared.
    pub pending: usize,
    /// What is wrong, in the order of the files.
    pub faults: Vec<Fault>,
}

/// The faults found so far.
#[derive(Default)]
struct Found(Vec<Fault>);

impl Found {
    fn fault(
        &mut self,
        site: &Site,
        file: &File,
        pool: Option<&PoolId>,
        list: Option<ListId>,
        kind: FaultKind,
    ) {
        self.0.push(Fault { path: site.layout().path(file), pool: pool.cloned(), list, kind });
    }
}

impl Verification {
    /// Of the site at `site`, whose pools have these settings and keys.
    pub fn new(
        store: Store,
        site: Site,
        clock: Clock,
        pools: Vec<(PoolConfig, Signer, Option<Signer>)>,
    ) -> Self {
        let jwks = read_jwks(&site);
        let published = jwks.iter().flat_map(|set| &set.keys).filter_map(|jwk| PublicKey::from_jwk(jwk).ok());
        let published: Vec<_> = published.collect();
        let signers = pools.iter().flat_map(|(pool, current, next)| {
            [Some(current), next.as_ref()]
                .into_iter()
                .flatten()
                .map(|signer| (pool.shape.id.clone(), signer.jwk()))
        });
        let signers = signers.collect();
        let of = |(pool, current, next): (PoolConfig, Signer, Option<Signer>)| {
            let own = [Some(&current), next.as_ref()]
                .into_iter()
                .flatten()
                .map(|signer| signer.public_key().clone());
            Arc::new(PoolToVerify {
                keys: own.chain(published.iter().cloned()).collect(),
                formats: pool.start.formats,
                profiles: pool.start.profiles,
                aggregation: pool.start.aggregation,
                history: pool.start.history.is_some(),
                base: pool.shape.public_url.clone(),
                shape: pool.shape,
            })
        };
        let pools = pools.into_iter().map(of).collect();
        Self { store, site, clock, jwks, pools, signers }
    }

    /// Compares everything. `progress` gets the number of lists that were looked at, and of all.
    pub async fn run(&self, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Verified, StoreError> {
        // First, so that the store knows of the list of every file that is found.
        let site = self.site.clone();
        let there = blocking(move || everything_in(&site)).await;
        let there = there.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let mut lists = Vec::new();
        for pool in &self.pools {
            let of_pool = self.store.lists(&pool.shape.id).await?;
            lists.extend(of_pool.into_iter().map(|record| (Arc::clone(pool), record)));
        }
        let mut verified = Verified::default();
        let mut suspects = Vec::new();
        for (number, (pool, record)) in lists.iter().enumerate() {
            let looked = self.look_at(pool, record.clone()).await?;
            verified.lists += usize::from(record.published.is_some() || record.retired);
            verified.files += looked.files;
            verified.pending += usize::from(looked.is_pending);
            if !looked.found.0.is_empty() {
                suspects.push((pool, record.id, looked.found));
            }
            progress(number + 1, lists.len());
        }
        verified.faults = self.look_again(suspects).await?;
        verified.faults.extend(self.look_at_aggregations().await?);
        verified.faults.extend(self.look_at_keys());
        verified.files += self.look_at_archive(&lists, &there, &mut verified.faults).await?;
        verified.faults.extend(self.unexplained(&lists, there).await?);
        verified.faults.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(verified)
    }

    async fn look_at(&self, pool: &Arc<PoolToVerify>, record: ListRecord) -> Result<Looked, StoreError> {
        let snapshot = self.store.snapshot(record.id).await?;
        let is_pending = record.published.is_some_and(|published| published.version != snapshot.version);
        let changes = match is_pending {
            true => self.store.changes_since_publication(record.id, snapshot.version).await?,
            false => None,
        };
        let stored = Stored { record, snapshot, changes, now: self.clock.now().date() };
        let (pool, site) = (Arc::clone(pool), self.site.clone());
        let look = move || {
            let mut found = Found::default();
            let files = pool.look_at_list(&site, &stored, &mut found);
            Looked { files, is_pending, found }
        };
        blocking(look).await.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// Looks at lists again until they are good, and returns the faults of those that never are.
    async fn look_again(
        &self,
        mut suspects: Vec<(&Arc<PoolToVerify>, ListId, Found)>,
    ) -> Result<Vec<Fault>, StoreError> {
        for _ in 1..LOOKS {
            if suspects.is_empty() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            let mut left = Vec::new();
            for (pool, id, _) in suspects {
                let Some(record) = self.store.list(id).await? else { continue };
                let looked = self.look_at(pool, record).await?;
                if !looked.found.0.is_empty() {
                    left.push((pool, id, looked.found));
                }
            }
            suspects = left;
        }
        Ok(suspects.into_iter().flat_map(|(_, _, found)| found.0).collect())
    }

    async fn look_at_aggregations(&self) -> Result<Vec<Fault>, StoreError> {
        let mut found = Found::default();
        for pool in self.pools.iter().filter(|pool| pool.aggregation) {
            let id = &pool.shape.id;
            let mut fault = None;
            // A new list is in the store before it is in the aggregation.
            for look in 0..LOOKS {
                if look > 0 {
                    tokio::time::sleep(PAUSE).await;
                }
                fault = aggregation_fault(&self.site, pool, &self.store.lists(id).await?);
                if fault.is_none() {
                    break;
                }
            }
            if let Some(kind) = fault {
                found.fault(&self.site, &File::Aggregation(id.clone()), Some(id), None, kind);
            }
        }
        Ok(found.0)
    }

    fn look_at_keys(&self) -> Vec<Fault> {
        let fault = |pool: Option<&PoolId>, kind| Fault {
            path: self.site.layout().path(&File::Jwks),
            pool: pool.cloned(),
            list: None,
            kind,
        };
        match &self.jwks {
            Err(why) => vec![fault(None, FaultKind::Document(why.clone()))],
            Ok(set) => {
                let has = |jwk: &Jwk| set.keys.iter().any(|key| Jwk { exp: None, ..key.clone() } == *jwk);
                let missing = self.signers.iter().filter(|(_, jwk)| !has(jwk));
                let fault = missing.map(|(pool, jwk)| {
                    let kid = jwk.kid.clone().unwrap_or_default();
                    fault(Some(pool), FaultKind::NoKey { pool: pool.clone(), kid })
                });
                fault.collect()
            }
        }
    }

    /// Looks at the earlier tokens of pools that keep them. Returns how many there are.
    async fn look_at_archive(
        &self,
        lists: &[(Arc<PoolToVerify>, ListRecord)],
        there: &[DirEntry],
        faults: &mut Vec<Fault>,
    ) -> Result<usize, StoreError> {
        let folders: HashMap<_, _> = lists
            .iter()
            .filter(|(pool, record)| pool.history && !record.retired)
            .map(|(pool, record)| (self.site.layout().history(&record.id), (Arc::clone(pool), record.id)))
            .collect();
        let of_list =
            |entry: &DirEntry| Some((entry.path().to_owned(), folders.get(entry.path().parent()?)?.clone()));
        let archived: Vec<_> = there.iter().filter_map(of_list).collect();
        let (amount, now) = (archived.len(), self.clock.now().date());
        let look = move || -> Vec<Fault> {
            let fault = |(path, (pool, list)): (PathBuf, (Arc<PoolToVerify>, ListId))| {
                let (named, format) = layout::archived(&path)?;
                // Removed meanwhile, because it is old.
                let bytes = std::fs::read(&path).ok()?;
                let kind = match pool.look_at_archived(format, &bytes, &list, now) {
                    Ok(iat) if iat == named => return None,
                    Ok(iat) => FaultKind::WrongName(iat),
                    Err(kind) => kind,
                };
                Some(Fault { path, pool: Some(pool.shape.id.clone()), list: Some(list), kind })
            };
            archived.into_iter().filter_map(fault).collect()
        };
        let found = blocking(look).await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        faults.extend(found);
        Ok(amount)
    }

    /// The files that nothing explains.
    async fn unexplained(
        &self,
        lists: &[(Arc<PoolToVerify>, ListRecord)],
        there: Vec<DirEntry>,
    ) -> Result<Vec<Fault>, StoreError> {
        let layout = self.site.layout();
        let mut known: HashMap<PathBuf, Option<Fault>> = HashMap::new();
        known.insert(layout.path(&File::Jwks), None);
        known.insert(layout.lock(&Lock::Jwks), None);
        known.insert(layout.path(&File::StatusPage), None);
        let mut archives = BTreeSet::new();
        for (pool, record) in lists {
            for file in ListFile::OF_PUBLICATION.into_iter().chain([ListFile::Gone]) {
                let path = layout.path(&File::List(record.id, file));
                let fault = list::unexplained(pool, record, file).map(|kind| Fault {
                    path: path.clone(),
                    pool: Some(pool.shape.id.clone()),
                    list: Some(record.id),
                    kind,
                });
                known.insert(path, fault);
            }
            if pool.history && !record.retired {
                archives.insert(layout.history(&record.id));
            }
        }
        let configured: BTreeMap<_, _> = self.pools.iter().map(|pool| (&pool.shape.id, pool)).collect();
        for (pool, _) in self.store.pools().await? {
            known.insert(layout.lock(&Lock::Pool(pool.clone())), None);
            // They stay when they are switched off.
            known.insert(layout.path(&File::Statistics(pool.clone())), None);
            known.insert(layout.lock(&Lock::Statistics(pool.clone())), None);
            match configured.get(&pool) {
                Some(pool) if !pool.aggregation => {}
                Some(_) => _ = known.insert(layout.path(&File::Aggregation(pool)), None),
                // Given up (`retired-pools`): its tokens stay until they expire.
                None => {
                    known.insert(layout.path(&File::Aggregation(pool.clone())), None);
                    for record in self.store.lists(&pool).await? {
                        let files = ListFile::OF_PUBLICATION.into_iter().chain([ListFile::Gone]);
                        known.extend(files.map(|file| (layout.path(&File::List(record.id, file)), None)));
                        archives.insert(layout.history(&record.id));
                    }
                }
            }
        }
        let is_archived = |path: &Path| {
            path.parent().is_some_and(|folder| archives.contains(folder)) && layout::archived(path).is_some()
        };
        let now = self.clock.now();
        let mut faults = Vec::new();
        // What was removed meanwhile is no fault.
        for entry in there.into_iter().filter(|entry| entry.path().exists()) {
            let of_no_list =
                |kind| Some(Fault { path: entry.path().to_owned(), pool: None, list: None, kind });
            faults.extend(match known.remove(entry.path()) {
                Some(fault) => fault,
                None if is_archived(entry.path()) => None,
                // Perhaps the service is writing it.
                None if sweep::is_temporary(&entry) && !sweep::is_old(&entry, now) => None,
                None if sweep::is_temporary(&entry) => of_no_list(FaultKind::Leftover),
                None => of_no_list(FaultKind::Foreign),
            });
        }
        Ok(faults)
    }
}

/// Every file of the published lists and of the archive.
fn everything_in(site: &Site) -> Vec<DirEntry> {
    let folders = [site.layout().lists().to_owned(), site.layout().archive()];
    let entries =
        folders.into_iter().flat_map(|folder| WalkDir::new(folder).into_iter().filter_map(Result::ok));
    entries.filter(|entry| !entry.file_type().is_dir()).collect()
}

fn read_jwks(site: &Site) -> Result<JwkSet, String> {
    let document = site.read_jwks().map_err(|error| error.to_string())?.ok_or("it is missing")?;
    serde_json::from_slice(&document).map_err(|error| error.to_string())
}

/// What is wrong with the aggregation of a pool with these lists.
fn aggregation_fault(site: &Site, pool: &PoolToVerify, lists: &[ListRecord]) -> Option<FaultKind> {
    let document = match site.read_aggregation(&pool.shape.id) {
        Ok(Some(document)) => document,
        Ok(None) => return Some(FaultKind::Missing),
        Err(error) => return Some(FaultKind::Io(error.to_string())),
    };
    let found = match Aggregation::from_json(&document) {
        Ok(found) => found,
        Err(error) => return Some(FaultKind::Document(error.to_string())),
    };
    let set = |aggregation: Aggregation| aggregation.status_lists.into_iter().collect::<BTreeSet<_>>();
    let (expected, found) = (set(aggregation::of(lists, &pool.base)), set(found));
    let (missing, others) = (expected.difference(&found).count(), found.difference(&expected).count());
    (missing + others > 0).then_some(FaultKind::Aggregation { missing, others })
}

/// A look at one list.
struct Looked {
    files: usize,
    is_pending: bool,
    found: Found,
}
