//! The scripted upstream: a server that speaks as `OpenAI` and as Anthropic do, and does as little as it can, so that it is never what
//! a run measures. One thread, answers built once, one write an answer and one write an event.
//!
//! The request says what is wanted: its size is the size of the answer, `max_tokens` of a stream is the
//! number of its chunks. Never forgiving: a wrong key, path or coding is answered with an error, which fails
//! the run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::anthropic;
use crate::pace::Pace;
use crate::script::{BodySize, EventScript, Provider, completion};
use crate::wire::{Chunked, Framing, Head, find};

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
    cache-control: no-cache\r\nx-request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
const MAX_CHUNKS: usize = 100_000;
const SIZES: [BodySize; 2] = [BodySize::Kib1, BodySize::Kib64];
const ROUTES: [(&[u8], Provider); 3] = [
    (b"POST /v1/chat/completions ", Provider::Openai),
    (b"POST /chat/completions ", Provider::Openai),
    (b"POST /v1/messages ", Provider::Anthropic),
];

/// How the upstream is set up.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9101")]
    pub(crate) listen: SocketAddr,
    /// Pause before each event of a stream, so that each is a write and a wake of its own.
    #[arg(long, default_value_t = 10)]
    pub(crate) pace_ms: u64,
    /// Chunks of a stream whose request has no `max_tokens`.
    #[arg(long, default_value_t = 200)]
    pub(crate) chunks: usize,
    /// The only credential to accept; any where there is none.
    #[arg(long, env = "OPENCLAWMU_BENCH_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
}

/// Serves until the process ends.
pub(crate) fn serve(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let script = Arc::new(Script::new(options, Pace::Even(Duration::from_millis(options.pace_ms))));
    runtime.block_on(async {
        let listener =
            TcpListener::bind(options.listen).await.with_context(|| format!("listening on {}", options.listen))?;
        accept(&listener, &script).await
    })
}

/// Serves on `listener` at `pace`, until the process ends.
pub(crate) fn serve_paced(listener: std::net::TcpListener, options: &Options, pace: Pace) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let script = Arc::new(Script::new(options, pace));
    listener.set_nonblocking(true)?;
    runtime.block_on(async { accept(&TcpListener::from_std(listener)?, &script).await })
}

async fn accept(listener: &TcpListener, script: &Arc<Script>) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                connections.spawn(converse(stream, Arc::clone(script)));
            }
            Some(ended) = connections.join_next() => {
                // A caller that goes away ends its conversation, which is no fault of the upstream's.
                if let Err(fault) = ended? {
                    eprintln!("upstream: {fault:#}");
                }
            }
        }
    }
}

/// Everything the upstream says, ready to be written.
struct Script {
    completions: [Vec<u8>; 2],
    messages: [Vec<u8>; 2],
    events: EventScript,
    pace: Pace,
    chunks: usize,
    key: Option<Vec<u8>>,
    authorization: Option<Vec<u8>>,
}

impl Script {
    fn new(options: &Options, pace: Pace) -> Self {
        Self {
            completions: SIZES.map(|size| json_answer("200 OK", &completion(size))),
            messages: SIZES.map(|size| json_answer("200 OK", &anthropic::message(size))),
            events: EventScript::new(),
            pace,
            chunks: options.chunks,
            key: options.key.as_ref().map(|key| key.clone().into_bytes()),
            authorization: options.key.as_ref().map(|key| format!("Bearer {key}").into_bytes()),
        }
    }

    /// Whom a request takes this for, or what is wrong with it, as the status and code of the answer.
    fn asked(&self, head: &Head<'_>) -> Result<Provider, (&'static str, &'static str)> {
        let route = ROUTES.iter().find(|(route, _)| head.start.starts_with(route));
        let (_, provider) = *route.ok_or(("404 Not Found", "not_found"))?;
        let (field, expected) = match provider {
            Provider::Openai => ("authorization", self.authorization.as_deref()),
            Provider::Anthropic if head.field("anthropic-version").is_none() => {
                return Err(("400 Bad Request", "anthropic_version"));
            }
            Provider::Anthropic => ("x-api-key", self.key.as_deref()),
        };
        let accepted = expected.is_none() || head.field(field) == expected;
        if accepted { Ok(provider) } else { Err(("401 Unauthorized", "invalid_api_key")) }
    }

    /// The answer that is told whole.
    fn whole(&self, provider: Provider, size: BodySize) -> &[u8] {
        let [small, large] = match provider {
            Provider::Openai => &self.completions,
            Provider::Anthropic => &self.messages,
        };
        match size {
            BodySize::Kib1 => small,
            BodySize::Kib64 => large,
        }
    }
}

