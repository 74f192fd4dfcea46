//! What goes wrong, and what operators do.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use serde_json::json;
use statuslist::base::clock::Timestamp;
use statuslist::base::durable;
use statuslist::store::Store;
use statuslist::store::sim::{self, Direct, SimulatedStore};
use tokio::time::{Instant, sleep};

use super::{BEGIN, CLOCK_APART_MAX, VALUES, World, id, signer};
use crate::disk::{Doom, Errors};
use crate::faults::{Fault, TAKEN_OVER_AFTER};
use crate::instance::Heard;
use crate::link::{Hit, Weather};

/// How long a clock is wrong.
const WRONG_CLOCK: Duration = Duration::from_secs(20);
/// How long somebody waits in ambush.
const AMBUSH_PATIENCE: Duration = Duration::from_secs(15);
/// How many clients more there are in a [`Fault::Crowd`].
const CROWD: u64 = 10;

/// What is retired while an instance is paused.
#[derive(Clone, Copy)]
enum Retired {
    One,
    /// The newest list of each pool.
    Newest,
}

impl World {
    pub(super) async fn strike(self: &Rc<Self>, fault: Fault) {
        if fault.is_harmless() {
            match fault {
                Fault::Fill(beats) => self.fill(beats).await,
                _ => self.retire().await,
            }
            return;
        }
        let alone = self.active.get() == 0 && self.calm.get().elapsed() > Duration::from_secs(15);
        self.active.set(self.active.get() + 1);
        self.disturbed();
        match fault {
            Fault::Kill(who) => self.instances.kill(who),
            Fault::KillAfterCalls(calls) => self.disk.doom_after(calls, Doom::Kill),
            Fault::Power => {
                self.disk.switch_off();
                self.instances.kill_all();
            }
            Fault::PowerAfterCalls(calls) => self.disk.doom_after(calls, Doom::Power),
            Fault::Pause(who, length) => {
                self.instances.pause(who);
                sleep(length).await;
                self.instances.resume(who);
            }
            Fault::PauseAfterCalls(calls, length) => {
                self.disk.doom_after(calls, Doom::Pause);
                self.resume_after(length, Retired::One, || self.disk.take_paused()).await;
                // Nobody would resume whom it struck later.
                self.disk.spare();
            }
            Fault::Ambush(call, hit, length) => {
                self.ambush.arm(call, hit);
                match hit {
                    Hit::Pause => {
                        self.resume_after(length, Retired::One, || self.ambush.take_paused()).await;
                    }
                    _ => {
                        let given_up = Instant::now() + AMBUSH_PATIENCE;
                        while self.ambush.is_armed() && Instant::now() < given_up {
                            sleep(Duration::from_millis(100)).await;
                        }
                    }
                }
                self.ambush.disarm();
            }
            Fault::Stillborn(length) => {
                self.ambush.arm("open_list", Hit::ThenPause("snapshot"));
                self.resume_after(length, Retired::Newest, || self.ambush.take_paused()).await;
                self.ambush.disarm();
            }
            Fault::Clock(who, millis) => {
                self.set_clock(who, millis);
                sleep(WRONG_CLOCK).await;
                self.set_right(who, millis).await;
            }
            Fault::Crowd(who, length) => self.crowd(who, length).await,
            Fault::Weather(who, weather, length) => {
                *self.weather[who].lock() = weather;
                sleep(length).await;
                *self.weather[who].lock() = Weather::Fair;
            }
            Fault::Standstill(length) => {
                for weather in &self.weather {
                    *weather.lock() = Weather::Still(Instant::now() + length);
                }
                sleep(length).await;
                for weather in &self.weather {
                    *weather.lock() = Weather::Fair;
                }
            }
            Fault::Disk(percent, trouble, length) => {
                self.disk.set_errors(Errors { percent, trouble });
                sleep(length).await;
                self.disk.set_errors(Errors::default());
            }
            Fault::Stop(who, again) => {
                if let Some(after) = again {
                    self.ambush.arm("return_tail", Hit::Repeat(after));
                }
                self.stop(who, alone).await;
                self.ambush.disarm();
            }
            Fault::Restore(age) => {
                let copy = self.copy(age).await;
                self.restore(copy);
            }
            Fault::Disaster(age) => {
                let copy = self.copy(age).await;
                self.disk.switch_off();
                self.instances.kill_all();
                self.restore(copy);
            }
            Fault::Flush => {
                self.note_loss();
                self.server.lock().flush();
            }
            Fault::LostMarks(who, age) => {
                let copy = self.copy(age).await;
                self.instances.kill(who);
                // While another copy is on its way, the store could go back to lists that it does not know when the loss is noticed.
                for pool in self.config.pools.keys().filter(|_| self.copies.get() == 0) {
                    let marks = self.folder.path().join(format!("instance-{who}/{pool}.marks"));
                    let _ = durable::remove(&marks);
                }
                self.restore(copy);
            }
            Fault::Vandal => self.vandal(),
            Fault::Seal(pool) => self.seal(pool).await,
            Fault::NewKey(pool, None) => self.replace_key(pool).await,
            Fault::NewKey(pool, Some((who, millis))) => {
                self.set_clock(who, millis);
                self.replace_key(pool).await;
                sleep(WRONG_CLOCK).await;
                self.set_right(who, millis).await;
            }
            Fault::Retire | Fault::Fill(_) => {}
            Fault::Reload(who, millis, capacity) => self.reload(who, millis, capacity),
        }
        self.disturbed();
        self.active.set(self.active.get() - 1);
    }

