//! How many connections there are: at all, and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::gauge::Gauge;

/// How many connections there are.
pub(super) struct Counts {
    open: Gauge,
    all: AtomicUsize,
    by_ip: Mutex<HashMap<IpAddr, usize>>,
    most: usize,
    most_by_ip: usize,
}

/// One connection's place among them.
pub(super) struct Place {
    counts: Arc<Counts>,
    peer: Option<IpAddr>,
}

impl Counts {
    /// None yet, and never more than these.
    pub(super) fn new(open: Gauge, most: usize, most_by_ip: usize) -> Self {
        Self { open, all: AtomicUsize::new(0), by_ip: Mutex::default(), most, most_by_ip }
    }

    /// A place, if there is one.
    pub(super) fn take(self: &Arc<Self>, peer: Option<IpAddr>) -> Option<Place> {
        if self.all.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.all.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(most = self.most, "a connection was refused: edge.max_connections are open");
            return None;
        }
        if let Some(peer) = peer {
            let mut by_ip = self.by_ip.lock().unwrap_or_else(PoisonError::into_inner);
            let count = by_ip.entry(peer).or_insert(0);
            if *count >= self.most_by_ip {
                self.all.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!(%peer, most = self.most_by_ip, "a connection was refused: edge.max_connections_per_ip are open from this address");
                return None;
            }
            *count += 1;
        }
        self.open.inc();
        Some(Place { counts: Arc::clone(self), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counts.open.dec();
        self.counts.all.fetch_sub(1, Ordering::Relaxed);
        if let Some(peer) = self.peer {
            let mut by_ip = self.counts.by_ip.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = by_ip.get_mut(&peer) {
                *count -= 1;
                if *count == 0 {
                    by_ip.remove(&peer);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_and_never_exceeded() {
        let counts = Arc::new(Counts::new(Gauge::default(), 3, 2));
        let (one, other) = (Some(IpAddr::from([10, 0, 0, 1])), Some(IpAddr::from([10, 0, 0, 2])));
        let first = counts.take(one).unwrap();
        let _second = counts.take(one).unwrap();
        assert!(counts.take(one).is_none());
        let _third = counts.take(other).unwrap();
        assert!(counts.take(other).is_none());
        drop(first);
        let _again = counts.take(other).unwrap();
        assert_eq!(counts.open.get(), 3);
    }
}
