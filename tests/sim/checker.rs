//! What a Relying Party and the issuers can tell: whether every promise was kept. Shares no code with the service: it reads the
//! published files, what clients were answered, and which publications the store counts as done.
//!
//! Each entry is a register. A write is an interval from its sending to its answer; one whose outcome is unknown may have been
//! made in its interval or never. A value that is read is right if some write of it may be the latest: no write that was
//! acknowledged began after that one had ended. After a calm that is long enough, only what is still on its way is excused.
//!
//! A store that loses data loses what was acknowledged of the lists that it had. Of those only the promises are left that do not
//! depend on it; lists that are made afterwards are like any others.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use serde_json::Value;

use crate::token::{Key, Shape, Token};

/// Seconds since the simulation began.
pub(crate) type Moment = f64;

/// The longest that an answer is on its way to a client.
const ANSWER_AGE_MAX: Moment = 65.0;
/// After so long everybody has heard that a list is sealed or retired, if nothing is wrong.
const HEARD_AFTER: Moment = 8.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pending,
    Done,
    Unknown,
}

#[derive(Clone, Debug)]
struct Write {
    value: u8,
    begun: Moment,
    ended: Moment,
    outcome: Outcome,
    /// Takes its time after it is acknowledged.
    deferred: bool,
}

#[derive(Default)]
struct Seen {
    bytes: Vec<u8>,
    token: Option<Token>,
    /// Which key signed it.
    key: Option<usize>,
}

/// What a store says of a list.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) list: String,
    pub(crate) shape: Shape,
    /// The `iat` of the publication that it counts as done.
    pub(crate) iat: Option<u64>,
    /// Whether it counts the removal of its tokens as done.
    pub(crate) gone: bool,
    pub(crate) retired: bool,
}

/// References that a client was given.
pub(crate) struct Given<'a> {
    pub(crate) to: &'a str,
    /// Who used which `Idempotency-Key`.
    pub(crate) key: Option<&'a str>,
    pub(crate) references: Vec<(String, u64)>,
    /// The published files, if the disk has power.
    pub(crate) folder: Option<&'a Path>,
    pub(crate) now: Moment,
    /// How long nothing has gone wrong.
    pub(crate) calm: Moment,
}

pub(crate) struct Checker {
    pub(crate) violation: Option<String>,
    beat: f64,
    handed_out: HashMap<(String, u64), String>,
    /// Per key: what was answered, and when.
    answers: HashMap<String, (Vec<(String, u64)>, Moment)>,
    /// By list and entry; the entry -1 is every entry.
    writes: BTreeMap<String, BTreeMap<i64, Vec<Write>>>,
    seen: BTreeMap<(String, &'static str), Seen>,
    iat_max: BTreeMap<(String, &'static str), u64>,
    /// Lists that somebody began to retire.
    retiring: HashSet<String>,
    retired: BTreeMap<String, Moment>,
    sealed: BTreeMap<String, Moment>,
    /// Lists whose files somebody removed: publications up to this `iat` are gone.
    removed: HashMap<String, u64>,
    /// Lists of a store that lost data.
    lost: HashSet<String>,
    lost_at: Moment,
    keys: Vec<Key>,
    /// The published key set, and which of the keys are not in it.
    key_set: (Vec<u8>, Vec<usize>),
    shapes: HashMap<String, Shape>,
    /// What any clock ever showed that may be believed, in seconds since 1970.
    fastest: u64,
    pub(crate) tokens: u64,
}

/// When the checker looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) now: Moment,
    /// Since when nothing went wrong.
    pub(crate) calm: Moment,
    /// The right time, in seconds since 1970.
    pub(crate) right: u64,
    /// What the fastest clock shows that may be believed, likewise.
    pub(crate) fastest: u64,
}

/// A write that was begun, to be ended.
#[derive(Clone, Debug)]
pub(crate) struct Begun(Vec<(String, i64, usize)>);

impl Checker {
    pub(crate) fn new(keys: Vec<Value>, beat: f64) -> Self {
        Self {
            violation: None,
            beat,
            handed_out: HashMap::new(),
            answers: HashMap::new(),
            writes: BTreeMap::new(),
            seen: BTreeMap::new(),
            iat_max: BTreeMap::new(),
            retiring: HashSet::new(),
            retired: BTreeMap::new(),
            sealed: BTreeMap::new(),
            removed: HashMap::new(),
            lost: HashSet::new(),
            lost_at: f64::NEG_INFINITY,
            keys: keys.into_iter().map(Key::of).collect(),
            key_set: Default::default(),
            shapes: HashMap::new(),
            fastest: 0,
            tokens: 0,
        }
    }

