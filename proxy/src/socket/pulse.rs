//! Whether anybody is still there: pings, and how long nothing may be said.

use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::End;
use crate::refusal::Refusal;

/// Pause between two looks.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pause between two pings.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long a client may leave pings unanswered.
const SILENCE: Duration = Duration::from_secs(60);

/// When who was heard.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// Either side's last event.
    event: Instant,
    /// The client's last sign of life.
    client: Instant,
    /// The last ping.
    ping: Instant,
    /// The longest time without an event.
    patience: Duration,
}

impl Pulse {
    /// Everybody is there now; nobody may be silent for longer than this.
    pub(crate) fn new(patience: Duration) -> Self {
        let now = Instant::now();
        Self { event: now, client: now, ping: now, patience }
    }

    /// The client gave a sign of life.
    pub(crate) fn client(&mut self) {
        self.client = Instant::now();
    }

    /// Either side sent an event.
    pub(crate) fn event(&mut self) {
        self.event = Instant::now();
    }

    /// Looks: true when it is time to ping.
    ///
    /// # Errors
    /// When the client is not there any more, or has nothing more to say while nothing is under way.
    pub(crate) fn look(&mut self, under_way: Option<()>) -> Result<bool, End> {
        if self.client.elapsed() > SILENCE {
            return Err(End::Left);
        }
        if under_way.is_none() && self.event.elapsed() > self.patience {
            let message = "Nothing was said over this WebSocket for too long.".to_owned();
            let code = Some("websocket_idle");
            return Err(End::Told(Refusal::Bad { status: 408, param: None, code, message }, CloseCode::Away));
        }
        let due = self.ping.elapsed() >= PING_EVERY;
        if due {
            self.ping = Instant::now();
        }
        Ok(due)
    }
}
