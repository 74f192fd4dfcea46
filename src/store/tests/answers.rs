//! Answers recorded under an `Idempotency-Key`.

use super::*;

/// More than any test takes.
const ROOM: u64 = 1 << 30;

fn keep(time: Duration) -> Keep {
    Keep { time, bytes_max: ROOM }
}

fn answered(request: u8, references: &[(ListId, u32)]) -> Answered {
    let place =
        |&(list, idx): &(ListId, u32)| Placed { given: Given { list, idx }, position: idx, key: None };
    let references: Vec<_> = references.iter().map(place).collect();
    Answered::new([request; 32], &references, 800)
}

/// The answer that has this many references of one block.
fn answer_of(block: &Block, request: u8, entries: u32) -> Answered {
    let order = Permutation::new(block.key, entries);
    let place = |position| {
        let given = Given { list: block.list, idx: order.index(position) };
        Placed { given, position, key: Some(block.key) }
    };
    let references: Vec<_> = block.positions.clone().map(place).collect();
    Answered::new([request; 32], &references, entries)
}

/// A list forgets its order when it is sealed; what was handed out of it does not change.
pub(super) async fn answers_are_small_and_outlive_the_order_of_their_list(harness: &impl Harness) {
    let given = shape("a", 100_000, Bits::One);
    let (store, list) = store_with_list(harness, &given).await;
    let block = lease(&store, list, 10_000).await.unwrap();
    let answer = answer_of(&block, 1, 100_000);
    assert!(answer.bytes() < 500, "{} bytes", answer.bytes());
    let day = keep(Duration::from_secs(24 * 3600));
    assert_eq!(store.remember(&given.id, [1; 32], answer.clone(), NOW, day).await.unwrap(), Remembered::Now);
    store.seal_list(list).await.unwrap();
    drop(store);
    let store = harness.open().await;
    store.declare_pool(&given).await.unwrap();
    let again = store.remembered(&given.id, [1; 32], NOW).await.unwrap().unwrap();
    assert_eq!(again.references(), answer.references());
    assert_eq!(again.references().into_iter().collect::<HashSet<_>>().len(), 10_000);
}

pub(super) async fn answers_of_a_pool_take_no_more_than_their_room(harness: &impl Harness) {
    let (given, other) = (shape("a", 800, Bits::One), shape("b", 800, Bits::One));
    let (store, list) = store_with_list(harness, &given).await;
    store.declare_pool(&other).await.unwrap();
    let answer = answered(1, &[(list, 7)]);
    let time = Duration::from_secs(3);
    let keep = Keep { time, bytes_max: 3 * answer.bytes() };
    let add = async |pool: &PoolId, key: u8, now| {
        store.remember(pool, [key; 32], answer.clone(), now, keep).await.unwrap()
    };
    for key in 1..=3 {
        assert_eq!(add(&given.id, key, NOW).await, Remembered::Now);
    }
    for key in 4..=5 {
        let full = add(&given.id, key, NOW).await;
        let Remembered::Full { retry_after } = full else { panic!("{full:?}") };
        // Groups end up to a share later than their answers.
        assert!(!retry_after.is_zero() && retry_after <= time + time / 10, "{retry_after:?}");
        assert_eq!(store.remembered(&given.id, [key; 32], NOW).await.unwrap(), None, "nothing is recorded");
    }
    assert_eq!(add(&given.id, 2, NOW).await, Remembered::Before(answer.clone()), "a retry needs no room");
    assert_eq!(add(&other.id, 101, NOW).await, Remembered::Now, "another pool has room of its own");
    let larger = answered(1, &[(list, 7), (list, 8), (list, 9), (list, 10)]);
    assert!(larger.bytes() > answer.bytes());
    // Redis counts by its own clock, SQLite by the caller's.
    let later = time + time / 10;
    tokio::time::sleep(later).await;
    for key in 4..=6 {
        assert_eq!(add(&given.id, key, NOW.plus(later)).await, Remembered::Now, "the first ones are over");
    }
    assert!(matches!(add(&given.id, 7, NOW.plus(later)).await, Remembered::Full { .. }), "the control");
}

pub(super) async fn concurrent_answers_do_not_exceed_their_room(harness: &impl Harness) {
    let given = shape("a", 800, Bits::One);
    let (store, list) = store_with_list(harness, &given).await;
    let answer = answered(1, &[(list, 7)]);
    let keep = Keep { time: TERM, bytes_max: 10 * answer.bytes() };
    let answers = (0..40).map(|key| {
        let (store, pool, answer) = (store.clone(), given.id.clone(), answer.clone());
        tokio::spawn(async move { store.remember(&pool, [key; 32], answer, NOW, keep).await.unwrap() })
    });
    let mut recorded = 0;
    for answer in answers.collect::<Vec<_>>() {
        recorded += u32::from(answer.await.unwrap() == Remembered::Now);
    }
    assert_eq!(recorded, 10);
}

pub(super) async fn an_answer_is_remembered_once_and_for_a_while(harness: &impl Harness) {
    let given = shape("a", 800, Bits::One);
    let (store, list) = store_with_list(harness, &given).await;
    let key = [1; 32];
    assert_eq!(store.remembered(&given.id, key, NOW).await.unwrap(), None);
    let first = answered(1, &[(list, 7), (ListId::random(), 799), (list, 0)]);
    let day = keep(Duration::from_secs(24 * 3600));
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
    assert_eq!(store.remember(&given.id, short, second, NOW, keep(brief)).await.unwrap(), Remembered::Now);
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
            match store.remember(&pool, [9; 32], answer.clone(), NOW, keep(TERM)).await.unwrap() {
                Remembered::Now => (answer, true),
                Remembered::Before(before) => (before, false),
                full @ Remembered::Full { .. } => panic!("{full:?}"),
            }
        })
    });
    let (mut distinct, mut first) = (HashSet::new(), 0);
    for answer in answers.collect::<Vec<_>>() {
        let (answer, now) = answer.await.unwrap();
        distinct.extend(answer.references());
        first += u32::from(now);
    }
    assert_eq!((distinct.len(), first), (1, 1), "one of them is recorded, and returned to all");
}