    pub(crate) fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// From now on this key may sign as well.
    pub(crate) fn may_sign(&mut self, jwk: Value) {
        self.keys.push(Key::of(jwk));
        self.key_set = Default::default();
    }

    /// Someone was given references: nobody else may have them, a retry has the same, and their `uri` answers.
    pub(crate) fn handed_out(&mut self, given: Given<'_>) {
        let Given { to, key, references, folder, now, calm } = given;
        // What is repeated may be of a list that has ended since.
        for (uri, _) in references.iter().filter(|_| key.is_none()) {
            let list = &uri[uri.len() - 36..];
            let ended = self.retired.get(list).or_else(|| self.sealed.get(list));
            if calm > 30.0
                && ended.is_some_and(|ended| now - ended > HEARD_AFTER)
                && !self.lost.contains(list)
            {
                self.violation
                    .get_or_insert(format!("{to} was given a reference of {list}, which was ended"));
            }
            let excused =
                self.lost.contains(list) || self.retiring.contains(list) || self.removed.contains_key(list);
            if !excused && folder.is_some_and(|folder| !folder.join(format!("{list}.jwt")).exists()) {
                self.violation.get_or_insert(format!(
                    "{to} was given a reference of {list}, whose uri does not answer"
                ));
            }
        }
        let name = key.unwrap_or(to).to_owned();
        if let Some(key) = key {
            match self.answers.get(key) {
                Some((_, then)) if then - ANSWER_AGE_MAX <= self.lost_at => {
                    self.answers.insert(key.to_owned(), (references.clone(), now));
                }
                Some((before, _)) if *before != references => {
                    self.violated(format!("{key} was answered {before:?}, then {references:?}"));
                }
                Some(_) => {}
                None => drop(self.answers.insert(key.to_owned(), (references.clone(), now))),
            }
        }
        for reference in references {
            if let Some(other) = self.handed_out.insert(reference.clone(), name.clone())
                && other != name
            {
                self.violated(format!("reference {reference:?} was given to {other} and to {name}"));
            }
        }
    }

    pub(crate) fn references(&self) -> usize {
        self.handed_out.len()
    }

    /// A client sends changes of these entries; `None` is every entry of the list.
    pub(crate) fn begin(
        &mut self,
        changes: &[(String, Option<u64>, u8)],
        now: Moment,
        deferred: bool,
    ) -> Begun {
        let begun = changes.iter().map(|(list, entry, value)| {
            let entry = entry.map_or(-1, |entry| entry as i64);
            let (ended, outcome) = (f64::INFINITY, Outcome::Pending);
            let writes = self.writes.entry(list.clone()).or_default().entry(entry).or_default();
            writes.push(Write { value: *value, begun: now, ended, outcome, deferred });
            (list.clone(), entry, writes.len() - 1)
        });
        Begun(begun.collect())
    }

    /// What became of them; a refused change must never show, so it is forgotten.
    pub(crate) fn end(&mut self, begun: &Begun, outcome: Option<Outcome>, ended: Moment) {
        for (list, entry, number) in &begun.0 {
            let of_list = self.writes.get_mut(list).unwrap();
            let write = &mut of_list.get_mut(entry).unwrap()[*number];
            match outcome {
                Some(outcome) => (write.outcome, write.ended) = (outcome, ended),
                // Ended before it began: no read can be explained by it.
                None => {
                    (write.outcome, write.begun, write.ended) =
                        (Outcome::Unknown, f64::INFINITY, f64::INFINITY)
                }
            }
        }
    }

    /// Somebody begins to retire a list.
    pub(crate) fn retiring(&mut self, list: &str) {
        self.retiring.insert(list.to_owned());
    }

