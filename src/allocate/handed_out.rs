//! Whether an index was ever handed out: compares its position in the list's order with how far the list is leased.
//!
//! Positions are leased durably before they become references, and only positions that were never handed out are returned
//! to the store. So once an index is found to be leased, it stays acceptable. And if the store says that an index is not
//! leased, nobody held it when the request came. A sealed list has lost its order, so all its indices are accepted:
//! refusing the revocation of a credential is worse than revoking a decoy.

use std::collections::HashMap;

use parking_lot::RwLock;

use crate::model::order::Permutation;
use crate::status_list::ListId;
use crate::store::{Order, Store, StoreError};

/// What is known of the lists of one pool.
#[derive(Default)]
pub struct HandedOut {
    /// The order of each list, and how far it was leased at the latest query of the store.
    known: RwLock<HashMap<ListId, (Permutation, u32)>>,
}

impl HandedOut {
    /// The first of these entries that cannot have been handed out. All must exist; `entries` is the size of the lists.
    pub async fn first_missing(
        &self,
        store: &Store,
        entries: u32,
        indices: impl Iterator<Item = (ListId, u32)>,
    ) -> Result<Option<(ListId, u32)>, StoreError> {
        // A list is queried at most once for each request.
        let mut asked = HashMap::new();
        for (list, index) in indices {
            if self.is_known(list, index) {
                continue;
            }
            let fresh = match asked.get(&list) {
                Some(fresh) => *fresh,
                None => {
                    let order = store.order_of(list).await?;
                    asked.insert(list, order.is_some());
                    if let Some(order) = order {
                        self.learn(list, order, entries);
                    }
                    order.is_some()
                }
            };
            if fresh && !self.is_known(list, index) {
                return Ok(Some((list, index)));
            }
        }
        Ok(None)
    }

    fn is_known(&self, list: ListId, index: u32) -> bool {
        let known = self.known.read();
        known.get(&list).is_some_and(|(order, leased)| order.position(index) < *leased)
    }

    fn learn(&self, list: ListId, Order { key, leased }: Order, entries: u32) {
        let mut known = self.known.write();
        let known = known.entry(list).or_insert_with(|| (Permutation::new(key, entries), 0));
        known.1 = known.1.max(leased);
    }
}
