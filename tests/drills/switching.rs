//! docs/SWITCHING.md, step by step: the lists of other services, with their own `uri`s, statuses and later updates.

use std::collections::HashSet;
use std::path::Path;

use reqwest::{Client, Method, StatusCode};
use serde_json::json;
use statuslist::base::clock::Clock;
use tempfile::TempDir;

use super::runbook::{Shell, blocks_of, said};
use crate::support::app::{Reference, TestApp};
use crate::support::eventually;
use crate::support::nginx::{Nginx, Settings};
use crate::support::original::{OriginalList, write_to_postgres, write_to_redis};
use crate::support::postgres::PostgresServer;
use crate::support::redis::RedisServer;
use crate::support::relying_party::published;

const PAGE: &str = include_str!("../../docs/SWITCHING.md");
const PUBLIC: &str = "https://status.example";
const POOLS: &str = "p: { api-key: the key of this test, size: 800, bits: 1, update-interval: 1s, list-lifetime: 1h, prefetch: { capacity: 50 } }, \
     wide: { api-key: the key of this test, size: 400, bits: 2, update-interval: 1s, list-lifetime: 1h, prefetch: { capacity: 50 } }, \
     older: { api-key: the key of this test, size: 800, bits: 1, update-interval: 1s, list-lifetime: 1h, prefetch: { capacity: 50 }, \
              public-url: https://status.example/statuslists }";

/// A machine with these settings, and a shell that runs the commands of the page there.
pub(crate) struct Here {
    folder: TempDir,
    public: String,
    settings: String,
    names: Vec<(&'static str, String)>,
}

impl Here {
    pub(crate) fn new(public: &str, store: &str, pools: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = format!("{store}status-list-pools: {{ {pools} }}");
        let here = Self { folder, public: public.to_owned(), settings, names: Vec::new() };
        let path = |name: &str| here.folder.path().join(name).display().to_string();
        let file = format!(
            "public-url: {public}/lists\nstorage-directory: {}\nkey-directory: {}\ninstance-directory: {}\nsqlite: {{ path: {} }}\n{}\n",
            path("public"),
            path("keys"),
            path("instance"),
            path("statuslist.db"),
            here.settings
        );
        here.write("statuslist.yaml", &file);
        here
    }

    pub(crate) fn named(mut self, name: &'static str, here: String) -> Self {
        self.names.push((name, here));
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let mut file = std::fs::File::create(self.folder.path().join(name)).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }

    fn shell(&self) -> Shell {
        let file = self.folder.path().join("statuslist.yaml").display().to_string();
        let mut here = vec![("/etc/statuslist/statuslist.yaml", file)];
        here.extend(self.names.iter().cloned());
        Shell { folder: self.folder.path().to_owned(), here }
    }

    /// Runs these lines of the page, which must succeed.
    pub(crate) fn follow(&self, lines: &str) -> String {
        self.shell().succeed(lines)
    }

    /// Runs these lines, which must end with this code. Returns what they said.
    pub(crate) fn ends(&self, lines: &str, code: i32) -> String {
        let output = self.shell().run(lines);
        assert_eq!(output.status.code(), Some(code), "{lines}: {}", said(&output));
        said(&output)
    }

