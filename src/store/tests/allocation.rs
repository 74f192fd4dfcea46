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
    let other = store.open_list(&"a".parse().unwrap(), &ours(), u64::MAX, NOW).await.unwrap();
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

pub(super) async fn lists_are_opened_up_to_the_quota(harness: &impl Harness) {
    let given = shape("a", 96, Bits::One);
    let (store, first) = store_with_list(harness, &given).await;
    let open = async |store: &Store, most| match store.open_list(&given.id, &ours(), most, NOW).await {
        Ok(_) => true,
        Err(StoreError::TooManyLists { pool, most: told }) if pool == given.id && told == most => false,
        Err(error) => panic!("{error}"),
    };
    store.declare_pool(&shape("b", 96, Bits::One)).await.unwrap();
    store.open_list(&"b".parse().unwrap(), &ours(), 1, NOW).await.unwrap();
    assert!(!open(&store, 1).await, "one of this pool; those of others do not count");
    assert!(open(&store, 2).await && !open(&store, 2).await);
    store.seal_list(first).await.unwrap();
    assert!(!open(&store, 2).await, "a sealed list is still published");
    drop(store);
    let store = harness.open().await;
    store.declare_pool(&given).await.unwrap();
    assert!(!open(&store, 2).await, "also after a restart");
    store.retire_list(first, soon()).await.unwrap();
    store.retire_list(first, soon()).await.unwrap();
    assert!(open(&store, 2).await && !open(&store, 2).await, "a retired list makes room for one");
    assert!(open(&store, 3).await, "the quota was raised");
    let usage = store.usage(&given.id).await.unwrap();
    assert_eq!((usage.lists, usage.retired), (4, 1));
    // A list that moves in counts, unless it is retired.
    for retired in [false, true] {
        let mut moved = store.export_list(first).await.unwrap();
        (moved.record.id, moved.record.retired) = (ListId::random(), retired);
        assert!(store.import_list(&moved).await.unwrap());
    }
    assert!(!open(&store, 4).await && open(&store, 5).await);
}

pub(super) async fn concurrent_openings_keep_the_quota(harness: &impl Harness) {
    let (store, _) = store_with_list(harness, &shape("a", 96, Bits::One)).await;
    let openings = (0..20).map(|n| {
        let store = store.clone();
        let owner = instance(&format!("instance-{}", n % 3));
        tokio::spawn(async move { store.open_list(&"a".parse().unwrap(), &owner, 6, NOW).await.is_ok() })
    });
    let mut opened = 0;
    for opening in openings.collect::<Vec<_>>() {
        opened += usize::from(opening.await.unwrap());
    }
    assert_eq!(opened, 5, "and the first one");
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
    let theirs = store.open_list(&pool, &other, u64::MAX, NOW).await.unwrap();
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
