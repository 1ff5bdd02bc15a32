//! Who is at the other end of a connection: an address, or a user of this machine.

use std::net::IpAddr;

/// The other end of a connection to the admin API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A client of the admin listener; it needs an admin key.
    Network(IpAddr),
    /// Whoever could open `admin.sock`, which only its owner can; the user's number, where the system tells it.
    Local(Option<u32>),
}
