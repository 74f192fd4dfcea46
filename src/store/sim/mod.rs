//! The backend of the simulator (`tests/sim/`): the contract's reference model behind a network that delays, loses and repeats.
//!
//! Not a backend that anybody can choose: it exists only with the feature `sim`. What a step does is in `server.rs`, as plainly
//! as it can be said; the suite in `store/tests/` holds it to the same promises as SQLite and Redis, so that it stands for both.
//! This file brings a call to the server and its answer back, as the [`Link`] decides. Invariants: a step is atomic and durable
//! when it is made; every step that writes has a deadline, which the server compares with its own clock inside the step.

mod data;
mod fill;
mod publish;
mod registry;
mod server;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::Applied;
use super::deadline::Deadline;
use super::remembered::{Answered, Digest, Keep, Remembered};
use super::spread::Spread;
use super::values::{
    Block, Changes, DueMark, Fence, Lease, Leased, ListRecord, ListTransfer, OpenList, Order, Pending,
    PoolUsage, Publication, PublisherState, Snapshot, StatusChange, StoreError, Version,
};
use crate::base::clock::Timestamp;
use crate::model::instance::InstanceId;
use crate::model::pool::{PoolId, PoolShape};
use crate::status_list::{Index, ListId, Status};
pub use server::{Copy, Server, Stored};

/// How long a caller waits for an answer; what arrives at the server later changes nothing.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// What becomes of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// How long it takes to the server; `None` if it never gets there.
    pub there: Option<Duration>,
    /// How long its answer takes; `None` if that is lost.
    pub back: Option<Duration>,
    /// How long after the first execution it is executed once more, if it is.
    pub again: Option<Duration>,
}

/// What a link makes a caller wait for.
pub type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The way from one instance to the server.
pub trait Link: Debug + Send + Sync {
    /// Decides what becomes of a call of this name.
    fn fate(&self, call: &'static str, writes: bool) -> Fate;
    /// Ends when the instance runs: a stopped process neither sends nor hears.
    fn awake(&self) -> Wait;
}

/// A link that brings everything to the server at once.
#[derive(Clone, Copy, Debug)]
pub struct Direct;

impl Link for Direct {
    fn fate(&self, _call: &'static str, _writes: bool) -> Fate {
        Fate { there: Some(Duration::ZERO), back: Some(Duration::ZERO), again: None }
    }

    fn awake(&self) -> Wait {
        Box::pin(std::future::ready(()))
    }
}

/// A handle of one instance; clones share its link.
#[derive(Clone, Debug)]
pub struct SimulatedStore {
    server: Arc<Mutex<Server>>,
    link: Arc<dyn Link>,
    /// The pools that were declared through this handle.
    shapes: Arc<Mutex<BTreeMap<PoolId, PoolShape>>>,
}

impl SimulatedStore {
    /// A handle to this server over this link.
    pub fn new(server: Arc<Mutex<Server>>, link: Arc<dyn Link>) -> Self {
        Self { server, link, shapes: Arc::default() }
    }

    /// The time of day by the server's clock. As of Redis, it need not be asked for that.
    pub(super) fn time(&self) -> Timestamp {
        Timestamp::from_millis(self.server.lock().now())
    }

    /// Asks without a change. What is asked may be repeated.
    async fn read<T: Send + 'static>(
        &self,
        name: &'static str,
        step: impl Fn(&mut Server) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.call(name, false, COMMAND_TIMEOUT, step).await
    }

