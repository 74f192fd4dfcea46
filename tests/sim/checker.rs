//! What a Relying Party and the issuers can tell: whether every promise was kept. Shares no code with the service: it reads the
//! published files and what clients were answered, with its own few lines.
//!
//! Each entry is a register. A write is an interval from its sending to its answer; one whose outcome is unknown may have been
//! made in its interval or never. A value that is read is right if some write of it may be the latest: no write that was
//! acknowledged began after that one had ended. After a calm that is long enough, only what is still on its way is excused.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Seconds since the simulation began.
pub(crate) type Moment = f64;

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

/// A token as a Relying Party reads it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    iat: u64,
    exp: u64,
    bits: u32,
    array: Vec<u8>,
}

#[derive(Default)]
struct Seen {
    bytes: Vec<u8>,
    token: Option<Token>,
}

/// A pool's shape as the checker was told it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) size: usize,
    pub(crate) bits: u32,
}

pub(crate) struct Checker {
    pub(crate) violation: Option<String>,
    /// The store lost data: what was acknowledged may be gone, but nothing may be handed out twice.
    pub(crate) lossy: bool,
    pub(crate) beat: f64,
    handed_out: HashMap<(String, u64), String>,
    /// Per key: what was answered.
    answers: HashMap<String, Vec<(String, u64)>>,
    /// By list and entry; the entry -1 is every entry.
    writes: BTreeMap<String, BTreeMap<i64, Vec<Write>>>,
    seen: BTreeMap<(String, &'static str), Seen>,
    iat_max: BTreeMap<(String, &'static str), u64>,
    retired: BTreeMap<String, Moment>,
    keys: Vec<jsonwebtoken::DecodingKey>,
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
        let keys = keys.into_iter().map(|jwk| {
            let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(jwk).unwrap();
            jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap()
        });
        Self {
            violation: None,
            lossy: false,
            beat,
            handed_out: HashMap::new(),
            answers: HashMap::new(),
            writes: BTreeMap::new(),
            seen: BTreeMap::new(),
            iat_max: BTreeMap::new(),
            retired: BTreeMap::new(),
            keys: keys.collect(),
            fastest: 0,
            tokens: 0,
        }
    }

    fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// References were answered to `request`; with a key, a retry must be answered the same.
    /// What is fresh must be of a list whose `uri` answers in `public`. In `calm` seconds without a fault everybody has heard of
    /// a retirement.
    pub(crate) fn handed_out(
        &mut self,
        request: &str,
        key: Option<&str>,
        references: Vec<(String, u64)>,
        public: Option<&Path>,
        (now, calm): (Moment, f64),
    ) {
        for (uri, _) in references.iter().filter(|_| key.is_none() && calm > 30.0 && !self.lossy) {
            let list = &uri[uri.len() - 36..];
            match self.retired.get(list) {
                Some(retired) if now - retired > 8.0 => {
                    self.violation.get_or_insert(format!(
                        "{request} was given a reference of {list}, which was retired"
                    ));
                }
                None if public.is_some_and(|folder| !folder.join(format!("{list}.jwt")).exists()) => {
                    self.violation.get_or_insert(format!(
                        "{request} was given a reference of {list}, whose uri does not answer"
                    ));
                }
                _ => {}
            }
        }
        let name = key.unwrap_or(request).to_owned();
        if let Some(key) = key {
            match self.answers.get(key) {
                Some(before) if *before != references && !self.lossy => {
                    self.violated(format!("{key} was answered {before:?}, then {references:?}"));
                }
                Some(_) => {}
                None => drop(self.answers.insert(key.to_owned(), references.clone())),
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

    pub(crate) fn retired(&mut self, list: &str, now: Moment) {
        self.retired.insert(list.to_owned(), now);
    }

    /// The files may be those of earlier moments: the power was cut.
    pub(crate) fn forget_order(&mut self) {
        self.seen.clear();
        self.iat_max.clear();
    }

    /// The same of one list, whose files were removed.
    pub(crate) fn forget_order_of(&mut self, list: &str) {
        self.seen.retain(|(of, _), _| of != list);
        self.iat_max.retain(|(of, _), _| of != list);
    }

    /// Looks at every file. `known` are the lists of which references were given, except those that were to be retired.
    pub(crate) fn look(
        &mut self,
        folder: &Path,
        known: &[String],
        shapes: &dyn Fn(&str) -> Option<Shape>,
        Times { now, calm, right: true_now, fastest }: Times,
    ) {
        self.fastest = self.fastest.max(fastest);
        let mut names: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        let long_calm = now - calm > 45.0;
        // Once a second is enough for what changes once in a beat.
        let thorough = long_calm && ((now * 4.0) as u64).is_multiple_of(4);
        let mut lists = BTreeSet::new();
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
            let Some(shape) = shapes(list) else { continue };
            lists.insert(list.to_owned());
            let bytes = std::fs::read(&path).unwrap();
            let seen = self.seen.entry((list.to_owned(), extension)).or_default();
            if seen.bytes != bytes {
                let before = seen.token.take();
                self.read_new(list, extension, bytes, before, shape, now);
            }
            let Some(token) =
                self.seen.get(&(list.to_owned(), extension)).and_then(|seen| seen.token.clone())
            else {
                continue;
            };
            if thorough && !self.retired.contains_key(list) {
                if token.iat > true_now + 2 {
                    self.violated(format!(
                        "the {extension} of {list} has iat {} in the future, it is {true_now}",
                        token.iat
                    ));
                }
                // A restored store may not know a list, which then nobody renews.
                if token.exp <= true_now && !self.lossy {
                    self.violated(format!(
                        "the {extension} of {list} expired at {}, it is {true_now}",
                        token.exp
                    ));
                }
                if !self.lossy {
                    self.check_bound(list, &token, now, now - self.beat - 3.0);
                }
            }
        }
        // What was in files that are gone is not published.
        self.seen.retain(|(list, _), _| lists.contains(list));
        if long_calm && !self.lossy {
            for list in known.iter().filter(|list| !self.retired.contains_key(*list)) {
                if ["jwt", "cwt"].iter().any(|ending| !folder.join(format!("{list}.{ending}")).exists()) {
                    self.violation
                        .get_or_insert(format!("list {list} gave references, and its files are missing"));
                }
            }
            for (list, retired) in self.retired.clone() {
                if lists.contains(&list) && now - retired > self.beat + 3.0 {
                    self.violated(format!("list {list} was retired, and its tokens are there"));
                }
            }
            for list in &lists {
                let of = |extension| {
                    self.seen.get(&(list.clone(), extension)).and_then(|seen| seen.token.as_ref())
                };
                if let (Some(jwt), Some(cwt)) = (of("jwt"), of("cwt"))
                    && jwt != cwt
                {
                    let what =
                        format!("the JWT and the CWT of {list} differ: iat {} and {}", jwt.iat, cwt.iat);
                    self.violation.get_or_insert(what);
                }
            }
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
            "jwt" => self.read_jwt(&bytes, shape),
            _ => read_cwt(&bytes, shape),
        };
        let token = match read {
            Some(token) => token,
            None => {
                self.violated(format!(
                    "the {extension} of {list} is torn or not signed by the pool: {} bytes",
                    bytes.len()
                ));
                return;
            }
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
        if !self.lossy {
            self.check_values(list, &token, before.as_ref(), now);
        }
        self.seen.insert(place, Seen { bytes, token: Some(token) });
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
        if self.lossy {
            return;
        }
        let tokens: Vec<_> = self
            .seen
            .iter()
            .filter_map(|((list, _), seen)| Some((list.clone(), seen.token.clone()?)))
            .collect();
        for (list, token) in tokens {
            if !self.retired.contains_key(&list) {
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

    /// An update was acknowledged that demanded this status of an entry: some write of it may have been the latest.
    pub(crate) fn stood(&mut self, list: &str, entry: usize, expected: u8, (sent, now): (Moment, Moment)) {
        let all = self.all_writes_of(list, entry);
        let overruled = |write: &Write| {
            all.iter().any(|later| {
                let stands = later.outcome == Outcome::Done && (!later.deferred || now - later.ended > 40.0);
                stands && later.begun > write.ended && later.ended < sent
            })
        };
        let mut earlier = self.writes_of(list, entry, expected);
        earlier.retain(|write| write.begun <= now && (write.deferred || !overruled(write)));
        if earlier.is_empty() && !self.lossy {
            self.violated(format!(
                "{list} entry {entry} was changed as {expected}, which it was not: {all:?}"
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

    fn read_jwt(&self, bytes: &[u8], shape: Shape) -> Option<Token> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (signed, signature) = text.rsplit_once('.')?;
        let (_, claims) = signed.split_once('.')?;
        let alg = jsonwebtoken::Algorithm::EdDSA;
        let verified =
            |key| jsonwebtoken::crypto::verify(signature, signed.as_bytes(), key, alg).unwrap_or(false);
        self.keys.iter().any(verified).then_some(())?;
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let list = &claims["status_list"];
        let lst = URL_SAFE_NO_PAD.decode(list["lst"].as_str()?).ok()?;
        Token::of(claims["iat"].as_u64()?, claims["exp"].as_u64()?, list["bits"].as_u64()?, &lst, shape)
    }
}

fn read_cwt(bytes: &[u8], shape: Shape) -> Option<Token> {
    use ciborium::Value as Cbor;
    let Cbor::Tag(_, parts) = ciborium::from_reader::<Cbor, _>(bytes).ok()? else { return None };
    let parts = parts.into_array().ok()?;
    let payload = parts.get(2)?.as_bytes()?.clone();
    let claims = ciborium::from_reader::<Cbor, _>(&payload[..]).ok()?.into_map().ok()?;
    let find = |map: &[(Cbor, Cbor)], key: Cbor| {
        map.iter().find(|(known, _)| *known == key).map(|(_, value)| value.clone())
    };
    let number = |value: Cbor| value.as_integer().and_then(|number| u64::try_from(number).ok());
    let list = find(&claims, Cbor::from(65533))?.into_map().ok()?;
    let lst = find(&list, Cbor::from("lst"))?.into_bytes().ok()?;
    let bits = number(find(&list, Cbor::from("bits"))?)?;
    Token::of(
        number(find(&claims, Cbor::from(6))?)?,
        number(find(&claims, Cbor::from(4))?)?,
        bits,
        &lst,
        shape,
    )
}

impl Token {
    fn of(iat: u64, exp: u64, bits: u64, lst: &[u8], shape: Shape) -> Option<Self> {
        let mut array = Vec::new();
        flate2::read::ZlibDecoder::new(lst).read_to_end(&mut array).ok()?;
        let whole = array.len() == shape.size * shape.bits as usize / 8 && bits == u64::from(shape.bits);
        whole.then_some(Self { iat, exp, bits: shape.bits, array })
    }

    fn value(&self, entry: usize) -> u8 {
        let bit = entry * self.bits as usize;
        let mask = u8::try_from((1_u16 << self.bits) - 1).unwrap();
        self.array[bit / 8] >> (bit % 8) & mask
    }
}
