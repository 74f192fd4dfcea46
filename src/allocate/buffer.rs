//! References in memory, ready to be handed out, and which of them can be given back at a stop.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use rand::seq::SliceRandom;

use crate::base::chance;
use crate::base::clock::Timestamp;
use crate::model::order::{OrderKey, Permutation};
use crate::status_list::ListId;
use crate::store::{Block, Given};

/// A reference that is not handed out yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocated {
    /// The list.
    pub list: ListId,
    /// When it was leased.
    pub leased_at: Timestamp,
    /// Its position in the list's order.
    pub(super) position: u32,
    /// Its `idx`.
    pub idx: u32,
}

impl From<&Allocated> for Given {
    fn from(allocated: &Allocated) -> Self {
        Self { list: allocated.list, idx: allocated.idx }
    }
}

/// How many lists are remembered before those without references are forgotten.
const LATEST_MAX: usize = 64;

/// Turns `blocks`, leased at this time, into references: keeps the order of positions in each list, but mixes the lists at random, so that
/// neighbours in time are not neighbours in a list. Takes a fifth of a microsecond for each, so call it without holding a
/// lock.
pub(super) fn mix(blocks: &[Block], size: u32, leased_at: Timestamp) -> Vec<Allocated> {
    let turns =
        blocks.iter().enumerate().flat_map(|(n, block)| std::iter::repeat_n(n, block.positions.len()));
    let mut turns: Vec<usize> = turns.collect();
    turns.shuffle(&mut chance::rng());
    let orders = blocks.iter().map(|block| (Permutation::new(block.key, size), block.positions.clone()));
    let mut orders: Vec<_> = orders.collect();
    let mixed = turns.into_iter().map(|n| {
        let (order, positions) = &mut orders[n];
        let position = positions.next().expect("a block has as many turns as positions");
        Allocated { list: blocks[n].list, leased_at, position, idx: order.index(position) }
    });
    mixed.collect()
}

/// Leased references in the order in which they are handed out.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    ready: VecDeque<Allocated>,
    /// The latest gapless run of leased positions of each list. Its end can be given back.
    latest: BTreeMap<ListId, Block>,
    /// Lists that were forgotten while the next blocks were being leased.
    forgotten: HashSet<ListId>,
}

impl Buffer {
    pub(super) fn len(&self) -> usize {
        self.ready.len()
    }

    /// Takes up to `n` references.
    pub(super) fn take(&mut self, n: usize) -> Vec<Allocated> {
        self.ready.drain(..n.min(self.ready.len())).collect()
    }

    /// Puts back references that were not handed out, except those of lists forgotten meanwhile.
    pub(super) fn put_back(&mut self, taken: Vec<Allocated>) {
        for reference in taken.into_iter().rev().filter(|taken| self.latest.contains_key(&taken.list)) {
            self.ready.push_front(reference);
        }
    }

    /// Records that blocks are about to be leased: [`Self::add`] will skip lists that are forgotten from now on.
    pub(super) fn begin_lease(&mut self) {
        self.forgotten.clear();
    }

    /// Adds the references of `blocks`, [mixed](mix).
    pub(super) fn add(&mut self, mixed: Vec<Allocated>, mut blocks: Vec<Block>) {
        blocks.retain(|block| !self.forgotten.contains(&block.list));
        self.ready.extend(mixed.into_iter().filter(|reference| !self.forgotten.contains(&reference.list)));
        if self.latest.len() > LATEST_MAX {
            let ready: HashSet<_> = self.ready.iter().map(|reference| reference.list).collect();
            self.latest.retain(|list, _| ready.contains(list));
        }
        for mut block in blocks {
            if let Some(before) =
                self.latest.get(&block.list).filter(|before| before.positions.end == block.positions.start)
            {
                block.positions.start = before.positions.start;
            }
            self.latest.insert(block.list, block);
        }
    }

    /// The lists with leased references, now or recently.
    pub(super) fn lists(&self) -> Vec<ListId> {
        self.latest.keys().copied().collect()
    }

    /// The key of a list's order; `None` if no reference of it was here recently.
    pub(super) fn order_of(&self, list: &ListId) -> Option<OrderKey> {
        self.latest.get(list).map(|block| block.key)
    }

    /// Drops the references of a list.
    pub(super) fn forget(&mut self, list: &ListId) {
        self.ready.retain(|reference| reference.list != *list);
        self.latest.remove(list);
        self.forgotten.insert(*list);
    }

