//! Closes connections whose clients keep the server waiting.
//!
//! The HTTP server itself times out the first head of a connection, and `api` times out bodies. Neither times out a later head
//! that arrives a byte at a time, or an answer that is read just as slowly. One rule covers both: a connection is closed when
//! its latest request began too long ago. The server closes idle connections earlier, and a connection in use keeps beginning
//! requests.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::Extensions;
use actix_web::rt;
use actix_web::rt::net::TcpStream;
use rustix::net::{Shutdown, shutdown};
use tokio::task::JoinHandle;

use super::places::Place;
use crate::base::awake::Awake;

/// The state of a connection that its requests update.
pub(super) struct Connection {
    latest: Rc<Cell<Instant>>,
    awake: Arc<Awake>,
    /// How often the process had slept when the connection was accepted.
    sleeps: u64,
    closing: JoinHandle<()>,
    _place: Option<Place>,
}

/// Marks a connection that got no place: it is closed already, and what it sent before is not handled.
pub(super) struct WithoutPlace;

impl Connection {
    /// Watches a new connection: closes it when no request has begun on it for `patience`.
    pub(super) fn watch(
        stream: &TcpStream,
        of_connection: &mut Extensions,
        patience: Duration,
        awake: &Arc<Awake>,
        place: Option<Place>,
    ) {
        let second = match stream.as_fd().try_clone_to_owned() {
            Ok(second) => second,
            Err(error) => {
                tracing::warn!(%error, "cannot watch a connection, so it is closed; raise the limit of open files (LimitNOFILE)");
                return Self::refuse(stream, of_connection);
            }
        };
        let latest = Rc::new(Cell::new(Instant::now()));
        let seen = Rc::clone(&latest);
        let closing = rt::spawn(async move {
            loop {
                let left = patience.saturating_sub(seen.get().elapsed());
                if left.is_zero() {
                    break;
                }
                tokio::time::sleep(left).await;
            }
            // Fails only if the connection is already closed.
            let _ = shutdown(&second, Shutdown::Both);
        });
        let (awake, sleeps) = (Arc::clone(awake), awake.sleeps_before_connection());
        of_connection.insert(Self { latest, awake, sleeps, closing, _place: place });
    }

    /// Closes a new connection.
    pub(super) fn refuse(stream: &TcpStream, of_connection: &mut Extensions) {
        // Fails only if the client has closed it.
        let _ = shutdown(stream, Shutdown::Both);
        of_connection.insert(WithoutPlace);
    }

    /// Notes that a request begins.
    pub(super) fn begin(&self) {
        self.latest.set(Instant::now());
    }

    /// Whether the process has slept since the connection was accepted. What is read from it may have been sent before the sleep.
    pub(super) fn is_of_before_a_sleep(&self) -> bool {
        self.awake.sleeps() != self.sleeps
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
    use std::net::{TcpListener, TcpStream};

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
                    if let Some(stream) = stream.downcast_ref().filter(|_| watched) {
                        Connection::watch(stream, of_connection, PATIENCE, &awake, None);
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
