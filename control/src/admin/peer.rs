//! Who is at the other end of a connection: an address, or a user of this machine.

use std::net::IpAddr;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::{TcpListener, UnixListener};

/// The other end of a connection to the admin API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A client of the admin listener; it needs an admin key.
    Network(IpAddr),
    /// Whoever could open `admin.sock`, which only its owner can; the user's number, where the system tells it.
    Local(Option<u32>),
}

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self::Network(stream.remote_addr().ip().to_canonical())
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self::Local(stream.io().peer_cred().ok().map(|user| user.uid()))
    }
}
