//! `openclawmu terminal`: a tenant's terminal in this one. A ticket comes from the admin API; the WebSocket is the edge's own, as for
//! everybody else. The local terminal is as it was before, however this ends.

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use openclawmu_control::cli::{AttachFlags, Connection, terminal_ticket};
use openclawmu_terminal::frame::{ClientFrame, MAX_MESSAGE_BYTES, ServerFrame, Size};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::credential::PROTOCOL;
use super::escape::{Escape, Typed};
use crate::socket::limits;

/// Bytes that are shown before the gateway is told.
const ACK_EVERY: u64 = 128 << 10;
/// What is read from the keyboard at once.
const READ_BYTES: usize = 4096;
/// Pieces of input that wait.
const PIECES: usize = 16;
const PING_EVERY: Duration = Duration::from_secs(20);
/// Pauses before attempts to come back.
const AGAIN: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

type Socket = WebSocketStream<reqwest::Upgraded>;

/// How a connection ended.
enum End {
    /// The shell has, with this code.
    Exit(i32),
    /// Whoever sits here has left.
    Left,
    /// The gateway said why.
    Told(String),
    /// Nobody knows.
    Lost,
}

/// What is known of the terminal over there.
#[derive(Default)]
struct There {
    session: String,
    /// What one comes back with.
    back: Option<String>,
    drives: bool,
    seen: u64,
    acked: u64,
    told: Option<String>,
}

/// What happens here.
struct Here {
    keys: mpsc::Receiver<Vec<u8>>,
    escape: Escape,
    resized: Signal,
    ends: [Signal; 3],
}

/// Attaches; with `--json`, prints a ticket and attaches to nothing. The caller has installed rustls' default provider.
///
/// # Errors
/// The API's refusal, or what went wrong here.
pub(crate) async fn attach(flags: &AttachFlags, connection: &Connection) -> anyhow::Result<ExitCode> {
    if connection.json {
        let ticket = terminal_ticket(flags, connection, None).await?;
        writeln!(std::io::stdout(), "{}", ticket.text)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        bail!("standard input and output must be a terminal\nhint: to run one command, use `openclawmu sandbox exec`");
    }
    let ticket = terminal_ticket(flags, connection, size()).await?;
    let mut socket = dial(&ticket.url, &ticket.ticket).await?;
    writeln!(
        std::io::stderr(),
        "{} of {}; recorded. Type ~. after a new line to leave.",
        ticket.session,
        flags.tenant
    )?;
    let mut there = There { session: ticket.session, ..There::default() };
    // Dropped however this ends, a panic and the usual signals included.
    let raw = Raw::enter()?;
    let mut here = Here::listen()?;
    let ended = loop {
        match carry(socket, &mut here, &mut there).await {
            End::Lost => match come_back(&ticket.url, &mut there).await {
                Some(again) => socket = again,
                None => break End::Lost,
            },
            ended @ (End::Exit(_) | End::Left | End::Told(_)) => break ended,
        }
    };
    drop(raw);
    match ended {
        End::Exit(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        End::Left => {
            writeln!(std::io::stderr(), "\nleft {}", there.session)?;
            Ok(ExitCode::SUCCESS)
        }
        End::Told(why) => bail!("{why}"),
        End::Lost => bail!("the connection was lost"),
    }
}

/// Tries to come back to where the connection was lost.
async fn come_back(url: &str, there: &mut There) -> Option<Socket> {
    for pause in AGAIN {
        tokio::time::sleep(pause).await;
        let ticket = there.back.clone()?;
        if let Ok(mut socket) = dial(url, &ticket).await {
            let resume = ClientFrame::Resume { seq: there.seen, session: &there.session }.encode();
            if socket.send(Message::binary(resume)).await.is_ok() {
                return Some(socket);
            }
        }
    }
    None
}

/// Opens a WebSocket. The ticket is in the head alone.
async fn dial(url: &str, ticket: &str) -> anyhow::Result<Socket> {
    let target = url.replacen("ws", "http", 1);
    let key = generate_key();
    let client = reqwest::Client::builder().no_proxy().http1_only().redirect(reqwest::redirect::Policy::none());
    let request = client
        .build()
        .context("can't make an HTTP client")?
        .get(&target)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key)
        .header(SEC_WEBSOCKET_PROTOCOL, format!("{PROTOCOL}, ticket.{ticket}"));
    let answer = request.send().await.with_context(|| format!("can't reach the edge at {url}"))?;
    let status = answer.status();
    if status != http::StatusCode::SWITCHING_PROTOCOLS {
        let said: Value = answer.json().await.unwrap_or_default();
        let message = said.pointer("/error/message").and_then(Value::as_str).map(str::to_owned);
        bail!("{}", message.unwrap_or_else(|| format!("the edge at {url} answered {status}")));
    }
    let header = |name: &http::HeaderName| answer.headers().get(name).and_then(|value| value.to_str().ok());
    if header(&SEC_WEBSOCKET_ACCEPT) != Some(derive_accept_key(key.as_bytes()).as_str())
        || header(&SEC_WEBSOCKET_PROTOCOL) != Some(PROTOCOL)
    {
        bail!("{url} does not speak {PROTOCOL}");
    }
    let stream = answer.upgrade().await.context("the connection broke off")?;
    Ok(WebSocketStream::from_raw_socket(stream, Role::Client, Some(limits(MAX_MESSAGE_BYTES))).await)
}

