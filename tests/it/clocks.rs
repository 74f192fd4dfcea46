//! Wrong clocks: a jump is noticed before anything is signed, and an `iat` in the future does not stop revocations.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use statuslist::base::clock::Clock;

use crate::support::app::{KEY, Reference, TestApp};
use crate::support::eventually;
use crate::support::redis::RedisServer;
use crate::support::relying_party::{List, published};

const TWO_HOURS: i64 = 7200;
/// Real time in which several beats of a second pass.
const BEATS: Duration = Duration::from_secs(4);

fn clock() -> Clock {
    Clock::set_to(Clock::System.now())
}

fn list(app: &TestApp, reference: &Reference) -> List {
    published(app.folder(), &reference.uri).unwrap()
}

async fn revoke(app: &TestApp, reference: &Reference) {
    assert_eq!(app.update(reference, json!(1)).await.0, StatusCode::NO_CONTENT);
}

async fn until_revoked(app: &TestApp, clock: &Clock, references: &[Reference]) {
    eventually("the revocations to be published", async || {
        clock.advance(Duration::from_millis(200));
        references.iter().all(|reference| list(app, reference).status(reference.index) == 1).then_some(())
    })
    .await;
}

async fn ready(app: &TestApp) -> StatusCode {
    app.client.get(format!("{}/health/ready", app.url)).send().await.unwrap().status()
}

/// A clock two hours ahead for four seconds, on the store of `settings`.
async fn check_short_jump(settings: &str) {
    let clock = clock();
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), settings, clock.clone());
    let references = app.references(2).await;
    assert_eq!(ready(&app).await, StatusCode::OK);
    clock.jump(TWO_HOURS);
    revoke(&app, &references[0]).await;
    tokio::time::sleep(BEATS).await;
    let ready_meanwhile = ready(&app).await;
    clock.jump(-TWO_HOURS);
    clock.advance(BEATS);
    revoke(&app, &references[1]).await;
    until_revoked(&app, &clock, &references).await;
    for reference in &references {
        let (iat, now) = (list(&app, reference).iat, clock.now().date().secs());
        assert!(iat <= now, "iat {iat} lies in the future of {now}");
    }
    assert_eq!(ready_meanwhile, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready(&app).await, StatusCode::OK);
}

#[tokio::test]
async fn a_clock_that_is_two_hours_ahead_for_a_moment_signs_nothing() {
    check_short_jump(&format!("status-list-pools: {{ p: {{ api-key: {KEY}, update-interval: 1s }} }}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_two_hours_ahead_for_a_moment_signs_nothing_on_redis() {
    let redis = RedisServer::start();
    let settings = format!(
        "{}status-list-pools: {{ p: {{ api-key: {KEY}, update-interval: 1s }} }}",
        crate::support::fleet::on_redis(&redis, "")
    );
    check_short_jump(&settings).await;
}

#[tokio::test]
async fn a_small_step_back_never_lets_iat_go_back() {
    let clock = clock();
    let app = TestApp::start_in(tempfile::tempdir().unwrap(), "update-interval: 1s", clock.clone());
    let reference = app.references(1).await.remove(0);
    let before = list(&app, &reference).iat;
    clock.jump(-5);
    revoke(&app, &reference).await;
    tokio::time::sleep(BEATS).await;
    assert_eq!(list(&app, &reference).iat, before, "it waits until the clock is past the published `iat`");
    until_revoked(&app, &clock, std::slice::from_ref(&reference)).await;
    let iat = list(&app, &reference).iat;
    assert!(before < iat && iat <= clock.now().date().secs(), "{before} {iat}");
}

#[tokio::test]
async fn a_clock_that_stays_where_it_was_set_is_believed_after_a_minute() {
    let clock = clock();
    let app = TestApp::start_in(tempfile::tempdir().unwrap(), "update-interval: 1s", clock.clone());
    let reference = app.references(1).await.remove(0);
    clock.jump(TWO_HOURS);
    assert_eq!(ready(&app).await, StatusCode::SERVICE_UNAVAILABLE);
    revoke(&app, &reference).await;
    clock.advance(Duration::from_secs(59));
    tokio::time::sleep(BEATS).await;
    assert_eq!(list(&app, &reference).status(reference.index), 0);
    clock.advance(Duration::from_secs(1));
    until_revoked(&app, &clock, std::slice::from_ref(&reference)).await;
    assert_eq!(ready(&app).await, StatusCode::OK);
}

/// The clock was wrong when the service started, and is right after a restart.
#[tokio::test]
async fn an_iat_in_the_future_does_not_stop_revocations_and_a_command_replaces_it() {
    let settings =
        format!("status-list-pools: {{ p: {{ api-key: {KEY}, update-interval: 1s, open-lists: 1 }} }}");
    let url = "http://status.example";
    let ahead = Clock::set_to(Clock::System.now().plus(Duration::from_secs(7200)));
    let app = TestApp::start_at(tempfile::tempdir().unwrap(), url, &settings, ahead);
    let reference = app.references(1).await.remove(0);
    let first = list(&app, &reference).iat;
    let folder = app.stop();

    let clock = clock();
    let app = TestApp::start_at(folder, url, &settings, clock.clone());
    revoke(&app, &reference).await;
    until_revoked(&app, &clock, std::slice::from_ref(&reference)).await;
    let iat = list(&app, &reference).iat;
    assert!(first < iat && iat < first + 60, "it grows, by as little as possible: {first} {iat}");
    let folder = app.stop();

    let publish = |arguments: &[&str]| {
        let mut command = crate::support::process::command(folder.path(), 1, &settings);
        for (name, below) in [
            ("STORAGE_DIRECTORY", "public"),
            ("KEY_DIRECTORY", "keys"),
            ("INSTANCE_DIRECTORY", "instance"),
            ("SQLITE__PATH", "statuslist.db"),
            ("AUDIT__PATH", "audit.jsonl"),
        ] {
            command.env(format!("STATUSLIST__{name}"), folder.path().join(below));
        }
        command.env("STATUSLIST__PUBLIC_URL", format!("{url}/lists"));
        let output = command.args(["publish", "--once"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let log = publish(&[]);
    assert!(log.contains("publish --once --replace-future"), "{log}");
    let kept = published(folder.path(), &reference.uri).unwrap();
    assert_eq!(kept.iat, iat, "the control: without the demand nothing goes back");
    publish(&["--replace-future"]);
    let replaced = published(folder.path(), &reference.uri).unwrap();
    assert!(replaced.iat <= Clock::System.now().date().secs(), "{}", replaced.iat);
    assert_eq!(replaced.status(reference.index), 1);
    let trail = std::fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
    assert!(trail.contains("replace-future"), "{trail}");
}
