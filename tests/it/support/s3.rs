//! A real S3 server on this machine, which stores its objects as files, and a network connection that can delay writes.
//!
//! The server is `s3s-fs`, which `scripts/install-test-tools` installs: it has signed requests and conditional writes, and
//! acknowledged writes survive when it is killed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{Attribute, Attributes, ClientOptions, ObjectStore, ObjectStoreExt, PutOptions};
use tempfile::TempDir;

use super::process::{free_port, pause, signal};

pub(crate) const SECRET: &str = "a-secret-that-no-log-may-hold";
const ACCESS_KEY: &str = "test-access-key";
const BUCKET: &str = "status-lists";

/// One server with one bucket; killed when dropped.
pub(crate) struct S3Server {
    pub(crate) port: u16,
    folder: TempDir,
    running: Option<Child>,
    client: AmazonS3,
}

/// An object as a reader gets it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) bytes: Vec<u8>,
    pub(crate) content_type: Option<String>,
    pub(crate) cache_control: Option<String>,
}

impl S3Server {
    pub(crate) fn start() -> Self {
        let mut server = Self::stopped();
        server.start_again();
        server
    }

    /// A server that does not run yet.
    pub(crate) fn stopped() -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let client = AmazonS3Builder::new()
            .with_bucket_name(BUCKET)
            .with_endpoint(format!("http://127.0.0.1:{port}"))
            .with_access_key_id(ACCESS_KEY)
            .with_secret_access_key(SECRET)
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .build()
            .unwrap();
        Self { port, folder, running: None, client }
    }

    /// Starts the same server on the same data.
    pub(crate) fn start_again(&mut self) {
        let mut command = Command::new(program());
        command.args(["--host", "127.0.0.1", "--port", &self.port.to_string()]);
        command.args(["--access-key", ACCESS_KEY, "--secret-key", SECRET]).arg(self.folder.path());
        self.running = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "the S3 server does not listen");
            pause(Duration::from_millis(5));
        }
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops its process for a while: connections are accepted, and nothing answers.
    pub(crate) fn freeze(&self, frozen: bool) {
        signal(if frozen { "-STOP" } else { "-CONT" }, self.running.as_ref().unwrap().id());
    }

    /// An entry of `publish.sinks` that reaches it on `port`.
    pub(crate) fn settings(&self, port: u16, more: &str) -> String {
        format!(
            "{{ s3: {{ bucket: {BUCKET}, endpoint: \"http://127.0.0.1:{port}\", allow-http: true,
                access-key-id: {ACCESS_KEY}, secret-access-key: {SECRET}, {more} }} }}"
        )
    }

    /// Returns what a reader gets from `lists/<name>`.
    pub(crate) async fn get(&self, name: &str) -> Option<Object> {
        let object = self.client.get(&format!("lists/{name}").into()).await.ok()?;
        let header = |name| object.attributes.get(&name).map(|value| value.to_string());
        let (content_type, cache_control) = (header(Attribute::ContentType), header(Attribute::CacheControl));
        Some(Object { bytes: object.bytes().await.ok()?.to_vec(), content_type, cache_control })
    }

    /// Overwrites `lists/<name>` without a condition, as a third party might.
    pub(crate) async fn put(&self, name: &str, bytes: Vec<u8>) {
        let attributes = Attributes::from_iter([(Attribute::ContentType, "application/statuslist+jwt")]);
        let options = PutOptions { attributes, ..PutOptions::default() };
        self.client.put_opts(&format!("lists/{name}").into(), bytes.into(), options).await.unwrap();
    }

    /// Deletes all objects behind the server's back. Returns their number.
    pub(crate) fn empty(&self) -> usize {
        let lists = self.bucket().join("lists");
        let files = walkdir::WalkDir::new(&lists).into_iter().filter_map(Result::ok);
        let objects = files.filter(|entry| entry.file_type().is_file()).count();
        std::fs::remove_dir_all(&lists).unwrap();
        objects
    }

    fn bucket(&self) -> PathBuf {
        self.folder.path().join(BUCKET)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where `scripts/install-test-tools` puts the server: beside the folder of the tests' own program.
fn program() -> PathBuf {
    let target = Path::new(super::process::PROGRAM).ancestors().nth(2).unwrap();
    let program = target.join("test-tools/bin/s3s-fs");
    assert!(program.exists(), "{} is missing: run scripts/install-test-tools first", program.display());
    program
}

/// Forwards connections to a server, and delays PUT requests on demand: models the network between a publisher's decision to
/// write and the arrival of the write.
pub(crate) struct PutGate {
    pub(crate) port: u16,
    shared: Arc<(Mutex<Gate>, Condvar)>,
}

#[derive(Default)]
struct Gate {
    /// Requests whose first line contains this are delayed.
    closed_for: Option<String>,
    permits: usize,
    held: usize,
}

impl PutGate {
    pub(crate) fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<(Mutex<Gate>, Condvar)>::default();
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let (mut back_from, mut back_to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut back_from, &mut back_to));
                let shared = Arc::clone(&of_thread);
                std::thread::spawn(move || forward(near, far, &shared));
            }
        });
        Self { port, shared }
    }

    /// Delays writes to keys that begin with `lists/<name>`.
    pub(crate) fn close(&self, name: &str) {
        self.shared.0.lock().unwrap().closed_for = Some(format!("PUT /{BUCKET}/lists/{name}"));
    }

    pub(crate) fn open(&self) {
        self.shared.0.lock().unwrap().closed_for = None;
        self.shared.1.notify_all();
    }

    pub(crate) fn let_one_through(&self) {
        let mut gate = self.shared.0.lock().unwrap();
        gate.permits += 1;
        // Counted here, so that the next reader does not see the request that is on its way.
        gate.held -= 1;
        self.shared.1.notify_all();
    }

    /// The number of waiting PUT requests.
    pub(crate) fn held(&self) -> usize {
        self.shared.0.lock().unwrap().held
    }
}

/// Requests come one after the other on a connection, so each begins with the first bytes of a read.
fn forward(mut from: TcpStream, mut to: TcpStream, (gate, changed): &(Mutex<Gate>, Condvar)) {
    let mut buffer = [0; 65536];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        {
            let mut gate = gate.lock().unwrap();
            if gate.closed_for.as_deref().is_some_and(|start| buffer[..read].starts_with(start.as_bytes())) {
                gate.held += 1;
                gate =
                    changed.wait_while(gate, |gate| gate.closed_for.is_some() && gate.permits == 0).unwrap();
                match gate.permits {
                    0 => gate.held -= 1,
                    _ => gate.permits -= 1,
                }
            }
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
}
