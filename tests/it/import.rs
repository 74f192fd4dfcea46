//! What an import refuses, what it goes on with, and how long it takes.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use statuslist::base::clock::Clock;

use crate::drills::switching::Here;
use crate::support::app::TestApp;
use crate::support::original::{OriginalList, write_to_postgres, write_to_redis};
use crate::support::postgres::PostgresServer;
use crate::support::process::PROGRAM;
use crate::support::redis::RedisServer;
use crate::support::relying_party::published;
use crate::support::{eventually, tries};

const PUBLIC: &str = "https://status.example";

fn id(n: usize) -> String {
    format!("{n:08x}-251c-4ec2-b3d0-b61ea62a306d")
}

fn import(redis: &RedisServer, more: &str) -> String {
    format!(
        "statuslist --config /etc/statuslist/statuslist.yaml import --from redis://127.0.0.1:{} {more}",
        redis.port
    )
}

#[test]
fn what_cannot_be_taken_over_whole_is_named_with_its_reason() {
    let redis = RedisServer::start();
    let list =
        |n, pool, bits, size| OriginalList::new(format!("{PUBLIC}/lists/{}", id(n)), pool, bits, size, 0);
    let mut lists = vec![
        list(0, "p", 1, 800),
        list(1, "other", 1, 800),
        list(2, "p", 2, 800),
        OriginalList { uri: format!("https://elsewhere.example/{}", id(3)), ..list(3, "p", 1, 800) },
        list(4, "p", 1, 800),
        list(5, "p", 3, 800),
        list(6, "p", 1, 800),
        OriginalList { uri: format!("{PUBLIC}/lists/a?b={}", id(7)), ..list(7, "p", 1, 800) },
        OriginalList { free: 801, ..list(8, "p", 1, 800) },
    ];
    lists[4].bytes.pop();
    write_to_redis(&redis, &lists);
    redis.cli(&["DEL", &format!("list:data:{}", lists[6].uri)]);
    redis.cli(&["HSET", &format!("list:config:{}", lists[0].uri), "finalStatus", "1"]);
    let pool = "{ api-key: the key of this test, size: 800, bits: 1, list-lifetime: 1h }";
    let here = Here::new(PUBLIC, "", &format!("p: {pool}"));
    let said = here.ends(&import(&redis, "--json"), 1);
    let report: Value = serde_json::from_str(&said).unwrap();
    let refused = report["refused"].as_array().unwrap();
    let why = |uri: &str| {
        refused.iter().find(|refused| refused["what"] == *uri).map(|refused| refused["why"].as_str().unwrap())
    };
    for (n, expected) in [
        (0, "its final status there is 1, that of pool p in the settings is null"),
        (
            2,
            "it does not fit pool p of the settings, which has { public-url: \"https://status.example/lists\", bits: 1, size: 800 }: it \
             needs a pool with { public-url: \"https://status.example/lists\", bits: 2, size: 800 }",
        ),
        (3, "needs a pool with { public-url: \"https://elsewhere.example\", bits: 1, size: 800 }"),
        (4, "it is damaged there, with 800 entries of 1 bit(s)"),
        (5, "it is damaged there: bits must be 1, 2, 4 or 8, got 3"),
        (6, "it is damaged there: it has no list:data"),
        (7, "its uri cannot be served"),
        (8, "801 of its 800 indices count as never handed out"),
    ] {
        let why = why(&lists[n].uri).unwrap_or_else(|| panic!("{n} was taken: {report:#}"));
        assert!(why.contains(expected), "{n}: {why}");
    }
    // A pool of another name fits it as well.
    assert_eq!((&report["new"], refused.len()), (&1.into(), 8), "{report:#}");

    let two = Here::new(PUBLIC, "", &format!("a: {pool}, b: {pool}"));
    assert!(two.ends(&import(&redis, ""), 1).contains("several pools fit it (a, b): name one with --pool"));
    assert!(two.ends(&import(&redis, "--pool a"), 1).contains("1 new lists"));
    assert!(
        two.ends(&import(&redis, "--pool c"), 2).contains("neither the settings nor the store have a pool c")
    );
    let nothing = RedisServer::start();
    assert!(here.ends(&import(&nothing, ""), 2).contains("--from has no lists"));
}

