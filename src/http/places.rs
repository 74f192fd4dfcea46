//! How many connections may be open: as many as the settings say, if the limit of open files has room for them besides the files
//! of everything else. No address gets more than its share, so that one client cannot take all places.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::ServerConfig;
use crate::telemetry::connections::ConnectionMetrics;

/// Files of one connection: its socket, and the second handle with which `connection` closes it.
const FILES_OF_EACH: u64 = 2;
/// A service with less room than this is of no use.
const FEWEST: usize = 16;

/// The most connections of all addresses together, and of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// All connections.
    pub connections: usize,
    /// Those of one client's address.
    pub per_address: usize,
}

/// The limit of open files is too low.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit of open files is {limit}, and this service needs at least {needed}; raise it (LimitNOFILE, ulimit -n)"
)]
pub struct NoRoom {
    limit: u64,
    needed: u64,
}

impl Room {
    /// The connections that `config` allows, as far as `limit` open files leave room for them after `reserve`, the files of
    /// everything else.
    pub fn new(config: &ServerConfig, limit: u64, reserve: u64) -> Result<Self, NoRoom> {
        let fit = limit.saturating_sub(reserve) / FILES_OF_EACH;
        // Each thread of each address takes at least one.
        let fewest = FEWEST.max(2 * config.workers) as u64;
        if fit < fewest {
            return Err(NoRoom { limit, needed: reserve + fewest * FILES_OF_EACH });
        }
        let connections = usize::try_from(fit).unwrap_or(usize::MAX).min(config.max_connections);
        let per_address = config.connections_per_address.unwrap_or_else(|| connections.div_ceil(2));
        Ok(Self { connections, per_address })
    }
}

/// Who has the places.
#[derive(Debug)]
pub(super) struct Places {
    per_address: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
    metrics: ConnectionMetrics,
}

/// The place of an open connection. Free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    address: Option<IpAddr>,
}

impl Places {
    pub(super) fn new(room: Room, metrics: ConnectionMetrics) -> Arc<Self> {
        metrics.max.set(i64::try_from(room.connections).unwrap_or(i64::MAX));
        Arc::new(Self { per_address: room.per_address, taken: Mutex::default(), metrics })
    }

    /// Takes a place for a connection from `address`; `None` if that address has its share already. Without an address the
    /// connection counts for nobody: it comes from a trusted proxy.
    pub(super) fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Place> {
        if let Some(address) = address {
            let mut taken = self.taken.lock();
            let of_address = taken.entry(address).or_default();
            if *of_address >= self.per_address {
                self.metrics.refused.inc();
                return None;
            }
            *of_address += 1;
        }
        self.metrics.open.inc();
        Some(Place { places: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.metrics.open.dec();
        let Some(address) = self.address else { return };
        if let Entry::Occupied(mut of_address) = self.places.taken.lock().entry(address) {
            *of_address.get_mut() -= 1;
            if *of_address.get() == 0 {
                of_address.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn room(settings: &str, limit: u64, reserve: u64) -> Result<Room, NoRoom> {
        let config = Config::load(Some(settings), std::iter::empty()).unwrap();
        Room::new(&ServerConfig { workers: 2, ..config.server }, limit, reserve)
    }

    #[test]
    fn connections_get_what_the_others_leave() {
        let check = |settings: &str, limit, connections, per_address| {
            assert_eq!(
                room(settings, limit, 200),
                Ok(Room { connections, per_address }),
                "{settings} {limit}"
            );
        };
        check("", 1024, 412, 206);
        check("", 1_000_000, 10_000, 5000);
        check("", u64::MAX, 10_000, 5000);
        check("server: { max-connections: 101 }", 1024, 101, 51);
        check("server: { connections-per-address: 7 }", 1024, 412, 7);
        let error = room("", 231, 200).unwrap_err();
        assert!(error.to_string().contains("at least 232"), "{error}");
        assert!(room("", 232, 200).is_ok());
    }

    #[test]
    fn one_address_gets_its_share_and_leaves_the_others_alone() {
        let room = Room { connections: 10, per_address: 2 };
        let places = Places::new(room, ConnectionMetrics::default());
        let (one, other): (Option<IpAddr>, Option<IpAddr>) =
            ("192.0.2.1".parse().ok(), "192.0.2.2".parse().ok());
        let first = places.take(one).unwrap();
        let _second = places.take(one).unwrap();
        assert!(places.take(one).is_none(), "the third of one address");
        let _theirs = places.take(other).unwrap();
        let proxy: Vec<_> = (0..5).map(|_| places.take(None).unwrap()).collect();
        assert_eq!((places.metrics.open.get(), places.metrics.refused.get()), (8, 1));
        drop((first, proxy));
        assert!(places.take(one).is_some(), "its place is free again");
        assert_eq!(places.metrics.open.get(), 2);
    }
}
