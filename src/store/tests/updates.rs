//! Status changes: all or nothing, validated inside the step, final statuses kept.

use super::*;

pub(super) async fn changes_are_stored_and_counted(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 100_000, Bits::Two)).await;
    let other = store.open_list(&"a".parse().unwrap(), &ours(), u64::MAX, NOW).await.unwrap();
    let answers = store
        .apply(
            &"a".parse().unwrap(),
            vec![
                vec![change(list, 0, 1), change(list, 99_999, 2)],
                vec![change(list, 50_000, 1)],
                vec![change(other, 1, 1)],
            ],
            soon(),
            NOW,
        )
        .await
        .unwrap();
    assert_eq!(answers, [Ok(()), Ok(()), Ok(())]);
    let snapshot = store.snapshot(list).await.unwrap();
    assert_eq!(snapshot.version, Version(1), "one batch, one version");
    assert_eq!(snapshot.array.counts(), [99_997, 2, 1, 0]);
    apply_one(&store, vec![change(list, 0, 0)]).await.unwrap();
    assert_eq!(store.snapshot(list).await.unwrap().version, Version(2));
    assert_eq!((value(&store, list, 0).await, value(&store, list, 1).await), (0, 0));
    assert_eq!(store.snapshot(other).await.unwrap().version, Version(1));
}

pub(super) async fn requests_are_all_or_nothing(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 800, Bits::One)).await;
    let answers = store
        .apply(
            &"a".parse().unwrap(),
            vec![
                vec![change(list, 1, 1)],
                vec![change(list, 2, 1), change(list, 1, 0), change(ListId::random(), 0, 1)],
                vec![change(list, 3, 1)],
            ],
            soon(),
            NOW,
        )
        .await
        .unwrap();
    assert!(answers[0].is_ok() && answers[1].is_err() && answers[2].is_ok());
    let found = [value(&store, list, 1).await, value(&store, list, 2).await, value(&store, list, 3).await];
    assert_eq!(found, [1, 0, 1], "nothing of the refused request is stored, and everything of the others");
    let version = store.snapshot(list).await.unwrap().version;
    assert!(apply_one(&store, vec![change(list, 9, 1), change(ListId::random(), 0, 1)]).await.is_err());
    assert_eq!(store.snapshot(list).await.unwrap().version, version, "a refused batch changes no version");
}

pub(super) async fn every_refusal_names_its_reason(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 800, Bits::Four)).await;
    let nowhere = ListId::random();
    assert_eq!(
        apply_one(&store, vec![change(nowhere, 0, 1)]).await,
        Err(Refusal::NoSuchList { list: nowhere })
    );
    store.retire_list(list, soon()).await.unwrap();
    assert_eq!(apply_one(&store, vec![change(list, 0, 1)]).await, Err(Refusal::Retired { list }));
    assert!(store.dirty(&"a".parse().unwrap()).await.unwrap().is_empty(), "nothing changed");
}

pub(super) async fn final_status_is_never_left(harness: &impl Harness) {
    let given = PoolShape { final_status: Some(Status::INVALID), ..shape("a", 800, Bits::Two) };
    let (store, list) = store_with_list(harness, &given).await;
    apply_one(&store, vec![change(list, 5, 2)]).await.unwrap();
    apply_one(&store, vec![change(list, 5, 1)]).await.unwrap();
    apply_one(&store, vec![change(list, 5, 1)]).await.unwrap();
    for value in [0, 2] {
        let refusal = Refusal::FinalStatus { list, index: index(5), status: Status::INVALID };
        assert_eq!(apply_one(&store, vec![change(list, 5, value)]).await, Err(refusal));
    }
    publish(&store, &given.id, list, 3, NumericDate::MIN).await;
    drop(store);
    let store = harness.open().await;
    store.declare_pool(&given).await.unwrap();
    assert!(
        apply_one(&store, vec![change(list, 5, 0)]).await.is_err(),
        "the final status was left after a restart"
    );
    assert_eq!(value(&store, list, 5).await, 1);
}

pub(super) async fn final_status_holds_inside_a_batch(harness: &impl Harness) {
    let given = PoolShape { final_status: Some(Status::INVALID), ..shape("a", 800, Bits::Two) };
    let (store, list) = store_with_list(harness, &given).await;
    let answers = store
        .apply(
            &"a".parse().unwrap(),
            vec![
                vec![change(list, 5, 1), change(ListId::random(), 0, 1)],
                vec![change(list, 5, 2)],
                vec![change(list, 5, 1)],
                vec![change(list, 5, 0)],
            ],
            soon(),
            NOW,
        )
        .await
        .unwrap();
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, true, false]);
    assert_eq!(value(&store, list, 5).await, 1);
}

