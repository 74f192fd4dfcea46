//! What the simulator (`tests/sim/`) takes over of a thread: its disk, its random numbers, its blocking work. Without the feature
//! `sim` nothing of this exists; with it, threads that did not [`begin`] are left alone.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::LazyLock;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::disk_call::Call;

/// What becomes of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is made.
    Go,
    /// It fails and does nothing.
    Fail(io::ErrorKind),
    /// It is made, and reports a failure all the same.
    FailAfter(io::ErrorKind),
}

/// A disk that decides what becomes of each call, and hears of those that were made.
pub trait Disk {
    /// Before the call.
    fn before(&self, call: &Call<'_>) -> Verdict;
    /// After a call that was made and succeeded.
    fn made(&self, call: &Call<'_>);
}

struct Simulated {
    disk: Rc<dyn Disk>,
    chance: StdRng,
}

thread_local! {
    static SIMULATED: RefCell<Option<Simulated>> = const { RefCell::new(None) };
}

/// From now on this thread is simulated.
pub fn begin(disk: Rc<dyn Disk>, seed: u64) {
    SIMULATED.set(Some(Simulated { disk, chance: StdRng::seed_from_u64(seed) }));
}

/// From now on it is a thread like any other.
pub fn end() {
    SIMULATED.take();
}

/// Whether this thread is simulated.
pub fn is_on() -> bool {
    SIMULATED.with_borrow(Option::is_some)
}

/// The next random numbers of the simulation, if this thread is simulated.
pub(super) fn rng() -> Option<StdRng> {
    SIMULATED.with_borrow_mut(|simulated| {
        simulated.as_mut().map(|simulated| StdRng::seed_from_u64(simulated.chance.next_u64()))
    })
}

/// Makes the call, or does not, as the disk decides.
pub(super) fn system<T>(call: &Call<'_>, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let disk =
        SIMULATED.with_borrow(|simulated| simulated.as_ref().map(|simulated| Rc::clone(&simulated.disk)));
    let Some(disk) = disk else { return make() };
    let verdict = disk.before(call);
    if let Verdict::Fail(kind) = verdict {
        return Err(io::Error::new(kind, "simulated"));
    }
    let made = make()?;
    disk.made(call);
    match verdict {
        Verdict::FailAfter(kind) => Err(io::Error::new(kind, "simulated, but done")),
        _ => Ok(made),
    }
}

/// Whether this fault of `tests/sim/mutations.patch` is switched on. Only the patched tree asks.
#[expect(
    clippy::disallowed_methods,
    reason = "a fault is chosen for a whole process, and only in the simulator"
)]
pub fn mutated(name: &str) -> bool {
    static MUTATION: LazyLock<Option<String>> =
        LazyLock::new(|| std::env::var("STATUSLIST_SIM_MUTATION").ok());
    MUTATION.as_deref() == Some(name)
}

/// The path that a call is about.
pub fn path_of<'a>(call: &Call<'a>) -> &'a Path {
    match *call {
        Call::Create(path)
        | Call::Write { path, .. }
        | Call::SetModified(path, _)
        | Call::Fsync(path)
        | Call::Rename { to: path, .. }
        | Call::Link { to: path, .. }
        | Call::Remove(path)
        | Call::RemoveFolder(path)
        | Call::MakeFolder(path)
        | Call::SyncFolder(path)
        | Call::Truncate(path, _) => path,
    }
}
