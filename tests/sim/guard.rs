//! Which instance runs: every task of an instance is polled through a guard, which stands still while the instance is paused, and
//! for ever once it is dead.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// The most steps of all tasks of all instances in a quarter of a simulated second. Usual are some hundred; with more, the time
/// does not go on, because tasks wake each other for ever.
const STEPS_MAX: u64 = 200_000;

thread_local! {
    static CURRENT: Cell<Option<usize>> = const { Cell::new(None) };
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// Begins to count the steps of all tasks anew. Returns whether there were too many: then none was made any more, so that the time
/// goes on.
pub(crate) fn count_steps_anew() -> bool {
    STEPS.replace(0) > STEPS_MAX
}

/// The instance whose task is being polled.
pub(crate) fn current() -> Option<usize> {
    CURRENT.get()
}

#[derive(Debug, Default)]
pub(crate) struct State {
    paused: bool,
    dead: bool,
    /// How often it was paused so far.
    pub(crate) sleeps: u64,
    /// Which start of the instance this is: a handle of an earlier one stays dead.
    pub(crate) life: u64,
    wakers: Vec<Waker>,
}

/// All instances; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Instances(Arc<Mutex<Vec<State>>>);

/// One life of one instance.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    all: Instances,
    pub(crate) who: usize,
    life: u64,
}

impl Instances {
    pub(crate) fn new(count: usize) -> Self {
        let states = (0..count).map(|_| State { dead: true, ..State::default() });
        Self(Arc::new(Mutex::new(states.collect())))
    }

    fn with<T>(&self, who: usize, ask: impl FnOnce(&mut State) -> T) -> T {
        ask(&mut self.0.lock()[who])
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().len()
    }

    pub(crate) fn is_dead(&self, who: usize) -> bool {
        self.with(who, |state| state.dead)
    }

    pub(crate) fn sleeps(&self, who: usize) -> u64 {
        self.with(who, |state| state.sleeps)
    }

    pub(crate) fn kill(&self, who: usize) {
        self.with(who, |state| {
            (state.dead, state.paused) = (true, false);
            state.wakers.clear();
        });
    }

    pub(crate) fn kill_all(&self) {
        (0..self.count()).for_each(|who| self.kill(who));
    }

    pub(crate) fn begin(&self, who: usize) -> Life {
        let life = self.with(who, |state| {
            state.life += 1;
            (state.dead, state.paused) = (false, false);
            state.life
        });
        Life { all: self.clone(), who, life }
    }

    pub(crate) fn pause(&self, who: usize) {
        self.with(who, |state| state.paused = !state.dead);
    }

    pub(crate) fn resume(&self, who: usize) {
        let wakers = self.with(who, |state| {
            if state.paused {
                (state.paused, state.sleeps) = (false, state.sleeps + 1);
            }
            std::mem::take(&mut state.wakers)
        });
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Life {
    /// Whether it runs now; if it is paused, `context` hears of its end.
    fn runs(&self, context: &Context<'_>) -> bool {
        self.all.with(self.who, |state| {
            let mine = !state.dead && state.life == self.life;
            if mine && state.paused {
                state.wakers.push(context.waker().clone());
            }
            mine && !state.paused
        })
    }

    pub(crate) fn is_over(&self) -> bool {
        self.all.with(self.who, |state| state.dead || state.life != self.life)
    }

    /// Stops it, if it runs.
    pub(crate) fn pause(&self) {
        if !self.is_over() {
            self.all.pause(self.who);
        }
    }

    /// Ends it as kill -9 does, if it is not over.
    pub(crate) fn kill(&self) {
        if !self.is_over() {
            self.all.kill(self.who);
        }
    }

    /// Runs `future` as this instance does.
    pub(crate) fn guard<F: Future>(&self, future: F) -> Guarded<F> {
        Guarded { life: self.clone(), future: Some(Box::pin(future)) }
    }

    /// Ends as soon as the instance runs.
    pub(crate) fn awake(&self) -> impl Future<Output = ()> + Send + use<> {
        let life = self.clone();
        std::future::poll_fn(move |context| if life.runs(context) { Poll::Ready(()) } else { Poll::Pending })
    }
}

pub(crate) struct Guarded<F> {
    life: Life,
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for Guarded<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if !self.life.runs(context) {
            return Poll::Pending;
        }
        STEPS.set(STEPS.get() + 1);
        if STEPS.get() > STEPS_MAX {
            return Poll::Pending;
        }
        let before = CURRENT.replace(Some(self.life.who));
        let future = self.future.as_mut().expect("it is there until the drop");
        let polled = future.as_mut().poll(context);
        CURRENT.set(before);
        polled
    }
}

impl<F> Drop for Guarded<F> {
    /// What is cleaned up at the end of a task is done by its instance, or not at all if that is dead.
    fn drop(&mut self) {
        let before = CURRENT.replace(Some(self.life.who));
        drop(self.future.take());
        CURRENT.set(before);
    }
}