/// Carries what is typed there and what is shown here, until either ends.
async fn carry(mut socket: Socket, here: &mut Here, there: &mut There) -> End {
    let mut ping = tokio::time::interval(PING_EVERY);
    if let Some((cols, rows)) = size() {
        // Also where nothing else is to be said: the first message says that no other follows.
        let frame = ClientFrame::Resize(Size::new(cols, rows)).encode();
        if there.seen == 0 && socket.send(Message::binary(frame)).await.is_err() {
            return End::Lost;
        }
    }
    loop {
        let frame = tokio::select! {
            message = socket.next() => match hear(message, there) {
                Ok(frame) => frame,
                Err(End::Lost) if there.told.is_some() => return End::Told(there.told.take().unwrap_or_default()),
                Err(end) => return end,
            },
            keys = here.keys.recv() => match here.escape.typed(&keys.unwrap_or_default()) {
                Typed::Leave => {
                    // The gateway is told, or finds out.
                    let _ = socket.close(None).await;
                    return End::Left;
                }
                Typed::Keys(keys) if there.drives && !keys.is_empty() => Some(ClientFrame::Input(&keys).encode()),
                // What an observer types goes nowhere.
                Typed::Keys(_) => None,
            },
            _ = here.resized.recv() => size()
                .filter(|_| there.drives)
                .map(|(cols, rows)| ClientFrame::Resize(Size::new(cols, rows)).encode()),
            () = any(&mut here.ends) => return End::Left,
            _ = ping.tick() => Some(ClientFrame::Ping(there.seen).encode()),
        };
        if let Some(frame) = frame
            && socket.send(Message::binary(frame)).await.is_err()
        {
            return End::Lost;
        }
    }
}

/// Takes a message; what is to be said to it.
fn hear(
    message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    there: &mut There,
) -> Result<Option<Vec<u8>>, End> {
    let Some(Ok(message)) = message else { return Err(End::Lost) };
    match message {
        Message::Binary(bytes) => frame(&bytes, there),
        Message::Text(text) => {
            let said: Value = serde_json::from_str(&text).unwrap_or_default();
            let part = |name: &str| said.get(name).and_then(Value::as_str);
            match part("type") {
                Some("hello") => {
                    there.drives = part("role") == Some("driver");
                    there.back = part("return_ticket").map(str::to_owned);
                    let seq = said.get("seq").and_then(Value::as_u64).unwrap_or(0);
                    if part("start") == Some("repaint") {
                        show(b"\x1bc")?;
                    }
                    (there.seen, there.acked) = (seq, seq);
                }
                Some("error") => there.told = part("message").map(str::to_owned),
                Some(_) | None => {}
            }
            Ok(None)
        }
        Message::Close(_) => Err(End::Lost),
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(None),
    }
}

fn frame(bytes: &[u8], there: &mut There) -> Result<Option<Vec<u8>>, End> {
    match ServerFrame::decode(bytes) {
        Ok(ServerFrame::Output { seq, bytes }) => {
            show(bytes)?;
            there.seen = seq.saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
            if there.seen.saturating_sub(there.acked) < ACK_EVERY {
                return Ok(None);
            }
            there.acked = there.seen;
            Ok(Some(ClientFrame::Ack(there.seen).encode()))
        }
        Ok(ServerFrame::Exit(code)) => Err(End::Exit(code)),
        Ok(ServerFrame::Pong(_) | ServerFrame::Viewers(_)) => Ok(None),
        Err(err) => Err(End::Told(format!("the gateway's answer can't be read: {err}"))),
    }
}

fn show(bytes: &[u8]) -> Result<(), End> {
    let mut out = std::io::stdout().lock();
    // Nobody is left to see it.
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|_| End::Left)
}

fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(std::io::stdout()).ok()?;
    Some((size.ws_col, size.ws_row)).filter(|(cols, rows)| *cols > 0 && *rows > 0)
}

impl Here {
    fn listen() -> anyhow::Result<Self> {
        let (sender, keys) = mpsc::channel(PIECES);
        let read = move || {
            let mut stdin = std::io::stdin().lock();
            let mut piece = vec![0; READ_BYTES];
            while let Ok(read @ 1..) = stdin.read(&mut piece) {
                if sender.blocking_send(piece.get(..read).unwrap_or_default().to_vec()).is_err() {
                    return;
                }
            }
        };
        // Not the runtime's: it would wait at the end for a key that nobody presses.
        std::thread::Builder::new().name("keyboard".to_owned()).spawn(read).context("no thread can be started")?;
        let ends = [signal(SignalKind::terminate())?, signal(SignalKind::hangup())?, signal(SignalKind::interrupt())?];
        Ok(Self { keys, escape: Escape::default(), resized: signal(SignalKind::window_change())?, ends })
    }
}

async fn any([term, hup, int]: &mut [Signal; 3]) {
    tokio::select! {
        _ = term.recv() => {}
        _ = hup.recv() => {}
        _ = int.recv() => {}
    }
}

/// The local terminal, handing every key on; as it was before when this is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> anyhow::Result<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).context("the terminal can't be read")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).context("the terminal can't be set")?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(err) = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0) {
            tracing::warn!(%err, "the terminal is not as it was; `reset` makes it so");
        }
    }
}
