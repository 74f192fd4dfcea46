//! Leasing positions: no position is leased twice, and only unused ones come back.

use super::*;

pub(super) async fn blocks_are_disjoint_and_end_with_the_list(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 96, Bits::One)).await;
    let first = lease(&store, list, 60).await.unwrap();
    assert_eq!((first.list, first.positions), (list, 0..60));
    let second = lease(&store, list, 60).await.unwrap();
    assert_eq!(second.positions, 60..96);
    assert_eq!(first.key, second.key, "a list has one key for ever");
    assert_eq!(lease(&store, list, 1).await, None);
    assert!(store.open_lists(&"a".parse().unwrap(), &ours()).await.unwrap().is_empty());
    let other = store.open_list(&"a".parse().unwrap(), &ours(), NOW).await.unwrap();
    assert_ne!(lease(&store, other, 1).await.unwrap().key, first.key, "every list has its own key");
}

pub(super) async fn concurrent_leases_are_disjoint(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 8000, Bits::One)).await;
    let leases = (0..40).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { lease(&store, list, 100 + n).await })
    });
    let mut seen = HashSet::new();
    for lease in leases.collect::<Vec<_>>() {
        for position in lease.await.unwrap().unwrap().positions {
            assert!(seen.insert(position), "position {position} was leased twice");
        }
    }
}

pub(super) async fn tail_comes_back_once_and_only_from_the_end(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 96, Bits::One)).await;
    let first = lease(&store, list, 50).await.unwrap();
    let second = lease(&store, list, 46).await.unwrap();
    assert!(!store.return_tail(&first, 10).await.unwrap(), "a later block was leased");
    assert!(store.return_tail(&second, 60).await.unwrap());
    assert!(!store.return_tail(&second, 60).await.unwrap(), "a retry is a no-op");
    assert!(!store.return_tail(&second, 96).await.unwrap(), "nothing to return");
    assert_eq!(lease(&store, list, 100).await.unwrap().positions, 60..96, "a full list is open again");
}

pub(super) async fn sealed_list_gives_nothing_more(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 96, Bits::One)).await;
    let block = lease(&store, list, 50).await.unwrap();
    store.seal_list(list).await.unwrap();
    assert_eq!(lease(&store, list, 1).await, None);
    assert!(!store.return_tail(&block, 10).await.unwrap());
    assert!(!store.list(list).await.unwrap().unwrap().open);
    apply_one(&store, vec![change(list, 3, 1)]).await.unwrap();
    assert_eq!(value(&store, list, 3).await, 1, "its statuses can still be updated");
}

pub(super) async fn lists_give_references_through_one_instance(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 96, Bits::One)).await;
    let pool = "a".parse().unwrap();
    let other = instance("other");
    assert_eq!(store.lease_block(list, 10, &other, Lease::default(), NOW).await.unwrap(), Leased::Nothing);
    assert!(store.open_lists(&pool, &other).await.unwrap().is_empty());
    let theirs = store.open_list(&pool, &other, NOW).await.unwrap();
    let open = async |owner: &InstanceId| -> Vec<ListId> {
        store.open_lists(&pool, owner).await.unwrap().into_iter().map(|list| list.id).collect()
    };
    assert_eq!((open(&ours()).await, open(&other).await), (vec![list], vec![theirs]));
    assert_eq!(store.list(theirs).await.unwrap().unwrap().owner, other);
}

pub(super) async fn a_store_that_lost_leases_gives_nothing(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 96, Bits::One)).await;
    let first = lease(&store, list, 10).await.unwrap();
    assert_eq!(store.list(list).await.unwrap().unwrap().lease, first.lease);
    let behind = store.lease_block(list, 10, &ours(), Lease(first.lease.0 + 1), NOW).await.unwrap();
    assert_eq!(behind, Leased::Behind { lease: first.lease });
    let Leased::Block(next) = store.lease_block(list, 10, &ours(), first.lease, NOW).await.unwrap() else {
        panic!("the mark fits, so the store must lease")
    };
    assert_eq!((next.positions.clone(), next.lease > first.lease), (10..20, true));
    assert!(store.return_tail(&next, 15).await.unwrap());
    let Leased::Block(after) = store.lease_block(list, 10, &ours(), next.lease, NOW).await.unwrap() else {
        panic!("returned positions must not look like a loss")
    };
    assert_eq!((after.positions, after.lease > next.lease), (15..25, true));
}
