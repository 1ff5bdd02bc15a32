//! Who is told of each decision.

use std::net::IpAddr;

/// Is told of every decision, before it has effect. It must not block: it is called where connections are served.
pub trait Observer: Send + Sync {
    /// One decision.
    fn observe(&self, event: &Event<'_>);
}

/// One decision about one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The host that was asked for: printable ASCII, at most 255 bytes; empty where none could be read.
    pub host: &'a str,
    /// Its port; 0 where none could be read.
    pub port: u16,
    /// What was decided.
    pub decision: Decision,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The tunnel is open.
    Allowed {
        /// What it leads to.
        address: IpAddr,
    },
    /// Nothing of the client's reached the host.
    Denied(Reason),
    /// An open tunnel has ended.
    Closed {
        /// How many bytes went out of the sandbox.
        sent_bytes: u64,
        /// How many came in.
        received_bytes: u64,
        /// Why, if neither side ended it.
        cut: Option<Reason>,
    },
}

/// Why there was no tunnel, or why it was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It was not one well-formed `CONNECT`.
    BadRequest,
    /// It was HTTP, but not a `CONNECT`.
    NotConnect,
    /// The list doesn't name this host at this port.
    NotListed,
    /// The name leads to an address that is not public.
    NotPublic,
    /// The name leads nowhere, or nobody answers there.
    Unreachable,
    /// The client's TLS hello names another host, or none.
    OtherName,
    /// What the client sent was no TLS hello.
    NotTls,
    /// Nothing was sent for too long.
    Idle,
    /// The run has sent and received all it may.
    Bytes,
    /// The run has made all the connections that it may.
    Connections,
}

impl Reason {
    /// One word for it in the log and the audit log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::NotConnect => "not_connect",
            Self::NotListed => "not_listed",
            Self::NotPublic => "not_public",
            Self::Unreachable => "unreachable",
            Self::OtherName => "other_name",
            Self::NotTls => "not_tls",
            Self::Idle => "idle",
            Self::Bytes => "bytes",
            Self::Connections => "connections",
        }
    }
}
