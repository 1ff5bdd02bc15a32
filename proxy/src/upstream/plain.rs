//! Idle connections to upstreams in the clear.
//!
//! Pingora's own pool watches each idle connection with a task; here one is looked at when it is taken instead, which costs a
//! request nothing. A connection on which anything came while it idled is never used again: it would be taken for the answer
//! to somebody else's request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::protocols::Stream;
use pingora::upstreams::peer::{HttpPeer, Peer};
use tokio::io::AsyncReadExt;

use super::http::POOLED;

/// Idle connections, by peer.
pub(crate) struct Plain {
    connector: TransportConnector,
    idle: Mutex<HashMap<u64, Vec<Idle>>>,
    most: usize,
}

struct Idle {
    stream: Stream,
    since: Instant,
}

impl Plain {
    /// An empty pool that keeps at most `most` idle connections of each peer.
    pub(crate) fn new(most: usize) -> Self {
        let connector = TransportConnector::new(Some(ConnectorOptions::new(1)));
        Self { connector, idle: Mutex::default(), most }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle connection, or else a new one; true when it was idle.
    pub(crate) async fn get(&self, peer: &Arc<HttpPeer>) -> pingora::Result<(Stream, bool)> {
        let key = peer.reuse_hash();
        loop {
            let popped = self.lock().get_mut(&key).and_then(Vec::pop);
            let Some(mut idle) = popped else { break };
            if idle.since.elapsed() < POOLED && is_silent(&mut idle.stream).await {
                return Ok((idle.stream, true));
            }
        }
        // Seldom, and large: it is not a part of every request's future.
        Ok((Box::pin(self.connector.new_stream(&**peer)).await?, false))
    }

    /// Keeps a connection whose last answer has ended. Those that have idled too long are closed.
    pub(crate) fn put(&self, peer: &Arc<HttpPeer>, stream: Stream) {
        let since = Instant::now();
        let mut lock = self.lock();
        let idle = lock.entry(peer.reuse_hash()).or_default();
        let aged = idle.iter().take_while(|idle| since.duration_since(idle.since) >= POOLED).count();
        let surplus = (idle.len() + 1).saturating_sub(self.most);
        idle.drain(..aged.max(surplus).min(idle.len()));
        idle.push(Idle { stream, since });
    }
}

/// Whether nothing came while the connection idled, its end included.
async fn is_silent(stream: &mut Stream) -> bool {
    let mut byte = [0];
    tokio::select! {
        biased;
        _ = stream.read(&mut byte) => false,
        () = std::future::ready(()) => true,
    }
}