    /// A stop in order. If nothing was wrong before, and nobody else could have published, all that was acknowledged is public.
    async fn stop(&self, who: usize, alone: bool) {
        let Some(running) = self.running.borrow()[who].clone() else { return };
        let (asked, last_fault) = (self.now(), self.calm.get());
        let stopped = tokio::time::timeout(Duration::from_secs(40), running.stop()).await;
        self.history.note(format!("instance {who} was stopped"));
        // Another fault meanwhile, such as a second stop, may have ended it early.
        let alone = alone && self.calm.get() == last_fault && self.active.get() == 1;
        if alone && stopped.is_ok() && self.instances.count() == 1 {
            self.look();
            self.checker.borrow_mut().all_is_public(asked);
        }
        if !running.life.is_over() {
            self.instances.kill(who);
        }
    }

    /// Makes the clock of an instance wrong by so many milliseconds.
    fn set_clock(&self, who: usize, millis: i64) {
        // What was signed until now is compared with what this clock showed.
        self.look();
        let right = BEGIN * 1000 + self.begun.elapsed().as_millis() as u64;
        self.clocks[who].set(Timestamp::from_millis(right.saturating_add_signed(millis)));
    }

    /// Sets a clock right that was wrong by so many milliseconds.
    async fn set_right(&self, who: usize, millis: i64) {
        self.set_clock(who, 0);
        if millis.abs() > CLOCK_APART_MAX {
            // An instance that started meanwhile took the wrong clock for the right one. It believes the step after a minute.
            sleep(Duration::from_secs(60)).await;
        }
    }

    /// Requests with different deadlines wait together in an instance whose calls to the store are slow.
    async fn crowd(self: &Rc<Self>, who: usize, length: Duration) {
        *self.weather[who].lock() = Weather::Slow;
        let end = Instant::now() + length;
        for _ in 0..CROWD {
            let world = Rc::clone(self);
            tokio::task::spawn_local(async move {
                while Instant::now() < end && !world.stopping.get() {
                    world.update(1, Some(who), None).await;
                    sleep(Duration::from_millis(world.roll(500))).await;
                }
            });
        }
        sleep(length).await;
        *self.weather[who].lock() = Weather::Fair;
    }

