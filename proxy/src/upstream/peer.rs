//! An upstream's addresses: looked up on first use and again when they have aged, never on the request's thread by a
//! blocking call.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use pingora::upstreams::peer::{ALPN, HttpPeer};

/// How long looked-up addresses are used.
const MAX_AGE: Duration = Duration::from_secs(30);

/// An upstream's addresses.
pub(crate) struct Peers {
    host: String,
    port: u16,
    tls: bool,
    connect_timeout: Duration,
    found: ArcSwapOption<Found>,
    turn: AtomicUsize,
}

struct Found {
    peers: Vec<Arc<HttpPeer>>,
    at: Instant,
}

impl Peers {
    pub(crate) fn new(host: &str, port: u16, tls: bool, connect_timeout: Duration) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Self { host, port, tls, connect_timeout, found: ArcSwapOption::empty(), turn: AtomicUsize::new(0) }
    }

    /// The next address in turn. Aged addresses are used on when a new look-up fails.
    pub(crate) async fn next(&self) -> Result<Arc<HttpPeer>, String> {
        let known = self.found.load_full();
        let found = match known {
            Some(found) if found.at.elapsed() < MAX_AGE => found,
            aged => match (self.look_up().await, aged) {
                (Ok(found), _) => {
                    let found = Arc::new(found);
                    self.found.store(Some(Arc::clone(&found)));
                    found
                }
                (Err(err), Some(aged)) => {
                    tracing::warn!(
                        host = self.host,
                        err,
                        "the upstream's name can't be looked up; its last addresses are used"
                    );
                    aged
                }
                (Err(err), None) => return Err(err),
            },
        };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let at = turn.checked_rem(found.peers.len()).unwrap_or(0);
        found.peers.get(at).map(Arc::clone).ok_or_else(|| "the upstream's name has no address".to_owned())
    }

    async fn look_up(&self) -> Result<Found, String> {
        let addresses: Vec<SocketAddr> = match self.host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, self.port)],
            Err(_) => {
                tokio::net::lookup_host((self.host.as_str(), self.port)).await.map_err(|err| err.to_string())?.collect()
            }
        };
        let peers = addresses.into_iter().map(|address| Arc::new(self.peer(address))).collect();
        Ok(Found { peers, at: Instant::now() })
    }

    fn peer(&self, address: SocketAddr) -> HttpPeer {
        let mut peer = HttpPeer::new(address, self.tls, self.host.clone());
        peer.options.connection_timeout = Some(self.connect_timeout);
        peer.options.total_connection_timeout = Some(self.connect_timeout);
        peer.options.idle_timeout = Some(Duration::from_secs(55));
        peer.options.alpn = if self.tls { ALPN::H2H1 } else { ALPN::H1 };
        peer.options.max_h2_streams = 100;
        peer
    }
}