    /// Starts the service on this data. Its folder is the service's then.
    pub(crate) fn start(self) -> (TestApp, Self) {
        let Self { folder: data, public, settings, names } = self;
        let file = std::fs::read_to_string(data.path().join("statuslist.yaml")).unwrap();
        let app = TestApp::start_at(data, &public, &settings, Clock::System);
        let here = Self { folder: tempfile::tempdir().unwrap(), public, settings, names };
        here.write("statuslist.yaml", &file);
        (app, here)
    }
}

/// Lists of the original's pools: full ones, and a last one with free indices.
fn lists() -> Vec<OriginalList> {
    let id = |n: u32| format!("{n:08x}-251c-4ec2-b3d0-b61ea62a306d");
    let mut lists: Vec<_> =
        (0..12).map(|n| OriginalList::new(format!("{PUBLIC}/lists/{}", id(n)), "p", 1, 800, 0)).collect();
    lists.extend((20..24).map(|n| OriginalList::new(format!("{PUBLIC}/lists/{}", id(n)), "wide", 2, 400, 0)));
    lists.push(OriginalList::new(format!("{PUBLIC}/lists/{}", id(30)), "p", 1, 800, 300));
    lists
}

/// Checks every status of every list as a Relying Party sees it.
fn all_published(folder: &Path, lists: &[OriginalList]) {
    for list in lists {
        let token = published(folder, &list.uri).unwrap();
        for idx in 0..list.size {
            assert_eq!(token.status(idx), list.status(idx), "{} {idx}", list.uri);
        }
    }
}

/// What is promised of imported lists: updates, their publication, and that no reference is handed out twice.
async fn promises_hold(app: &TestApp, lists: &[OriginalList]) {
    let list = lists.last().unwrap();
    // The first was never handed out: only the original's issuer knows, so its update is taken as well.
    for index in [0, list.size / 2, list.size - 1] {
        let reference = Reference { uri: list.uri.clone(), index };
        let value = 1 - list.status(index);
        assert_eq!(app.update(&reference, json!(value)).await.0, StatusCode::NO_CONTENT, "{reference:?}");
        let folder = app.folder();
        eventually("the update to be published", async || {
            published(folder, &reference.uri).is_ok_and(|list| list.status(index) == value).then_some(())
        })
        .await;
    }
    let imported: HashSet<_> = lists.iter().map(|list| list.uri.as_str()).collect();
    let mut new = Vec::new();
    for _ in 0..20 {
        new.extend(app.references(50).await);
    }
    assert_eq!(new.iter().collect::<HashSet<_>>().len(), 1000);
    assert!(new.iter().all(|reference| !imported.contains(reference.uri.as_str())), "a list is not sealed");
    let (_, of_pool) = app.send(Method::GET, "/pools/p/lists", None).await;
    let told = of_pool["lists"].as_array().unwrap().iter().find(|told| told["uri"] == *list.uri).unwrap();
    assert_eq!((&told["used"], &told["open"]), (&json!(list.size - list.free), &json!(false)), "{told}");
}

async fn from_redis(store: impl Fn(u16) -> String, redis: RedisServer) {
    let [rehearse, import] = <[String; 2]>::try_from(blocks_of(PAGE, "From the original service on Redis"))
        .expect("the page has changed");
    let mut lists = lists();
    lists.insert(0, OriginalList::new(format!("{PUBLIC}/lists/list_1.b"), "p", 1, 800, 0));
    write_to_redis(&redis, &lists);
    let here = Here::new(PUBLIC, &store(redis.port), POOLS)
        .named("original.example:6379", format!("127.0.0.1:{}", redis.port));
    let said = here.follow(&rehearse);
    assert!(said.contains("nothing was written; it would be: 18 new lists"), "{said}");
    assert!(!here.path().join("statuslist.db").exists(), "a dry run makes no store");
    let said = here.follow(&import);
    assert!(said.contains("18 new lists, 0 corrected (0 statuses), 0 as they were"), "{said}");
    assert!(said.contains("agree with the store"), "{said}");
    all_published(here.path(), &lists);
    let again = import.lines().next().unwrap();
    let said = here.follow(again);
    assert!(said.contains("0 new lists, 0 corrected (0 statuses), 18 as they were"), "{said}");
    all_published(here.path(), &lists);

    let (app, here) = here.start();
    promises_hold(&app, &lists).await;
    let folder = app.stop();
    // What changed here is not overwritten, and the rest is as it was.
    let said = here.ends(again, 1);
    assert!(said.contains("3 of its statuses differ since: it is left as it is here"), "{said}");
    assert!(said.contains("0 new lists, 0 corrected (0 statuses), 17 as they were"), "{said}");
    all_published(folder.path(), &lists[..17]);
}

#[tokio::test]
async fn the_originals_redis_moves_to_sqlite() {
    from_redis(|_| String::new(), RedisServer::start()).await;
}

#[tokio::test]
async fn the_originals_redis_moves_within_redis() {
    let store = |port| format!("storage-type: redis\nredis: {{ host: 127.0.0.1, port: {port} }}\n");
    from_redis(store, RedisServer::start()).await;
}

#[tokio::test]
async fn the_originals_redis_moves_to_postgresql() {
    let postgres = PostgresServer::start();
    let store = format!(
        "storage-type: postgres\npostgres: {{ hosts: [\"127.0.0.1:{}\"], username: postgres, database: postgres }}\n",
        postgres.port
    );
    from_redis(|_| store.clone(), RedisServer::start()).await;
}

/// Lists at two addresses, as nginx and the built-in server serve them and the API updates them.
#[tokio::test]
async fn the_originals_postgresql_moves_with_several_addresses() {
    let [rehearse, import] =
        <[String; 2]>::try_from(blocks_of(PAGE, "From the original service on PostgreSQL"))
            .expect("the page has changed");
    let postgres = PostgresServer::start();
    let mut lists = lists();
    lists[0].uri = lists[0].uri.replace("/lists/", "/statuslists/");
    write_to_postgres(&postgres, &lists).await;
    let original = format!("postgres@127.0.0.1:{}/postgres", postgres.port);
    let here = Here::new(PUBLIC, "", POOLS).named("reader@original.example:5432/statuslist", original);
    assert!(here.follow(&rehearse).contains("17 new lists"));
    let said = here.follow(&import);
    assert!(said.contains("17 new lists") && said.contains("agree with the store"), "{said}");
    all_published(here.path(), &lists);

    let (app, _here) = here.start();
    promises_hold(&app, &lists).await;
    let other = Reference { uri: lists[0].uri.clone(), index: 5 };
    let value = 1 - lists[0].status(5);
    assert_eq!(app.update(&other, json!(value)).await.0, StatusCode::NO_CONTENT);
    let wrong = Reference { uri: other.uri.replace("/statuslists/", "/lists/"), index: 5 };
    let (status, problem) = app.update(&wrong, json!(value)).await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (StatusCode::BAD_REQUEST, Some("NO_SUCH_LIST")),
        "{problem}"
    );
    eventually("its publication", async || {
        published(app.folder(), &other.uri).is_ok_and(|list| list.status(5) == value).then_some(())
    })
    .await;
    let storage = app.folder().join("public");
    let nginx = Nginx::start(&Settings { other_path: true, ..Settings::new(&storage) });
    let client = Client::new();
    for server in [app.url.clone(), format!("http://{}", nginx.public)] {
        for list in [&lists[0], &lists[1], &lists[13]] {
            let token = client.get(list.uri.replace(PUBLIC, &server)).send().await.unwrap();
            assert_eq!(
                token.headers()["content-type"],
                "application/statuslist+jwt",
                "{server} {}",
                list.uri
            );
            let file = storage.join(format!("lists/{}.jwt", list.uri.rsplit('/').next().unwrap()));
            assert_eq!(token.text().await.unwrap(), std::fs::read_to_string(file).unwrap());
        }
        for path in ["/lists", "/statuslists"] {
            let keys = client.get(format!("{server}{path}/jwks.json")).send().await.unwrap();
            assert_eq!(keys.status(), StatusCode::OK, "{server}{path}");
            let none = client.get(format!("{server}{path}/none")).send().await.unwrap();
            assert_eq!(none.status(), StatusCode::NOT_FOUND, "{server}{path}");
        }
    }
}