pub(super) async fn single_statuses_are_those_of_the_snapshot(harness: &impl Harness) {
    for bits in [Bits::One, Bits::Two, Bits::Four, Bits::Eight] {
        let name = format!("p{bits}");
        let given = PoolShape { default_status: Status::INVALID, ..shape(&name, 96, bits) };
        let (store, list) = store_with_list(harness, &given).await;
        let changes = (0..96).step_by(5).map(|idx| change(list, idx, (idx % 2) as u8)).collect();
        store.apply(&given.id, vec![changes], soon(), NOW).await.unwrap().remove(0).unwrap();
        let snapshot = store.snapshot(list).await.unwrap();
        for idx in 0..96 {
            let index = given.capacity.index(idx).unwrap();
            let expected = if idx % 5 == 0 { u8::try_from(idx % 2).unwrap() } else { 1 };
            assert_eq!(snapshot.array.get(index).value(), expected, "{bits} bits, index {idx}");
            assert_eq!(store.status(list, index).await.unwrap(), (snapshot.array.get(index), Version(1)));
        }
    }
}

pub(super) async fn large_batches_are_one_step(harness: &impl Harness) {
    let given = PoolShape { final_status: Some(Status::INVALID), ..shape("a", 80_000, Bits::Two) };
    let (store, list) = store_with_list(harness, &given).await;
    let all = |value| (0..10_000).map(|n| change(list, n * 7, value)).collect::<Vec<_>>();
    apply_one(&store, all(2)).await.unwrap();
    apply_one(&store, vec![change(list, 69_993, 1)]).await.unwrap();
    assert!(apply_one(&store, all(0)).await.is_err(), "the last change would leave the final status");
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [70_000, 1, 9_999, 0]);
    assert_eq!(store.snapshot(list).await.unwrap().version, Version(2));
}

pub(super) async fn large_batches_survive_restarts_and_explain_what_is_published(harness: &impl Harness) {
    let given = shape("a", 80_000, Bits::Two);
    let (store, list) = store_with_list(harness, &given).await;
    let other = store.open_list(&given.id, &ours(), u64::MAX, NOW).await.unwrap();
    let reopened = async || {
        let store = harness.open().await;
        store.declare_pool(&given).await.unwrap();
        store
    };
    // Entries of two lists in turn, as they are handed out, from both ends of each.
    let batch = |from: u64, value| {
        let each = (from..from + 5_000)
            .flat_map(move |n| [change(list, n, value), change(other, 79_999 - n, value)]);
        each.collect::<Vec<_>>()
    };
    apply_one(&store, batch(0, 2)).await.unwrap();
    apply_one(&store, vec![change(list, 7, 1)]).await.unwrap();
    drop(store);
    let store = reopened().await;
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [75_000, 1, 4_999, 0]);
    assert_eq!(store.snapshot(other).await.unwrap().array.counts(), [75_000, 0, 5_000, 0]);
    if let Some(changes) = store.changes_since_publication(list, Version(2)).await.unwrap() {
        assert_eq!((changes.every, changes.entries.len()), (None, 5_001));
        assert_eq!(
            changes.entries[4_999..],
            [(4_999, Status::new(2)), (7, Status::INVALID)],
            "in their order"
        );
    }

    // Published in between: later batches are not in it.
    publish(&store, &given.id, list, 2, in_secs(100)).await;
    apply_one(&store, batch(3_000, 3)).await.unwrap();
    drop(store);
    let store = reopened().await;
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [72_000, 1, 2_999, 5_000]);
    if let Some(changes) = store.changes_since_publication(list, Version(3)).await.unwrap() {
        assert_eq!((changes.every, changes.entries.len()), (None, 5_000));
    }
    // A list that is read anew also knows which of its parts differ from those that are stored.
    apply_one(&store, vec![change(list, 79_999, 1)]).await.unwrap();
    publish(&store, &given.id, list, 4, in_secs(100)).await;
    publish(&store, &given.id, other, 2, in_secs(100)).await;
    drop(store);
    let store = reopened().await;
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [71_999, 2, 2_999, 5_000]);
    assert_eq!(store.snapshot(other).await.unwrap().array.counts(), [72_000, 0, 3_000, 5_000]);

    // After a change of every entry.
    store.fill_list(list, Status::VALID, 1, soon(), NOW).await.unwrap().unwrap();
    apply_one(&store, batch(0, 1)).await.unwrap();
    drop(store);
    let store = reopened().await;
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [75_000, 5_000, 0, 0]);
    let version = store.snapshot(list).await.unwrap().version;
    if let Some(changes) = store.changes_since_publication(list, version).await.unwrap() {
        assert_eq!((changes.every, changes.entries.len()), (Some(Status::VALID), 5_000));
    }
}

