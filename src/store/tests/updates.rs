//! Status changes: all or nothing, validated inside the step, final statuses kept.

use super::*;

pub(super) async fn changes_are_stored_and_counted(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 100_000, Bits::Two)).await;
    let other = store.open_list(&"a".parse().unwrap(), &ours(), NOW).await.unwrap();
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
    publish(&store, &given.id, list, 3, 0).await;
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
