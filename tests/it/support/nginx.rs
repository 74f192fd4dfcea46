//! nginx with the shipped files of `nginx/`, except for the settings at their top: paths, ports, and the subject of a
//! test. Each setting must occur exactly once, so that the tests use what a deployment edits.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::process::{free_port, pause};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/nginx");
/// The one file that a deployment changes.
const SETTINGS: &str = "conf.d/status_lists.conf";

/// A running nginx; stopped when dropped.
pub(crate) struct Nginx {
    child: Child,
    folder: TempDir,
    /// The address of the lists.
    pub(crate) public: SocketAddr,
    /// The address of the write API.
    pub(crate) api: SocketAddr,
}

/// What a deployment may change.
pub(crate) struct Settings<'a> {
    /// `storage-directory` of the service.
    pub(crate) storage: &'a Path,
    pub(crate) public_path: &'a str,
    /// Whether lists are at `/statuslists` as well.
    pub(crate) other_path: bool,
    /// The address of the service.
    pub(crate) service: SocketAddr,
    pub(crate) max_age: u32,
    pub(crate) history: bool,
    /// The rate and burst that one address is allowed, in requests per second.
    pub(crate) rate: Option<u32>,
    /// Certificate and key, for TLS and HTTP/2.
    pub(crate) tls: Option<(&'a Path, &'a Path)>,
    /// TLS for the write API, with client certificates.
    pub(crate) api_tls: Option<&'a ApiTls<'a>>,
    /// Lines that are not shipped, for the control of a test.
    pub(crate) more: &'a str,
    /// A line of the write API's snippet that is left out, for the control of a test.
    pub(crate) less: &'a str,
    /// Leaves out `worker_rlimit_nofile`, for the control of a test.
    pub(crate) usual_open_files: bool,
}

/// How clients of the write API are verified.
pub(crate) struct ApiTls<'a> {
    pub(crate) certificate: &'a Path,
    pub(crate) key: &'a Path,
    /// The authorities of the clients' certificates.
    pub(crate) authorities: &'a Path,
    /// `on` or `optional`.
    pub(crate) verify: &'a str,
}

impl<'a> Settings<'a> {
    pub(crate) fn new(storage: &'a Path) -> Self {
        Self {
            storage,
            public_path: "/lists",
            other_path: false,
            service: SocketAddr::from(([127, 0, 0, 1], free_port())),
            max_age: 300,
            history: false,
            rate: None,
            tls: None,
            api_tls: None,
            more: "",
            less: "",
            usual_open_files: false,
        }
    }
}

