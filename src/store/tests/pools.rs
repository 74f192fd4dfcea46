//! Pools and the store as a whole: shapes, counts, a restart.

use super::*;

pub(super) async fn shape_is_kept_and_a_mismatch_refused(harness: &impl Harness) {
    let given = shape("a", 800, Bits::Two);
    let store = harness.open().await;
    store.declare_pool(&given).await.unwrap();
    store.declare_pool(&given).await.unwrap();
    let others = [
        ("public-url", PoolShape { public_url: "https://other.example".parse().unwrap(), ..given.clone() }),
        ("bits", shape("a", 800, Bits::Four)),
        ("size", shape("a", 1600, Bits::Two)),
        ("default-status", PoolShape { default_status: Status::INVALID, ..given.clone() }),
        ("final-status", PoolShape { final_status: Some(Status::INVALID), ..given.clone() }),
    ];
    for (expected, other) in others {
        match store.declare_pool(&other).await {
            Err(StoreError::ShapeMismatch { setting, .. }) => assert_eq!(setting, expected),
            answer => panic!("{expected}: {answer:?}"),
        }
    }
    store.declare_pool(&given).await.unwrap();
}

pub(super) async fn default_status_fills_new_lists(harness: &impl Harness) {
    let given = PoolShape { default_status: Status::INVALID, ..shape("a", 80_000, Bits::One) };
    let (store, list) = store_with_list(harness, &given).await;
    apply_one(&store, vec![change(list, 70_000, 0)]).await.unwrap();
    publish(&store, &given.id, list, 1, NumericDate::MIN).await;
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [1, 79_999]);
    drop(store);
    let store = harness.open().await;
    store.declare_pool(&given).await.unwrap();
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [1, 79_999]);
}

pub(super) async fn everything_survives_a_restart(harness: &impl Harness) {
    let given = shape("a", 100_000, Bits::Two);
    let (store, list) = store_with_list(harness, &given).await;
    let block = lease(&store, list, 10).await.unwrap();
    apply_one(&store, vec![change(list, 1, 1), change(list, 99_999, 2)]).await.unwrap();
    publish(&store, &given.id, list, 1, NumericDate::from_secs(5000)).await;
    apply_one(&store, vec![change(list, 50_000, 1)]).await.unwrap();
    let record = store.list(list).await.unwrap();
    drop(store);
    let store = harness.open().await;
    store.declare_pool(&given).await.unwrap();
    assert_eq!(store.list(list).await.unwrap(), record);
    assert_eq!(store.dirty(&given.id).await.unwrap().len(), 1);
    assert_eq!(
        [value(&store, list, 1).await, value(&store, list, 99_999).await, value(&store, list, 50_000).await],
        [1, 2, 1]
    );
    let next = lease(&store, list, 10).await.unwrap();
    assert_eq!((next.positions, next.key), (10..20, block.key));
    apply_one(&store, vec![change(list, 2, 1)]).await.unwrap();
    publish(&store, &given.id, list, 3, NumericDate::from_secs(5000)).await;
    assert_eq!(
        [value(&store, list, 1).await, value(&store, list, 2).await, value(&store, list, 50_000).await],
        [1, 1, 1]
    );
}

pub(super) async fn unknown_lists_and_pools_are_errors(harness: &impl Harness) {
    let store = harness.open().await;
    let (pool, list) = ("none".parse().unwrap(), ListId::random());
    assert!(matches!(store.open_list(&pool, &ours(), u64::MAX, NOW).await, Err(StoreError::NoSuchPool(_))));
    assert!(matches!(store.snapshot(list).await, Err(StoreError::NoSuchList(_))));
    assert!(matches!(store.seal_list(list).await, Err(StoreError::NoSuchList(_))));
    assert!(matches!(store.mark_due(vec![list]).await, Err(StoreError::NoSuchList(_))));
    assert_eq!(lease(&store, list, 1).await, None);
    assert_eq!(store.list(list).await.unwrap(), None);
    assert!(store.lists(&pool).await.unwrap().is_empty());
    store.declare_pool(&shape("a", 96, Bits::One)).await.unwrap();
    let known = store.open_list(&"a".parse().unwrap(), &ours(), u64::MAX, NOW).await.unwrap();
    let sent = store.export_list(known).await.unwrap();
    assert!(!store.import_list(&sent).await.unwrap(), "it is there already");
    let record = ListRecord { id: list, pool, ..sent.record.clone() };
    let imported = store.import_list(&ListTransfer { record, ..sent }).await;
    assert!(matches!(imported, Err(StoreError::NoSuchPool(_))), "{imported:?}");
}

pub(super) async fn usage_adds_up(harness: &impl Harness) {
    let given = shape("a", 96, Bits::One);
    let (store, list) = store_with_list(harness, &given).await;
    store.open_list(&given.id, &ours(), u64::MAX, NOW).await.unwrap();
    lease(&store, list, 10).await.unwrap();
    assert_eq!(
        store.usage(&given.id).await.unwrap(),
        PoolUsage { lists: 2, retired: 0, leased: 10, free: 182 }
    );
    store.declare_pool(&shape("b", 96, Bits::One)).await.unwrap();
    assert_eq!(store.pools().await.unwrap(), [("a".parse().unwrap(), 2), ("b".parse().unwrap(), 0)]);
    let lists = store.lists(&given.id).await.unwrap();
    assert_eq!(lists.iter().map(|list| list.leased).collect::<Vec<_>>(), [10, 0]);
    assert!(lists.iter().all(|list| list.pool == given.id && list.open));
}

pub(super) async fn an_imported_list_keeps_a_name_that_is_no_uuid(harness: &impl Harness) {
    let given = shape("a", 96, Bits::One);
    let (store, other) = store_with_list(harness, &given).await;
    store.seal_list(other).await.unwrap();
    let sent = store.export_list(other).await.unwrap();
    for name in ["1", "list_1.b", &"x".repeat(64)] {
        let list: ListId = name.parse().unwrap();
        let record = ListRecord { id: list, owner: instance("imported"), ..sent.record.clone() };
        assert!(store.import_list(&ListTransfer { record, ..sent.clone() }).await.unwrap());
        assert_eq!(store.list(list).await.unwrap().unwrap().id, list);
        publish(&store, &given.id, list, 0, in_secs(1000)).await;
        apply_one(&store, vec![change(list, 7, 1)]).await.unwrap();
        let dirty = store.dirty(&given.id).await.unwrap();
        assert!(dirty.iter().any(|pending| pending.list == list), "{name}: {dirty:?}");
        assert_eq!([value(&store, list, 7).await, value(&store, other, 7).await], [1, 0]);
        let version = store.list(list).await.unwrap().unwrap().version;
        publish(&store, &given.id, list, version.0, in_secs(1000)).await;
        assert!(store.dirty(&given.id).await.unwrap().iter().all(|pending| pending.list != list));
        store.mark_due(vec![list]).await.unwrap();
        assert_eq!(lease(&store, list, 1).await, None, "no reference of it is handed out");
        store.fill_list(list, Status::INVALID, 3, soon(), NOW).await.unwrap().unwrap();
        assert_eq!(store.spreading(&given.id).await.unwrap().len(), 1);
        store.retire_list(list, soon()).await.unwrap();
        assert!(store.list(list).await.unwrap().unwrap().retired);
    }
}
