//! Answers under an `Idempotency-Key`, recorded so that a retry gets the same answer, and their stored form.
//!
//! The amount of one request bounds the size: each list is written once, each reference takes eight bytes.

use std::collections::HashMap;

use super::values::{Given, StoreError};
use crate::status_list::ListId;

/// Identifies a request or its key by its SHA-256, so that neither is stored.
pub type Digest = [u8; 32];

/// The answer to an earlier request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The digest of the request's content.
    pub request: Digest,
    /// The references that were handed out.
    pub references: Vec<Given>,
}

/// The outcome of recording an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// The answer is now recorded, durably, and may be returned.
    Now,
    /// Another request with this key was answered before; the new answer must not be returned.
    Before(Answered),
}

impl Answered {
    /// The stored form: the request, the number of lists, those lists, and for each reference the number of its list and its index.
    /// Numbers are little-endian.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut numbers: HashMap<ListId, u32> = HashMap::new();
        let (mut lists, mut references) = (Vec::new(), Vec::with_capacity(8 * self.references.len()));
        let mut count = 0_u32;
        for Given { list, idx } in &self.references {
            let number = *numbers.entry(*list).or_insert_with(|| {
                lists.extend_from_slice(list.as_bytes());
                count += 1;
                count - 1
            });
            references.extend_from_slice(&number.to_le_bytes());
            references.extend_from_slice(&idx.to_le_bytes());
        }
        [&self.request[..], &count.to_le_bytes(), &lists, &references].concat()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        Self::parse(bytes).ok_or_else(|| {
            StoreError::Damaged("a remembered answer is not what this program writes".to_owned())
        })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (request, rest) = bytes.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let lists_bytes = 16 * usize::try_from(u32::from_le_bytes(*count)).ok()?;
        let (lists, rest) = rest.split_at_checked(lists_bytes)?;
        let (lists, _) = lists.as_chunks::<16>();
        let (references, []) = rest.as_chunks::<8>() else { return None };
        let references = references.iter().map(|reference| {
            let (number, idx) = reference.split_first_chunk()?;
            let list = lists.get(usize::try_from(u32::from_le_bytes(*number)).ok()?)?;
            Some(Given { list: ListId::from_bytes(*list), idx: u32::from_le_bytes(*idx.first_chunk()?) })
        });
        Some(Self { request: *request, references: references.collect::<Option<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_as_it_was_and_is_small() {
        let lists = [ListId::random(), ListId::random()];
        let references = (0..10_000).map(|n| Given { list: lists[n % 2], idx: n as u32 * 429_000 });
        let answered = Answered { request: [7; 32], references: references.collect() };
        let bytes = answered.to_bytes();
        assert_eq!(bytes.len(), 32 + 4 + 2 * 16 + 10_000 * 8);
        assert_eq!(Answered::from_bytes(&bytes).unwrap(), answered);
    }

    #[test]
    fn damaged_bytes_are_errors() {
        let answered =
            Answered { request: [7; 32], references: vec![Given { list: ListId::random(), idx: 3 }] };
        let bytes = answered.to_bytes();
        for end in 0..bytes.len() {
            let cut = Answered::from_bytes(&bytes[..end]);
            // A cut between two references goes unnoticed; a store never cuts a value.
            assert!(cut.is_err() || end == bytes.len() - 8, "{end}: {cut:?}");
        }
        let mut other = bytes;
        other[32 + 4 + 16] = 9;
        assert!(Answered::from_bytes(&other).is_err(), "a reference to a missing list");
    }
}
