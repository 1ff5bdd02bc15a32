//! How a conversation over a WebSocket ends, and what ends it from outside: a revoked token, the process, its age.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use openclawmu_store::Scope;
use secrecy::{ExposeSecret, SecretString};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::ClientSocket;
use crate::authenticate::{self, Caller};
use crate::context::Shared;
use crate::refusal::Refusal;

/// Pause between two looks at whether the caller may still speak.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// How long a WebSocket may stay open.
const MAX_AGE: Duration = Duration::from_secs(3600);
/// Longest wait for a client to take its last message, and to close.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why a conversation ends.
#[derive(Debug)]
pub(crate) enum End {
    /// The client has left.
    Left,
    /// The client is told why, and its WebSocket closed with this code.
    Told(Refusal, CloseCode),
}

impl End {
    /// What the caller may not do: nothing is wrong with either side.
    pub(crate) fn refused(refusal: Refusal) -> Self {
        Self::Told(refusal, CloseCode::Policy)
    }

    /// The process ends.
    pub(crate) fn shutdown() -> Self {
        let message = "The gateway is shutting down.".to_owned();
        Self::Told(Refusal::Upstream { code: "gateway_shutdown", message }, CloseCode::Away)
    }
}

/// Who speaks, looked up anew as often as it matters.
pub(crate) struct Guard {
    pub(crate) shared: Arc<Shared>,
    pub(crate) presented: SecretString,
    pub(crate) peer: IpAddr,
    pub(crate) since: Instant,
}

impl Guard {
    /// The caller as it is now.
    ///
    /// # Errors
    /// Why it is none any more.
    pub(crate) fn caller(&self) -> Result<Caller, Refusal> {
        let caller = authenticate::check(&self.shared.store, self.presented.expose_secret(), self.peer)?;
        if caller.policy.allows(Scope::Inference) { Ok(caller) } else { Err(Refusal::scope_missing(Scope::Inference)) }
    }

    /// Whether the process takes nothing more.
    pub(crate) fn draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    /// Resolves when the caller may no longer be served: within half a second after its token is revoked.
    pub(crate) async fn forbidden(&self) -> Refusal {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.caller() {
                Ok(_) | Err(Refusal::Store) => {}
                Err(refusal) => return refusal,
            }
        }
    }

    /// Resolves when the conversation must end: within half a second after its token is revoked.
    pub(crate) async fn watch(&self) -> End {
        let mut cut = self.shared.cut.subscribe();
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                cut = cut.wait_for(|cut| *cut) => {
                    if cut.is_ok() {
                        return End::shutdown();
                    }
                }
                _ = look.tick() => {}
            }
            match self.caller() {
                Ok(_) | Err(Refusal::Store) => {}
                Err(refusal) => return End::refused(refusal),
            }
            if self.since.elapsed() > MAX_AGE {
                let message = "This WebSocket has been open for 60 minutes. Open a new one.".to_owned();
                let code = "websocket_connection_limit_reached";
                return End::refused(Refusal::Bad { status: 400, param: None, code: Some(code), message });
            }
        }
    }
}

/// Says a last word, closes, and waits until the client has done so too: what it still sends must not make its last words
/// from here unreadable.
pub(crate) async fn closed(client: ClientSocket, farewell: Option<(String, CloseCode)>) {
    if let Some((event, code)) = farewell {
        hung_up(client, Some(event), code).await;
    }
}

/// The same where the last word may have been said already.
pub(crate) async fn hung_up(mut client: ClientSocket, event: Option<String>, code: CloseCode) {
    let goodbye = async {
        let frame = CloseFrame { code, reason: "".into() };
        if let Some(event) = event
            && client.send(Message::text(event)).await.is_err()
        {
            return;
        }
        if client.close(Some(frame)).await.is_ok() {
            while let Some(Ok(_)) = client.next().await {}
        }
    };
    if tokio::time::timeout(FAREWELL, goodbye).await.is_err() {
        tracing::debug!("a client did not take its last message in time");
    }
}
