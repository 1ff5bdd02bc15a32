//! HTTP/1.1 as this gateway speaks it, to its clients and to its upstreams (RFC 9112).
//!
//! The edge's connections are Pingora's: listeners, sockets, TLS. What is said on one of HTTP/1.1 is read and written here, since
//! a server that serves everything spends more on it than the stages do. It repairs nothing: what can be read in two ways is refused.
//! HTTP/2 is Pingora's own; a `Session` hides which of the two a request came by.

mod answer;
mod body;
mod buffer;
mod request;
mod server;
#[cfg(any(test, feature = "fuzzing"))]
mod transcript;

#[cfg(test)]
pub(crate) use body::MAX_LINE_BYTES;
pub(crate) use body::{Body, Taken, broken, digits};
pub(crate) use buffer::{READ_BYTES, poll_some, read_some};
pub(crate) use server::Http1;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use transcript::transcript;
