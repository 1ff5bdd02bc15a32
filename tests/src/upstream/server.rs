//! The upstream's sockets: reads requests, carries out the planned steps, and notices the moment the other side leaves.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::account::{Account, BatchEnd, is_of_account};
use super::behaviour::{Behaviour, Fault, Pace};
use super::media;
use super::plan::{Plan, Step, plan, planned_whole};
use super::record::{Bill, Exchange};
use crate::raw;

struct Rule {
    needle: String,
    behaviour: Behaviour,
    once: bool,
}

#[derive(Default)]
struct Script {
    rules: Vec<Rule>,
    queue: VecDeque<Behaviour>,
    otherwise: Behaviour,
}

#[derive(Default)]
struct State {
    account: Mutex<Account>,
    script: Mutex<Script>,
    exchanges: Mutex<Vec<Arc<Exchange>>>,
    connections: AtomicU64,
    sequence: AtomicU64,
}

/// A running upstream; it ends with its handle.
pub struct Upstream {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Upstream {
    /// Starts one on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                let state = Arc::clone(&shared);
                tokio::spawn(async move { serve(stream, number, &state).await });
            }
        });
        Self { address, state, accepting }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The `base_url` for the gateway's config.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Every answer from here on, unless a rule or the queue says otherwise.
    pub fn always(&self, behaviour: Behaviour) {
        self.script().otherwise = behaviour;
    }

    /// The next request without a rule is answered so, once.
    pub fn next(&self, behaviour: Behaviour) {
        self.script().queue.push_back(behaviour);
    }

    /// Requests whose body contains `needle` are answered so; the newest rule wins.
    pub fn when(&self, needle: &str, behaviour: Behaviour) {
        self.script().rules.insert(0, Rule { needle: needle.to_owned(), behaviour, once: false });
    }

    /// The first request whose body contains `needle` is answered so; after it the rule is gone.
    pub fn when_once(&self, needle: &str, behaviour: Behaviour) {
        self.script().rules.insert(0, Rule { needle: needle.to_owned(), behaviour, once: true });
    }

    /// Everything received so far, in order.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Arc<Exchange>> {
        self.state.exchanges.lock().expect("unpoisoned").clone()
    }

    /// The newest request; panics when there was none.
    #[must_use]
    pub fn last(&self) -> Arc<Exchange> {
        self.exchanges().pop().expect("the upstream was called")
    }

    /// How many requests came.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.state.exchanges.lock().expect("unpoisoned").len()
    }

    /// How many connections were opened.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// The bills of everything that the provider charges for.
    #[must_use]
    pub fn bills(&self) -> Vec<Bill> {
        self.exchanges().iter().map(|exchange| exchange.bill()).filter(|bill| bill.billed).collect()
    }

    /// Runs a batch, as far as `end` says.
    pub fn finish_batch(&self, id: &str, end: BatchEnd) {
        self.account().finish(id, end);
    }

    /// Every batch is run when it is next looked at.
    pub fn run_batches_at_once(&self) {
        self.account().runs_at_once = true;
    }

    /// How each line of a batch is answered.
    pub fn answer_lines(&self, behaviour: Behaviour) {
        self.account().behaviour = behaviour;
    }

    /// The bills of the lines of all batches.
    #[must_use]
    pub fn batch_bills(&self) -> Vec<Bill> {
        self.account().bills()
    }

    /// The ids of all batches in the account, oldest first.
    #[must_use]
    pub fn batches(&self) -> Vec<String> {
        self.account().batch_ids()
    }

    /// The ids of all files in the account, oldest first.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        self.account().file_ids()
    }

    /// Puts other content in the place of a file's.
    pub fn replace_file(&self, id: &str, content: Vec<u8>) {
        self.account().replace(id, content);
    }

    /// The input that a batch is run on; panics when it is gone.
    #[must_use]
    pub fn batch_input(&self, id: &str) -> String {
        self.account().input_of(id)
    }

    fn account(&self) -> std::sync::MutexGuard<'_, Account> {
        self.state.account.lock().expect("unpoisoned")
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.state.script.lock().expect("unpoisoned")
    }
}

impl State {
    fn choose(&self, body: &[u8]) -> Behaviour {
        let text = String::from_utf8_lossy(body);
        let mut script = self.script.lock().expect("unpoisoned");
        if let Some(at) = script.rules.iter().position(|rule| text.contains(&rule.needle)) {
            return if script.rules[at].once {
                script.rules.remove(at).behaviour
            } else {
                script.rules[at].behaviour.clone()
            };
        }
        script.queue.pop_front().unwrap_or_else(|| script.otherwise.clone())
    }
}

