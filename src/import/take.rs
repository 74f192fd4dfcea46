//! One list of another service: the pool that it fits, and the step that makes it one of ours.

use std::time::Duration;

use super::{Found, Import, ImportError, Refused};
use crate::base::clock::Timestamp;
use crate::model::pool::PoolShape;
use crate::status_list::{BaseUri, Bits, Capacity, ListId, StatusArray};
use crate::store::{Deadline, Lease, ListRecord, ListTransfer, StatusChange, Store, StoreError, Version};

/// The owner of imported lists, in place of an instance: nobody hands out references of them.
const OWNER: &str = "imported";
/// The version of an imported list that was not changed here.
const AS_IMPORTED: Version = Version(1);
/// The most changes that are taken over into a list that was imported before: one step of the store.
const CHANGES_MAX: usize = 10_000;
/// The longest that a step may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is new.
    New,
    /// It was there, as it is.
    Same,
    /// It was there as it had been before; that many statuses were changed.
    Corrected(u64),
}

/// A list that fits one of our pools.
pub(super) struct Fitting<'a> {
    pub(super) id: ListId,
    pub(super) shape: &'a PoolShape,
    /// How many of its references may have been handed out.
    pub(super) leased: u32,
    pub(super) array: StatusArray,
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::All(ImportError::Store(error))
    }
}

impl Import<'_> {
    /// Makes a list one of ours, unless it is already.
    pub(super) async fn take(&self, uri: &str, found: Found) -> Result<Taken, Refused> {
        let fitting = self.fit(uri, found).map_err(Refused::This)?;
        match self.store {
            Some(store) => take(store, &fitting, self.dry_run, self.now).await,
            None => Ok(Taken::New),
        }
    }

    /// Finds the pool that a list fits.
    fn fit(&self, uri: &str, found: Found) -> Result<Fitting<'_>, String> {
        let Found { pool: named, bits, entries, free, final_status, bytes } = found;
        let bits = Bits::try_from(bits).map_err(|why| format!("it is damaged there: {why}"))?;
        let capacity =
            Capacity::new(entries, bits).map_err(|why| format!("it cannot be published: {why}"))?;
        let array = StatusArray::from_bytes(capacity, bytes)
            .map_err(|why| format!("it is damaged there, with {entries} entries of {bits} bit(s): {why}"))?;
        let (base, name) = uri.rsplit_once('/').ok_or("its uri has no path")?;
        let base: BaseUri = base.parse().map_err(|why| format!("its uri cannot be served: {why}"))?;
        let id: ListId = name.parse().map_err(|why| format!("its uri cannot be served: {why}"))?;
        if base.join(&id) != uri {
            return Err("its uri cannot be served: it has an empty part in its path".to_owned());
        }

        let pools = || self.pools.values().map(|pool| &pool.shape);
        let wanted = self.only.map(|only| only.as_str()).or(named.as_deref());
        let fits = |shape: &&PoolShape| {
            shape.public_url == base
                && shape.capacity == capacity
                && self.only.is_none_or(|only| *only == shape.id)
        };
        let mut fitting: Vec<_> = pools().filter(fits).collect();
        if let Some(at) = fitting.iter().position(|shape| Some(shape.id.as_str()) == wanted) {
            fitting = vec![fitting[at]];
        }
        let shape = match fitting[..] {
            [shape] => shape,
            [] => {
                return Err(misfit(
                    wanted,
                    pools().find(|shape| Some(shape.id.as_str()) == wanted),
                    &base,
                    capacity,
                ));
            }
            _ => {
                let names: Vec<_> = fitting.iter().map(|shape| shape.id.as_str()).collect();
                return Err(format!("several pools fit it ({}): name one with --pool", names.join(", ")));
            }
        };
        let ours = shape.final_status.map(|last| u64::from(last.value()));
        if final_status.is_some() && final_status != ours {
            return Err(format!(
                "its final status there is {}, that of pool {} in the settings is {}: they must be the same",
                shown(final_status),
                shape.id,
                shown(ours)
            ));
        }
        let leased = entries.checked_sub(free).and_then(|leased| u32::try_from(leased).ok());
        let leased = leased.ok_or_else(|| {
            format!("it is damaged there: {free} of its {entries} indices count as never handed out")
        })?;
        Ok(Fitting { id, shape, leased, array })
    }
}