    pub(crate) fn retired(&mut self, list: &str, now: Moment) {
        self.retired.insert(list.to_owned(), now);
    }

    pub(crate) fn sealed(&mut self, list: &str, now: Moment) {
        self.sealed.entry(list.to_owned()).or_insert(now);
    }

    /// A store that had these lists lost data.
    pub(crate) fn lost(&mut self, lists: impl Iterator<Item = String>, now: Moment) {
        self.lost.extend(lists);
        self.lost.extend(self.writes.keys().cloned());
        self.lost.extend(self.handed_out.keys().map(|(uri, _)| uri[uri.len() - 36..].to_owned()));
        self.lost_at = now;
    }

    /// The files may be those of earlier moments: the power was cut.
    pub(crate) fn forget_order(&mut self) {
        self.seen.clear();
        self.iat_max.clear();
        self.key_set = Default::default();
    }

    /// Somebody removed the files of this list.
    pub(crate) fn removed(&mut self, list: &str, stored: Option<u64>) {
        let of_list = self.iat_max.iter().filter(|((of, _), _)| of == list).map(|(_, iat)| *iat);
        self.removed.insert(list.to_owned(), of_list.chain(stored).max().unwrap_or_default());
        self.seen.retain(|(of, _), _| of != list);
        self.iat_max.retain(|(of, _), _| of != list);
    }

    /// Looks at every file. `known` are the lists of which references were given, `stored` what the store says of all.
    pub(crate) fn look(&mut self, folder: &Path, known: &[String], stored: &[Stored], times: Times) {
        let Times { now, calm, right, fastest } = times;
        self.fastest = self.fastest.max(fastest);
        let new = stored.iter().filter(|stored| !self.shapes.contains_key(&stored.list));
        let new: Vec<_> = new.map(|stored| (stored.list.clone(), stored.shape)).collect();
        self.shapes.extend(new);
        let mut names: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        let long_calm = now - calm > 45.0;
        // Once a second is enough for what changes once in a beat.
        let thorough = long_calm && ((now * 4.0) as u64).is_multiple_of(4);
        let mut lists = BTreeSet::new();
        let mut there = HashSet::new();
        self.read_key_set(folder);
        for path in names {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let Some((list, extension)) = name.split_once('.').filter(|(list, _)| list.len() == 36) else {
                continue;
            };
            let extension = match extension {
                "jwt" => "jwt",
                "cwt" => "cwt",
                _ => continue,
            };
            let Some(shape) = self.shapes.get(list).copied() else { continue };
            lists.insert(list.to_owned());
            let place = (list.to_owned(), extension);
            let bytes = std::fs::read(&path).unwrap();
            let seen = self.seen.entry(place.clone()).or_default();
            if seen.bytes != bytes {
                let before = seen.token.take();
                self.read_new(list, extension, bytes, before, shape, now);
            }
            there.insert(place.clone());
            let Some(Seen { token: Some(token), key, .. }) = self.seen.get(&place) else { continue };
            let (token, key) = (token.clone(), *key);
            if token.exp > right
                && let Some(key) = key.filter(|key| self.key_set.1.contains(key))
            {
                self.violated(format!(
                    "the key {key} that signed the {extension} of {list} is not published"
                ));
            }
            if thorough && !self.retired.contains_key(list) {
                if token.iat > right + 2 {
                    let iat = token.iat;
                    self.violated(format!(
                        "the {extension} of {list} has iat {iat} in the future, it is {right}"
                    ));
                }
                // A restored store may not know a list, which then nobody renews.
                if !self.lost.contains(list) {
                    if token.exp <= right {
                        let exp = token.exp;
                        self.violated(format!("the {extension} of {list} expired at {exp}, it is {right}"));
                    }
                    self.check_bound(list, &token, now, now - self.beat - 3.0);
                }
            }
        }
        // What was in files that are gone is not published.
        self.seen.retain(|place, _| there.contains(place));
        for stored in stored.iter().filter(|stored| !self.lost.contains(&stored.list)).collect::<Vec<_>>() {
            self.check_settled(stored);
        }
        if long_calm {
            self.check_calm(&lists, known, now);
        }
    }