pub(super) async fn writes_after_their_deadline_change_nothing(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 800, Bits::One)).await;
    let pool: PoolId = "a".parse().unwrap();
    // A second is longer than a server's clock may differ from its last reading.
    let late = Deadline::after(Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = store.list(list).await.unwrap();
    let applied = store.apply(&pool, vec![vec![change(list, 1, 1)]], late, NOW).await;
    assert!(matches!(applied, Err(StoreError::Late)), "{applied:?}");
    let filled = store.fill_list(list, Status::INVALID, 1, late, NOW).await;
    assert!(matches!(filled, Err(StoreError::Late)), "{filled:?}");
    let retired = store.retire_list(list, late).await;
    assert!(matches!(retired, Err(StoreError::Late)), "{retired:?}");
    assert_eq!(store.list(list).await.unwrap(), before);
    assert_eq!(value(&store, list, 1).await, 0);
    apply_one(&store, vec![change(list, 1, 1)]).await.unwrap();
    assert_eq!(value(&store, list, 1).await, 1, "the control: in time it is applied");
}

fn not_as_expected(list: ListId, idx: u64, expected: u8, stored: u8) -> Refusal {
    let (expected, stored) = (Status::new(expected), Status::new(stored));
    Refusal::NotAsExpected { list, index: index(idx), expected, stored }
}

pub(super) async fn an_unexpected_status_refuses_the_whole_request(harness: &impl Harness) {
    for (bits, default, final_status) in
        [(Bits::Two, 0, None), (Bits::Two, 2, Some(Status::INVALID)), (Bits::Eight, 255, None)]
    {
        let id = format!("p{bits}-{default}");
        let given =
            PoolShape { default_status: Status::new(default), final_status, ..shape(&id, 8000, bits) };
        let (store, list) = store_with_list(harness, &given).await;
        let apply =
            async |changes| store.apply(&given.id, vec![changes], soon(), NOW).await.unwrap().remove(0);
        let other = 3;
        let refused = apply(vec![change(list, 1, other), change_of(list, 2, other, 1)]).await;
        assert_eq!(refused, Err(not_as_expected(list, 2, other, default)));
        assert_eq!((value(&store, list, 1).await, value(&store, list, 2).await), (default, default));
        assert_eq!(store.snapshot(list).await.unwrap().version, Version(0));
        assert!(store.dirty(&given.id).await.unwrap().is_empty(), "nothing is to be published");

        // An entry that is named twice is compared both times with what stood before the request.
        let both = vec![change_of(list, 2, default, other), change_of(list, 2, default, other)];
        assert_eq!(apply(both).await, Ok(()));
        assert_eq!(value(&store, list, 2).await, other);
        let again = apply(vec![change_of(list, 2, default, other)]).await;
        assert_eq!(again, Err(not_as_expected(list, 2, default, other)), "it was made already");
        assert_eq!(apply(vec![change(list, 2, default), change_of(list, 3, default, 1)]).await, Ok(()));
        assert_eq!((value(&store, list, 2).await, value(&store, list, 3).await), (default, 1));
        assert_eq!(store.snapshot(list).await.unwrap().version, Version(2));

        let nowhere = ListId::random();
        let refused = apply(vec![change_of(nowhere, 0, default, 1)]).await;
        assert_eq!(refused, Err(Refusal::NoSuchList { list: nowhere }));
        store.retire_list(list, soon()).await.unwrap();
        assert_eq!(apply(vec![change_of(list, 0, 1, 1)]).await, Err(Refusal::Retired { list }));
    }
}