fn json_answer(status: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         x-request-id: req_bench\r\nopenai-processing-ms: 1\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}

/// One connection, request after request.
async fn converse(mut stream: TcpStream, script: Arc<Script>) -> Result<()> {
    let mut received = Vec::with_capacity(16 * 1024);
    while let Some(request) = read_request(&mut stream, &mut received, &script).await? {
        script.pace.begin();
        let written = match request {
            Request::Refused(status, code) => {
                let body = format!(
                    r#"{{"error":{{"message":"refused by the scripted upstream","type":"invalid_request_error","param":null,"code":"{code}"}}}}"#
                );
                stream.write_all(&json_answer(status, body.as_bytes())).await
            }
            Request::Asked(provider, Wanted::Whole(size)) => stream.write_all(script.whole(provider, size)).await,
            Request::Asked(Provider::Openai, Wanted::Stream { chunks, include_usage }) => {
                write_stream(&mut stream, &script, chunks, include_usage).await
            }
            Request::Asked(Provider::Anthropic, Wanted::Stream { chunks, .. }) => {
                write_messages(&mut stream, &script, chunks).await
            }
        };
        if written.is_err() {
            break; // the caller has gone
        }
    }
    Ok(())
}

async fn write_stream(
    stream: &mut TcpStream,
    script: &Script,
    chunks: usize,
    include_usage: bool,
) -> std::io::Result<()> {
    let mut frame = Vec::with_capacity(1024);
    frame.extend_from_slice(STREAM_HEAD);
    if !script.pace.joins() {
        flush(stream, &mut frame).await?;
    }
    for index in 0..chunks {
        script.pace.turn(index).await;
        framed(script.events.event(index, chunks), &mut frame);
        if index + 1 < chunks || !script.pace.joins() {
            flush(stream, &mut frame).await?;
        }
    }
    if include_usage {
        framed(&EventScript::usage_event(chunks), &mut frame);
        if !script.pace.joins() {
            flush(stream, &mut frame).await?;
        }
    }
    framed(EventScript::DONE, &mut frame);
    frame.extend_from_slice(LAST_CHUNK);
    flush(stream, &mut frame).await
}

async fn write_messages(stream: &mut TcpStream, script: &Script, chunks: usize) -> std::io::Result<()> {
    let joins = script.pace.joins();
    let mut frame = Vec::with_capacity(1024);
    frame.extend_from_slice(STREAM_HEAD);
    if !joins {
        flush(stream, &mut frame).await?;
    }
    let mut events = anthropic::events(chunks).into_iter().peekable();
    let mut turn = 0;
    while let Some((waits, event)) = events.next() {
        if waits {
            script.pace.turn(turn).await;
            turn += 1;
        }
        framed(&event, &mut frame);
        // What belongs to one turn is one write where turns are told apart.
        if !joins || events.peek().is_some_and(|(waits, _)| *waits) {
            flush(stream, &mut frame).await?;
        }
    }
    frame.extend_from_slice(LAST_CHUNK);
    flush(stream, &mut frame).await
}

async fn flush(stream: &mut TcpStream, frame: &mut Vec<u8>) -> std::io::Result<()> {
    stream.write_all(frame).await?;
    frame.clear();
    Ok(())
}

/// Adds one chunk of the transfer coding to `frame`.
fn framed(event: &[u8], frame: &mut Vec<u8>) {
    frame.extend_from_slice(format!("{:x}\r\n", event.len()).as_bytes());
    frame.extend_from_slice(event);
    frame.extend_from_slice(b"\r\n");
}

/// What is done with one request.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Refused(&'static str, &'static str),
    Asked(Provider, Wanted),
}

/// What one request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Whole(BodySize),
    Stream { chunks: usize, include_usage: bool },
}

/// The next request; none where the caller hung up between two.
async fn read_request(stream: &mut TcpStream, received: &mut Vec<u8>, script: &Script) -> Result<Option<Request>> {
    let (framing, asked, taken) = loop {
        if let Some((head, taken)) = Head::parse(received) {
            ensure!(head.field("expect").is_none(), "Expect is not spoken here");
            break (head.framing()?, script.asked(&head), taken);
        }
        if stream.read_buf(received).await? == 0 {
            ensure!(received.is_empty(), "hung up within a head");
            return Ok(None);
        }
    };
    received.drain(..taken);
    let body = read_body(stream, received, framing).await?;
    Ok(Some(match asked {
        Err((status, code)) => Request::Refused(status, code),
        Ok(provider) => Request::Asked(provider, wanted(&body, script.chunks)),
    }))
}

