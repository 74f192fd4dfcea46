//! One status for a whole list over several beats.

use super::*;

async fn spread_of(store: &Store, list: ListId) -> Option<Spread> {
    store.list(list).await.unwrap().unwrap().spread
}

fn indices(given: &PoolShape, entries: Range<u64>) -> Vec<Index> {
    entries.map(|idx| given.capacity.index(idx).unwrap()).collect()
}

pub(super) async fn a_spread_sets_each_entry_once_and_ends_with_the_last(harness: &impl Harness) {
    for bits in [Bits::One, Bits::Two, Bits::Eight] {
        let default = Status::new(bits.status_max() & 2);
        let given = PoolShape { default_status: default, ..shape(&format!("p{bits}"), 20_000, bits) };
        let (mut store, list) = store_with_list(harness, &given).await;
        publish(&store, &given.id, list, 0, in_secs(1000)).await;
        store.fill_list(list, Status::INVALID, 3, soon(), NOW).await.unwrap().unwrap();
        assert_eq!(store.list(list).await.unwrap().unwrap().version, Version(0));
        assert!(store.dirty(&given.id).await.unwrap().is_empty(), "nothing is changed yet");
        let order = indices(&given, 0..20_000).into_iter().rev().collect::<Vec<_>>();
        let mut done = 0;
        // More than a script's stack holds, and an odd rest.
        for (step, version) in order.chunks(SPREAD_STEP_MAX).zip(1..) {
            let spread = spread_of(&store, list).await.unwrap();
            assert_eq!((spread.value, spread.beats, spread.done), (Status::INVALID, 3, done));
            assert_eq!(store.spreading(&given.id).await.unwrap()[0].id, list);
            assert!(store.advance_spread(list, &spread, step, NOW.plus(TERM)).await.unwrap());
            done += u32::try_from(step.len()).unwrap();
            let snapshot = store.snapshot(list).await.unwrap();
            assert_eq!(
                (snapshot.version, snapshot.array.counts()[1]),
                (Version(version), done),
                "{bits} bits"
            );
            assert!(step.iter().all(|index| snapshot.array.get(*index) == Status::INVALID));
            let dirty = store.dirty(&given.id).await.unwrap();
            assert_eq!(dirty[0].since, Some(NOW.plus(TERM)), "dirty since the first change");
            if version == 1 {
                drop(store);
                store = harness.open().await;
                store.declare_pool(&given).await.unwrap();
            }
        }
        assert_eq!((done, spread_of(&store, list).await), (20_000, None));
        assert!(store.spreading(&given.id).await.unwrap().is_empty());
        assert_eq!(store.snapshot(list).await.unwrap().array.counts()[1], 20_000);
        if let Some(changes) = store.changes_since_publication(list, Version(3)).await.unwrap() {
            assert_eq!((changes.every, changes.entries.len()), (None, 20_000), "each change is explained");
        }
        publish(&store, &given.id, list, 3, NumericDate::MIN).await;
        assert!(store.dirty(&given.id).await.unwrap().is_empty());
        assert_eq!(store.snapshot(list).await.unwrap().array.counts()[1], 20_000, "once published");
    }
}

pub(super) async fn a_step_of_a_spread_counts_once_and_only_in_order(harness: &impl Harness) {
    let given = shape("a", 800, Bits::One);
    let (store, list) = store_with_list(harness, &given).await;
    store.fill_list(list, Status::INVALID, 4, soon(), NOW).await.unwrap().unwrap();
    let first = spread_of(&store, list).await.unwrap();
    let step = indices(&given, 0..200);
    let publishers = (0..8).map(|_| {
        let (store, step) = (store.clone(), step.clone());
        tokio::spawn(async move { store.advance_spread(list, &first, &step, NOW).await.unwrap() })
    });
    let mut counted = 0;
    for publisher in publishers.collect::<Vec<_>>() {
        counted += u32::from(publisher.await.unwrap());
    }
    assert_eq!(counted, 1, "one step was counted twice, as by two publishers or a retry");
    let second = spread_of(&store, list).await.unwrap();
    assert_eq!(second, first.advanced(&step));
    let skipping = second.advanced(&indices(&given, 0..1));
    let other = Spread { key: OrderKey::from_bytes([0; 16]), ..second };
    for wrong in [first, skipping, other, Spread { value: Status::VALID, ..second }] {
        let rest = indices(&given, 200..800);
        assert!(!store.advance_spread(list, &wrong, &rest, NOW).await.unwrap(), "{wrong:?}");
    }
    let snapshot = store.snapshot(list).await.unwrap();
    assert_eq!((snapshot.version, snapshot.array.counts()), (Version(1), vec![600, 200]));
    assert_eq!(spread_of(&store, list).await, Some(second));
}