async fn serve(stream: TcpStream, connection: u64, state: &State) {
    stream.set_nodelay(true).expect("a socket option");
    let (mut reader, mut writer) = stream.into_split();
    let mut buffer = Vec::new();
    while let Some(message) = raw::read_request(&mut reader, &mut buffer).await {
        let body: Value = media::body(message.header("content-type").unwrap_or_default(), &message.body);
        let behaviour = state.choose(&message.body);
        let sequence = state.sequence.fetch_add(1, Ordering::SeqCst);
        let path = message.target().to_owned();
        let fault = matches!(behaviour.fault, Fault::None | Fault::HangUpAtByte(_));
        let planned = if fault && is_of_account(&path) {
            let content_type = message.header("content-type").unwrap_or_default();
            let asked = (message.method(), path.as_str());
            let answer = state.account.lock().expect("unpoisoned").answer(asked, content_type, &message.body);
            planned_whole(&behaviour, answer)
        } else {
            plan(&path, &body, sequence, &behaviour)
        };
        let exchange = Arc::new(Exchange {
            sequence,
            connection,
            method: message.method().to_owned(),
            path,
            headers: message.headers.clone(),
            body: message.body,
            received_at: Instant::now(),
            bill: Mutex::new(planned.bill.clone()),
            closed_at: Mutex::new(None),
            content_chunks: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        state.exchanges.lock().expect("unpoisoned").push(Arc::clone(&exchange));
        let mut answer = Answer { exchange: &exchange, writer: &mut writer, behaviour: &behaviour, offset: 0 };
        let going = tokio::select! {
            going = answer.carry_out(planned) => going,
            () = gone(&mut reader, &mut buffer) => {
                *exchange.closed_at.lock().expect("unpoisoned") = Some(Instant::now());
                false
            }
        };
        exchange.ended.store(true, Ordering::SeqCst);
        if !going {
            return;
        }
    }
}

/// Returns when the other side has closed; what it sends meanwhile is kept for the next request.
async fn gone(reader: &mut OwnedReadHalf, buffer: &mut Vec<u8>) {
    let mut piece = [0_u8; 4096];
    loop {
        match reader.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(count) => buffer.extend_from_slice(&piece[..count]),
        }
    }
}

struct Answer<'a> {
    exchange: &'a Exchange,
    writer: &'a mut OwnedWriteHalf,
    behaviour: &'a Behaviour,
    /// Bytes of body content written so far.
    offset: usize,
}

impl Answer<'_> {
    /// True when the connection may carry another request.
    async fn carry_out(&mut self, planned: Plan) -> bool {
        let chunked = planned.chunked;
        for step in planned.steps {
            let alive = match step {
                Step::Wait(gate) => {
                    gate.passed().await;
                    true
                }
                Step::Delay(pause) => {
                    tokio::time::sleep(pause).await;
                    true
                }
                Step::Stall => std::future::pending().await,
                Step::HangUp => false,
                Step::Charge => {
                    self.exchange.bill.lock().expect("unpoisoned").billed = true;
                    true
                }
                Step::Complete => {
                    let ended = !chunked || self.write(b"0\r\n\r\n").await;
                    self.exchange.bill.lock().expect("unpoisoned").complete = ended;
                    ended
                }
                Step::Head(bytes) => self.write_paced(&bytes).await,
                Step::Body { bytes, tokens } => {
                    let written = self.body(&bytes, chunked).await;
                    if written && tokens > 0 {
                        self.exchange.bill.lock().expect("unpoisoned").completion += tokens;
                        self.exchange.content_chunks.fetch_add(tokens, Ordering::SeqCst);
                    }
                    written
                }
                Step::Repeat(bytes) => {
                    while self.body(&bytes, chunked).await {}
                    false
                }
            };
            if !alive {
                return false;
            }
        }
        true
    }

    async fn body(&mut self, bytes: &[u8], chunked: bool) -> bool {
        let from = self.offset;
        self.offset += bytes.len();
        let split = match self.behaviour.pace {
            Pace::SplitAt(at) if at > from && at < self.offset => at - from,
            Pace::SplitAt(_) | Pace::Whole | Pace::EachByte => bytes.len(),
        };
        let (first, second) = bytes.split_at(split);
        self.piece(first, chunked).await && (second.is_empty() || self.piece(second, chunked).await)
    }

    async fn piece(&mut self, bytes: &[u8], chunked: bool) -> bool {
        if !chunked {
            return self.write_paced(bytes).await;
        }
        if self.behaviour.pace == Pace::EachByte {
            for byte in bytes {
                if !self.write(&[b'1', b'\r', b'\n', *byte, b'\r', b'\n']).await {
                    return false;
                }
            }
            return true;
        }
        let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
        framed.extend_from_slice(bytes);
        framed.extend_from_slice(b"\r\n");
        self.write(&framed).await
    }

    async fn write_paced(&mut self, bytes: &[u8]) -> bool {
        if self.behaviour.pace != Pace::EachByte {
            return self.write(bytes).await;
        }
        for byte in bytes {
            if !self.write(&[*byte]).await {
                return false;
            }
        }
        true
    }

    /// Writes, up to the byte at which the behaviour hangs up; false when the connection is over.
    async fn write(&mut self, bytes: &[u8]) -> bool {
        let sent = usize::try_from(self.exchange.bytes_sent()).expect("fits");
        let room = match self.behaviour.fault {
            Fault::HangUpAtByte(at) => at.saturating_sub(sent),
            _ => usize::MAX,
        };
        let allowed = &bytes[..bytes.len().min(room)];
        let mut rest = allowed;
        while !rest.is_empty() {
            match self.writer.write(rest).await {
                Ok(count) if count > 0 => {
                    self.exchange.bytes_sent.fetch_add(u64::try_from(count).expect("fits"), Ordering::SeqCst);
                    rest = &rest[count..];
                }
                Ok(_) | Err(_) => {
                    *self.exchange.closed_at.lock().expect("unpoisoned") = Some(Instant::now());
                    return false;
                }
            }
        }
        allowed.len() == bytes.len()
    }
}