    /// Empties the buffer. Returns each list's latest block and the position from which none of it was handed out.
    ///
    /// Positions that a request put back may lie below positions that others received since: only the unbroken run at the
    /// end of a block is free.
    pub(super) fn drain_tails(&mut self) -> Vec<(Block, u32)> {
        let mut left: HashMap<ListId, Vec<u32>> = HashMap::new();
        for reference in self.ready.drain(..) {
            left.entry(reference.list).or_default().push(reference.position);
        }
        let latest = std::mem::take(&mut self.latest);
        latest
            .into_values()
            .filter_map(|block| {
                let mut positions = left.remove(&block.list)?;
                positions.sort_unstable();
                let run = positions
                    .iter()
                    .rev()
                    .zip((block.positions.clone()).rev())
                    .take_while(|(left, end)| *left == end);
                let from = run.last().map(|(_, first)| first)?;
                Some((block, from))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Lease;

    fn block(list: ListId, positions: std::ops::Range<u32>) -> Block {
        Block { list, key: OrderKey::from_bytes(*list.as_bytes()), positions, lease: Lease(1) }
    }

    fn fill(buffer: &mut Buffer, blocks: Vec<Block>, size: u32) {
        buffer.add(mix(&blocks, size, Timestamp::from_secs(1)), blocks);
    }

    #[test]
    fn lists_are_mixed_and_every_position_comes_once() {
        let (a, b) = (ListId::random(), ListId::random());
        let mut buffer = Buffer::default();
        fill(&mut buffer, vec![block(a, 0..100), block(b, 50..150)], 1000);
        let all = buffer.take(1000);
        assert_eq!(all.len(), 200);
        assert_eq!(all.iter().map(|r| (r.list, r.idx)).collect::<HashSet<_>>().len(), 200);
        let switches = all.windows(2).filter(|pair| pair[0].list != pair[1].list).count();
        assert!((60..140).contains(&switches), "{switches} changes of list; a fair coin gives about 100");
        for list in [a, b] {
            let positions: Vec<_> = all.iter().filter(|r| r.list == list).map(|r| r.position).collect();
            assert!(positions.is_sorted(), "the rest is the end of a block");
        }
    }

    #[test]
    fn lists_forgotten_during_a_lease_are_left_out() {
        let (kept, sealed) = (ListId::random(), ListId::random());
        let mut buffer = Buffer::default();
        let blocks = || vec![block(kept, 0..10), block(sealed, 0..10)];
        buffer.begin_lease();
        buffer.forget(&sealed);
        fill(&mut buffer, blocks(), 100);
        assert!(buffer.len() == 10 && buffer.take(10).iter().all(|reference| reference.list == kept));
        assert_eq!(buffer.lists(), [kept]);
        buffer.begin_lease();
        fill(&mut buffer, blocks(), 100);
        assert_eq!(buffer.len(), 20, "the control: the next lease");
    }

    #[test]
    fn tails_run_from_the_last_reference_handed_out_to_the_latest_lease() {
        let list = ListId::random();
        let mut buffer = Buffer::default();
        fill(&mut buffer, vec![block(list, 0..10)], 100);
        buffer.take(4);
        fill(&mut buffer, vec![block(list, 10..20)], 100);
        let taken = buffer.take(1);
        buffer.put_back(taken);
        assert_eq!(buffer.drain_tails(), [(block(list, 0..20), 4)], "both blocks are ours, without a gap");
        assert_eq!(buffer.len(), 0);

        fill(&mut buffer, vec![block(list, 20..30)], 100);
        buffer.take(7);
        assert_eq!(buffer.drain_tails(), [(block(list, 20..30), 27)]);
        fill(&mut buffer, vec![block(list, 30..40)], 100);
        buffer.take(10);
        assert!(buffer.drain_tails().is_empty(), "all was handed out");

        fill(&mut buffer, vec![block(list, 40..50)], 100);
        buffer.take(5);
        fill(&mut buffer, vec![block(list, 60..70)], 100);
        assert_eq!(buffer.drain_tails(), [(block(list, 60..70), 60)], "another instance leased in between");
    }

    #[test]
    fn references_of_a_forgotten_list_are_not_put_back() {
        let (kept, forgotten) = (ListId::random(), ListId::random());
        let mut buffer = Buffer::default();
        fill(&mut buffer, vec![block(kept, 0..10), block(forgotten, 0..10)], 100);
        let taken = buffer.take(20);
        buffer.forget(&forgotten);
        buffer.put_back(taken);
        let left = buffer.take(20);
        assert_eq!(left.iter().filter(|reference| reference.list == kept).count(), 10);
        assert_eq!(left.len(), 10);
    }

    #[test]
    fn nothing_handed_out_is_given_back_after_a_request_gave_up() {
        let list = ListId::random();
        let mut buffer = Buffer::default();
        fill(&mut buffer, vec![block(list, 0..10)], 100);
        let gave_up = buffer.take(3);
        buffer.take(4);
        buffer.put_back(gave_up);
        assert_eq!(buffer.drain_tails(), [(block(list, 0..10), 7)], "3..7 were handed out");

        fill(&mut buffer, vec![block(list, 10..20)], 100);
        let gave_up = buffer.take(3);
        buffer.take(7);
        buffer.put_back(gave_up);
        assert!(buffer.drain_tails().is_empty(), "the end of the block was handed out");
    }
}
