//! The command line, and the first minute of a new user.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::process::{PROGRAM, Process, free_port, log_path, pause};

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn write(path: &Path, content: &str) {
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), content.as_bytes()).unwrap();
}

/// The commands that the first start prints, run unchanged in a shell.
#[test]
fn the_first_minute_ends_with_a_verified_revocation() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let output = std::fs::File::create(folder.path().join("out.txt")).unwrap();
    let log = std::fs::File::create(log_path(folder.path())).unwrap();
    let mut child = Command::new(PROGRAM)
        .current_dir(folder.path())
        .env("STATUSLIST__SERVER__LISTEN", format!("127.0.0.1:{port}"))
        .env("STATUSLIST__STATUS_LIST_POOLS__DEMO__UPDATE_INTERVAL", "2s")
        .stdout(output)
        .stderr(log)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let printed = loop {
        let printed = std::fs::read_to_string(folder.path().join("out.txt")).unwrap();
        if printed.matches(" check --uri").count() == 2 && printed.ends_with("\n\n") {
            break printed;
        }
        assert!(Instant::now() < deadline, "printed only: {printed}");
        pause(Duration::from_millis(20));
    };
    let commands = printed.replace("\\\n", "");
    let commands: Vec<_> = commands
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("curl") || line.starts_with("sleep") || line.contains(" check --uri"))
        .collect();
    let shell =
        |command: &str| Command::new("sh").args(["-c", command]).current_dir(folder.path()).output().unwrap();
    let [allocate, revoke, wait, fetch, check_revoked, check_kept] = commands.as_slice() else {
        panic!("{printed}")
    };
    assert_eq!(*wait, "sleep 2", "the beat");
    for page in ["/", "/docs"] {
        let url = format!("http://127.0.0.1:{port}{page}");
        assert!(printed.lines().take(3).any(|line| line.ends_with(&format!(": {url}"))), "{printed}");
        assert!(text(&shell(&format!("curl -sf {url}"))).contains("<html"), "{url}");
    }

    assert!(text(&shell(allocate)).contains("\"references\":[{"), "{}", text(&shell(allocate)));
    let revoked = shell(&format!("{revoke} -s"));
    assert_eq!(String::from_utf8_lossy(&revoked.stdout), "204\n", "{}", text(&revoked));
    assert!(String::from_utf8_lossy(&shell(fetch).stdout).starts_with("eyJ"));
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let checked = shell(check_revoked);
        if checked.status.code() == Some(1) {
            assert!(text(&checked).starts_with("INVALID"), "{}", text(&checked));
            break;
        }
        assert_eq!(checked.status.code(), Some(0), "valid until it is published: {}", text(&checked));
        assert!(Instant::now() < deadline, "never published");
        pause(Duration::from_millis(200));
    }
    let kept = shell(check_kept);
    assert_eq!(kept.status.code(), Some(0), "{}", text(&kept));
    assert!(text(&kept).starts_with("VALID"), "{}", text(&kept));

    let untrusted = shell(&check_kept[..check_kept.find(" --trust").unwrap()]);
    assert_eq!(untrusted.status.code(), Some(2), "{}", text(&untrusted));
    assert!(text(&untrusted).contains("--trust"), "{}", text(&untrusted));

    let key = printed.lines().skip_while(|line| !line.starts_with("API key of")).nth(1).unwrap().trim();
    assert_eq!(key.len(), 64, "{key}");
    let stored = Command::new("grep").args(["-rl", key, "data"]).current_dir(folder.path()).output().unwrap();
    assert!(stored.stdout.is_empty(), "the key itself is stored in {}", text(&stored));
    let log = std::fs::read_to_string(log_path(folder.path())).unwrap();
    assert!(!log.contains(key), "the key is in the log");
    assert!(!log.contains("workers") && !log.contains("untime"), "lines of the framework: {log}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_original_services_settings_pass_and_serve() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("original.yaml");
    write(&settings, include_str!("original.yaml"));
    let checked = run(folder.path(), &["check-config", "--config", "original.yaml"]);
    assert!(checked.status.success(), "{}", text(&checked));
    assert!(text(&checked).contains("pool tests: 50000 entries of 1 bit(s)"), "{}", text(&checked));

    let port = free_port();
    let with_store = include_str!("original.yaml").replace("app:\n", "app:\n  storage-type: sqlite\n");
    let process = Process::start(
        crate::support::process::command(folder.path(), port, &with_store),
        folder.path(),
        port,
    );
    let url = format!("{}/pools/tests/new-references?amount=3", process.url);
    let curl = ["-sf", "-X", "POST", "-H", "X-Api-Key: af05bedc-ec26-472a-af56-f3b862e8e00d", &url];
    let answer = Command::new("curl").args(curl).output().unwrap();
    assert_eq!(text(&answer).matches("\"index\"").count(), 3, "{}", text(&answer));
}