    /// What must be there when nothing has been wrong for long.
    fn check_calm(&mut self, lists: &BTreeSet<String>, known: &[String], now: Moment) {
        let of = |checker: &Self, list: &String, extension| {
            checker.seen.get(&(list.clone(), extension)).and_then(|seen| seen.token.clone())
        };
        let excused = |list: &&String| self.retiring.contains(*list) || self.lost.contains(*list);
        for list in known.iter().filter(|list| !excused(list)).cloned().collect::<Vec<_>>() {
            if of(self, &list, "jwt").is_none() || of(self, &list, "cwt").is_none() {
                self.violated(format!("list {list} gave references, and its files are missing"));
            }
        }
        for (list, retired) in self.retired.clone() {
            if lists.contains(&list) && now - retired > self.beat + 3.0 && !self.lost.contains(&list) {
                self.violated(format!("list {list} was retired, and its tokens are there"));
            }
        }
        for list in lists.iter().filter(|list| !self.lost.contains(*list)).collect::<Vec<_>>() {
            if let (Some(jwt), Some(cwt)) = (of(self, list, "jwt"), of(self, list, "cwt"))
                && jwt != cwt
            {
                self.violated(format!(
                    "the JWT and the CWT of {list} differ: iat {} and {}",
                    jwt.iat, cwt.iat
                ));
            }
        }
    }

    /// What the store counts as done is in the files, whatever is wrong: nobody does it again.
    fn check_settled(&mut self, Stored { list, iat, gone, retired, .. }: &Stored) {
        for extension in ["jwt", "cwt"] {
            let seen = self.seen.get(&(list.clone(), extension)).and_then(|seen| seen.token.as_ref());
            let shown = seen.map(|token| token.iat);
            let removed = self.removed.get(list).copied().unwrap_or_default();
            match iat {
                _ if *retired && *gone && shown.is_some() => {
                    self.violated(format!(
                        "the store counts the {extension} of {list} as removed, and it is there"
                    ));
                }
                _ if *retired => {}
                Some(iat) if *iat > removed && shown.is_none_or(|shown| shown < *iat) => {
                    self.violated(format!(
                        "the store counts {list} as published with iat {iat}, its {extension} has {shown:?}"
                    ));
                }
                _ => {}
            }
        }
    }

    fn read_key_set(&mut self, folder: &Path) {
        let bytes = std::fs::read(folder.join("jwks.json")).unwrap_or_default();
        if bytes != self.key_set.0 {
            let missing = (0..self.keys.len()).filter(|key| !self.keys[*key].is_in(&bytes));
            self.key_set = (bytes.clone(), missing.collect());
        }
    }

    fn read_new(
        &mut self,
        list: &str,
        extension: &'static str,
        bytes: Vec<u8>,
        before: Option<Token>,
        shape: Shape,
        now: Moment,
    ) {
        self.tokens += 1;
        let read = match extension {
            "jwt" => Token::of_jwt(&bytes, shape, &self.keys).map(|(token, key)| (token, Some(key))),
            _ => Token::of_cwt(&bytes, shape).map(|token| (token, None)),
        };
        let Some((token, key)) = read else {
            self.violated(format!(
                "the {extension} of {list} is torn or not signed by the pool: {} bytes",
                bytes.len()
            ));
            return;
        };
        let place = (list.to_owned(), extension);
        if let Some(latest) = self.iat_max.get(&place)
            && token.iat <= *latest
        {
            self.violated(format!("the {extension} of {list} has iat {}, published was {latest}", token.iat));
        }
        if token.iat > self.fastest {
            let fastest = self.fastest;
            self.violated(format!(
                "the {extension} of {list} has iat {}, ahead of every clock: {fastest}",
                token.iat
            ));
        }
        self.iat_max.insert(place.clone(), token.iat);
        if !self.lost.contains(list) {
            self.check_values(list, &token, before.as_ref(), now);
        }
        self.seen.insert(place, Seen { bytes, token: Some(token), key });
    }