/// A deployment has one list of each name, whatever the addresses are.
#[test]
fn two_lists_of_one_name_are_one_too_many_also_in_a_dry_run() {
    let redis = RedisServer::start();
    let other = "https://other.example";
    let lists = [(PUBLIC, "p"), (other, "q")]
        .map(|(base, pool)| OriginalList::new(format!("{base}/lists/{}", id(1)), pool, 1, 800, 0));
    write_to_redis(&redis, &lists);
    let pool = "api-key: the key of this test, size: 800, bits: 1, list-lifetime: 1h";
    let here =
        Here::new(PUBLIC, "", &format!("p: {{ {pool} }}, q: {{ {pool}, public-url: \"{other}/lists\" }}"));
    let left_out = |more: &str, new: u64| {
        let said = here.ends(&import(&redis, more), 1);
        let report: Value = serde_json::from_str(&said).unwrap();
        let refused = report["refused"].as_array().unwrap();
        assert_eq!((&report["new"], refused.len()), (&new.into(), 1), "{report:#}");
        refused[0]["why"].as_str().unwrap().to_owned()
    };
    let why = left_out("--dry-run --json", 1);
    assert!(why.ends_with("it needs a deployment of its own") && why.contains(&id(1)), "{why}");
    // Both may be on their way at the same moment.
    left_out("--json", 1);
    let why = left_out("--json", 0);
    assert!(why.ends_with("it needs a deployment of its own") && why.contains(&id(1)), "{why}");
}

#[tokio::test]
async fn an_import_that_was_killed_goes_on_and_takes_later_changes_once() {
    let redis = RedisServer::start();
    let mut lists: Vec<_> =
        (0..400).map(|n| OriginalList::new(format!("{PUBLIC}/lists/{}", id(n)), "p", 1, 80_000, 0)).collect();
    write_to_redis(&redis, &lists);
    let here = Here::new(
        PUBLIC,
        "",
        "p: { api-key: the key of this test, size: 80000, bits: 1, list-lifetime: 1h }",
    );
    let file = here.path().join("statuslist.yaml");
    let mut command = Command::new(PROGRAM);
    command.arg("--config").arg(file).args([
        "import",
        "--from",
        &format!("redis://127.0.0.1:{}", redis.port),
    ]);
    let mut killed = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let arrived = || {
        let database = rusqlite::Connection::open(here.path().join("statuslist.db")).ok()?;
        database.query_row("SELECT count(*) FROM list", [], |row| row.get::<_, usize>(0)).ok()
    };
    eventually("some lists", async || arrived().filter(|lists| *lists > 20)).await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    let there = arrived().unwrap();
    assert!(there < 400, "the import was faster than this test");
    let said = here.follow(&import(&redis, ""));
    assert!(
        said.contains(&format!("{} new lists, 0 corrected (0 statuses), {there} as they were", 400 - there)),
        "{said}"
    );

    // The original went on.
    lists[7].bytes[3] ^= 0b101;
    write_to_redis(&redis, &lists[7..8]);
    let said = here.follow(&import(&redis, "--dry-run"));
    assert!(said.contains("0 new lists, 1 corrected (2 statuses), 399 as they were"), "{said}");
    let said = here.follow(&import(&redis, ""));
    assert!(said.contains("0 new lists, 1 corrected (2 statuses), 399 as they were"), "{said}");
    here.follow("statuslist --config /etc/statuslist/statuslist.yaml publish --once");
    for list in [&lists[7], &lists[399]] {
        let token = published(here.path(), &list.uri).unwrap();
        assert!((0..80_000).all(|idx| token.status(idx) == list.status(idx)), "{}", list.uri);
    }
}

