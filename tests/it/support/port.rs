//! Ports for servers that are told where to listen.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that Linux gives to outgoing connections and to listeners on port 0 (32768 and above), so that none of those
/// takes a port before its server listens, or while the server is restarted.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// Returns a port on which nothing listens; never the same one twice in a process.
pub(crate) fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Processes that run at the same time start far from each other.
    let first = std::process::id().wrapping_mul(977);
    (0..PORTS.len())
        .map(|_| {
            let next = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed).into());
            PORTS.start + u16::try_from(next % u32::from(PORTS.end - PORTS.start)).unwrap()
        })
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a port of this machine is free")
}