    /// Each value was asked for, and none is older than what was published before.
    fn check_values(&mut self, list: &str, token: &Token, before: Option<&Token>, now: Moment) {
        for entry in self.entries(list) {
            let value = token.value(entry);
            let writes = self.writes_of(list, entry, value);
            if !writes.iter().any(|write| write.begun <= now) {
                self.violated(format!("{list} entry {entry} shows {value}, which nobody asked for"));
            }
            let Some(older) = before.map(|before| before.value(entry)).filter(|older| *older != value) else {
                continue;
            };
            let earlier = self.writes_of(list, entry, older);
            let may_follow = writes.iter().any(|write| {
                earlier
                    .iter()
                    .any(|earlier| write.ended >= earlier.begun || earlier.deferred || write.deferred)
            });
            if !may_follow {
                self.violated(format!("{list} entry {entry} went back from {older} to {value}"));
            }
        }
    }

    /// All that was acknowledged by then is published.
    pub(crate) fn all_is_public(&mut self, then: Moment) {
        let tokens =
            self.seen.iter().filter_map(|((list, _), seen)| Some((list.clone(), seen.token.clone()?)));
        for (list, token) in tokens.collect::<Vec<_>>() {
            if !self.retired.contains_key(&list) && !self.lost.contains(&list) {
                self.check_bound(&list, &token, then, then);
            }
        }
    }

    /// What was acknowledged by `settled` is published.
    fn check_bound(&mut self, list: &str, token: &Token, now: Moment, settled: Moment) {
        for entry in self.entries(list) {
            let value = token.value(entry);
            let all = self.all_writes_of(list, entry);
            let overruled = |write: &Write| {
                all.iter().find(|later| {
                    let stands =
                        later.outcome == Outcome::Done && (!later.deferred || now - later.ended > 40.0);
                    stands && later.begun > write.ended && later.ended < settled
                })
            };
            let mut right = self.writes_of(list, entry, value);
            right.retain(|write| write.begun <= now);
            if !right.iter().any(|write| overruled(write).is_none()) {
                let by = right.last().and_then(overruled).map(|write| write.value);
                self.violated(format!(
                    "{list} entry {entry} still shows {value} at {now:.3}, acknowledged was {by:?}: {all:?}"
                ));
            }
        }
    }

    /// Somebody who asked from `sent` to `now` learned that an entry had this status: some write of it may have been the latest.
    pub(crate) fn stood(&mut self, list: &str, entry: usize, value: u8, (sent, now): (Moment, Moment)) {
        if self.lost.contains(list) {
            return;
        }
        let all = self.all_writes_of(list, entry);
        let overruled = |write: &Write| {
            // What is deferred may take as long as publishers are disturbed.
            let mut standing = all.iter().filter(|later| later.outcome == Outcome::Done && !later.deferred);
            standing.any(|later| later.begun > write.ended && later.ended < sent)
        };
        let mut right = self.writes_of(list, entry, value);
        right.retain(|write| write.begun <= now && (write.deferred || !overruled(write)));
        if right.is_empty() {
            self.violated(format!(
                "{list} entry {entry} was {value} after {sent:.3}, which it was not: {all:?}"
            ));
        }
    }

    fn entries(&self, list: &str) -> Vec<usize> {
        let entries = self.writes.get(list).into_iter().flat_map(|of_list| of_list.keys());
        entries.filter_map(|entry| usize::try_from(*entry).ok()).collect()
    }

    /// The writes of an entry, the first of which made the list, and those of the whole list.
    fn all_writes_of(&self, list: &str, entry: usize) -> Vec<Write> {
        let first = Write { value: 0, begun: -1.0, ended: -1.0, outcome: Outcome::Done, deferred: false };
        let of_list = |entry: i64| self.writes.get(list).and_then(move |of_list| of_list.get(&entry));
        let writes = [of_list(-1), of_list(entry as i64)].into_iter().flatten().flatten();
        std::iter::once(first).chain(writes.cloned()).collect()
    }

    fn writes_of(&self, list: &str, entry: usize, value: u8) -> Vec<Write> {
        self.all_writes_of(list, entry).into_iter().filter(|write| write.value == value).collect()
    }
}
