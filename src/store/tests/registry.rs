//! What operators made at run time.

use super::*;

/// Whoever decided on an older version changes nothing; whoever repeats a change that was made hears that it was.
pub(super) async fn the_registry_is_replaced_only_as_it_was_seen(harness: &impl Harness) {
    let store = harness.open().await;
    let none = store.registry().await.unwrap();
    assert_eq!(none, Registered::default());
    assert_eq!(store.registry_stamp().await.unwrap(), none.stamp);
    let first = none.followed_by("\u{e4} first".to_owned());
    assert!(store.replace_registry(&none.stamp, &first, soon()).await.unwrap());
    assert!(store.replace_registry(&none.stamp, &first, soon()).await.unwrap(), "a repetition");
    let other = none.followed_by("another".to_owned());
    assert!(!store.replace_registry(&none.stamp, &other, soon()).await.unwrap());
    assert_eq!(store.registry().await.unwrap(), first);
    assert_eq!(store.registry_stamp().await.unwrap(), first.stamp);
    let second = first.followed_by("x".repeat(REGISTRY_BYTES_MAX));
    assert!(store.replace_registry(&first.stamp, &second, soon()).await.unwrap());
    let late = Deadline::after(Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let third = second.followed_by("third".to_owned());
    let outcome = store.replace_registry(&second.stamp, &third, late).await;
    assert!(matches!(outcome, Err(StoreError::Late | StoreError::Unavailable(_))), "{outcome:?}");
    drop(store);
    assert_eq!(harness.open().await.registry().await.unwrap(), second, "after a restart");
}

pub(super) async fn of_concurrent_changes_of_the_registry_one_is_made(harness: &impl Harness) {
    let store = harness.open().await;
    let none = store.registry().await.unwrap();
    let change = async |name: &str| {
        let newer = none.followed_by(name.to_owned());
        store.replace_registry(&none.stamp, &newer, soon()).await.unwrap().then_some(newer)
    };
    let (a, b, c) = tokio::join!(change("a"), change("b"), change("c"));
    let made: Vec<_> = [a, b, c].into_iter().flatten().collect();
    assert_eq!(made, [store.registry().await.unwrap()]);
}
