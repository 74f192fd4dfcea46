//! What issuers do: they take references, set statuses, ask for them, and try again when they do not know what became of that.

use std::rc::Rc;
use std::time::Duration;

use actix_web::http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{VALUES, World, id};
use crate::checker::{Begun, Given, Outcome};
use crate::instance::Heard;

impl World {
    /// Where a client sends its next request.
    fn anyone(&self) -> usize {
        self.roll(self.instances.count() as u64) as usize
    }

    /// Another instance than this one, if there is one.
    fn anyone_but(&self, who: usize) -> usize {
        let count = self.instances.count();
        if count == 1 { who } else { (who + 1 + self.roll(count as u64 - 1) as usize) % count }
    }

    pub(super) async fn ask(
        &self,
        request: (u64, Method, &str),
        key: Option<&str>,
        body: Option<Value>,
    ) -> (usize, Heard) {
        let who = self.anyone();
        (who, self.ask_at(who, request, key, body).await)
    }

    async fn ask_at(
        &self,
        who: usize,
        (client, method, path): (u64, Method, &str),
        key: Option<&str>,
        body: Option<Value>,
    ) -> Heard {
        let Some(running) = self.running.borrow()[who].clone() else { return Heard::Nothing };
        let instances = self.instances.clone();
        let calm = self.calm.get();
        let heard = running.request(move || instances.sleeps(who), (client, method, path), key, body).await;
        match &heard {
            Heard::Answer(200..=299, _) => self.acknowledged.set(self.acknowledged.get() + 1),
            _ => self.refused.set(self.refused.get() + 1),
        }
        let well =
            self.calm.get() == calm && calm.elapsed() > Duration::from_secs(50) && self.active.get() == 0;
        if well && matches!(heard, Heard::Nothing | Heard::Answer(500.., _)) && !self.stopping.get() {
            let what = format!("instance {who} answers {heard:?} to {path} although all is well");
            self.checker.borrow_mut().violation.get_or_insert(what);
        }
        heard
    }

    pub(super) async fn client(self: Rc<Self>, client: u64) {
        let mut count = 0;
        while !self.stopping.get() {
            sleep(Duration::from_millis(20 + self.roll(1500))).await;
            count += 1;
            match self.roll(100) {
                0..=34 => self.take_references(client, count).await,
                35..=39 => self.ask_for_any().await,
                _ => self.update(1 + self.roll(4) / 3 * self.roll(4), None, None).await,
            }
        }
    }

    async fn take_references(&self, client: u64, count: u64) {
        // Callers may choose the same Idempotency-Key.
        let (name, chosen) = (format!("c{client}-{count}"), format!("key-{}", count / 2));
        let pool = if self.roll(3) == 0 { "b" } else { "a" };
        let (amount, keyed) = (1 + self.roll(3), self.roll(2) == 0);
        let path = format!("/pools/{pool}/new-references?amount={amount}");
        for attempt in 0..4 {
            let key = keyed.then_some(chosen.as_str());
            let (who, heard) = self.ask((client, Method::POST, &path), key, None).await;
            let Heard::Answer(status, body) = heard else {
                self.history.note(format!("{name} heard nothing of {who}"));
                if !keyed {
                    return;
                }
                sleep(Duration::from_millis(100 * (attempt + 1))).await;
                continue;
            };
            if status == 200 {
                let items = body["references"].as_array().unwrap();
                let reference = |item: &Value| {
                    (item["uri"].as_str().unwrap().to_owned(), item["index"].as_u64().unwrap())
                };
                let references: Vec<_> = items.iter().map(reference).collect();
                self.history.note(format!("{name} has of {who} {}", show(&references)));
                // Of one caller, a key stands for one request; another amount under it is refused.
                let answer = key.map(|key| format!("{key} of caller {} in {pool}", client % 2));
                let public = (!self.disk.is_off()).then(|| self.public());
                self.checker.borrow_mut().handed_out(Given {
                    to: &name,
                    key: answer.as_deref(),
                    references: references.clone(),
                    folder: public.as_deref(),
                    now: self.now(),
                    calm: self.calm.get().elapsed().as_secs_f64(),
                });
                let mut lists = self.lists.borrow_mut();
                for (uri, index) in references {
                    match lists.iter_mut().find(|(_, list, _)| *list == uri) {
                        Some((_, _, entries)) => entries.push(index),
                        None => lists.push((pool.to_owned(), uri, vec![index])),
                    }
                }
                // Now and then somebody asks again although all went well.
                if !(keyed && self.roll(4) == 0) {
                    return;
                }
            } else if !keyed {
                self.history.note(format!("{name} is refused by {who}: {status}"));
                return;
            }
            sleep(Duration::from_millis(100 * (attempt + 1))).await;
        }
    }

