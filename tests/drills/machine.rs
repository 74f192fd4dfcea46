//! A machine as docs/OPERATIONS.md sees it, in a folder: `/etc/statuslist`, `/var/lib/statuslist`, and a `systemctl` that starts and
//! stops real processes. The package is not installed here, so no user `statuslist` exists.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::runbook::{Shell, said, said_here};
use crate::key_service::{EXAMPLE, python};
use crate::support::fleet::PUBLIC_URL;
use crate::support::nginx::Nginx;
use crate::support::process::{PROGRAM, free_port};

/// The API key of the pool, unless a drill gives it others.
pub(super) const KEY: &str = "x";

/// Each unit is a script of one process, which this starts in the background and stops as systemd does.
const SYSTEMCTL: &str = r#"#!/bin/bash
set -eu
root=$(dirname "$(dirname "$(realpath "$0")")")
verb=$1 unit=${!#}
case "$1 $2" in "disable --now") verb=stop ;; "enable --now") verb=start ;; esac
file=$root/run/$unit.pid
runs() { [ -e "$file" ] && [ -e "/proc/$(cat "$file")" ] && ! grep -q '^State:.Z' "/proc/$(cat "$file")/status"; }
stop() {
  if runs; then kill "$(cat "$file")"; fi
  while runs; do sleep 0.02; done
  rm -f "$file"
}
start() {
  if runs; then return; fi
  setsid sh "$root/units/$unit" </dev/null >>"$root/log/$unit" 2>&1 &
  echo $! >"$file"
}
case $verb in
  start | stop) $verb ;;
  restart) stop && start ;;
  *) echo "systemctl: $verb is not known here" >&2 && exit 1 ;;
esac
"#;

/// One machine; its processes are killed when it is dropped.
pub(super) struct Machine {
    root: PathBuf,
    pool: &'static str,
    port: u16,
    /// What the page names, and what it is here; the first one that fits counts.
    here: Vec<(&'static str, String)>,
}

impl Machine {
    /// A machine named `name` in this folder, with a signing key, for a service with this pool, which the page calls `demo`.
    pub(super) fn new(folder: &Path, name: &str, pool: &'static str) -> Self {
        let root = folder.join(name);
        for new in ["bin", "run", "log", "units", "etc/statuslist", "etc/redis", "var/lib/statuslist"] {
            fs::create_dir_all(root.join(new)).unwrap();
        }
        // nginx' workers are another user.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        symlink(PROGRAM, root.join("bin/statuslist")).unwrap();
        let (port, path) = (free_port(), |path: &str| root.join(path).display().to_string());
        let here = vec![
            ("/etc/statuslist", path("etc/statuslist")),
            ("/var/lib/statuslist", path("var/lib/statuslist")),
            ("/etc/redis", path("etc/redis")),
            ("127.0.0.1:8090", format!("127.0.0.1:{port}")),
            ("runuser -u statuslist -- ", String::new()),
            ("-o statuslist -g statuslist ", String::new()),
            ("chgrp statuslist", "test -f".to_owned()),
            ("sleep 1", "sleep 0.1".to_owned()),
        ];
        let machine = Self { root, pool, port, here };
        machine.program("systemctl", SYSTEMCTL);
        machine.unit_with(&[]);
        let made = machine.shell().run("statuslist generate-key /etc/statuslist/key.pem");
        assert!(made.status.success(), "{}", said(&made));
        machine
    }

    /// Says what a name of the page is on this machine.
    pub(super) fn call(&mut self, on_the_page: &'static str, here: impl ToString) {
        self.here.insert(0, (on_the_page, here.to_string()));
    }

    /// Writes the settings: `top` has further ones of the service, `pool` of the pool, as the inside of a YAML flow mapping.
    pub(super) fn configure(&self, top: &str, pool: &str) {
        let Self { pool: name, .. } = self;
        self.write(
            "etc/statuslist/statuslist.yaml",
            &format!(
                "public-url: {PUBLIC_URL}\n\
                 storage-directory: /var/lib/statuslist/public\n\
                 sqlite: {{ path: /var/lib/statuslist/data/statuslist.db }}\n\
                 key-directory: /var/lib/statuslist/data/keys\n\
                 instance-directory: /var/lib/statuslist/data/instance\n\
                 server: {{ listen: \"127.0.0.1:8090\" }}\n\
                 {top}\n\
                 status-list-pools:\n  {name}: {{ size: 8000, update-interval: 1s, \
                 signer: {{ pem: {{ key: /etc/statuslist/key.pem }} }}, {pool} }}\n"
            ),
        );
    }

    /// Replaces this text of the settings, as an editor does.
    pub(super) fn edit(&self, from: &str, to: &str) {
        let file = "etc/statuslist/statuslist.yaml";
        let text = fs::read_to_string(self.root.join(file)).unwrap();
        assert!(text.contains(from), "{from} is not in the settings");
        self.place(file, &text.replace(from, to));
    }

