//! Answers under an `Idempotency-Key`, recorded so that a retry gets the same answer, and their stored form.
//!
//! References that are neighbours in their list's order are stored as a range, so an answer takes about as much room whether it
//! has ten references or ten thousand. What one pool's answers take together is bounded inside the step that adds one.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use rand::Rng;

use super::values::{Given, StoreError};
use crate::base::chance;
use crate::model::order::{OrderKey, Permutation};
use crate::status_list::ListId;

/// Identifies a request or its key by its SHA-256, so that neither is stored.
pub type Digest = [u8; 32];

/// What an answer takes besides its bytes: its key, and the store's own administration (measured on Redis, which takes more).
const RECORD_BYTES: u64 = 250;
/// In place of the number of lists in the form with one entry for each reference: says that ranges follow. No answer has as many
/// lists.
const RANGES: u32 = u32::MAX;

/// The answer to an earlier request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The digest of the request's content.
    pub request: Digest,
    form: Form,
}

/// How the references are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// Each by its index, in the order of the answer. Also the form of earlier versions.
    Each(Vec<Given>),
    Ranges {
        /// Of the order in which the answer has them.
        order: OrderKey,
        /// Entries of each list.
        entries: u32,
        lists: Vec<OfList>,
    },
}

/// The references of one list. Its key is stored with them, because a list loses its own when it is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OfList {
    list: ListId,
    key: OrderKey,
    /// Positions in the list's order.
    ranges: Vec<Range<u32>>,
}

/// A reference to be recorded, with its place.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// The reference.
    pub given: Given,
    /// Its position in the order of its list.
    pub position: u32,
    /// The key of that order, if it is known.
    pub key: Option<OrderKey>,
}

/// How long an answer is kept, and how much room there is for it.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// From now.
    pub time: Duration,
    /// The most bytes that the answers of one pool may take, this one included.
    pub bytes_max: u64,
}

/// The outcome of recording an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// The answer is now recorded, durably, and may be returned.
    Now,
    /// Another request with this key was answered before; the new answer must not be returned.
    Before(Answered),
    /// The answers of the pool take too many bytes; nothing was recorded.
    Full {
        /// When the first of them will no longer count.
        retry_after: Duration,
    },
}

impl Keep {
    /// Answers are counted in groups that end together: so many in the time for which an answer is kept.
    const GROUPS: u64 = 24;

    /// How far apart the groups end, in milliseconds.
    pub(super) fn group_millis(&self) -> u64 {
        (self.millis() / Self::GROUPS).max(1)
    }

    /// How long an answer is kept, in milliseconds.
    pub(super) fn millis(&self) -> u64 {
        u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX)
    }

    /// The end of the group of an answer that is recorded at `now`, not before the answer's own: milliseconds since 1970, as `now`.
    pub(super) fn counts_until(&self, now: u64) -> u64 {
        now.saturating_add(self.millis()).div_ceil(self.group_millis()).saturating_mul(self.group_millis())
    }
}

impl Answered {
    /// The answer to `request`, from lists of `entries` entries, in the shorter of its two forms.
    pub fn new(request: Digest, references: &[Placed], entries: u32) -> Self {
        let each = Form::Each(references.iter().map(|reference| reference.given).collect());
        let form = match ranges(references, entries) {
            Some(ranges) if ranges.bytes() < each.bytes() => ranges,
            _ => each,
        };
        Self { request, form }
    }

    /// The references, in the order in which the answer has them.
    pub fn references(&self) -> Vec<Given> {
        let (order, entries, lists) = match &self.form {
            Form::Each(references) => return references.clone(),
            Form::Ranges { order, entries, lists } => (*order, *entries, lists),
        };
        let given = lists.iter().flat_map(|of| {
            let list_order = Permutation::new(of.key, entries);
            let positions = of.ranges.iter().flat_map(Clone::clone);
            positions.map(move |position| Given { list: of.list, idx: list_order.index(position) })
        });
        let given: Vec<_> = given.collect();
        let count =
            u32::try_from(given.len()).expect("an answer has fewer references than there are numbers");
        if count == 0 {
            return given;
        }
        let order = Permutation::new(order, count);
        (0..count).map(|at| given[order.index(at) as usize]).collect()
    }

    /// What it takes of the pool's room, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        RECORD_BYTES + 32 + self.form.bytes() as u64
    }

    /// The stored form: the request, then the number of lists, those lists, and for each reference the number of its list and its
    /// index; or, after [`RANGES`], the entries of a list, the key of the answer's order, the number of lists, and for each list its id,
    /// its key, the number of ranges, and for each its first position and the one after its last. Numbers have four bytes,
    /// little-endian.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.request.to_vec();
        match &self.form {
            Form::Each(references) => write_each(references, &mut bytes),
            Form::Ranges { order, entries, lists } => {
                bytes.extend_from_slice(&RANGES.to_le_bytes());
                bytes.extend_from_slice(&entries.to_le_bytes());
                bytes.extend_from_slice(order.as_bytes());
                bytes.extend_from_slice(&count(lists.len()).to_le_bytes());
                for OfList { list, key, ranges } in lists {
                    bytes.extend_from_slice(list.as_bytes());
                    bytes.extend_from_slice(key.as_bytes());
                    bytes.extend_from_slice(&count(ranges.len()).to_le_bytes());
                    for Range { start, end } in ranges {
                        bytes.extend_from_slice(&start.to_le_bytes());
                        bytes.extend_from_slice(&end.to_le_bytes());
                    }
                }
            }
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        Self::parse(bytes).ok_or_else(|| {
            StoreError::Damaged("a remembered answer is not what this program writes".to_owned())
        })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (request, rest) = bytes.split_first_chunk()?;
        let (count, rest) = number(rest)?;
        let form = if count == RANGES { parse_ranges(rest)? } else { parse_each(count, rest)? };
        Some(Self { request: *request, form })
    }
}