async fn read_body(stream: &mut TcpStream, received: &mut Vec<u8>, framing: Framing) -> Result<Vec<u8>> {
    let (mut body, mut chunked) = (Vec::new(), Chunked::default());
    loop {
        match framing {
            Framing::Length(bytes) if received.len() >= bytes => {
                let rest = received.split_off(bytes);
                return Ok(std::mem::replace(received, rest));
            }
            Framing::Length(_) => {}
            Framing::Unsaid => return Ok(body),
            Framing::Chunked => {
                let taken = chunked.feed(received, &mut |piece| {
                    body.extend_from_slice(piece);
                    Ok(())
                })?;
                received.drain(..taken);
                if chunked.is_done() {
                    return Ok(body);
                }
            }
        }
        if stream.read_buf(received).await? == 0 {
            bail!("hung up within a body");
        }
    }
}

/// Reads the few members that matter, near the start or the end of the body: the prose in the middle of a
/// large one is not searched.
fn wanted(body: &[u8], default_chunks: usize) -> Wanted {
    const EDGE: usize = 1024;
    let start = body.get(..EDGE).unwrap_or(body);
    let end = body.get(body.len().saturating_sub(EDGE)..).unwrap_or_default();
    let value = |name: &str| value_of(start, name).or_else(|| value_of(end, name));
    let is_set = |name: &str| value(name).is_some_and(|value| value.starts_with(b"true"));
    if !is_set("stream") {
        return Wanted::Whole(BodySize::of_request(body.len()));
    }
    let asked = value("max_tokens").or_else(|| value("max_completion_tokens"));
    let chunks = asked.and_then(leading_number).unwrap_or(default_chunks).clamp(1, MAX_CHUNKS);
    Wanted::Stream { chunks, include_usage: is_set("include_usage") }
}

/// What follows `"name":` in JSON text. A quote within a string is escaped, so a name in prose is not found.
fn value_of<'a>(json: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let quoted = format!("\"{name}\"");
    let after = json.get(find(json, quoted.as_bytes())? + quoted.len()..)?;
    Some(after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start())
}

fn leading_number(value: &[u8]) -> Option<usize> {
    let digits = value.split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{StreamAsk, chat_request};

    #[test]
    fn a_request_without_stream_gets_an_answer_of_its_own_size() {
        for size in [BodySize::Kib1, BodySize::Kib64] {
            assert_eq!(wanted(&chat_request(Provider::Openai, size, None), 200), Wanted::Whole(size));
        }
    }

    #[test]
    fn max_tokens_of_a_stream_is_the_number_of_its_chunks() {
        for include_usage in [false, true] {
            let size = BodySize::Kib64;
            let body = chat_request(Provider::Openai, size, Some(StreamAsk { size, chunks: 37, include_usage }));
            assert_eq!(wanted(&body, 200), Wanted::Stream { chunks: 37, include_usage });
        }
    }

    #[test]
    fn members_are_found_in_any_order_and_with_spaces() {
        let body = br#"{"messages":[], "stream_options" : {"include_usage": true}, "stream" : true}"#;
        assert_eq!(wanted(body, 200), Wanted::Stream { chunks: 200, include_usage: true });
        let prose = br#"{"messages":[{"content":"say \"stream\":true"}]}"#;
        assert_eq!(wanted(prose, 200), Wanted::Whole(BodySize::Kib1));
    }

    #[test]
    fn a_wrong_key_or_path_is_refused_and_the_right_one_is_not() {
        let options = Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            pace_ms: 0,
            chunks: 1,
            key: Some("right".to_owned()),
        };
        let script = Script::new(&options, Pace::Even(Duration::ZERO));
        let asked = |start: &str, field: &str| {
            let text = format!("{start} HTTP/1.1\r\n{field}\r\n\r\n");
            script.asked(&Head::parse(text.as_bytes()).unwrap().0).map_err(|(_, code)| code)
        };
        let chat = "POST /v1/chat/completions";
        assert_eq!(asked(chat, "Authorization: Bearer right"), Ok(Provider::Openai));
        assert_eq!(asked(chat, "Authorization: Bearer wrong"), Err("invalid_api_key"));
        assert_eq!(asked(chat, "x-api-key: right"), Err("invalid_api_key"));
        assert_eq!(asked("GET /v1/chat/completions", "Authorization: Bearer right"), Err("not_found"));
        assert_eq!(asked("POST /v1/embeddings", "Authorization: Bearer right"), Err("not_found"));
        let (messages, version) = ("POST /v1/messages", "anthropic-version: 2023-06-01\r\n");
        assert_eq!(asked(messages, &format!("{version}x-api-key: right")), Ok(Provider::Anthropic));
        assert_eq!(asked(messages, &format!("{version}Authorization: Bearer right")), Err("invalid_api_key"));
        assert_eq!(asked(messages, "x-api-key: right"), Err("anthropic_version"));
    }
}