    /// Sets statuses, at this instance or anywhere. Whoever does not know what became of that sets another one at once, elsewhere.
    pub(super) async fn update(&self, amount: u64, at: Option<usize>, again: Option<(String, u64)>) {
        let mut changes = Vec::new();
        {
            let lists = self.lists.borrow();
            if lists.is_empty() {
                return;
            }
            // Those of late are busiest.
            let first = lists.len() - 1 - self.roll(lists.len().min(4) as u64) as usize;
            let again = again.as_ref().and_then(|(uri, entry)| {
                let (pool, list, _) = lists.iter().find(|(_, list, _)| list == uri)?;
                Some((pool, list, *entry))
            });
            let pool = again.map_or(&lists[first].0, |(pool, _, _)| pool).clone();
            for _ in 0..amount {
                let of_pool: Vec<_> = lists.iter().filter(|(of, _, _)| *of == pool).collect();
                let late = if self.roll(2) == 0 { of_pool.len() } else { of_pool.len().min(3) };
                let (_, list, entries) = of_pool[of_pool.len() - 1 - self.roll(late as u64) as usize];
                // Most are set once or twice: what goes wrong with one stays to be seen.
                let entry = entries[self.roll(entries.len() as u64) as usize];
                let (list, entry) = again.map_or((list, entry), |(_, list, entry)| (list, entry));
                let mut given = self.given.borrow_mut();
                let number = given.entry((list.clone(), entry)).or_default();
                let value = if pool == "a" { VALUES[(*number % 8) as usize] } else { 1 };
                *number += 1;
                if changes.iter().any(|(uri, other, _)| uri == list && *other == entry) {
                    continue;
                }
                changes.push((list.clone(), entry, value));
            }
        }
        let expected =
            (amount == 1 && again.is_none() && self.roll(4) == 0).then(|| self.expect(&changes[0]));
        let writes: Vec<_> =
            changes.iter().map(|(list, entry, value)| (id(list), Some(*entry), *value)).collect();
        let begun = self.checker.borrow_mut().begin(&writes, self.now(), false);
        let updates: Vec<_> = changes
            .iter()
            .map(|(uri, index, value)| json!({ "uri": uri, "index": index, "value": value }))
            .collect();
        let (sent, one) = (self.now(), updates.len() == 1);
        let who = at.unwrap_or_else(|| self.anyone());
        let heard = match one {
            true => {
                let mut update = updates[0].clone();
                if let Some(expected) = expected {
                    update["expected"] = expected.into();
                }
                self.ask_at(who, (0, Method::PATCH, "/status-lists/update"), None, Some(update)).await
            }
            false => {
                self.ask_at(
                    who,
                    (0, Method::PATCH, "/status-lists/batch-update"),
                    None,
                    Some(json!({ "updates": updates })),
                )
                .await
            }
        };
        let shown = expected.map(|expected| format!(" if it is {expected}")).unwrap_or_default();
        self.settle_write(who, &heard, &begun, sent, &format!("{}{shown}", show_writes(&writes)));
        if let (Some(expected), Heard::Answer(200..=299, _)) = (expected, &heard) {
            let entry = usize::try_from(changes[0].1).unwrap();
            self.checker.borrow_mut().stood(&id(&changes[0].0), entry, expected, (sent, self.now()));
        }
        let unknown = matches!(heard, Heard::Answer(500.., _));
        if unknown && self.roll(4) > 0 {
            let (list, entry, _) = changes.swap_remove(0);
            // Not within the same moment: it comes after the answer.
            sleep(Duration::from_millis(1 + self.roll(30))).await;
            Box::pin(self.update(1, Some(self.anyone_but(who)), Some((list.clone(), entry)))).await;
            sleep(Duration::from_millis(self.roll(4000))).await;
            self.ask_for(&list, entry).await;
        }
    }