pub(super) async fn what_is_expected_stands_after_the_requests_before(harness: &impl Harness) {
    for final_status in [None, Some(Status::INVALID)] {
        let id = if final_status.is_some() { "b" } else { "a" };
        let given = PoolShape { final_status, ..shape(id, 80_000, Bits::Two) };
        let (store, list) = store_with_list(harness, &given).await;
        let requests = vec![
            vec![change_of(list, 5, 0, 2)],
            vec![change_of(list, 5, 0, 3)],
            vec![change(list, 6, 3), change_of(list, 5, 0, 3)],
            vec![change_of(list, 5, 2, 3), change_of(list, 6, 0, 2)],
            vec![change_of(list, 5, 3, 1)],
            vec![change_of(list, 5, 3, 0)],
            vec![change_of(list, 5, 1, 1)],
        ];
        let answers = store.apply(&given.id, requests, soon(), NOW).await.unwrap();
        let expected = [
            Ok(()),
            Err(not_as_expected(list, 5, 0, 2)),
            Err(not_as_expected(list, 5, 0, 2)),
            Ok(()),
            Ok(()),
            Err(not_as_expected(list, 5, 3, 1)),
            Ok(()),
        ];
        assert_eq!(answers, expected, "final status {final_status:?}");
        assert_eq!((value(&store, list, 5).await, value(&store, list, 6).await), (1, 2));
        if let Some(status) = final_status {
            let refused = store.apply(&given.id, vec![vec![change_of(list, 5, 1, 0)]], soon(), NOW).await;
            let refusal = Refusal::FinalStatus { list, index: index(5), status };
            assert_eq!(refused.unwrap(), [Err(refusal)], "as expected, and final");
        }
        // More than a script's stack holds.
        let all =
            |expected, value| (0..10_000).map(|n| change_of(list, 7 + n * 7, expected, value)).collect();
        let requests = vec![all(0, 2), all(0, 3), all(2, 3)];
        let answers = store.apply(&given.id, requests, soon(), NOW).await.unwrap();
        assert_eq!(answers, [Ok(()), Err(not_as_expected(list, 7, 0, 2)), Ok(())]);
        assert_eq!(store.snapshot(list).await.unwrap().array.counts()[3], 10_000);
    }
}

pub(super) async fn a_spread_counts_for_what_is_expected_once_it_is_done(harness: &impl Harness) {
    let given = shape("a", 8000, Bits::Two);
    let (store, list) = store_with_list(harness, &given).await;
    store.fill_list(list, Status::INVALID, 4, soon(), NOW).await.unwrap().unwrap();
    let spread = store.list(list).await.unwrap().unwrap().spread.unwrap();
    let done = (0..2000).map(index).collect::<Vec<_>>();
    assert!(store.advance_spread(list, &spread, &done, NOW).await.unwrap());
    let stored = async |idx| store.status(list, index(idx)).await.unwrap().0.value();
    assert_eq!((stored(1).await, stored(5000).await), (1, 0), "what clients are told");

    // What is not done yet has its earlier status, until a request completes the spread.
    let refused = apply_one(&store, vec![change_of(list, 5000, 1, 2)]).await;
    assert_eq!(refused, Err(not_as_expected(list, 5000, 1, 0)));
    let requests = vec![
        vec![change_of(list, 1, 1, 1), change_of(list, 5000, 0, 1)],
        vec![change_of(list, 6000, 0, 2), change_of(list, 6001, 0, 0)],
        vec![change_of(list, 7000, 0, 2)],
        vec![change_of(list, 7000, 1, 2), change_of(list, 6000, 2, 3), change_of(list, 6001, 0, 0)],
        vec![change_of(list, 7000, 2, 0)],
    ];
    let answers = store.apply(&given.id, requests, soon(), NOW).await.unwrap();
    let refused = Err(not_as_expected(list, 7000, 0, 1));
    assert_eq!(answers, [Ok(()), Ok(()), refused, Ok(()), Ok(())]);
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [2, 7997, 0, 1]);
    let values = [stored(5000).await, stored(6000).await, stored(6001).await, stored(7000).await];
    assert_eq!(values, [1, 3, 0, 0]);
    assert_eq!(store.list(list).await.unwrap().unwrap().spread, None);
    drop(store);
    let store = harness.open().await;
    store.declare_pool(&given).await.unwrap();
    assert_eq!(store.snapshot(list).await.unwrap().array.counts(), [2, 7997, 0, 1], "after a restart");
}
