//! Dirty and due lists, settling, and the publisher's lease.

use super::*;
use crate::base::clock::NumericDate;

pub(super) async fn touched_lists_are_dirty_since_their_first_change(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 800, Bits::One)).await;
    let pool = "a".parse().unwrap();
    let untouched = store.open_list(&pool, &ours(), u64::MAX, NOW).await.unwrap();
    store.apply(&"a".parse().unwrap(), vec![vec![change(list, 1, 1)]], soon(), NOW).await.unwrap();
    store.apply(&"a".parse().unwrap(), vec![vec![change(list, 2, 1)]], soon(), NOW.plus(TERM)).await.unwrap();
    let dirty = store.dirty(&pool).await.unwrap();
    let due_mark = DueMark::default();
    assert_eq!(dirty, [Pending { list, since: Some(NOW), retired: false, published: None, due_mark }]);
    assert!(
        store.due(&pool, NOW).await.unwrap().iter().any(|pending| pending.list == untouched),
        "never published"
    );
}

pub(super) async fn settling_clears_only_what_was_published(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 800, Bits::One)).await;
    let pool = "a".parse().unwrap();
    store.apply(&"a".parse().unwrap(), vec![vec![change(list, 1, 1)]], soon(), NOW).await.unwrap();
    let snapshot = store.snapshot(list).await.unwrap();
    let later = NOW.plus(TERM);
    store.apply(&"a".parse().unwrap(), vec![vec![change(list, 2, 1)]], soon(), later).await.unwrap();
    publish(&store, &pool, list, snapshot.version.0, in_secs(100)).await;
    let dirty = store.dirty(&pool).await.unwrap();
    assert_eq!(dirty.len(), 1, "a change came in between");
    let since = dirty[0].since.unwrap();
    assert!((TAKEN..=later).contains(&since), "only the later change waits: {since:?}");
    publish(&store, &pool, list, 2, in_secs(100)).await;
    assert!(store.dirty(&pool).await.unwrap().is_empty());
    assert_eq!(store.list(list).await.unwrap().unwrap().published.unwrap().version, Version(2));
    assert_eq!((value(&store, list, 1).await, value(&store, list, 2).await), (1, 1));
    store.apply(&"a".parse().unwrap(), vec![vec![change(list, 1, 0)]], soon(), later).await.unwrap();
    assert_eq!(value(&store, list, 1).await, 0, "changes after the folding override the chunks");
}

pub(super) async fn older_fence_is_refused(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 800, Bits::One)).await;
    let pool = "a".parse().unwrap();
    let lease =
        async |name| store.lease_publisher(&pool, &instance(name), Duration::ZERO, Duration::ZERO).await;
    let old = lease("first").await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(2)).await;
    let new = lease("second").await.unwrap().unwrap();
    let publication = Publication { version: Version(0), iat: NOW.date(), resign_at: NumericDate::MIN };
    let seen = DueMark::default();
    assert!(matches!(store.settle(list, publication, TAKEN, seen, old).await, Err(StoreError::Fenced)));
    assert_eq!(store.list(list).await.unwrap().unwrap().published, None);
    store.settle(list, publication, TAKEN, seen, new).await.unwrap();
}

/// The term counts by the store's own clock, so this test has to wait.
pub(super) async fn lease_expires_and_fences_grow(harness: &impl Harness) {
    const TERM: Duration = Duration::from_secs(2);
    let (store, _) = store_with_list(harness, &shape("a", 800, Bits::One)).await;
    let pool = "a".parse().unwrap();
    let lease =
        async |name| store.lease_publisher(&pool, &instance(name), TERM, Duration::ZERO).await.unwrap();
    let first = lease("first").await.unwrap();
    assert_eq!(lease("second").await, None);
    tokio::time::sleep(TERM * 3 / 5).await;
    assert_eq!(lease("first").await, Some(first), "extended");
    tokio::time::sleep(TERM * 3 / 5).await;
    assert_eq!(lease("second").await, None, "the first term alone would have ended");
    tokio::time::sleep(TERM * 3 / 5).await;
    let patient = store.lease_publisher(&pool, &instance("third"), TERM, TERM * 10).await.unwrap();
    assert_eq!(patient, None, "a follower waits for longer");
    let second = lease("second").await.unwrap();
    assert!(second > first);
    assert_eq!(lease("first").await, None);
    store.release_publisher(&pool, &instance("first")).await.unwrap();
    assert_eq!(lease("first").await, None, "only the holder can release a lease");
    store.release_publisher(&pool, &instance("second")).await.unwrap();
    assert!(lease("first").await.unwrap() > second, "a released lease is free at once");
}

pub(super) async fn due_lists_are_those_to_be_renewed(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 800, Bits::One)).await;
    let pool: PoolId = "a".parse().unwrap();
    let due = async |t: u64| store.due(&pool, Timestamp::from_secs(t)).await.unwrap().len();
    assert_eq!(due(0).await, 1, "a list that was never published is due at once");
    publish(&store, &pool, list, 0, NumericDate::from_secs(5000)).await;
    assert_eq!((due(4999).await, due(5000).await), (0, 1));
    assert_eq!(store.next_due(&pool).await.unwrap(), Some(Timestamp::from_secs(5000)));
    store.mark_due(vec![list]).await.unwrap();
    assert_eq!(due(0).await, 1);
    assert_eq!(store.next_due(&pool).await.unwrap(), None, "a list that is due at once has no next renewal");
}

