//! The test's own network connection: it can be cut, and redirected, like an address that moves with the master.

#![allow(dead_code, reason = "each of the including tests uses a part")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const UNLIMITED: usize = usize::MAX;

/// Forwards connections on `port` to a port that can be changed.
pub(crate) struct Wire {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    target: AtomicU16,
    /// Swallows all data, as when packets are lost.
    cut: AtomicBool,
    /// How many more bytes pass before all connections are closed; [`UNLIMITED`] if they never are.
    left: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Wire {
    pub(crate) fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            target: target.into(),
            cut: AtomicBool::new(false),
            left: AtomicUsize::new(UNLIMITED),
            open: Mutex::default(),
        });
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let target = of_thread.target.load(Ordering::SeqCst);
                // A target that does not exist refuses connections; so does the wire.
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let mut open = of_thread.open.lock().unwrap();
                for stream in [&near, &far] {
                    stream.set_nodelay(true).unwrap();
                    open.push(stream.try_clone().unwrap());
                }
                forward(near.try_clone().unwrap(), far.try_clone().unwrap(), Arc::clone(&of_thread));
                forward(far, near, Arc::clone(&of_thread));
            }
        });
        Self { port, shared }
    }

    /// Swallows all data from now on, without closing a connection.
    pub(crate) fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
    }

    /// Closes all connections once so many more bytes have passed, in both directions together. New ones are not limited.
    pub(crate) fn close_after(&self, bytes: usize) {
        self.shared.left.store(bytes, Ordering::SeqCst);
    }

    /// Lifts the limit of [`Self::close_after`]. Returns whether it was reached.
    pub(crate) fn lift_limit(&self) -> bool {
        self.shared.left.swap(UNLIMITED, Ordering::SeqCst) == UNLIMITED
    }

    /// Connects new connections to `target`; existing ones stay.
    pub(crate) fn lead_new_to(&self, target: u16) {
        self.shared.target.store(target, Ordering::SeqCst);
    }

    /// Closes all connections; new ones go to `target`.
    pub(crate) fn lead_to(&self, target: u16) {
        self.shared.target.store(target, Ordering::SeqCst);
        self.shared.close();
        self.shared.cut.store(false, Ordering::SeqCst);
    }
}

impl Shared {
    fn close(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// How many of these bytes may pass, and whether they are the last.
    fn pass(&self, bytes: usize) -> (usize, bool) {
        let rest = |left| if left == UNLIMITED || left <= bytes { UNLIMITED } else { left - bytes };
        let left =
            self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(rest(left))).unwrap();
        (left.min(bytes), left <= bytes)
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, shared: Arc<Shared>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if shared.cut.load(Ordering::SeqCst) {
                continue;
            }
            let (passing, last) = shared.pass(read);
            if to.write_all(&buffer[..passing]).is_err() {
                break;
            }
            if last {
                shared.close();
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}