#[test]
fn wrong_settings_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    write(
        &folder.path().join("statuslist.yaml"),
        "status-list-pools: { p: { api-key: x, updat-interval: 5s } }",
    );
    for command in ["check-config", "serve"] {
        let refused = run(folder.path(), &[command]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(text(&refused).contains("statuslist.yaml"), "{}", text(&refused));
        assert!(text(&refused).contains("did you mean `update-interval`?"), "{}", text(&refused));
    }
    assert!(!folder.path().join("data").exists(), "a refused start created files");
    write(
        &folder.path().join("statuslist.yaml"),
        &format!(
            "{{ storage-type: redis, redis: {{ host: 127.0.0.1, port: {} }}, status-list-pools: {{ p: {{ api-key: x }} }} }}",
            free_port()
        ),
    );
    assert!(run(folder.path(), &["check-config"]).status.success());
    let refused = text(&run(folder.path(), &["serve"]));
    assert!(refused.contains("cannot open Redis at 127.0.0.1") && refused.contains("refused"), "{refused}");
}

/// What a terminal shows of a command that logs a warning.
fn on_a_terminal(folder: &Path, no_color: Option<&str>) -> String {
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &format!("{PROGRAM} publish --once"), "/dev/null"]);
    command.current_dir(folder).env_remove("NO_COLOR").stdin(Stdio::null());
    command.envs(no_color.map(|set| ("NO_COLOR", set)));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

#[test]
fn lines_have_colours_only_where_they_are_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let colour = "\u{1b}[3";
    assert!(on_a_terminal(folder.path(), None).contains(colour));
    assert!(on_a_terminal(folder.path(), Some("")).contains(colour), "empty is as if it were not set");
    let plain = on_a_terminal(folder.path(), Some("1"));
    assert!(plain.contains("WARN") && !plain.contains(colour), "{plain}");
    let piped = run(folder.path(), &["publish", "--once"]);
    assert!(text(&piped).contains("WARN") && !text(&piped).contains('\u{1b}'), "{}", text(&piped));
}

#[test]
fn quiet_keeps_only_the_warnings() {
    let log = |more: &[&str]| {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        // A key in plain text is worth a warning.
        let settings = "status-list-pools: { p: { api-key: the key of this test } }";
        let mut command = crate::support::process::command(folder.path(), port, settings);
        command.args(more);
        let _service = Process::start(command, folder.path(), port).opened();
        std::fs::read_to_string(log_path(folder.path())).unwrap()
    };
    let (usual, quiet) = (log(&[]), log(&["--quiet"]));
    assert!(usual.contains("WARN") && usual.contains("INFO"), "{usual}");
    assert!(quiet.contains("WARN") && !quiet.contains("INFO"), "{quiet}");
}

#[test]
fn check_config_warns_of_keys_that_have_ended() {
    let folder = tempfile::tempdir().unwrap();
    let ended = "{ key: one, name: last-year, not-after: 2020-01-01T00:00:00Z }";
    let current = "{ key: two, name: this-year, not-after: 2120-01-01T00:00:00Z }";
    let settings = format!("status-list-pools:\n  p:\n    api-keys: [{ended}, {current}]\n");
    write(&folder.path().join("statuslist.yaml"), &settings);
    let checked = run(folder.path(), &["check-config"]);
    assert!(checked.status.success(), "{}", text(&checked));
    let said = text(&checked);
    let warnings: Vec<_> = said.lines().filter(|line| line.contains("has ended")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("p.api-keys: the key `last-year`"), "{said}");
}

