//! The rights in `redis/users.conf` and `postgres/role.sql` are enough for every promise, and none of them is one too many.

use std::fs;
use std::path::Path;

use super::servers::postgres::settings as postgres_settings;
use super::servers::redis::RedisServer;
use super::*;

/// The user in the shipped file, with another name, prefix and password.
fn user(name: &str) -> (Vec<String>, Vec<String>) {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/redis/users.conf");
    let text = fs::read_to_string(file).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("user ")).collect();
    let [line] = lines[..] else { panic!("one user: {lines:?}") };
    let words: Vec<_> = line.split(' ').skip(2).collect();
    let replaced = words.iter().map(|word| match *word {
        digest if digest.starts_with('#') => ">secret".to_owned(),
        "~statuslist:*" => format!("~{name}:*"),
        other => other.to_owned(),
    });
    let commands = words.iter().filter_map(|word| word.strip_prefix('+')).map(str::to_owned).collect();
    (replaced.collect(), commands)
}

/// Makes the user, without one of its commands.
fn make_user(server: &RedisServer, name: &str, without: Option<&str>) {
    let (mut rules, _) = user(name);
    rules.retain(|rule| without.is_none_or(|without| *rule != format!("+{without}")));
    set_user(server, name, &rules);
}

fn set_user(server: &RedisServer, name: &str, rules: &[String]) {
    let rules = rules.iter().map(String::as_str);
    let command: Vec<_> = ["ACL", "SETUSER", name].into_iter().chain(rules).collect();
    assert_eq!(server.cli(&command), "OK");
}

fn settings(server: &RedisServer, name: &str) -> StoreConfig {
    settings_of(name, &server.settings())
}

fn settings_of(name: &str, target: &str) -> StoreConfig {
    let redis = format!("key-prefix: {name}, username: {name}, password: secret, {target}");
    let settings = format!("{{ storage-type: redis, redis: {{ {redis} }} }}");
    Config::load(Some(&settings), std::iter::empty()).unwrap().store
}

static SERVER: LazyLock<RedisServer> = LazyLock::new(RedisServer::start);

/// A user of the shipped rights, and data of its own.
pub(super) struct LimitedHarness(StoreConfig);

impl LimitedHarness {
    pub(super) fn new() -> Self {
        let name = format!("u{}", ListId::random());
        make_user(&SERVER, &name, None);
        Self(settings(&SERVER, &name))
    }
}

impl Harness for LimitedHarness {
    async fn open(&self) -> Store {
        Store::open(&self.0).await.expect("Redis can be used")
    }
}