pub(super) async fn another_status_completes_a_spread_first_and_wins(harness: &impl Harness) {
    for bits in [Bits::Two, Bits::Four] {
        let default = Status::new(bits.status_max() & 2);
        let id = format!("p{bits}");
        let given = PoolShape { default_status: default, ..shape(&id, 8000, bits) };
        let (store, list) = store_with_list(harness, &given).await;
        let other = store.open_list(&given.id, &ours(), u64::MAX, NOW).await.unwrap();
        let apply = async |requests| store.apply(&given.id, requests, soon(), NOW).await.unwrap();
        for list in [list, other] {
            store.fill_list(list, Status::INVALID, 4, soon(), NOW).await.unwrap().unwrap();
            let spread = spread_of(&store, list).await.unwrap();
            assert!(store.advance_spread(list, &spread, &indices(&given, 0..2000), NOW).await.unwrap());
        }
        let spread = spread_of(&store, list).await.unwrap();
        apply(vec![vec![change(list, 5, 1), change(list, 5000, 1)]]).await[0].clone().unwrap();
        assert_eq!(spread_of(&store, list).await, Some(spread), "the same status continues the spread");
        let refused = apply(vec![vec![change(list, 6, 0), change(ListId::random(), 0, 0)]]).await;
        assert!(refused[0].is_err());
        assert_eq!(spread_of(&store, list).await, Some(spread), "a refused change ends no spread");
        assert_eq!(value(&store, list, 7000).await, default.value());

        // A change of an entry that already has it, of one that would get it, and twice of one.
        let changes = vec![change(list, 5, 0), change(list, 7000, 1), change(list, 7001, 0)];
        let answers =
            apply(vec![changes, vec![change(list, 7001, 2)], vec![change(ListId::random(), 0, 1)]]).await;
        assert!(answers[0].is_ok() && answers[1].is_ok() && answers[2].is_err());
        let check = async |store: &Store| {
            let snapshot = store.snapshot(list).await.unwrap();
            assert_eq!(
                (snapshot.version, &snapshot.array.counts()[..3]),
                (Version(3), &[1, 7998, 1][..]),
                "{bits}"
            );
            assert_eq!((value(store, list, 5).await, value(store, list, 7001).await), (0, 2));
            assert_eq!(spread_of(store, list).await, None);
            assert!(spread_of(store, other).await.is_some(), "the spread of another list must continue");
            let spreading = store.spreading(&given.id).await.unwrap();
            assert_eq!(spreading.iter().map(|list| list.id).collect::<Vec<_>>(), [other]);
        };
        check(&store).await;
        let late = indices(&given, 2000..4000);
        assert!(!store.advance_spread(list, &spread, &late, NOW).await.unwrap(), "the spread is over");
        if let Some(changes) = store.changes_since_publication(list, Version(3)).await.unwrap() {
            assert_eq!(changes.every, Some(Status::INVALID));
            assert_eq!(changes.entries.last(), Some(&(7001, Status::SUSPENDED)));
        }
        publish(&store, &given.id, list, 3, NumericDate::MIN).await;
        check(&store).await;
        drop(store);
        let store = harness.open().await;
        store.declare_pool(&given).await.unwrap();
        check(&store).await;
    }
}

pub(super) async fn a_spread_never_leaves_the_final_status(harness: &impl Harness) {
    let given = PoolShape { final_status: Some(Status::INVALID), ..shape("a", 800, Bits::Two) };
    let (store, list) = store_with_list(harness, &given).await;
    let fill =
        async |value, beats| store.fill_list(list, Status::new(value), beats, soon(), NOW).await.unwrap();
    let refusal = |idx| Err(Refusal::FinalStatus { list, index: index(idx), status: Status::INVALID });
    fill(2, 4).await.unwrap();
    let spread = spread_of(&store, list).await.unwrap();
    assert!(store.advance_spread(list, &spread, &indices(&given, 0..200), NOW).await.unwrap());
    apply_one(&store, vec![change(list, 700, 1)]).await.unwrap();
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [0, 1, 799, 0], "the rest came first");
    assert_eq!(fill(2, 4).await, refusal(700), "refused like a change of all at once");
    assert_eq!(spread_of(&store, list).await, None);

    fill(1, 4).await.unwrap();
    let spread = spread_of(&store, list).await.unwrap();
    // All entries were promised the final status, so none may get another.
    assert_eq!(apply_one(&store, vec![change(list, 5, 0)]).await, refusal(5));
    assert_eq!(fill(0, 1).await, refusal(0));
    assert_eq!(fill(0, 4).await, refusal(0));
    apply_one(&store, vec![change(list, 6, 1)]).await.unwrap();
    assert_eq!(spread_of(&store, list).await, Some(spread), "the spread must continue");
    assert!(store.advance_spread(list, &spread, &indices(&given, 0..800), NOW).await.unwrap());
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [0, 800, 0, 0]);
}