impl Form {
    /// Bytes of the stored form, without the request.
    fn bytes(&self) -> usize {
        match self {
            Self::Each(references) => {
                let lists: std::collections::HashSet<_> = references.iter().map(|given| given.list).collect();
                4 + 16 * lists.len() + 8 * references.len()
            }
            Self::Ranges { lists, .. } => {
                4 + 4 + 16 + 4 + lists.iter().map(|of| 16 + 16 + 4 + 8 * of.ranges.len()).sum::<usize>()
            }
        }
    }
}

/// Sorts references into ranges of positions; `None` if the order of a list is unknown.
fn ranges(references: &[Placed], entries: u32) -> Option<Form> {
    let mut lists: Vec<(OfList, Vec<u32>)> = Vec::new();
    let mut numbers: HashMap<ListId, usize> = HashMap::new();
    for Placed { given, position, key } in references {
        let number = *numbers.entry(given.list).or_insert(lists.len());
        if number == lists.len() {
            lists.push((OfList { list: given.list, key: (*key)?, ranges: Vec::new() }, Vec::new()));
        }
        lists[number].1.push(*position);
    }
    let lists = lists.into_iter().map(|(mut of, mut positions)| {
        positions.sort_unstable();
        for position in positions {
            match of.ranges.last_mut().filter(|range| range.end == position) {
                Some(range) => range.end += 1,
                None => of.ranges.push(position..position + 1),
            }
        }
        of
    });
    let mut order = [0; 16];
    chance::rng().fill_bytes(&mut order);
    Some(Form::Ranges { order: OrderKey::from_bytes(order), entries, lists: lists.collect() })
}

fn write_each(references: &[Given], bytes: &mut Vec<u8>) {
    let mut numbers: HashMap<ListId, u32> = HashMap::new();
    let (mut lists, mut each) = (Vec::new(), Vec::with_capacity(8 * references.len()));
    for Given { list, idx } in references {
        let next = count(numbers.len());
        let number = *numbers.entry(*list).or_insert_with(|| {
            lists.extend_from_slice(list.as_bytes());
            next
        });
        each.extend_from_slice(&number.to_le_bytes());
        each.extend_from_slice(&idx.to_le_bytes());
    }
    bytes.extend_from_slice(&count(numbers.len()).to_le_bytes());
    bytes.extend_from_slice(&lists);
    bytes.extend_from_slice(&each);
}

fn parse_each(count: u32, rest: &[u8]) -> Option<Form> {
    let lists_bytes = 16 * usize::try_from(count).ok()?;
    let (lists, rest) = rest.split_at_checked(lists_bytes)?;
    let (lists, _) = lists.as_chunks::<16>();
    let (references, []) = rest.as_chunks::<8>() else { return None };
    let references = references.iter().map(|reference| {
        let (number, idx) = number(reference)?;
        let list = lists.get(usize::try_from(number).ok()?)?;
        Some(Given { list: ListId::from_bytes(*list), idx: u32::from_le_bytes(*idx.first_chunk()?) })
    });
    Some(Form::Each(references.collect::<Option<_>>()?))
}

fn parse_ranges(rest: &[u8]) -> Option<Form> {
    let (entries, rest) = number(rest)?;
    let (order, rest) = rest.split_first_chunk()?;
    let (count, mut rest) = number(rest)?;
    let mut lists = Vec::new();
    for _ in 0..count {
        let (list, after) = rest.split_first_chunk()?;
        let (key, after) = after.split_first_chunk()?;
        let (count, mut after) = number(after)?;
        let mut ranges = Vec::new();
        for _ in 0..count {
            let (start, then) = number(after)?;
            let (end, then) = number(then)?;
            if start >= end || end > entries {
                return None;
            }
            ranges.push(start..end);
            after = then;
        }
        lists.push(OfList { list: ListId::from_bytes(*list), key: OrderKey::from_bytes(*key), ranges });
        rest = after;
    }
    let order = OrderKey::from_bytes(*order);
    rest.is_empty().then_some(Form::Ranges { order, entries, lists })
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*number), rest))
}

