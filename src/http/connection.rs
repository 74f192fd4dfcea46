//! Closes connections whose clients keep the server waiting.
//!
//! The HTTP server itself times out the first head of a connection, and `api` times out bodies. Neither times out a later head
//! that arrives a byte at a time, or an answer that is read just as slowly. One rule covers both: a connection is closed when
//! its latest request began too long ago. The server closes idle connections earlier, and a connection in use keeps beginning
//! requests. After a body that did not arrive in time the connection is closed at once: the server would wait for the rest.

use std::any::Any;
use std::cell::Cell;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::Extensions;
use actix_web::rt;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::base::awake::Awake;

/// The time that the last answer of a connection has to reach the client.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// The state of a connection that its requests update.
pub struct Connection {
    latest: Rc<Cell<Instant>>,
    ended: Rc<Notify>,
    awake: Arc<Awake>,
    /// How often the process had slept when the connection was accepted.
    sleeps: u64,
    closing: JoinHandle<()>,
}

impl Connection {
    /// Watches a new connection: closes it when no request has begun on it for `patience`.
    pub fn watch(stream: &dyn Any, of_connection: &mut Extensions, patience: Duration, awake: &Arc<Awake>) {
        let Some(stream) = stream.downcast_ref::<rt::net::TcpStream>() else { return };
        let second = match stream.as_fd().try_clone_to_owned() {
            Ok(second) => TcpStream::from(second),
            Err(error) => {
                tracing::warn!(%error, "cannot watch a connection; raise the limit of open files (LimitNOFILE)");
                return;
            }
        };
        let latest = Rc::new(Cell::new(Instant::now()));
        let ended = Rc::new(Notify::new());
        let (seen, end) = (Rc::clone(&latest), Rc::clone(&ended));
        let closing = rt::spawn(async move {
            loop {
                let left = patience.saturating_sub(seen.get().elapsed());
                if left.is_zero() {
                    break;
                }
                if tokio::time::timeout(left, end.notified()).await.is_ok() {
                    tokio::time::sleep(LAST_ANSWER).await;
                    break;
                }
            }
            // Fails only if the connection is already closed.
            let _ = second.shutdown(Shutdown::Both);
        });
        let (awake, sleeps) = (Arc::clone(awake), awake.sleeps_before_connection());
        of_connection.insert(Self { latest, ended, awake, sleeps, closing });
    }

    /// Notes that a request begins.
    pub fn begin(&self) {
        self.latest.set(Instant::now());
    }

    /// Whether the process has slept since the connection was accepted. What is read from it may have been sent before the sleep.
    pub fn is_of_before_a_sleep(&self) -> bool {
        self.awake.sleeps() != self.sleeps
    }

    /// Closes the connection after the current answer.
    pub fn end(&self) {
        self.ended.notify_one();
    }
}

/// Drops the second handle with the connection; otherwise the client would not see the connection end.
impl Drop for Connection {
    fn drop(&mut self) {
        self.closing.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpListener;

    use actix_web::dev::Service;
    use actix_web::{App, HttpServer, web};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(500);

    /// Sends one request, and then a second head a byte at a time. Returns whether the connection is closed within several times
    /// the patience.
    fn is_closed(watched: bool) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (started, starting) = std::sync::mpsc::channel();
        let awake = Awake::watch();
        let server = std::thread::spawn(move || {
            rt::System::new().block_on(async {
                let server = HttpServer::new(|| {
                    App::new()
                        .wrap_fn(|request, service| {
                            request.conn_data::<Connection>().inspect(|connection| connection.begin());
                            service.call(request)
                        })
                        .default_service(web::to(async || "answer"))
                })
                .on_connect(move |stream, of_connection| {
                    if watched {
                        Connection::watch(stream, of_connection, PATIENCE, &awake);
                    }
                })
                .client_request_timeout(PATIENCE)
                .workers(1)
                .disable_signals()
                .listen(listener)
                .unwrap()
                .run();
                started.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        let handle = starting.recv().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = [0; 1024];
        assert!(client.read(&mut answer).unwrap() > 0);
        client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        client.set_read_timeout(Some(PATIENCE / 5)).unwrap();
        let mut closed = false;
        for _ in 0..20 {
            match client.read(&mut answer) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Ok(0) | Err(_) => {
                    closed = true;
                    break;
                }
                Ok(_) => {}
            }
            if client.write_all(b"X").is_err() {
                closed = true;
                break;
            }
        }
        drop(client);
        drop(handle.stop(false));
        server.join().unwrap();
        closed
    }

    #[test]
    fn a_later_head_that_never_ends_is_cut() {
        assert!(is_closed(true));
        assert!(!is_closed(false), "the server itself now closes it, so this module is no longer needed");
    }
}