/// Every operation, so that every command is sent.
async fn every_step(config: &StoreConfig) -> Result<(), StoreError> {
    let store = Store::open(config).await?;
    let given = PoolShape { final_status: Some(Status::new(3)), ..shape("a", 80_000, Bits::Two) };
    store.declare_pool(&given).await?;
    let pool = &given.id;
    let mut lists = Vec::new();
    for _ in 0..5 {
        lists.push(store.open_list(pool, &ours(), u64::MAX, NOW).await?);
    }
    let [list, filled, spreading, retired, moved] = lists[..] else { unreachable!("five were opened") };
    store.open_lists(pool, &ours()).await?;
    let Leased::Block(block) = store.lease_block(list, 10, &ours(), Lease::default(), NOW).await? else {
        return Err(StoreError::Unavailable("nothing was leased".to_owned()));
    };
    store.return_tail(&block, 5).await?;
    store.order_of(list).await?;
    let expected = vec![change_of(list, 700, 0, 1), change_of(list, 7, 0, 2), change(moved, 9, 1)];
    let applied = store.apply(pool, vec![expected, vec![change(list, 79_000, 3)]], soon(), NOW).await?;
    assert_eq!(applied, [Ok(()), Ok(())]);
    assert!(store.apply(pool, vec![vec![change(list, 79_000, 0)]], soon(), NOW).await?[0].is_err());
    store.snapshot(list).await?;
    store.status(list, index(7)).await?;
    store.dirty(pool).await?;
    store.due(pool, NOW).await?;
    store.next_due(pool).await?;
    let fence = store.lease_publisher(pool, &ours(), TERM, Duration::ZERO).await?.expect("nobody has it");
    store.publisher(pool).await?;
    let publication =
        Publication { version: Version(1), iat: NOW.date(), resign_at: in_secs(NOW.date().secs() + 100) };
    store.settle(list, publication, TAKEN, DueMark(0), fence).await?;
    store.mark_due(vec![list]).await?;
    assert_eq!(store.fill_list(filled, Status::INVALID, 1, soon(), NOW).await?, Ok(()));
    assert!(store.fill_list(list, Status::INVALID, 1, soon(), NOW).await?.is_err(), "it has a final status");
    assert_eq!(store.fill_list(spreading, Status::INVALID, 3, soon(), NOW).await?, Ok(()));
    let record = store.spreading(pool).await?.remove(0);
    let spread = record.spread.expect("it was just begun");
    assert!(store.advance_spread(spreading, &spread, &[index(1), index(2)], NOW).await?);
    assert_eq!(store.apply(pool, vec![vec![change(spreading, 5, 2)]], soon(), NOW).await?, [Ok(())]);
    store.retire_list(retired, soon()).await?;
    let mut transfer = store.export_list(moved).await?;
    transfer.record.id = ListId::random();
    assert!(store.import_list(&transfer).await?);
    store.seal_list(moved).await?;
    let place = Placed { given: Given { list, idx: 1 }, position: 0, key: None };
    let answer = Answered::new([1; 32], &[place], 80_000);
    let keep = Keep { time: TERM, bytes_max: u64::MAX >> 12 };
    store.remember(pool, [1; 32], answer, NOW, keep).await?;
    store.remembered(pool, [1; 32], NOW).await?;
    store.list(list).await?;
    store.lists(pool).await?;
    store.pools().await?;
    let newer = store.registry().await?.followed_by("x".to_owned());
    assert!(store.replace_registry(&Stamp::default(), &newer, soon()).await?);
    store.registry_stamp().await?;
    store.usage(pool).await?;
    store.shape_of(pool).await?;
    store.release_publisher(pool, &ours()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_right_of_the_shipped_user_is_needed() {
    let server = RedisServer::start();
    let (_, commands) = user("any");
    assert!(commands.len() > 20, "{commands:?}");
    make_user(&server, "complete", None);
    every_step(&settings(&server, "complete")).await.unwrap();
    let others =
        commands.iter().filter(|command| !["script|load", "ping", "unwatch"].contains(&command.as_str()));
    let checks = others.map(|command| {
        let name = format!("without-{}", command.replace('|', "-"));
        make_user(&server, &name, Some(command));
        let config = settings(&server, &name);
        (command, tokio::spawn(async move { every_step(&config).await }))
    });
    let mut unneeded = Vec::new();
    // Without these every command works, but of a server that knows the scripts already, or over a new connection for each.
    let connections = |server: &RedisServer| -> u64 {
        let stats = server.cli(&["INFO", "stats"]);
        let received = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        received.unwrap().trim().parse().unwrap()
    };
    let usual = connections(&server);
    for command in ["script|load", "ping", "unwatch"] {
        assert!(commands.iter().any(|other| other == command));
        let fresh = RedisServer::start();
        make_user(&fresh, "u", Some(command));
        if every_step(&settings(&fresh, "u")).await.is_ok() && connections(&fresh) < 2 * usual {
            unneeded.push(command.to_owned());
        }
    }
    for (command, check) in checks.collect::<Vec<_>>() {
        if matches!(check.await, Ok(Ok(()))) {
            unneeded.push(command.clone());
        }
    }
    assert!(unneeded.is_empty(), "drop these from redis/users.conf, nothing needs them: {unneeded:?}");
}

/// The additional rights that the file names, on servers with replicas: they are enough, and each is needed.
#[tokio::test(flavor = "multi_thread")]
async fn behind_sentinels_and_in_a_cluster_few_more_rights_are_needed() {
    let of_sentinels = (&SENTINELS.servers[..], SENTINELS.settings(), vec!["wait", "incr"]);
    let of_cluster = (&CLUSTER.servers[..], CLUSTER.settings(), vec!["wait", "incr", "cluster|slots"]);
    for (servers, target, more) in [of_sentinels, of_cluster] {
        for without in std::iter::once(None).chain(more.iter().map(Some)) {
            let name = format!("u{}", ListId::random());
            let (mut rules, _) = user(&name);
            rules
                .extend(more.iter().filter(|right| Some(*right) != without).map(|right| format!("+{right}")));
            servers.iter().for_each(|server| set_user(server, &name, &rules));
            let config = settings_of(&name, &format!("replicas: 1, {target}"));
            let done = tokio::spawn(async move { every_step(&config).await }).await;
            assert_eq!(matches!(done, Ok(Ok(()))), without.is_none(), "without {without:?}: {done:?}");
        }
    }
}

#[tokio::test]
async fn the_shipped_user_reaches_no_other_keys_and_no_settings() {
    let server = RedisServer::start();
    make_user(&server, "statuslist", None);
    for forbidden in [
        &["GET", "other:key"][..],
        &["SET", "other:key", "1"],
        &["FLUSHALL"],
        &["DEL", "statuslist:pools"],
        &["KEYS", "*"],
        &["CONFIG", "SET", "appendfsync", "no"],
        &["EVAL", "return 1", "0"],
        &["ACL", "LIST"],
        &["SHUTDOWN"],
        &["REPLICAOF", "192.0.2.1", "1"],
        &["MODULE", "LIST"],
        &["MONITOR"],
    ] {
        let command: Vec<_> = ["--user", "statuslist", "--pass", "secret", "--no-auth-warning"]
            .iter()
            .chain(forbidden)
            .copied()
            .collect();
        let said = server.cli(&command);
        assert!(said.contains("NOPERM"), "{forbidden:?}: {said}");
    }
}

/// A role of the shipped script, with a schema of its own.
pub(super) struct RoleHarness(StoreConfig);

impl RoleHarness {
    pub(super) fn new() -> Self {
        Self(config_of_role(&make_role()))
    }
}

impl Harness for RoleHarness {
    async fn open(&self) -> Store {
        Store::open(&self.0).await.expect("PostgreSQL can be used")
    }
}

/// Runs the shipped script. Returns the name of the new role, which is also that of its schema.
fn make_role() -> String {
    let name = format!("r{}", ListId::random()).replace('-', "_");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("postgres/role.sql");
    // PostgreSQL refuses two grants on one database at the same moment.
    static ALONE: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
    let _alone = ALONE.lock();
    POSTGRES.run_file(&script, &[("role", &name), ("schema", &name)]);
    name
}

fn config_of_role(name: &str) -> StoreConfig {
    let target = postgres_settings(POSTGRES.port).replace("username: postgres", &format!("username: {name}"));
    let settings = format!("{{ storage-type: postgres, postgres: {{ schema: {name}, {target} }} }}");
    Config::load(Some(&settings), std::iter::empty()).unwrap().store
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_role_makes_every_step_and_may_nothing_else() {
    let (name, other) = (make_role(), make_role());
    every_step(&config_of_role(&name)).await.unwrap();
    Store::open(&config_of_role(&other)).await.unwrap();
    let refused = |sql: &str| {
        let as_role = format!("SET ROLE {name}; {sql}");
        assert!(POSTGRES.try_sql(&as_role).is_none(), "the role may: {sql}");
        assert!(POSTGRES.try_sql(sql).is_some(), "the control: {sql}");
    };
    refused(&format!("SELECT count(*) FROM {other}.list"));
    refused(&format!("CREATE SCHEMA {name}_2"));
    refused(&format!("CREATE ROLE {name}_2"));
    refused(&format!("CREATE TABLE public.{name} (a int)"));
    refused("SELECT pg_reload_conf()");
    refused("SELECT pg_ls_dir('.')");
    refused("CHECKPOINT");
}