/// What `serve` would refuse after reading the settings is found before, and all of it.
#[test]
fn check_config_reads_what_serve_will_read() {
    let folder = tempfile::tempdir().unwrap();
    let openssl = |arguments: &[&str]| {
        let made = Command::new("openssl").args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(made.status.success(), "{}", text(&made));
    };
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "rsa.pem"]);
    let key = rcgen::KeyPair::generate().unwrap();
    write(&folder.path().join("ec.pem"), &key.serialize_pem());
    for (name, year) in [("ended.pem", 2021), ("good.pem", 2100)] {
        let mut params = rcgen::CertificateParams::new(vec!["status.example".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        write(&folder.path().join(name), &params.self_signed(&key).unwrap().pem());
    }
    write(&folder.path().join("file"), "");
    let settings = |signers: [&str; 4], storage: &str| {
        let pool = |(name, signer): (usize, &&str)| {
            format!("  p{name}:\n    api-key: x\n    signer: {{ {signer} }}\n")
        };
        let pools: String = signers.iter().enumerate().map(pool).collect();
        format!("storage-directory: {storage}\nstatus-list-pools:\n{pools}")
    };
    let ended = "pem: { key: ec.pem, chain: ended.pem }";
    let wrong =
        ["pem: { key: none.pem }", "pem: { key: rsa.pem }", ended, "keystore: ec.pem, password: hidden"];
    write(&folder.path().join("wrong.yaml"), &settings(wrong, "file/public"));
    let checked = run(folder.path(), &["check-config", "--config", "wrong.yaml"]);
    let found = text(&checked);
    assert_eq!(checked.status.code(), Some(2), "{found}");
    for part in [
        "5 mistakes",
        "wrong.yaml:1: storage-directory: file/public is not a folder",
        "wrong.yaml:5: status-list-pools.p0.signer: make a key with `statuslist generate-key FILE`: cannot read none.pem",
        "wrong.yaml:8: status-list-pools.p1.signer: cannot use the signing key rsa.pem",
        "wrong.yaml:11: status-list-pools.p2.signer: verifiers would refuse what this key signs: ",
        "wrong.yaml:14: status-list-pools.p3.signer: cannot use the key store ec.pem",
    ] {
        assert!(found.contains(part), "{part}\n{found}");
    }
    assert!(!found.contains("hidden") && !folder.path().join("data").exists(), "{found}");
    let good = "pem: { key: ec.pem, chain: good.pem }";
    write(&folder.path().join("good.yaml"), &settings([good, "", good, ""], "public"));
    let checked = run(folder.path(), &["check-config", "--config", "good.yaml"]);
    assert!(
        checked.status.success() && !folder.path().join("data").exists(),
        "the control: {}",
        text(&checked)
    );
    // Two files, of which the later one wins, and a server that does not answer.
    let nobody = format!(
        "storage-type: redis\nredis: {{ host: 127.0.0.1, port: {}, timeouts: {{ connect: 100ms }} }}",
        free_port()
    );
    write(&folder.path().join("redis.yaml"), &nobody);
    let both = ["--config", "good.yaml", "--config", "redis.yaml", "check-config"];
    assert!(run(folder.path(), &both).status.success(), "{}", text(&run(folder.path(), &both)));
    let asked = text(&run(folder.path(), &[both.as_slice(), &["--online"]].concat()));
    assert!(asked.contains("redis.yaml:2: redis: cannot open Redis at 127.0.0.1"), "{asked}");
}

#[test]
fn an_address_in_use_and_a_misspelt_filter_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = text(&run(folder.path(), &["--listen", &address]));
    assert!(refused.contains(&address) && refused.contains("STATUSLIST__SERVER__LISTEN"), "{refused}");
    let misplaced = run(folder.path(), &["--listen", &address, "check-config"]);
    assert!(
        !misplaced.status.success() && text(&misplaced).contains("--listen is for serve"),
        "{}",
        text(&misplaced)
    );
    let mut command = Command::new(PROGRAM);
    let refused =
        command.env("STATUSLIST_LOG", "inof").arg("serve").current_dir(folder.path()).output().unwrap();
    assert!(
        !refused.status.success() && text(&refused).contains("`inof` is no filter"),
        "{}",
        text(&refused)
    );
}

#[test]
fn a_second_process_on_the_same_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let settings = "status-list-pools: { p: { api-key: x } }";
    let first = crate::support::process::command(folder.path(), port, settings);
    let _first = Process::start(first, folder.path(), port).opened();
    for arguments in [vec!["serve"], vec!["publish", "--once"]] {
        let mut second = crate::support::process::command(folder.path(), free_port(), settings);
        let refused = second.args(arguments).output().unwrap();
        assert_eq!(refused.status.code(), Some(2));
        assert!(text(&refused).contains("used by another process"), "{}", text(&refused));
    }
}

