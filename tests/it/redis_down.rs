//! Redis is gone, or hangs, under load by k6: readers notice nothing, writers are told to retry, and everything works within two
//! seconds of its return, without a restart. `STATUSLIST_TEST_OUTAGE` says for how many seconds it is gone.

use std::ops::Range;
use std::time::Duration;

use statuslist::base::clock::Clock;

use crate::support::eventually;
use crate::support::fleet::{Instance, PUBLIC_URL, on_redis};
use crate::support::k6::{K6, Notes};
use crate::support::redis::RedisServer;
use crate::support::relying_party::published;

/// The longest time from the failure until it is known. The first write may wait for an answer for the timeout of a command.
const NOTICE: u64 = COMMAND_TIMEOUT + SLACK;
const COMMAND_TIMEOUT: u64 = 2000;
/// What a busy machine may add to a configured time.
const SLACK: u64 = 3000;
/// How long a refusal may take once it is known.
const PROMPT: u64 = 2000;
/// The longest time from the return of Redis until everything works.
const RECOVERY: u64 = 2000;
/// How long a request waits for references.
const REQUEST_TIMEOUT: u64 = 3000;
const CAPACITY: usize = 400;
/// How many references one request takes (`outage.js`).
const AMOUNT: usize = 20;

/// One answer to a client.
struct Answer {
    what: String,
    begun: u64,
    took: u64,
    status: u16,
    /// Whether an error says what is wrong and when to retry.
    proper: bool,
}

impl Answer {
    fn read(note: &str) -> Self {
        let words: Vec<_> = note.split(' ').collect();
        let [what, begun, took, status, proper] = words[..] else { panic!("no such note: {note}") };
        Self {
            what: what.to_owned(),
            begun: begun.parse().unwrap(),
            took: took.parse().unwrap(),
            status: status.parse().unwrap(),
            proper: proper == "true",
        }
    }

    fn is_good(&self) -> bool {
        [200, 204].contains(&self.status)
    }

    fn is_refused(&self) -> bool {
        self.status == 503 && self.proper
    }

    fn is_good_or_refused(&self) -> bool {
        self.is_good() || self.is_refused()
    }
}

/// All answers of a kind to requests that were entirely within these times.
fn within<'a>(answers: &'a [Answer], what: &'a str, times: Range<u64>) -> impl Iterator<Item = &'a Answer> {
    answers.iter().filter(move |answer| {
        answer.what == what && times.contains(&answer.begun) && times.contains(&(answer.begun + answer.took))
    })
}

/// Returns the longest time of an answer of a kind. All must be as expected, and at least one must exist.
fn slowest<'a>(
    answers: &'a [Answer],
    what: &'a str,
    times: Range<u64>,
    expected: fn(&Answer) -> bool,
) -> u64 {
    let mut slowest = None;
    for answer in within(answers, what, times.clone()) {
        assert!(expected(answer), "{what} at {} of {times:?} was answered {}", answer.begun, answer.status);
        slowest = slowest.max(Some(answer.took));
    }
    slowest.unwrap_or_else(|| panic!("no {what} within {times:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_continue_and_writes_are_told_to_retry_while_redis_is_gone_or_hangs() {
    let outage = std::env::var_os("STATUSLIST_TEST_OUTAGE");
    let outage: u64 = outage.map_or(8, |seconds| seconds.to_str().unwrap().parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut redis = RedisServer::start();
    let settings = format!(
        "{}limits: {{ request-timeout: {REQUEST_TIMEOUT}ms }}
status-list-pools: {{ p: {{ api-key: x, size: 80000, update-interval: 1s, prefetch: {{ capacity: {CAPACITY}, threshold: {CAPACITY} }} }} }}",
        on_redis(&redis, &format!("timeouts: {{ command: {COMMAND_TIMEOUT}ms }}"))
    );
    let instance = Instance::start(folder.path(), "instance", &settings);
    let reference = instance.issuer().references("p", 1).await.remove(0);
    let list = reference.uri.rsplit('/').next().unwrap();
    let environment = [
        ("INSTANCE", instance.url()),
        ("PUBLIC_URL", PUBLIC_URL.to_owned()),
        ("REFERENCE", format!("{}@{list}", reference.index)),
    ];
    let load = K6::start("outage.js", folder.path(), &environment);
    let well = now();
    pass(3000).await;

    let killed = now();
    redis.kill();
    pass(outage * 1000).await;
    let returning = now();
    redis.start_again();
    let returned = now();
    pass(RECOVERY + 2000).await;

    let frozen = now();
    redis.freeze(true);
    pass(NOTICE + 4000).await;
    let thawing = now();
    redis.freeze(false);
    pass(RECOVERY + 2000).await;
    let end = now();

    let answers: Vec<_> = read(&load.stop());
    // Readers never notice.
    let slowest_read = slowest(&answers, "read", well..end, Answer::is_good);
    assert!(slowest_read < PROMPT, "a read took {slowest_read} ms");
    for what in ["update", "ask", "allocate"] {
        for (from, until) in [(well + 1000, killed), (returned + RECOVERY, frozen), (thawing + RECOVERY, end)]
        {
            slowest(&answers, what, from..until, Answer::is_good);
        }
    }
    let mut measured = Vec::new();
    for (from, until, back) in [(killed, returning, returned), (frozen, thawing, thawing)] {
        for what in ["update", "ask"] {
            // What was in flight in the first moment may succeed, or be answered late, but never wrongly.
            let first = slowest(&answers, what, from..until, Answer::is_good_or_refused);
            assert!(first < NOTICE, "the first refusal of {what} took {first} ms");
            slowest(&answers, what, from + 100..until, Answer::is_refused);
            let later = slowest(&answers, what, from + NOTICE..until, Answer::is_refused);
            assert!(later < PROMPT, "a later refusal of {what} took {later} ms");
            let good = answers.iter().filter(|answer| answer.what == what && answer.is_good());
            let again =
                good.map(|answer| answer.begun + answer.took).filter(|time| *time > back).min().unwrap();
            measured.push(format!("{what}: first {first}, later {later}, recovered after {}", again - back));
        }
        // What was leased before the outage is handed out; then requests wait, as configured, and are refused.
        let slowest = slowest(&answers, "allocate", from..until, Answer::is_good_or_refused);
        assert!(slowest < REQUEST_TIMEOUT + SLACK, "an allocation took {slowest} ms");
        let (given, refused): (Vec<_>, Vec<_>) =
            within(&answers, "allocate", from + 100..until).partition(|answer| answer.is_good());
        let references = given.len() * AMOUNT;
        // What began just before the end may have been refilled once, from a store that was still there.
        assert!(
            (AMOUNT..=2 * CAPACITY).contains(&references) && !refused.is_empty(),
            "{references} references were handed out"
        );
        measured.push(format!("{references} references from the buffer, then refusals after {slowest}"));
    }
    // What is acknowledged afterwards is published as before.
    let issuer = instance.issuer();
    let reference = issuer.references("p", 1).await.remove(0);
    issuer.set(&reference, 1).await.unwrap();
    eventually("the update to be published", async || {
        let list = published(instance.folder(), &reference.uri).ok()?;
        (list.status(reference.index) == 1).then_some(())
    })
    .await;
    println!("{} answers; the slowest read took {slowest_read} ms; in ms: {measured:#?}", answers.len());
}

fn read(notes: &Notes) -> Vec<Answer> {
    notes.iter().flatten().map(|note| Answer::read(note)).collect()
}

fn now() -> u64 {
    Clock::System.now().millis()
}

async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
