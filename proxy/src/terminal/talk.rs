//! Messages between a client and a terminal, until either ends. What a message means, and whether its sender may, is the terminal's
//! to know; here is who that is, and for how long.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use openclawmu_terminal::frame::ClientFrame;
use openclawmu_terminal::{Attachment, FrameError, Message as Said, Reason, Session, Text, Viewer};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::desk::role;
use super::grant::{Grant, Word};
use super::keep::withdrawn;
use super::record;
use super::start::told;
use crate::context::Shared;
use crate::refusal::Refusal;
use crate::socket::{ClientSocket, End, LOOK_EVERY, Pulse, hung_up};

/// How long a client may take to send its first message.
const FIRST: Duration = Duration::from_secs(10);
/// Pause between two looks at whether the caller may still look.
const STILL_EVERY: Duration = Duration::from_millis(300);
/// What a client that may sends to end a terminal.
const END: &str = "end";

/// One client of a terminal.
pub(super) struct Talk {
    pub(super) shared: Arc<Shared>,
    pub(super) client: ClientSocket,
    pub(super) grant: Grant,
    pub(super) peer: IpAddr,
}

/// How a client's part ended.
struct Bye {
    /// What it is told last; `None` where it was told, or is gone.
    text: Option<String>,
    code: CloseCode,
    is_gone: bool,
}

impl Bye {
    fn gone() -> Self {
        Self { text: None, code: CloseCode::Normal, is_gone: true }
    }

    fn told(code: &str, message: &str, close: CloseCode) -> Self {
        let text = match Text::error(code, message).message() {
            Said::Text(text) => Some(text),
            Said::Binary(_) => None,
        };
        Self { text, code: close, is_gone: false }
    }

    fn refused(refusal: &Refusal) -> Self {
        let told = refusal.told();
        Self::told(told.code.unwrap_or(told.kind), &told.message, CloseCode::Policy)
    }

    fn reason(reason: Reason) -> Self {
        Self::told(reason.as_str(), reason.message(), CloseCode::Policy)
    }

    fn frame(err: FrameError) -> Self {
        Self::told(err.code(), &err.to_string(), CloseCode::Policy)
    }
}

impl From<End> for Bye {
    fn from(end: End) -> Self {
        match end {
            End::Left => Self::gone(),
            End::Told(refusal, code) => {
                let told = refusal.told();
                Self::told(told.code.unwrap_or(told.kind), &told.message, code)
            }
        }
    }
}

impl Talk {
    /// Attaches the client, and carries its messages.
    pub(super) async fn run(mut self, terminal: Arc<Session>) {
        let (first, attachment) = match self.attach(&terminal).await {
            Ok(attached) => attached,
            Err(bye) => return self.leave(bye).await,
        };
        let (shared, grant, peer) = (Arc::clone(&self.shared), self.grant.clone(), self.peer);
        let bye = tokio::select! {
            bye = self.relay(&attachment, first) => bye,
            refusal = withdrawal(&shared, &grant, peer) => Bye::reason(withdrawn(&refusal)),
        };
        drop(attachment);
        self.leave(bye).await;
    }

    async fn leave(self, bye: Bye) {
        if !bye.is_gone {
            hung_up(self.client, bye.text, bye.code).await;
        }
    }

    /// Takes the first message, which says where the client was, or is anything else. Nothing is shown before that is on record.
    async fn attach(&mut self, terminal: &Arc<Session>) -> Result<(Option<Bytes>, Attachment), Bye> {
        let first = tokio::time::timeout(FIRST, self.first()).await.unwrap_or(Ok(None))?;
        let resume = match first.as_deref().map(ClientFrame::decode) {
            Some(Ok(ClientFrame::Resume { seq, session })) if session == terminal.id() => Some(seq),
            Some(Ok(ClientFrame::Resume { .. })) => {
                let message = "This ticket leads to another terminal.".to_owned();
                return Err(Bye::refused(&Refusal::Forbidden { code: "terminal_foreign", message }));
            }
            Some(Ok(_)) | None => None,
            Some(Err(err)) => return Err(Bye::frame(err)),
        };
        let viewer = Viewer {
            who: record::name(&self.grant.owner.actor),
            role: role(self.grant.role),
            ip: Some(self.peer),
            reason: self.grant.reason().map(str::to_owned),
        };
        let attachment = terminal.attach(viewer, resume).map_err(|err| Bye::refused(&told(&err)))?;
        let noted = record::before(&self.shared, &self.grant, ("terminal.attach", self.peer), json!({})).await;
        noted.map_err(|refusal| Bye::refused(&refusal))?;
        Ok((first.filter(|_| resume.is_none()), attachment))
    }

    /// The first message with anything in it.
    async fn first(&mut self) -> Result<Option<Bytes>, Bye> {
        loop {
            match self.client.next().await {
                Some(Ok(Message::Binary(bytes))) => return Ok(Some(bytes)),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => return Err(no_text()),
                Some(Ok(Message::Close(_))) | None => return Err(Bye::gone()),
                Some(Err(err)) => return Err(broken(&err)),
            }
        }
    }

