//! Answers recorded under an `Idempotency-Key`.

use super::*;

fn answered(request: u8, references: &[(ListId, u32)]) -> Answered {
    let references = references.iter().map(|&(list, idx)| Given { list, idx }).collect();
    Answered { request: [request; 32], references }
}

pub(super) async fn an_answer_is_remembered_once_and_for_a_while(harness: &impl Harness) {
    let given = shape("a", 800, Bits::One);
    let (store, list) = store_with_list(harness, &given).await;
    let key = [1; 32];
    assert_eq!(store.remembered(&given.id, key, NOW).await.unwrap(), None);
    let first = answered(1, &[(list, 7), (ListId::random(), 799), (list, 0)]);
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(store.remember(&given.id, key, first.clone(), NOW, day).await.unwrap(), Remembered::Now);
    let second = answered(2, &[(list, 8)]);
    let before = store.remember(&given.id, key, second.clone(), NOW, day).await.unwrap();
    assert_eq!(before, Remembered::Before(first.clone()), "the first answer stays");
    drop(store);
    let store = harness.open().await;
    store.declare_pool(&given).await.unwrap();
    assert_eq!(store.remembered(&given.id, key, NOW).await.unwrap(), Some(first), "after a restart as well");

    // Redis counts by its own clock, SQLite by the caller's.
    let (short, brief) = ([2; 32], Duration::from_millis(500));
    assert_eq!(store.remember(&given.id, short, second, NOW, brief).await.unwrap(), Remembered::Now);
    tokio::time::sleep(brief + Duration::from_millis(200)).await;
    let later = NOW.plus(brief);
    assert_eq!(store.remembered(&given.id, short, later).await.unwrap(), None);
    let third = answered(3, &[(list, 9)]);
    let again = store.remember(&given.id, short, third.clone(), later, day).await.unwrap();
    assert_eq!(again, Remembered::Now);
    assert_eq!(store.remembered(&given.id, short, later).await.unwrap(), Some(third));
}

pub(super) async fn concurrent_answers_under_one_key_are_one(harness: &impl Harness) {
    let given = shape("a", 800, Bits::One);
    let (store, list) = store_with_list(harness, &given).await;
    let answers = (0..20).map(|idx| {
        let (store, pool) = (store.clone(), given.id.clone());
        tokio::spawn(async move {
            let answer = answered(1, &[(list, idx)]);
            match store.remember(&pool, [9; 32], answer.clone(), NOW, TERM).await.unwrap() {
                Remembered::Now => (answer, true),
                Remembered::Before(before) => (before, false),
            }
        })
    });
    let (mut distinct, mut first) = (HashSet::new(), 0);
    for answer in answers.collect::<Vec<_>>() {
        let (answer, now) = answer.await.unwrap();
        distinct.extend(answer.references);
        first += u32::from(now);
    }
    assert_eq!((distinct.len(), first), (1, 1), "one of them is recorded, and returned to all");
}