fn shown(status: Option<u64>) -> String {
    status.map_or_else(|| "null".to_owned(), |status| status.to_string())
}

/// Why no pool of the settings fits a list, and the settings of one that would.
fn misfit(wanted: Option<&str>, there: Option<&PoolShape>, base: &BaseUri, capacity: Capacity) -> String {
    let (bits, size) = (capacity.bits(), capacity.entries());
    let fitting = format!("{{ public-url: \"{base}\", bits: {bits}, size: {size} }}");
    match (wanted, there) {
        (Some(name), Some(shape)) => format!(
            "it does not fit pool {name} of the settings, which has {{ public-url: \"{}\", bits: {}, size: {} }}: it needs a pool with {fitting}",
            shape.public_url,
            shape.capacity.bits(),
            shape.capacity.entries()
        ),
        (Some(name), None) => format!("the settings have no pool {name}: add it, with {fitting}"),
        (None, _) => format!("no pool of the settings fits it: add one with {fitting}"),
    }
}

/// Makes a list one of ours, unless it is already. Compares what arrived.
pub(super) async fn take(
    store: &Store,
    list: &Fitting<'_>,
    dry_run: bool,
    now: Timestamp,
) -> Result<Taken, Refused> {
    if let Some(record) = store.list(list.id).await? {
        return correct(store, list, &record, dry_run, now).await;
    }
    if dry_run {
        return Ok(Taken::New);
    }
    let sent = transfer(list, now);
    if !store.import_list(&sent).await? {
        let why = "another program is making a list of this name: import again when it is done";
        return Err(Refused::This(why.to_owned()));
    }
    let arrived = store.export_list(list.id).await?;
    match (arrived.array == sent.array, arrived.record.leased == sent.record.leased, arrived.key) {
        (true, true, None) => Ok(Taken::New),
        _ => Err(Refused::This("the list in the store differs from the one that was imported".to_owned())),
    }
}

fn transfer(list: &Fitting<'_>, now: Timestamp) -> ListTransfer {
    ListTransfer {
        record: ListRecord {
            id: list.id,
            pool: list.shape.id.clone(),
            leased: list.leased,
            lease: Lease::default(),
            owner: OWNER.parse().expect("it is letters"),
            // No reference of it was handed out later.
            leased_at: Some(now),
            open: false,
            sealed: true,
            retired: false,
            version: AS_IMPORTED,
            published: None,
            spread: None,
        },
        key: None,
        dirty_since: Some(now),
        array: list.array.clone(),
    }
}

/// Takes over what changed there, if nothing changed here.
async fn correct(
    store: &Store,
    list: &Fitting<'_>,
    record: &ListRecord,
    dry_run: bool,
    now: Timestamp,
) -> Result<Taken, Refused> {
    let Fitting { id, shape, array, .. } = list;
    if record.pool != shape.id || record.owner.as_str() != OWNER {
        let of = format!("the store has another list of the name {id}, in pool {}", record.pool);
        return Err(Refused::This(format!("{of}: it needs a deployment of its own")));
    }
    let stored = store.snapshot(*id).await?;
    if stored.array == *array {
        return Ok(Taken::Same);
    }
    let changes = stored.array.changes(array).map(|(index, before, status)| StatusChange {
        list: *id,
        index,
        status,
        expected: Some(before),
    });
    let changes: Vec<_> = changes.collect();
    let differ = changes.len();
    if stored.version != AS_IMPORTED || differ > CHANGES_MAX {
        return Err(Refused::This(format!(
            "it was imported before, and {differ} of its statuses differ since: it is left as it is here, which later updates may \
             have changed; see docs/SWITCHING.md, \"Importing again\""
        )));
    }
    if dry_run {
        return Ok(Taken::Corrected(differ as u64));
    }
    let applied = store.apply(&shape.id, vec![changes], Deadline::after(PATIENCE), now).await?;
    match applied.into_iter().next() {
        Some(Ok(())) => Ok(Taken::Corrected(differ as u64)),
        Some(Err(refusal)) => Err(Refused::This(format!("it is left as it is here: {refusal}"))),
        None => Err(Refused::This("the store returned no outcome".to_owned())),
    }
}
