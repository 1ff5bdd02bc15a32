//! The only way out of a sandbox: a proxy of the host's for one run, on a Unix socket, that connects to what the run's
//! allow-list names and to nothing else.
//!
//! | module | what it is |
//! | --- | --- |
//! | `rule` | [`Rule`], [`Policy`]: which hosts, at which ports; narrowed, never widened |
//! | `head` | what a client asks for: one `CONNECT`, to the letter |
//! | `hello` | the host that a TLS client names (SNI), from bytes that nobody trusts |
//! | `address` | [`is_public`]: which addresses are on the public internet |
//! | `resolve` | [`Resolve`]: names to addresses, once for each connection |
//! | `tunnel` | one client: asked, judged, connected, relayed |
//! | `relay` | bytes both ways, within what the run may still send, and never idle for long |
//! | `gate` | [`Egress`]: the socket, and how many clients it serves |
//! | `event` | [`Observer`]: who is told of each decision |
//!
//! # What always holds
//!
//! - What the list doesn't name is refused, and so is every host that is written as an address.
//! - A name is resolved once for each connection. If any of its addresses is not public none is used, unless the operator listed the
//!   host as internal; the connection goes to an address that was judged.
//! - Nothing of the client's reaches a host before its TLS hello names that host: a tunnel to one name can't be used to reach
//!   another behind the same address, nor for what isn't TLS. A hello that hides its name (ECH) names none.
//! - Every decision is told to the observer, before it has effect.
//! - When [`Egress`] is dropped its clients, its socket and its directory are gone.

mod address;
mod event;
mod gate;
mod head;
mod hello;
mod relay;
mod resolve;
mod rule;
mod tunnel;

pub use address::is_public;
pub use event::{Decision, Event, Observer, Reason};
pub use gate::{Caps, Egress, Grant, Seams};
pub use hello::{Hello, server_name};
pub use resolve::{Resolve, System};
pub use rule::{Policy, Rule};

/// Variables that make programs inside use the proxy: the first process of the sandbox listens there.
pub const ENVIRONMENT: [(&str, &str); 8] = [
    ("HTTP_PROXY", PROXY),
    ("HTTPS_PROXY", PROXY),
    ("ALL_PROXY", PROXY),
    ("NO_PROXY", "localhost,127.0.0.1"),
    ("http_proxy", PROXY),
    ("https_proxy", PROXY),
    ("all_proxy", PROXY),
    ("no_proxy", "localhost,127.0.0.1"),
];

const PROXY: &str = "http://127.0.0.1:3128";