/// Lists of a server that is not ours to look into; one of them has a name that is no UUID.
#[tokio::test]
async fn published_lists_move_by_file_and_by_aggregation() {
    let [by_file, by_aggregation] =
        <[String; 2]>::try_from(blocks_of(PAGE, "From another server, or from static lists"))
            .expect("the page has changed");
    let pool = "p: { api-key: the key of this test, size: 800, bits: 1, update-interval: 1s, list-lifetime: 1h, prefetch: { capacity: 50 } }";
    let redis = RedisServer::start();
    let store = format!("storage-type: redis\nredis: {{ host: 127.0.0.1, port: {} }}\n", redis.port);
    let settings = format!("{store}status-list-pools: {{ {pool} }}");
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    let reference = app.references(1).await.remove(0);
    app.update(&reference, json!(1)).await;
    // The other server's own list of another name, imported while it runs.
    let named = OriginalList::new(format!("{}/lists/list_1.b", app.url), "p", 1, 800, 0);
    write_to_redis(&redis, std::slice::from_ref(&named));
    let other = Here::new(&app.url, &store, pool);
    other.follow(&format!(
        "statuslist --config /etc/statuslist/statuslist.yaml import --from redis://127.0.0.1:{}",
        redis.port
    ));
    eventually("both to be published", async || {
        let named = published(app.folder(), &named.uri).is_ok();
        let set = published(app.folder(), &reference.uri).is_ok_and(|list| list.status(reference.index) == 1);
        let all = app.client.get(format!("{}/lists/aggregation/p", app.url)).send().await.unwrap();
        (named && set && all.text().await.unwrap().contains("/list_1.b")).then_some(())
    })
    .await;

    for (lines, by) in [(by_file, "file"), (by_aggregation, "aggregation")] {
        let here = Here::new(&app.url, "", pool).named("https://other.example", app.url.clone());
        here.write("lists.txt", &format!("# all\n{}\n\n{}\n", named.uri, reference.uri));
        let untrusted = lines.split(" --trust").next().unwrap();
        assert!(here.ends(untrusted, 2).contains("need --trust"));
        let said = here.follow(&lines);
        assert!(said.contains("new lists") && !said.contains(" 0 new"), "{by}: {said}");
        here.follow("statuslist --config /etc/statuslist/statuslist.yaml publish --once");
        all_published(here.path(), std::slice::from_ref(&named));
        let list = published(here.path(), &reference.uri).unwrap();
        assert!((0..800).all(|idx| list.status(idx) == u8::from(idx == reference.index)));
    }
}