    /// Gives the service these variables at its next start.
    pub(super) fn unit_with(&self, environment: &[(String, String)]) {
        let variables: String =
            environment.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
        self.write(
            "units/statuslist",
            &format!("{variables}exec statuslist --config /etc/statuslist/statuslist.yaml serve\n"),
        );
    }

    /// Installs a Redis, without starting it.
    pub(super) fn install_redis(&self, port: u16, more: &str) {
        let data = self.root.join("var/lib/redis");
        fs::create_dir_all(&data).unwrap();
        let settings = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\nappendonly yes\nappendfsync always\nno-appendfsync-on-rewrite no\n\
             maxmemory-policy noeviction\nsave \"\"\nrepl-diskless-sync-delay 0\n{more}\n",
            data.display()
        );
        self.write("etc/redis/redis.conf", &settings);
        self.write("units/redis-server", "exec redis-server /etc/redis/redis.conf");
        self.program("redis-cli", &around("redis-cli", &format!("-p {port}")));
    }

    /// Installs the example of a key service as `key-service`, with the key of the machine, without starting it. The service with
    /// these settings signs with it. Returns its socket.
    pub(super) fn install_key_service(&self) -> PathBuf {
        let (socket, python) = (self.root.join("keys.sock"), python().display().to_string());
        let key = "/etc/statuslist/key.pem";
        let unit = format!("exec {python} {EXAMPLE} {} signer={key}", socket.display());
        self.write("units/key-service", &unit);
        let external = format!("external: {{ url: 'unix://{}', key: signer }}", socket.display());
        self.edit(&said_here(&format!("pem: {{ key: {key} }}"), &self.here), &external);
        socket
    }

    /// Makes `nginx`, `/etc/nginx` and its pid those of this nginx.
    pub(super) fn has_nginx(&mut self, nginx: &Nginx) {
        let folder = nginx.folder().display().to_string();
        self.program("nginx", &around("nginx", &format!("-p {folder} -c {folder}/conf/nginx.conf")));
        self.call("/etc/nginx", format!("{folder}/conf"));
        self.call("/run/nginx.pid", format!("{folder}/nginx.pid"));
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.write(&format!("bin/{name}"), script);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Writes a file in which names of the page mean what they are here.
    fn write(&self, path: &str, text: &str) -> PathBuf {
        self.place(path, &said_here(text, &self.here))
    }

    /// Puts a file in place.
    fn place(&self, path: &str, text: &str) -> PathBuf {
        let (path, new) = (self.root.join(path), self.root.join("new"));
        std::io::Write::write_all(&mut fs::File::create(&new).unwrap(), text.as_bytes()).unwrap();
        fs::rename(new, &path).unwrap();
        path
    }

    fn shell(&self) -> Shell {
        Shell { folder: self.root.clone(), here: self.here.clone() }
    }

    /// Runs these lines of the page on this machine.
    pub(super) async fn run(&self, lines: &str) -> Output {
        let (shell, lines) = (self.shell(), lines.replace("demo", self.pool));
        let variables = "STATUSLIST_URL=http://127.0.0.1:8090 STATUSLIST_API_KEY=${STATUSLIST_API_KEY:-x}";
        let lines = format!("export {variables}\n{lines}");
        tokio::task::spawn_blocking(move || shell.run(&lines)).await.unwrap()
    }

    /// Runs these lines, which must succeed. Returns what they printed.
    pub(super) async fn follow(&self, lines: &str) -> String {
        let output = self.run(lines).await;
        let said = said(&output);
        assert!(output.status.success(), "{lines}: {said}");
        said
    }

    /// The address of the service.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub(super) fn pool(&self) -> &'static str {
        self.pool
    }

    /// `/var/lib/statuslist`.
    pub(super) fn data(&self) -> PathBuf {
        self.root.join("var/lib/statuslist")
    }

    /// The folder that stands for `/`.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// What the service logged.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.root.join("log/statuslist")).unwrap_or_default()
    }

    /// The process of a unit.
    pub(super) fn pid(&self, unit: &str) -> u32 {
        let file = self.root.join("run").join(format!("{unit}.pid"));
        fs::read_to_string(file).unwrap().trim().parse().unwrap()
    }

    /// kill -9.
    pub(super) async fn kill(&self, unit: &str) {
        self.follow(&format!("kill -9 {}", self.pid(unit))).await;
    }
}

/// A program that calls the machine's own of this name, behind `bin` in the path, with more arguments.
fn around(name: &str, arguments: &str) -> String {
    format!("#!/bin/sh\nPATH=${{PATH#*:}}:/usr/sbin\nexec {name} {arguments} \"$@\"\n")
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (log, lines) = (self.log(), 30);
            let all: Vec<_> = log.lines().collect();
            eprintln!("{}:", self.root.display());
            all[all.len().saturating_sub(lines)..].iter().for_each(|line| eprintln!("    {line}"));
        }
        for file in fs::read_dir(self.root.join("run")).into_iter().flatten().filter_map(Result::ok) {
            let pid = fs::read_to_string(file.path()).unwrap_or_default();
            let _ = Command::new("kill").args(["-9", pid.trim()]).output();
        }
    }
}
