//! What holds for all sessions of a gateway.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::Event;

/// What holds for all sessions of a gateway.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a session lives that nobody is attached to.
    pub detached_life: Duration,
    /// How long a session lives without input.
    pub idle: Duration,
    /// How long a session lives.
    pub hard_limit: Duration,
    /// How many sessions a tenant may have at once.
    pub sessions_per_tenant: usize,
    /// How many viewers a session may have at once.
    pub viewers_per_session: usize,
    /// How much of the output is kept to continue from.
    pub ring_bytes: usize,
    /// How much a client may be behind with its acknowledgements before nothing more is sent to it. If it is the driver, the
    /// terminal is not read any further either. Half of the ring at most.
    pub window_bytes: usize,
    /// How long a recording may become; then the session ends.
    pub recording_bytes: u64,
    /// Where what is to be audited goes; whoever receives it must keep up.
    pub events: mpsc::UnboundedSender<Event>,
}

impl Settings {
    /// The usual ones.
    #[must_use]
    pub fn new(events: mpsc::UnboundedSender<Event>) -> Self {
        Self {
            detached_life: Duration::from_secs(5 * 60),
            idle: Duration::from_secs(15 * 60),
            hard_limit: Duration::from_secs(4 * 60 * 60),
            sessions_per_tenant: 5,
            viewers_per_session: 16,
            ring_bytes: 2 << 20,
            window_bytes: 512 << 10,
            recording_bytes: 64 << 20,
            events,
        }
    }
}