/// A backup that is older than what was acknowledged, the tokens, and the issuer's register.
#[tokio::test]
async fn a_restored_backup_gets_what_the_tokens_and_the_register_know() {
    let [merge, register] =
        <[String; 2]>::try_from(blocks_of(PAGE, "After a restored backup")).expect("the page has changed");
    let pool = "p: { api-key: the key of this test, size: 160, bits: 2, final-status: 1, update-interval: 1s, list-lifetime: 1h, \
                prefetch: { capacity: 50 } }";
    let (app, here) = Here::new(PUBLIC, "", pool).start();
    let before = app.references(10).await;
    app.update(&before[0], json!(2)).await;
    app.update(&before[1], json!(2)).await;
    let known = app.send(Method::GET, "/pools/p/lists", None).await.1.to_string();
    let folder = app.stop();
    let (database, copy) = (folder.path().join("statuslist.db"), folder.path().join("backup.db"));
    here.follow(&format!("statuslist --config /etc/statuslist/statuslist.yaml backup {}", copy.display()));

    let app = TestApp::start_at(folder, PUBLIC, &here.settings, Clock::System);
    for (reference, value) in before.iter().zip([1, 0, 1]) {
        assert_eq!(app.update(reference, json!(value)).await.0, StatusCode::NO_CONTENT);
    }
    let mut given = Vec::new();
    for _ in 0..20 {
        given.extend(app.references(50).await);
    }
    let later = given.iter().find(|reference| !known.contains(&reference.uri));
    let later = later.expect("a list was opened").clone();
    assert_eq!(app.update(&later, json!(1)).await.0, StatusCode::NO_CONTENT);
    // Publishes what is pending.
    let folder = app.stop();
    for rest in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(folder.path().join(format!("statuslist.db{rest}")));
    }
    std::fs::copy(&copy, &database).unwrap();

    let mut merge = merge.lines();
    let said = here.ends(merge.next().unwrap(), 1);
    assert!(said.contains("nothing was written"), "{said}");
    let once = here.ends(merge.next().unwrap(), 1);
    let left = format!(
        "{} {}: the store says SUSPENDED, the published token says VALID",
        before[1].uri, before[1].index
    );
    assert!(once.contains(&left), "{once}");
    let counts = |said: &str| {
        said.lines()
            .find(|line| line.contains(" new lists, "))
            .map(|line| line.rsplit(": ").next().unwrap().to_owned())
    };
    assert_eq!(counts(&said), counts(&once), "a dry run says what would be done");

    here.write(
        "register.csv",
        &format!(
            "uri,idx,value\n{},{},valid\n{},{},2\n",
            before[1].uri, before[1].index, before[3].uri, before[3].index
        ),
    );
    let said = here.follow(&register);
    assert!(said.contains("(2 statuses)"), "{said}");
    let rows = format!(
        "{},{},valid\n{PUBLIC}/lists/none,1,1\n{},x,1\n",
        before[0].uri, before[0].index, before[0].uri
    );
    here.write("register.csv", &rows);
    let said = here.ends(register.lines().last().unwrap(), 1);
    for why in [
        "it has the final status INVALID",
        "the store has no list with this uri",
        "line 3: the index `x` is not a number",
    ] {
        assert!(said.contains(why), "{why}: {said}");
    }

    let app = TestApp::start_at(folder, PUBLIC, &here.settings, Clock::System);
    let expected = before.iter().zip([1, 0, 1, 2]).chain([(&later, 1)]);
    for (reference, value) in expected.clone() {
        assert_eq!(app.stored(reference).await["value"], value, "{reference:?}");
    }
    let given: HashSet<_> = given.into_iter().chain(before.clone()).collect();
    for _ in 0..10 {
        assert!(app.references(50).await.iter().all(|new| !given.contains(new)), "a reference came twice");
    }
    for (reference, value) in expected {
        eventually("its publication", async || {
            let list = published(app.folder(), &reference.uri);
            list.is_ok_and(|list| list.status(reference.index) == value).then_some(())
        })
        .await;
    }
}
