//! A viewer, and what a session knows of it: where it is in the output, and what it is to be told besides.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{Reason, Start};

/// What a viewer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Types, resizes, and may end the session; there is one at most.
    Driver,
    /// Watches.
    Observer,
    /// Watches, and may end the session.
    Moderator,
}

/// Who looks at a session, as the caller has established.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// As the audit log names them. A driver who attaches once more under the same name takes the session over.
    pub who: String,
    /// What they may do.
    pub role: Role,
    /// Where they come from.
    pub ip: Option<IpAddr>,
    /// Why, where a reason was asked for.
    pub reason: Option<String>,
}

/// One attachment.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) viewer: Arc<Viewer>,
    /// Woken when there may be something to send.
    pub(crate) wake: Arc<Notify>,
    /// The next byte to be sent.
    pub(crate) next: u64,
    /// The next byte that it wants.
    pub(crate) acked: u64,
    /// To be greeted.
    pub(crate) greeting: Option<Start>,
    /// To be told who looks.
    pub(crate) viewers_changed: bool,
    /// To be sent back.
    pub(crate) pong: Option<u64>,
    /// Frames that were dropped because of its role.
    pub(crate) violations: u64,
    /// It has no part in the session any more.
    pub(crate) gone: Option<Reason>,
    pub(crate) farewell: Farewell,
}

/// What was said of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// Nothing.
    Unsaid,
    /// Why.
    Reason,
    /// All.
    Said,
}

impl Seat {
    pub(crate) fn new(viewer: Arc<Viewer>, next: u64, start: Start) -> Self {
        Self {
            viewer,
            wake: Arc::new(Notify::new()),
            next,
            acked: next,
            greeting: Some(start),
            viewers_changed: false,
            pong: None,
            violations: 0,
            gone: None,
            farewell: Farewell::Unsaid,
        }
    }
}