    /// Asks for the status of an entry that somebody was given.
    async fn ask_for_any(&self) {
        let entry = {
            let lists = self.lists.borrow();
            let Some((_, list, entries)) = lists.get(self.roll(lists.len().max(1) as u64) as usize) else {
                return;
            };
            (list.clone(), entries[self.roll(entries.len() as u64) as usize])
        };
        self.ask_for(&entry.0, entry.1).await;
    }

    async fn ask_for(&self, list: &str, entry: u64) {
        let pool =
            self.lists.borrow().iter().find(|(_, other, _)| other == list).map(|(pool, ..)| pool.clone());
        let Some(pool) = pool else { return };
        let (sent, path) = (self.now(), format!("/pools/{pool}/lists/{}/statuses/{entry}", id(list)));
        let (_, heard) = self.ask((0, Method::GET, &path), None, None).await;
        if let Heard::Answer(200, body) = heard {
            let value = u8::try_from(body["value"].as_u64().unwrap()).unwrap();
            let entry = usize::try_from(entry).unwrap();
            self.checker.borrow_mut().stood(&id(list), entry, value, (sent, self.now()));
        }
    }

    /// What a caller believes of an entry: mostly what it asked for before.
    fn expect(&self, (list, entry, value): &(String, u64, u8)) -> u8 {
        let number = self.given.borrow()[&(list.clone(), *entry)];
        let of_pool_a = self.lists.borrow().iter().any(|(pool, other, _)| pool == "a" && other == list);
        match (of_pool_a, self.roll(3)) {
            (true, 0) => VALUES[((number + 3) % 8) as usize],
            (true, _) if number > 1 => VALUES[((number - 2) % 8) as usize],
            (false, 0) => *value,
            _ => u8::from(!of_pool_a && number > 1),
        }
    }

    pub(super) fn settle_write(&self, who: usize, heard: &Heard, begun: &Begun, sent: f64, what: &str) {
        let now = self.now();
        let (outcome, ended, shown) = match heard {
            Heard::Answer(200..=299, _) => (Some(Outcome::Done), now, "done".to_owned()),
            Heard::Answer(400..=499, _) => (None, now, "refused".to_owned()),
            Heard::Answer(status, _) => (Some(Outcome::Unknown), now, format!("{status}")),
            // The process is gone, its call may be on its way until its deadline.
            Heard::Nothing => (Some(Outcome::Unknown), now.max(sent + 6.0), "no answer".to_owned()),
        };
        self.history.note(format!("to {who}: {what}, sent at {sent:.3}: {shown}"));
        self.checker.borrow_mut().end(begun, outcome, ended);
    }
}

fn show(references: &[(String, u64)]) -> String {
    let each = references.iter().map(|(uri, index)| format!("{}/{index}", &id(uri)[..8]));
    each.collect::<Vec<_>>().join(" ")
}

fn show_writes(writes: &[(String, Option<u64>, u8)]) -> String {
    let each = writes
        .iter()
        .map(|(list, entry, value)| format!("{}/{} = {value}", &list[..8], entry.unwrap_or_default()));
    each.collect::<Vec<_>>().join(", ")
}