fn count(length: usize) -> u32 {
    u32::try_from(length).expect("an answer has fewer parts than there are numbers")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const ENTRIES: u32 = 100_000;

    fn key(list: ListId) -> OrderKey {
        OrderKey::from_bytes(*list.as_bytes())
    }

    fn placed(list: ListId, position: u32) -> Placed {
        let given = Given { list, idx: Permutation::new(key(list), ENTRIES).index(position) };
        Placed { given, position, key: Some(key(list)) }
    }

    fn set(references: Vec<Given>) -> HashSet<Given> {
        let set: HashSet<_> = references.iter().copied().collect();
        assert_eq!(set.len(), references.len(), "a reference is in the answer twice");
        set
    }

    #[test]
    fn an_answer_comes_back_as_it_was_and_its_size_does_not_follow_its_amount() {
        let lists = [ListId::random(), ListId::random()];
        for (amount, most) in [(1, 60), (2, 92), (10, 148), (10_000, 148)] {
            let references: Vec<_> = (0..amount).map(|n| placed(lists[n % 2], 700 + n as u32 / 2)).collect();
            let answered = Answered::new([7; 32], &references, ENTRIES);
            let bytes = answered.to_bytes();
            assert!(bytes.len() <= most, "{amount} references take {} bytes", bytes.len());
            assert_eq!(answered.bytes(), RECORD_BYTES + bytes.len() as u64);
            let again = Answered::from_bytes(&bytes).unwrap();
            assert_eq!(again, answered);
            assert_eq!(again.references(), answered.references());
            let given = references.iter().map(|reference| reference.given).collect();
            assert_eq!(set(answered.references()), set(given));
        }
    }

    #[test]
    fn gaps_repeated_lists_and_any_order_are_kept() {
        let lists = [ListId::random(), ListId::random(), ListId::random()];
        let references: Vec<_> = (0..300_u32)
            .rev()
            .filter(|n| n % 50 != 7)
            .map(|n| placed(lists[n as usize % 3], if n < 150 { n / 3 } else { 90_000 + n / 3 }))
            .collect();
        let answered = Answered::new([7; 32], &references, ENTRIES);
        assert!(answered.to_bytes().len() < 8 * references.len());
        let given = references.iter().map(|reference| reference.given).collect();
        assert_eq!(set(Answered::from_bytes(&answered.to_bytes()).unwrap().references()), set(given));
    }

    #[test]
    fn neighbours_in_an_answer_are_not_neighbours_in_a_list() {
        let lists = [ListId::random(), ListId::random()];
        let references: Vec<_> = (0..1000).map(|n| placed(lists[n % 2], n as u32 / 2)).collect();
        let references = Answered::new([7; 32], &references, ENTRIES).references();
        let switches = references.windows(2).filter(|pair| pair[0].list != pair[1].list).count();
        assert!((400..600).contains(&switches), "{switches} changes of list; a fair coin gives about 500");
    }

    /// What a version before ranges wrote, and what is written where the order of a list is unknown.
    #[test]
    fn each_reference_by_its_index_is_still_read() {
        let lists = [ListId::random(), ListId::random()];
        let references: Vec<_> =
            (0..1000_u32).map(|n| Placed { key: None, ..placed(lists[n as usize % 2], n) }).collect();
        let answered = Answered::new([7; 32], &references, ENTRIES);
        let bytes = answered.to_bytes();
        assert_eq!(bytes.len(), 32 + 4 + 2 * 16 + 1000 * 8);
        let given: Vec<_> = references.iter().map(|reference| reference.given).collect();
        assert_eq!(Answered::from_bytes(&bytes).unwrap().references(), given, "also in its order");
    }

    #[test]
    fn damaged_bytes_are_errors() {
        let (list, other) = (ListId::random(), ListId::random());
        let one = Answered::new([7; 32], &[placed(list, 3)], ENTRIES).to_bytes();
        let many: Vec<_> = (0..100).map(|n| placed([list, other][n % 2], n as u32 / 2)).collect();
        let many = Answered::new([7; 32], &many, ENTRIES).to_bytes();
        for bytes in [&one, &many] {
            for end in 0..bytes.len() {
                let cut = Answered::from_bytes(&bytes[..end]);
                // A cut between two references goes unnoticed; a store never cuts a value.
                assert!(cut.is_err() || (bytes == &one && end == bytes.len() - 8), "{end}: {cut:?}");
            }
            assert!(Answered::from_bytes(&[&bytes[..], &[0]].concat()).is_err(), "a byte too many");
        }
        let mut missing = one;
        missing[32 + 4 + 16] = 9;
        assert!(Answered::from_bytes(&missing).is_err(), "a reference to a missing list");
        let mut beyond = many;
        beyond[32 + 4] = 1;
        beyond[32 + 5] = 0;
        beyond[32 + 6] = 0;
        assert!(Answered::from_bytes(&beyond).is_err(), "a position beyond the end of its list");
    }

    #[test]
    fn a_group_ends_with_or_after_its_answers_and_no_more_than_a_share_later() {
        let keep = Keep { time: Duration::from_secs(24 * 3600), bytes_max: 0 };
        for now in [0, 1, 3_599_999, 3_600_000, 1_700_000_000_123] {
            let (own, group) = (now + keep.millis(), keep.counts_until(now));
            assert!((own..own + keep.group_millis()).contains(&group), "{now}: {group}");
        }
    }
}