    /// Both ways at once: what waits for the shell holds up nothing that it shows.
    async fn relay(&mut self, attachment: &Attachment, mut held: Option<Bytes>) -> Bye {
        let (sender, mut fed) = mpsc::channel::<Bytes>(1);
        let mut feeding = std::pin::pin!(async {
            while let Some(message) = fed.recv().await {
                attachment.feed(&message).await?;
            }
            Ok::<(), FrameError>(())
        });
        // A terminal has a clock of its own for whoever is silent.
        let mut pulse = Pulse::new(Duration::MAX);
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut last = Last::default();
        loop {
            tokio::select! {
                biased;
                ended = &mut feeding => match ended {
                    Ok(()) => return Bye::gone(),
                    Err(err) => return Bye::frame(err),
                },
                permit = sender.reserve(), if held.is_some() => match (permit, held.take()) {
                    (Ok(permit), Some(message)) => permit.send(message),
                    (Err(_), _) | (Ok(_), None) => {}
                },
                message = self.client.next(), if held.is_none() => {
                    pulse.client();
                    match self.heard(attachment, message).await {
                        Ok(message) => held = message,
                        Err(bye) => return bye,
                    }
                }
                said = attachment.next() => {
                    let Some(said) = said else { return last.bye() };
                    let message = match self.outgoing(said, &mut last) {
                        Ok(message) => message,
                        Err(refusal) => return Bye::refused(&refusal),
                    };
                    if self.client.send(message).await.is_err() {
                        return Bye::gone();
                    }
                }
                _ = look.tick() => match pulse.look(Some(())) {
                    Ok(true) if self.client.send(Message::Ping(Bytes::new())).await.is_err() => return Bye::gone(),
                    Ok(_) => {}
                    Err(end) => return end.into(),
                },
            }
        }
    }

    /// Takes a client's message: one for the terminal is given back.
    async fn heard(
        &mut self,
        attachment: &Attachment,
        message: Option<Result<Message, Error>>,
    ) -> Result<Option<Bytes>, Bye> {
        match message {
            Some(Ok(Message::Binary(bytes))) => Ok(Some(bytes)),
            Some(Ok(Message::Text(text))) => {
                let said: Value = serde_json::from_str(&text).unwrap_or_default();
                if said != json!({ "type": END }) {
                    return Err(no_text());
                }
                if let Err(err) = attachment.end() {
                    let told = told(&err).told();
                    if let Said::Text(text) = Text::error(told.code.unwrap_or(told.kind), told.message).message() {
                        self.client.send(Message::text(text)).await.map_err(|_| Bye::gone())?;
                    }
                }
                Ok(None)
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
            Some(Ok(Message::Close(_))) | None => Err(Bye::gone()),
            Some(Err(err)) => Err(broken(&err)),
        }
    }

    /// A message as it goes out: a greeting has what its client comes back with.
    fn outgoing(&self, said: Said, last: &mut Last) -> Result<Message, Refusal> {
        let text = match said {
            Said::Binary(bytes) => return Ok(Message::binary(bytes)),
            Said::Text(text) => text,
        };
        let mut value: Value = serde_json::from_str(&text).unwrap_or_default();
        match value.get("type").and_then(Value::as_str) {
            Some("hello") => {
                let back = Grant { opens: None, ..self.grant.clone() };
                let ticket = self.shared.terminals.tickets.issue_return(back, self.shared.store.clock().now())?;
                let end = self.shared.terminals.all.session(&self.grant.session).map(|one| one.summary().output_bytes);
                if let Some(fields) = value.as_object_mut() {
                    fields.insert("return_ticket".to_owned(), ticket.into());
                    fields.insert("end_seq".to_owned(), json!(end));
                }
                Ok(Message::text(value.to_string()))
            }
            Some(_) | None => {
                last.code = value.get("code").and_then(Value::as_str).map(str::to_owned);
                Ok(Message::text(text))
            }
        }
    }
}

/// What was said last.
#[derive(Default)]
struct Last {
    /// The word for why it ended, where it did not end by itself.
    code: Option<String>,
}

impl Last {
    fn bye(&self) -> Bye {
        let word = self.code.as_deref();
        let code = if word == Some(Reason::Shutdown.as_str()) {
            CloseCode::Away
        } else if [Reason::Revoked, Reason::TenantGone, Reason::Quota]
            .iter()
            .any(|reason| word == Some(reason.as_str()))
        {
            CloseCode::Policy
        } else {
            CloseCode::Normal
        };
        Bye { text: None, code, is_gone: false }
    }
}

/// Resolves when whoever looks no longer may. Staff's word is the terminal's own to lose.
async fn withdrawal(shared: &Shared, grant: &Grant, peer: IpAddr) -> Refusal {
    if matches!(grant.word, Word::Staff(_)) {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(STILL_EVERY).await;
        match grant.renewed(shared, peer) {
            Ok(_) | Err(Refusal::Store) => {}
            Err(refusal) => return refusal,
        }
    }
}

fn no_text() -> Bye {
    let message = r#"What a client says is a binary frame; the only text is {"type":"end"}."#;
    Bye::told("frame_text", message, CloseCode::Unsupported)
}

fn broken(err: &Error) -> Bye {
    if matches!(err, Error::Capacity(_)) {
        return Bye::told("frame_too_long", &FrameError::TooLong.to_string(), CloseCode::Size);
    }
    Bye::gone()
}