impl Nginx {
    pub(crate) fn start(settings: &Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // nginx' workers may run as another user than this test.
        for path in [folder.path(), settings.storage.parent().unwrap()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        copy(Path::new(SHIPPED), &folder.path().join("conf"));
        let [public, api] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let file = folder.path().join("conf").join(SETTINGS);
        let mut text = fs::read_to_string(&file).unwrap();
        let mut set = |from: &str, to: &str| {
            assert_eq!(text.matches(from).count(), 1, "`{from}` must occur in nginx/{SETTINGS} exactly once");
            text = text.replace(from, to);
        };
        set("server 127.0.0.1:8090;", &format!("server {};", settings.service));
        set(
            "$storage_directory /var/lib/statuslist/public;",
            &format!("$storage_directory {};", settings.storage.display()),
        );
        set("$public_path /lists;", &format!("$public_path \"{}\";", settings.public_path));
        set("$max_age 10;", &format!("$max_age {};", settings.max_age));
        let log = |name| folder.path().join(name).display().to_string();
        set("/var/log/nginx/status_lists.log", &log("lists.log"));
        set("/var/log/nginx/status_lists_api.log", &log("api.log"));
        // So that a test need not wait for it.
        set("buffer=32k flush=5s", "");
        if settings.other_path {
            set("#if ($uri ~ ^/statuslists/)", "if ($uri ~ ^/statuslists/)");
        }
        if settings.history {
            set("$history off;", "$history on;");
        }
        match settings.rate {
            Some(rate) => set("rate=200r/s", &format!("rate={rate}r/s")),
            None => set("$rate_limit on;", "$rate_limit off;"),
        }
        match settings.tls {
            None => set("    listen 8080;", &format!("    listen {public};")),
            Some((certificate, key)) => {
                set("    listen 8080;\n", "");
                set("#listen 443 ssl http2;", &format!("listen {public} ssl http2;"));
                set(
                    "#ssl_certificate     /etc/statuslist/tls/chain.pem;",
                    &format!("ssl_certificate {};", certificate.display()),
                );
                set(
                    "#ssl_certificate_key /etc/statuslist/tls/key.pem;\n    #include snippets/tls.conf;",
                    &format!("ssl_certificate_key {};\n    include snippets/tls.conf;", key.display()),
                );
            }
        }
        match settings.api_tls {
            None => set("listen 127.0.0.1:8091;", &format!("listen {api};")),
            Some(ApiTls { certificate, key, authorities, verify }) => {
                set("    listen 127.0.0.1:8091;\n", "");
                set("#listen 8443 ssl;", &format!("listen {api} ssl;"));
                for (setting, path) in [
                    ("ssl_certificate        /etc/statuslist/tls/api_chain.pem;", certificate),
                    ("ssl_certificate_key    /etc/statuslist/tls/api_key.pem;", key),
                    ("ssl_client_certificate /etc/statuslist/tls/clients_ca.pem;", authorities),
                ] {
                    let name = setting.split(' ').next().unwrap();
                    set(&format!("#{setting}"), &format!("{name} {};", path.display()));
                }
                set(
                    "#ssl_verify_client on;\n    #include snippets/tls.conf;",
                    &format!("ssl_verify_client {verify};\n    include snippets/tls.conf;"),
                );
            }
        }
        fs::File::create(&file).unwrap().write_all(text.as_bytes()).unwrap();
        let main = folder.path().join("conf/nginx.conf");
        let mut text =
            fs::read_to_string(&main).unwrap().replace("http {\n", &format!("http {{\n{}\n", settings.more));
        if settings.usual_open_files {
            let line =
                text.lines().find(|line| line.starts_with("worker_rlimit_nofile ")).unwrap().to_owned();
            text = text.replace(&line, "");
        }
        fs::File::create(&main).unwrap().write_all(text.as_bytes()).unwrap();

        if !settings.less.is_empty() {
            let snippet = folder.path().join("conf/snippets/api.conf");
            let text = fs::read_to_string(&snippet).unwrap();
            let line = format!("    {}\n", settings.less);
            assert_eq!(text.matches(&line).count(), 1, "`{}` must occur there exactly once", settings.less);
            fs::File::create(&snippet).unwrap().write_all(text.replace(&line, "").as_bytes()).unwrap();
        }

        let errors = fs::File::create(folder.path().join("error.log")).unwrap();
        // With as many open files as an init system gives by default; nginx itself raises that.
        let child = Command::new("sh")
            .args(["-c", "ulimit -S -n 1024; exec \"$0\" \"$@\""])
            .arg(program())
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(main)
            .args(["-g", "daemon off;"])
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .expect("nginx is missing: run scripts/install-test-tools");
        let mut nginx = Self { child, folder, public, api };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(public).and_then(|_| TcpStream::connect(api)).is_err() {
            let ended = nginx.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "nginx does not listen:\n{}",
                nginx.log("error.log")
            );
            pause(Duration::from_millis(5));
        }
        nginx
    }

    /// Its prefix: its pid is in `nginx.pid`, its configuration below `conf`.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `lists.log`, `api.log` or `error.log`.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // If the master were killed, it would leave its workers behind.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// The version of the tested nginx: 1.22 is (1, 22).
pub(crate) fn version() -> (u32, u32) {
    let said =
        Command::new(program()).arg("-v").output().expect("nginx is missing: run scripts/install-test-tools");
    let said = String::from_utf8(said.stderr).unwrap();
    let mut numbers = said.rsplit('/').next().unwrap().split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Debian installs it outside the path of ordinary users.
pub(crate) fn program() -> PathBuf {
    let sbin = Path::new("/usr/sbin/nginx");
    if sbin.exists() { sbin.to_owned() } else { PathBuf::from("nginx") }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