    /// A step that nobody waits for longer than for its command.
    async fn write<T: Send + 'static>(
        &self,
        name: &'static str,
        step: impl Fn(&mut Server) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.write_before(name, Deadline::after(COMMAND_TIMEOUT), step).await
    }

    /// A step that changes nothing after its deadline, nor after it was given up.
    async fn write_before<T: Send + 'static>(
        &self,
        name: &'static str,
        deadline: Deadline,
        step: impl Fn(&mut Server) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let deadline = deadline.min(Deadline::after(COMMAND_TIMEOUT));
        let step = move |server: &mut Server| match deadline.has_passed() {
            true => Err(StoreError::Late),
            false => step(server),
        };
        self.call(name, true, COMMAND_TIMEOUT, step).await
    }

    async fn call<T: Send + 'static>(
        &self,
        name: &'static str,
        writes: bool,
        patience: Duration,
        step: impl Fn(&mut Server) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.link.awake().await;
        let fate = self.link.fate(name, writes);
        let (answer, answered) = oneshot::channel();
        let server = Arc::clone(&self.server);
        // On its own: who gives up waiting does not call it back.
        let travel = async move {
            let there = fate.there?;
            pause(there).await;
            let outcome = step(&mut server.lock());
            let repeat = async move {
                let Some(again) = fate.again else { return };
                pause(again).await;
                // Its answer is of no use to anybody.
                let _ = step(&mut server.lock());
            };
            let reply = async {
                pause(fate.back?).await;
                answer.send(outcome).ok()
            };
            tokio::join!(repeat, reply).1
        };
        tokio::spawn(travel);
        let heard = async {
            match answered.await {
                Ok(outcome) => outcome,
                Err(_) => std::future::pending().await,
            }
        };
        let outcome = timeout(patience, heard)
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable(format!("no answer to {name}"))));
        self.link.awake().await;
        outcome
    }

    pub(super) async fn ended(&self) {
        std::future::pending().await
    }

    pub(super) async fn declare_pool(&self, shape: &PoolShape) -> Result<(), StoreError> {
        let declared = shape.clone();
        self.write("declare_pool", move |server| server.declare_pool(&declared)).await?;
        self.shapes.lock().insert(shape.id.clone(), shape.clone());
        Ok(())
    }

    pub(super) async fn open_list(
        &self,
        pool: &PoolId,
        owner: &InstanceId,
        most: u64,
        _now: Timestamp,
    ) -> Result<ListId, StoreError> {
        let (of, owner) = (pool.clone(), owner.clone());
        let opened = self.write("open_list", move |server| server.open_list(&of, &owner, most)).await;
        let shape = self.shapes.lock().get(pool).cloned();
        if let (Err(StoreError::NoSuchPool(_)), Some(shape)) = (&opened, shape) {
            // As with Redis: a server that came back empty is told of the pool again, and the caller of its loss.
            self.declare_pool(&shape).await?;
        }
        opened
    }

    pub(super) async fn open_lists(
        &self,
        pool: &PoolId,
        owner: &InstanceId,
    ) -> Result<Vec<OpenList>, StoreError> {
        let (pool, owner) = (pool.clone(), owner.clone());
        self.read("open_lists", move |server| Ok(server.open_lists(&pool, &owner))).await
    }

    pub(super) async fn lease_block(
        &self,
        list: ListId,
        n: u32,
        owner: &InstanceId,
        mark: Lease,
        now: Timestamp,
    ) -> Result<Leased, StoreError> {
        let owner = owner.clone();
        self.write("lease_block", move |server| Ok(server.lease_block(list, n, &owner, mark, now))).await
    }

    pub(super) async fn return_tail(&self, block: &Block, from: u32) -> Result<bool, StoreError> {
        let block = block.clone();
        self.write("return_tail", move |server| Ok(server.return_tail(&block, from))).await
    }

    pub(super) async fn seal_list(&self, list: ListId) -> Result<(), StoreError> {
        self.write("seal_list", move |server| server.seal_list(list)).await
    }

    pub(super) async fn retire_list(&self, list: ListId, deadline: Deadline) -> Result<(), StoreError> {
        self.write_before("retire_list", deadline, move |server| server.retire_list(list)).await
    }

    pub(super) async fn apply(
        &self,
        _pool: &PoolId,
        requests: Vec<Vec<StatusChange>>,
        deadline: Deadline,
        now: Timestamp,
    ) -> Result<Vec<Applied>, StoreError> {
        self.write_before("apply", deadline, move |server| Ok(server.apply(&requests, now))).await
    }

    pub(super) async fn order_of(&self, list: ListId) -> Result<Option<Order>, StoreError> {
        self.read("order_of", move |server| Ok(server.order_of(list))).await
    }

    pub(super) async fn fill_list(
        &self,
        list: ListId,
        status: Status,
        beats: u32,
        deadline: Deadline,
        now: Timestamp,
    ) -> Result<Applied, StoreError> {
        let fill = move |server: &mut Server| Ok(server.fill_list(list, status, beats, now));
        self.write_before("fill_list", deadline, fill).await
    }

    pub(super) async fn spreading(&self, pool: &PoolId) -> Result<Vec<ListRecord>, StoreError> {
        let pool = pool.clone();
        self.read("spreading", move |server| Ok(server.spreading(&pool))).await
    }

    pub(super) async fn advance_spread(
        &self,
        list: ListId,
        spread: &Spread,
        entries: &[Index],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (spread, entries) = (*spread, entries.to_vec());
        self.write("advance_spread", move |server| server.advance_spread(list, &spread, &entries, now)).await
    }

    pub(super) async fn remember(
        &self,
        pool: &PoolId,
        key: Digest,
        answer: Answered,
        _now: Timestamp,
        keep: Keep,
    ) -> Result<Remembered, StoreError> {
        let pool = pool.clone();
        self.write("remember", move |server| server.remember(&pool, key, &answer, keep)).await
    }

    pub(super) async fn remembered(
        &self,
        pool: &PoolId,
        key: Digest,
        _now: Timestamp,
    ) -> Result<Option<Answered>, StoreError> {
        let pool = pool.clone();
        self.read("remembered", move |server| Ok(server.remembered(&pool, &key))).await
    }

    pub(super) async fn dirty(&self, pool: &PoolId) -> Result<Vec<Pending>, StoreError> {
        let pool = pool.clone();
        self.read("dirty", move |server| Ok(server.dirty(&pool))).await
    }

    pub(super) async fn due(&self, pool: &PoolId, t: Timestamp) -> Result<Vec<Pending>, StoreError> {
        let pool = pool.clone();
        self.read("due", move |server| Ok(server.due(&pool, t))).await
    }

    pub(super) async fn next_due(&self, pool: &PoolId) -> Result<Option<Timestamp>, StoreError> {
        let pool = pool.clone();
        self.read("next_due", move |server| Ok(server.next_due(&pool))).await
    }

    pub(super) async fn snapshot(&self, list: ListId) -> Result<Snapshot, StoreError> {
        self.read("snapshot", move |server| server.snapshot(list)).await
    }

    pub(super) async fn status(&self, list: ListId, index: Index) -> Result<(Status, Version), StoreError> {
        let Snapshot { version, array } = self.snapshot(list).await?;
        Ok((array.get(index), version))
    }

    pub(super) async fn changes_since_publication(
        &self,
        _list: ListId,
        _version: Version,
    ) -> Result<Option<Changes>, StoreError> {
        // As Redis: the model keeps no journal.
        Ok(None)
    }

    pub(super) async fn settle(
        &self,
        list: ListId,
        publication: Publication,
        taken: Timestamp,
        seen: DueMark,
        fence: Fence,
    ) -> Result<(), StoreError> {
        self.write("settle", move |server| server.settle(list, publication, taken, seen, fence)).await
    }

    pub(super) async fn mark_due(&self, lists: Vec<ListId>) -> Result<(), StoreError> {
        self.write("mark_due", move |server| server.mark_due(&lists)).await
    }

    pub(super) async fn lease_publisher(
        &self,
        pool: &PoolId,
        holder: &InstanceId,
        term: Duration,
        patience: Duration,
    ) -> Result<Option<Fence>, StoreError> {
        let (pool, holder) = (pool.clone(), holder.clone());
        self.write("lease_publisher", move |server| server.lease_publisher(&pool, &holder, term, patience))
            .await
    }

    pub(super) async fn release_publisher(
        &self,
        pool: &PoolId,
        holder: &InstanceId,
    ) -> Result<(), StoreError> {
        let (pool, holder) = (pool.clone(), holder.clone());
        self.write("release_publisher", move |server| server.release_publisher(&pool, &holder)).await
    }

    pub(super) async fn publisher(&self, pool: &PoolId) -> Result<PublisherState, StoreError> {
        let pool = pool.clone();
        self.read("publisher", move |server| server.publisher(&pool)).await
    }

    pub(super) async fn list(&self, list: ListId) -> Result<Option<ListRecord>, StoreError> {
        self.read("list", move |server| Ok(server.list(list))).await
    }

    pub(super) async fn lists(&self, pool: &PoolId) -> Result<Vec<ListRecord>, StoreError> {
        let pool = pool.clone();
        self.read("lists", move |server| Ok(server.lists(&pool))).await
    }

    pub(super) async fn pools(&self) -> Result<Vec<(PoolId, u64)>, StoreError> {
        self.read("pools", |server| Ok(server.pools())).await
    }

    pub(super) async fn usage(&self, pool: &PoolId) -> Result<PoolUsage, StoreError> {
        let pool = pool.clone();
        self.read("usage", move |server| Ok(server.usage(&pool))).await
    }

    pub(super) async fn shape_of(&self, pool: &PoolId) -> Result<Option<PoolShape>, StoreError> {
        let pool = pool.clone();
        self.read("shape_of", move |server| Ok(server.shape_of(&pool))).await
    }

    pub(super) async fn export_list(&self, list: ListId) -> Result<ListTransfer, StoreError> {
        self.read("export_list", move |server| server.export_list(list)).await
    }

    pub(super) async fn begin_import(&self) -> Result<(), StoreError> {
        // Nobody copies into the simulated store, so it has no mark.
        Ok(())
    }

    pub(super) async fn finish_import(&self) -> Result<(), StoreError> {
        Ok(())
    }

    pub(super) async fn import_list(&self, list: &ListTransfer) -> Result<bool, StoreError> {
        let list = list.clone();
        self.write("import_list", move |server| server.import_list(&list)).await
    }
}

/// Without a pause the call is made at once, in the order in which it was sent.
async fn pause(length: Duration) {
    if !length.is_zero() {
        sleep(length).await;
    }
}