/// `STATUSLIST_IMPORT_LISTS=1000 cargo test --release --all-features --test it how_long_an_import -- --nocapture --test-threads 1` is the long form.
#[tokio::test]
async fn how_long_an_import_takes() {
    let count = usize::try_from(tries("STATUSLIST_IMPORT_LISTS", 10)).unwrap();
    let (redis, postgres) = (RedisServer::start(), PostgresServer::start());
    // A pool has few lists with indices left.
    let list = |n| {
        let free = if n < 10 { 50_000 } else { 0 };
        OriginalList::new(format!("{PUBLIC}/lists/{}", id(n)), "p", 1, 100_000, free)
    };
    let lists: Vec<_> = (0..count).map(list).collect();
    write_to_redis(&redis, &lists);
    write_to_postgres(&postgres, &lists).await;
    let from_redis = format!("redis://127.0.0.1:{}", redis.port);
    let from_postgres = format!("postgres://postgres@127.0.0.1:{}/postgres", postgres.port);
    let to_redis = format!("storage-type: redis\nredis: {{ host: 127.0.0.1, port: {} }}\n", redis.port);
    let to_postgres = format!(
        "storage-type: postgres\npostgres: {{ hosts: [\"127.0.0.1:{}\"], username: postgres, database: postgres }}\n",
        postgres.port
    );
    let mut sums = BTreeSet::new();
    for (from, of) in [(&from_redis, "Redis"), (&from_postgres, "PostgreSQL")] {
        for (store, to) in [("", "SQLite"), (&to_redis, "Redis"), (&to_postgres, "PostgreSQL")] {
            // Elsewhere the lists are there already.
            if !store.is_empty() && of != to {
                continue;
            }
            let here = Here::new(
                PUBLIC,
                store,
                "p: { api-key: the key of this test, size: 100000, bits: 1, list-lifetime: 1h }",
            );
            let begun = Instant::now();
            let said = here
                .follow(&format!("statuslist --config /etc/statuslist/statuslist.yaml import --from {from}"));
            let took = begun.elapsed().as_secs_f64();
            assert!(said.contains(&format!("{count} new lists")), "{said}");
            println!("import | {count} lists of 100,000 | from {of} | to {to} | {took:.1} s |");
            let begun = Instant::now();
            here.follow("statuslist --config /etc/statuslist/statuslist.yaml publish --once");
            println!(
                "publish | {count} lists of 100,000 | on {to} | {:.1} s |",
                begun.elapsed().as_secs_f64()
            );
            for list in lists.iter().step_by(count / 10) {
                let token = published(here.path(), &list.uri).unwrap();
                let set: u64 = (0..list.size).map(|idx| u64::from(token.status(idx))).sum();
                assert!((0..list.size).all(|idx| token.status(idx) == list.status(idx)), "{}", list.uri);
                sums.insert(set);
            }
        }
    }
    assert!(sums.len() > 5, "the control: the lists differ");
}

/// The same for lists of a server of which only the tokens are known.
#[tokio::test]
async fn how_long_an_import_of_published_lists_takes() {
    let count = usize::try_from(tries("STATUSLIST_IMPORT_LISTS", 10)).unwrap();
    let redis = RedisServer::start();
    let store = format!("storage-type: redis\nredis: {{ host: 127.0.0.1, port: {} }}\n", redis.port);
    let pool = "p: { api-key: the key of this test, size: 100000, bits: 1, update-interval: 1s, list-lifetime: 1h, open-lists: 1 }";
    let settings = format!("{store}status-list-pools: {{ {pool} }}");
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    let list = |n| OriginalList::new(format!("{}/lists/{}", app.url, id(n)), "p", 1, 100_000, 0);
    let lists: Vec<_> = (0..count).map(list).collect();
    write_to_redis(&redis, &lists);
    Here::new(&app.url, &store, pool).follow(&import(&redis, ""));
    eventually("all to be published", async || {
        lists.iter().all(|list| published(app.folder(), &list.uri).is_ok()).then_some(())
    })
    .await;

    let here = Here::new(&app.url, "", pool);
    let begun = Instant::now();
    let said = here.follow(&format!(
        "statuslist --config /etc/statuslist/statuslist.yaml import --from {url}/lists/aggregation/p --trust {url}/lists/jwks.json",
        url = app.url
    ));
    let took = begun.elapsed().as_secs_f64();
    // And those that the server opened itself.
    let new: usize = said.lines().find_map(|line| line.split_once(" new lists")?.0.parse().ok()).unwrap();
    assert!(new > count, "{said}");
    println!("import | {count} lists of 100,000 | published | to SQLite | {took:.1} s |");
    here.follow("statuslist --config /etc/statuslist/statuslist.yaml publish --once");
    for list in lists.iter().step_by(count / 10) {
        let token = published(here.path(), &list.uri).unwrap();
        assert!((0..list.size).all(|idx| token.status(idx) == list.status(idx)), "{}", list.uri);
    }
}