pub(super) async fn changes_since_publication_explain_it(harness: &impl Harness) {
    let (store, list) = store_with_list(harness, &shape("a", 800, Bits::One)).await;
    let pool = "a".parse().unwrap();
    apply_one(&store, vec![change(list, 1, 1)]).await.unwrap();
    publish(&store, &pool, list, 1, NumericDate::MIN).await;
    apply_one(&store, vec![change(list, 2, 1), change(list, 3, 1)]).await.unwrap();
    apply_one(&store, vec![change(list, 3, 0)]).await.unwrap();
    apply_one(&store, vec![change(list, 4, 1)]).await.unwrap();
    let Some(changes) = store.changes_since_publication(list, Version(3)).await.unwrap() else { return };
    assert_eq!(changes.every, None);
    assert_eq!(changes.entries, [(2, Status::INVALID), (3, Status::INVALID), (3, Status::VALID)]);
}

pub(super) async fn retired_lists_take_nothing_and_are_due_once(harness: &impl Harness) {
    let given = shape("a", 96, Bits::One);
    let (store, list) = store_with_list(harness, &given).await;
    lease(&store, list, 10).await.unwrap();
    apply_one(&store, vec![change(list, 1, 1)]).await.unwrap();
    publish(&store, &given.id, list, 1, in_secs(1000)).await;
    let record = store.list(list).await.unwrap().unwrap();
    assert_eq!((record.leased_at, record.retired), (Some(NOW), false));
    store.retire_list(list, soon()).await.unwrap();
    assert_eq!(apply_one(&store, vec![change(list, 2, 1)]).await, Err(Refusal::Retired { list }));
    assert_eq!(lease(&store, list, 1).await, None);
    assert_eq!(
        store.usage(&given.id).await.unwrap(),
        PoolUsage { lists: 1, retired: 1, leased: 10, free: 0 }
    );
    let due = store.due(&given.id, NOW).await.unwrap();
    assert!(due.len() == 1 && due[0].list == list && due[0].retired, "{due:?}");
    publish(&store, &given.id, list, 1, Publication::NEVER).await;
    assert!(store.due(&given.id, Timestamp::from_secs(1 << 40)).await.unwrap().is_empty());
    assert!(store.list(list).await.unwrap().unwrap().retired);
    assert!(matches!(store.retire_list(ListId::random(), soon()).await, Err(StoreError::NoSuchList(_))));
}

/// A publication that began before cannot show it, and must not end it; one that began later does.
async fn stays_due_until_settled(
    store: &Store,
    pool: &PoolId,
    list: ListId,
    raise: impl AsyncFn(),
    last: Publication,
) {
    let later = in_secs(1000);
    let due = async || store.due(pool, NOW).await.unwrap();
    apply_one(store, vec![change(list, 1, 1)]).await.unwrap();
    let dirty = store.dirty(pool).await.unwrap();
    let begun = dirty.into_iter().find(|pending| pending.list == list).unwrap();
    let snapshot = store.snapshot(list).await.unwrap();
    raise().await;
    settle(store, pool, list, snapshot.version.0, later, begun.due_mark).await;
    let left = due().await;
    assert!(left.len() == 1 && left[0].list == list, "{left:?}");
    assert!(store.dirty(pool).await.unwrap().is_empty(), "its change is published");
    assert_eq!(left[0].published.unwrap().version, snapshot.version);

    // Again during the publication that answers the first mark: as often as it is marked.
    raise().await;
    settle(store, pool, list, snapshot.version.0, later, left[0].due_mark).await;
    let left = due().await;
    assert!(left.len() == 1 && left[0].list == list, "{left:?}");
    settle(store, pool, list, last.version.0, last.resign_at, left[0].due_mark).await;
    assert!(due().await.is_empty());
}

pub(super) async fn a_list_that_is_retired_during_its_publication_stays_due(harness: &impl Harness) {
    let given = shape("a", 800, Bits::One);
    let (store, list) = store_with_list(harness, &given).await;
    // Also one that was never published, and so is due already.
    let new = store.open_list(&given.id, &ours(), u64::MAX, NOW).await.unwrap();
    let begun = mark_of(&store, &given.id, new).await;
    store.retire_list(new, soon()).await.unwrap();
    settle(&store, &given.id, new, 0, in_secs(1000), begun).await;
    let due = store.due(&given.id, NOW).await.unwrap();
    assert!(due.iter().any(|pending| pending.list == new && pending.retired), "{due:?}");
    publish(&store, &given.id, new, 0, Publication::NEVER).await;

    publish(&store, &given.id, list, 0, in_secs(1000)).await;
    let retire = async || store.retire_list(list, soon()).await.unwrap();
    let last = Publication { version: Version(1), iat: NOW.date(), resign_at: Publication::NEVER };
    stays_due_until_settled(&store, &given.id, list, retire, last).await;
    assert!(store.due(&given.id, Timestamp::from_secs(1 << 40)).await.unwrap().is_empty());
    assert!(store.list(list).await.unwrap().unwrap().retired);
}

pub(super) async fn a_list_that_is_wanted_during_its_publication_stays_due(harness: &impl Harness) {
    let given = shape("a", 800, Bits::One);
    let (store, list) = store_with_list(harness, &given).await;
    publish(&store, &given.id, list, 0, in_secs(1000)).await;
    let want = async || store.mark_due(vec![list]).await.unwrap();
    let last = Publication { version: Version(1), iat: NOW.date(), resign_at: in_secs(1000) };
    stays_due_until_settled(&store, &given.id, list, want, last).await;
}
