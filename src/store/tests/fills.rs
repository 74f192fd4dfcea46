//! One status for a whole list in one step.

use super::*;

pub(super) async fn filled_lists_have_one_status_and_later_changes(harness: &impl Harness) {
    for bits in [Bits::One, Bits::Two, Bits::Eight] {
        let default = Status::new(bits.status_max() & 2);
        let given = PoolShape { default_status: default, ..shape(&format!("p{bits}"), 80_000, bits) };
        let (store, list) = store_with_list(harness, &given).await;
        let set = async |idx, value| {
            store
                .apply(&given.id, vec![vec![change(list, idx, value)]], soon(), NOW)
                .await
                .unwrap()
                .remove(0)
                .unwrap();
        };
        set(7, 0).await;
        publish(&store, &given.id, list, 1, NumericDate::MIN).await;
        set(8, 0).await;
        store.fill_list(list, Status::INVALID, 1, soon(), NOW.plus(TERM)).await.unwrap().unwrap();
        let dirty = store.dirty(&given.id).await.unwrap();
        assert_eq!(dirty[0].since, Some(NOW), "dirty since the first change");
        assert_eq!(store.snapshot(list).await.unwrap().array.counts()[1], 80_000, "{bits} bits");
        set(70_000, 0).await;
        let check = async |store: &Store, when: &str| {
            let snapshot = store.snapshot(list).await.unwrap();
            assert_eq!(snapshot.version, Version(4));
            assert_eq!(
                (snapshot.array.counts()[0], snapshot.array.counts()[1]),
                (1, 79_999),
                "{bits} bits, {when}"
            );
            assert_eq!((value(store, list, 70_000).await, value(store, list, 8).await), (0, 1), "{when}");
        };
        check(&store, "at once").await;
        if let Some(changes) = store.changes_since_publication(list, Version(4)).await.unwrap() {
            assert_eq!(changes.every, Some(Status::INVALID));
            assert_eq!(changes.entries, [(70_000, Status::VALID)], "earlier changes no longer matter");
        }
        drop(store);
        let store = harness.open().await;
        store.declare_pool(&given).await.unwrap();
        check(&store, "after a restart").await;
        publish(&store, &given.id, list, 4, NumericDate::MIN).await;
        assert!(store.dirty(&given.id).await.unwrap().is_empty());
        check(&store, "once published").await;
        drop(store);
        let store = harness.open().await;
        store.declare_pool(&given).await.unwrap();
        check(&store, "from what was published").await;
    }
}

pub(super) async fn filling_is_refused_as_a_whole_and_changes_nothing(harness: &impl Harness) {
    let given = PoolShape { final_status: Some(Status::INVALID), ..shape("a", 800, Bits::Two) };
    let (store, list) = store_with_list(harness, &given).await;
    let fill = async |list, value| store.fill_list(list, Status::new(value), 1, soon(), NOW).await.unwrap();
    let nowhere = ListId::random();
    assert_eq!(fill(nowhere, 1).await, Err(Refusal::NoSuchList { list: nowhere }));
    apply_one(&store, vec![change(list, 5, 2), change(list, 701, 1), change(list, 702, 1)]).await.unwrap();
    let before = store.list(list).await.unwrap();
    for value in [0, 2] {
        let refusal = Refusal::FinalStatus { list, index: index(701), status: Status::INVALID };
        assert_eq!(fill(list, value).await, Err(refusal));
    }
    assert_eq!(store.list(list).await.unwrap(), before, "no version, nothing sealed");
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [797, 2, 1, 0]);
    fill(list, 1).await.unwrap();
    assert_eq!(
        store.snapshot(list).await.unwrap().array.counts(),
        [0, 800, 0, 0],
        "entries that had the final status keep it"
    );
    assert!(apply_one(&store, vec![change(list, 5, 0)]).await.is_err(), "all entries have it for ever");
    store.retire_list(list, soon()).await.unwrap();
    assert_eq!(fill(list, 1).await, Err(Refusal::Retired { list }));
}

pub(super) async fn filled_lists_hand_out_no_references_unless_filled_with_the_default(
    harness: &impl Harness,
) {
    let given = shape("a", 96, Bits::One);
    let (store, list) = store_with_list(harness, &given).await;
    let block = lease(&store, list, 10).await.unwrap();
    store.fill_list(list, Status::VALID, 1, soon(), NOW).await.unwrap().unwrap();
    assert!(!store.list(list).await.unwrap().unwrap().sealed);
    assert_eq!(
        lease(&store, list, 10).await.unwrap().positions,
        10..20,
        "a list filled with its default status stays open"
    );
    store.fill_list(list, Status::INVALID, 1, soon(), NOW).await.unwrap().unwrap();
    store.fill_list(list, Status::INVALID, 1, soon(), NOW).await.unwrap().unwrap();
    let record = store.list(list).await.unwrap().unwrap();
    assert_eq!((record.sealed, record.open, record.leased), (true, false, 20));
    assert_eq!(lease(&store, list, 10).await, None, "references would be invalid from the start");
    assert!(!store.return_tail(&block, 5).await.unwrap());
    assert!(store.open_lists(&given.id, &ours()).await.unwrap().is_empty());
    assert_eq!(
        store.usage(&given.id).await.unwrap(),
        PoolUsage { lists: 1, retired: 0, leased: 20, free: 0 }
    );
}