pub(super) async fn a_spread_is_repeated_replaced_and_ended(harness: &impl Harness) {
    let given = shape("a", 800, Bits::Two);
    let (store, list) = store_with_list(harness, &given).await;
    let fill =
        async |value, beats| store.fill_list(list, Status::new(value), beats, soon(), NOW).await.unwrap();
    let spread = async || spread_of(&store, list).await;
    fill(1, 4).await.unwrap();
    let first = spread().await.unwrap();
    assert!(store.advance_spread(list, &first, &indices(&given, 0..200), NOW).await.unwrap());
    let advanced = spread().await;
    fill(1, 4).await.unwrap();
    assert_eq!(spread().await, advanced, "a retry is harmless");
    for (value, beats) in [(1, 40), (2, 40), (2, 4)] {
        let before = spread().await.unwrap();
        fill(value, beats).await.unwrap();
        let now = spread().await.unwrap();
        assert_eq!((now.value.value(), now.beats, now.done), (value, beats, 0));
        assert_ne!(now.key, before.key, "each spread has its own order");
        assert!(!store.advance_spread(list, &before, &indices(&given, 200..400), NOW).await.unwrap());
    }
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [600, 200, 0, 0]);
    assert!(spread().await.is_some());
    fill(0, 1).await.unwrap();
    assert_eq!((spread().await, store.spreading(&given.id).await.unwrap()), (None, Vec::new()));
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [800, 0, 0, 0]);

    fill(1, 4).await.unwrap();
    let last = spread().await.unwrap();
    store.retire_list(list, soon()).await.unwrap();
    assert_eq!((spread().await, store.spreading(&given.id).await.unwrap()), (None, Vec::new()));
    assert!(!store.advance_spread(list, &last, &indices(&given, 0..200), NOW).await.unwrap());
    assert_eq!(fill(1, 4).await, Err(Refusal::Retired { list }));
    let nowhere = ListId::random();
    assert!(store.fill_list(nowhere, Status::INVALID, 4, soon(), NOW).await.unwrap().is_err());
}

pub(super) async fn a_spread_seals_as_filling_does_and_moves_with_its_list(harness: &impl Harness) {
    let given = shape("a", 96, Bits::One);
    let (store, list) = store_with_list(harness, &given).await;
    lease(&store, list, 10).await.unwrap();
    store.fill_list(list, Status::VALID, 4, soon(), NOW).await.unwrap().unwrap();
    assert_eq!(
        lease(&store, list, 10).await.unwrap().positions,
        10..20,
        "a list filled with its default status stays open"
    );
    store.fill_list(list, Status::INVALID, 4, soon(), NOW).await.unwrap().unwrap();
    let record = store.list(list).await.unwrap().unwrap();
    assert_eq!((record.sealed, record.open), (true, false));
    assert_eq!(lease(&store, list, 10).await, None, "references would become invalid");
    assert_eq!(
        store.usage(&given.id).await.unwrap(),
        PoolUsage { lists: 1, retired: 0, leased: 20, free: 0 }
    );

    let spread = record.spread.unwrap();
    assert!(store.advance_spread(list, &spread, &indices(&given, 0..24), NOW).await.unwrap());
    let mut moved = store.export_list(list).await.unwrap();
    moved.record.id = ListId::random();
    assert!(store.import_list(&moved).await.unwrap());
    let spread = spread_of(&store, moved.record.id).await;
    assert_eq!((spread, spread.map(|spread| spread.done)), (spread_of(&store, list).await, Some(24)));
    assert_eq!(store.spreading(&given.id).await.unwrap().len(), 2);
    let rest = indices(&given, 24..96);
    assert!(store.advance_spread(moved.record.id, &spread.unwrap(), &rest, NOW).await.unwrap());
    assert_eq!(store.snapshot(moved.record.id).await.unwrap().array.counts(), [0, 96]);
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [72, 24]);
}