#[test]
fn keys_are_generated_and_hashed() {
    let folder = tempfile::tempdir().unwrap();
    for algorithm in ["es256", "es384", "eddsa"] {
        let made =
            run(folder.path(), &["generate-key", &format!("{algorithm}.pem"), "--algorithm", algorithm]);
        assert!(made.status.success(), "{}", text(&made));
        let openssl = Command::new("openssl")
            .args(["pkey", "-noout", "-in", &format!("{algorithm}.pem")])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(openssl.status.success(), "{}", text(&openssl));
    }
    let again = run(folder.path(), &["generate-key", "es256.pem"]);
    assert_eq!(again.status.code(), Some(2), "never over an existing file");
    assert!(text(&again).contains("exists"), "{}", text(&again));

    let hashed =
        Command::new("sh").args(["-c", &format!("printf abc | {PROGRAM} hash-key")]).output().unwrap();
    assert_eq!(
        text(&hashed).trim(),
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(run(folder.path(), &["hash-key"]).status.code(), Some(2));
    assert!(text(&run(folder.path(), &["hash-key", "--generate"])).contains("sha256:"));
}

#[test]
fn publish_once_rebuilds_a_deleted_site() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "status-list-pools: { p: { api-key: x, size: 800 } }";
    let port = free_port();
    let process =
        Process::start(crate::support::process::command(folder.path(), port, settings), folder.path(), port);
    let url = format!("{}/pools/p/new-references?amount=1", process.url);
    assert!(
        Command::new("curl")
            .args(["-sf", "-X", "POST", "-H", "X-Api-Key: x", &url])
            .output()
            .unwrap()
            .status
            .success()
    );
    process.kill();
    std::fs::remove_dir_all(folder.path().join("public")).unwrap();
    let mut command = crate::support::process::command(folder.path(), port, settings);
    let published = command.args(["publish", "--once"]).output().unwrap();
    assert!(published.status.success(), "{}", text(&published));
    assert!(text(&published).contains("published 3 lists"), "{}", text(&published));
    let tokens = std::fs::read_dir(folder.path().join("public/lists")).unwrap();
    let tokens = tokens.filter(|entry| {
        entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "jwt")
    });
    assert_eq!(tokens.count(), 3);
}

#[test]
fn healthcheck_tells_whether_the_service_answers() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let check = || {
        let mut command = Command::new(PROGRAM);
        command.env("STATUSLIST__SERVER__LISTEN", format!("0.0.0.0:{port}"));
        command.arg("healthcheck").current_dir(folder.path()).output().unwrap()
    };
    let nobody = check();
    assert_eq!(nobody.status.code(), Some(1), "{}", text(&nobody));
    assert!(text(&nobody).contains(&format!("http://127.0.0.1:{port}/health/live")), "{}", text(&nobody));

    let settings = "status-list-pools: { p: { api-key: x } }";
    let command = crate::support::process::command(folder.path(), port, settings);
    let process = Process::start(command, folder.path(), port);
    assert_eq!(check().status.code(), Some(0), "{}", text(&check()));

    // Another address, without any settings.
    let check_url = |url: &str| {
        let mut command = Command::new(PROGRAM);
        command.args(["--config", "/nowhere", "healthcheck", "--url", url]).output().unwrap()
    };
    let url = process.url.clone();
    for path in ["/health/fresh", "/health/ready", "/lists/jwks.json"] {
        let checked = check_url(&format!("{url}{path}"));
        assert_eq!(checked.status.code(), Some(0), "{path}: {}", text(&checked));
    }
    let missing = check_url(&format!("{url}/lists/none"));
    assert_eq!(missing.status.code(), Some(1), "{}", text(&missing));
    assert!(text(&missing).contains("/lists/none answered 404 Not Found: {"), "{}", text(&missing));
    assert_ne!(check_url("127.0.0.1:80").status.code(), Some(0));

    process.kill();
    assert_eq!(check().status.code(), Some(1));
    let gone = check_url(&format!("{url}/health/fresh"));
    assert_eq!(gone.status.code(), Some(1), "{}", text(&gone));
    assert!(text(&gone).contains(&format!("no answer from {url}/health/fresh: ")), "{}", text(&gone));
}