    /// Waits for a while until an instance is `paused`, and makes it go on after `length`. Where that is long enough for another one
    /// to publish in its place, lists are retired meanwhile.
    async fn resume_after(
        self: &Rc<Self>,
        length: Duration,
        which: Retired,
        paused: impl Fn() -> Option<usize>,
    ) {
        let given_up = Instant::now() + AMBUSH_PATIENCE;
        while Instant::now() < given_up {
            sleep(Duration::from_millis(100)).await;
            let Some(who) = paused() else { continue };
            if length > TAKEN_OVER_AFTER {
                let world = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    sleep(TAKEN_OVER_AFTER).await;
                    match which {
                        Retired::One => world.retire().await,
                        Retired::Newest => {
                            for pool in ["a", "b"] {
                                let newest = world.list_of(pool, 0).await;
                                world.retire_list(newest).await;
                            }
                        }
                    }
                });
            }
            sleep(length).await;
            self.instances.resume(who);
            return;
        }
    }

    /// Brings the power back whenever it is gone.
    pub(super) async fn power(self: Rc<Self>) {
        while !self.stopping.get() {
            if self.disk.is_off() {
                self.active.set(self.active.get() + 1);
                sleep(Duration::from_millis(50 + self.roll(3000))).await;
                self.checker.borrow_mut().forget_order();
                self.disk.switch_on();
                self.history.note("the power is back");
                self.look();
                self.disturbed();
                self.active.set(self.active.get() - 1);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What the store has now, after a while.
    async fn copy(&self, age: Duration) -> sim::Copy {
        self.copies.set(self.copies.get() + 1);
        let copy = self.server.lock().copy();
        sleep(age).await;
        self.copies.set(self.copies.get() - 1);
        copy
    }

    fn restore(&self, copy: sim::Copy) {
        self.note_loss();
        self.server.lock().restore(copy);
    }

    /// The store loses data now: nobody can rely on what it said of the lists that it has.
    fn note_loss(&self) {
        let lists = self.server.lock().lists_stored().into_iter().map(|list| list.id.to_string());
        self.checker.borrow_mut().lost(lists.collect::<Vec<_>>().into_iter(), self.now());
    }

    /// Removes the files of a list, and kills all instances.
    fn vandal(&self) {
        if let Some((_, uri)) = self.some_list()
            && !self.disk.is_off()
        {
            let list = id(&uri);
            self.history.note(format!("the files of {list} are removed"));
            // What is there now was seen.
            self.look();
            for ending in ["jwt", "jwt.gz", "cwt"] {
                let _ = durable::remove(&self.public().join(format!("{list}.{ending}")));
            }
            let stored = self.server.lock().lists_stored();
            let stored = stored.into_iter().find(|stored| stored.id.to_string() == list);
            let iat = stored.and_then(|stored| stored.published_at).map(|iat| iat.secs());
            self.checker.borrow_mut().removed(&list, iat);
            // An update would bring them back: now and then there is none.
            if self.roll(2) == 0 {
                self.lists.borrow_mut().retain(|(_, other, _)| *other != uri);
                self.quiet.borrow_mut().push(list);
            }
            self.instances.kill_all();
        }
    }

    /// A list that has given references, but is not the newest.
    fn some_list(&self) -> Option<(String, String)> {
        let lists = self.lists.borrow();
        let (pool, list, _) = lists.get(self.roll(lists.len().max(1) as u64) as usize)?;
        Some((pool.clone(), list.clone()))
    }

    /// One of the lists that the service has, the latest ones first; nobody need have been given a reference of it.
    async fn any_list(&self) -> Option<(String, String)> {
        let pool = ["a", "b"][self.roll(2) as usize];
        let place = self.roll(3) as usize;
        self.list_of(pool, place).await
    }

    /// The list of a pool that is at this place, the newest one first.
    async fn list_of(&self, pool: &str, place: usize) -> Option<(String, String)> {
        let path = format!("/pools/{pool}/lists");
        let (_, Heard::Answer(200, body)) = self.ask((0, Method::GET, &path), None, None).await else {
            return None;
        };
        let lists: Vec<_> =
            body["lists"].as_array()?.iter().filter(|list| list["retired"] == false).collect();
        let late = lists.iter().rev().nth(place)?;
        Some((pool.to_owned(), late["uri"].as_str()?.to_owned()))
    }

    async fn retire(&self) {
        let list = if self.roll(2) == 0 { self.any_list().await } else { self.some_list() };
        self.retire_list(list).await;
    }

    async fn retire_list(&self, list: Option<(String, String)>) {
        let Some((pool, list)) = list else { return };
        // Nobody updates what may be retired.
        self.lists.borrow_mut().retain(|(_, other, _)| *other != list);
        self.checker.borrow_mut().retiring(&id(&list));
        let path = format!("/pools/{pool}/lists/{}?force=true", id(&list));
        let (who, heard) = self.ask((0, Method::DELETE, &path), None, None).await;
        self.history.note(format!("to {who}: retire {}: {heard:?}", id(&list)));
        if let Heard::Answer(200..=299, _) = heard {
            self.checker.borrow_mut().retired(&id(&list), self.now());
        }
    }

    async fn fill(&self, beats: u64) {
        let Some((pool, list)) = self.some_list() else { return };
        let value = if pool == "a" { VALUES[self.roll(7) as usize] } else { 1 };
        let writes = [(id(&list), None, value)];
        let begun = self.checker.borrow_mut().begin(&writes, self.now(), beats > 1);
        let path = format!("/pools/{pool}/lists/{}", id(&list));
        let body = json!({ "value": value, "spread-beats": beats });
        let sent = self.now();
        let (who, heard) = self.ask((0, Method::PATCH, &path), None, Some(body)).await;
        self.settle_write(who, &heard, &begun, sent, &format!("all of {} = {value} over {beats}", id(&list)));
    }

    /// As the command does it.
    async fn seal(&self, pool: usize) {
        let store = SimulatedStore::new(Arc::clone(&self.server), Arc::new(Direct));
        let store = Store::Simulated(store);
        let pool = self.config.pools.keys().nth(pool).unwrap();
        for list in store.lists(pool).await.unwrap_or_default().into_iter().filter(|list| list.open) {
            if store.seal_list(list.id).await.is_ok() {
                self.history.note(format!("{} is sealed", list.id));
                self.checker.borrow_mut().sealed(&list.id.to_string(), self.now());
            }
        }
    }

    /// The settings name a new key; each instance reads them when its operator comes to it, or at its next start.
    async fn replace_key(&self, pool: usize) {
        let key = signer();
        self.checker.borrow_mut().may_sign(serde_json::to_value(key.jwk()).unwrap());
        self.signers.borrow_mut()[pool] = key.clone();
        for who in 0..self.instances.count() {
            if let Some(running) = self.running.borrow()[who].clone() {
                running.pools[pool].ring.set_wanted(&key, None);
                running.key_set.wake();
            }
            sleep(Duration::from_millis(self.roll(5000))).await;
        }
    }

    fn reload(&self, who: usize, millis: u64, capacity: u32) {
        let Some(running) = self.running.borrow()[who].clone() else { return };
        for (parts, pool) in running.pools.iter().zip(self.config.pools.values()) {
            let mut live = pool.live.clone();
            live.update_interval = Duration::from_millis(millis);
            live.prefetch.capacity = capacity;
            parts.allocator.set(&live);
            parts.publisher.set(live);
        }
    }
}
