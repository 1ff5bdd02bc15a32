//! The scripted provider of OpenAI's Realtime API: a WebSocket server in the test's process, with the events of the real one
//! and a bill of its own. It begins a response when it is asked to, or when a turn ends and it was not told otherwise.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use super::behaviour::Gate;
use super::spoken::session;
pub use super::spoken::{Line, Spoken, usage};
use crate::listening::Listening;

#[derive(Default)]
struct State {
    lines: Mutex<Vec<Arc<Mutex<Line>>>>,
    script: Mutex<VecDeque<Spoken>>,
    refuses: Mutex<Option<u16>>,
    defies: Mutex<bool>,
}

/// A running provider; it ends with its handle.
pub struct Realtime {
    listening: Listening,
    state: Arc<State>,
}

impl Realtime {
    /// Starts one on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let listening = Listening::start(move |stream| {
            let state = Arc::clone(&shared);
            async move { serve(stream, &state).await }
        })
        .await;
        Self { listening, state }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// The next response is like this; those after the last script are the default's.
    pub fn next(&self, spoken: Spoken) {
        self.state.script.lock().expect("unpoisoned").push_back(spoken);
    }

    /// Requests for a WebSocket are answered with this status.
    pub fn refuse(&self, status: u16) {
        *self.state.refuses.lock().expect("unpoisoned") = Some(status);
    }

    /// Whatever is set in a session, turns are answered unasked.
    pub fn defy(&self) {
        *self.state.defies.lock().expect("unpoisoned") = true;
    }

    /// How many connections were switched or refused.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.state.lines.lock().expect("unpoisoned").len()
    }

    /// Looks at the newest connection; panics when there was none.
    pub fn last<T>(&self, look: impl FnOnce(&Line) -> T) -> T {
        let lines = self.state.lines.lock().expect("unpoisoned");
        let line = lines.last().expect("the provider was called").lock().expect("unpoisoned");
        look(&line)
    }
}

#[expect(clippy::result_large_err, reason = "the library's callback wants a whole answer")]
async fn serve(stream: TcpStream, state: &State) {
    stream.set_nodelay(true).expect("a socket option");
    let line = Arc::new(Mutex::new(Line::default()));
    state.lines.lock().expect("unpoisoned").push(Arc::clone(&line));
    let refuses = *state.refuses.lock().expect("unpoisoned");
    let noted = Arc::clone(&line);
    let look = move |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let mut line = noted.lock().expect("unpoisoned");
        line.target = request.uri().to_string();
        let text = |value: &http::HeaderValue| value.to_str().expect("text").to_owned();
        line.headers = request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        match refuses {
            None => Ok(response),
            Some(status) => {
                let body =
                    json!({"error": {"message": "No.", "type": "invalid_request_error", "param": null, "code": "no"}});
                let mut refusal = ErrorResponse::new(Some(body.to_string()));
                *refusal.status_mut() = http::StatusCode::from_u16(status).expect("a status");
                Err(refusal)
            }
        }
    };
    if let Ok(socket) = accept_hdr_async(stream, look).await {
        let model = line.lock().expect("unpoisoned").target.split("model=").nth(1).unwrap_or("voice").to_owned();
        let session = session(&model);
        let mut talk = Talk {
            socket,
            line: &line,
            state,
            session,
            steps: VecDeque::new(),
            active: None,
            speaking: false,
            count: 0,
        };
        talk.run().await;
    }
    line.lock().expect("unpoisoned").ended = true;
}

enum Step {
    Send(Value),
    Wait(Gate),
    End(Value),
    HangUp,
}

struct Talk<'a> {
    socket: WebSocketStream<TcpStream>,
    line: &'a Mutex<Line>,
    state: &'a State,
    session: Value,
    steps: VecDeque<Step>,
    /// The response under way.
    active: Option<String>,
    speaking: bool,
    count: u64,
}

impl Talk<'_> {
    async fn run(&mut self) {
        let created = json!({"type": "session.created", "event_id": "event_s", "session": self.session});
        if self.send(created).await.is_none() {
            return;
        }
        loop {
            let going = tokio::select! {
                message = self.socket.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        let event: Value = serde_json::from_str(&text).expect("the gateway sends JSON");
                        self.line.lock().expect("unpoisoned").events.push(event.clone());
                        self.event(&event).await
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => None,
                    Some(Ok(_)) => Some(()),
                },
                () = ready(&self.steps) => self.step().await,
            };
            if going.is_none() {
                return;
            }
        }
    }

    async fn send(&mut self, event: Value) -> Option<()> {
        self.socket.send(Message::text(event.to_string())).await.ok()
    }

    async fn step(&mut self) -> Option<()> {
        match self.steps.pop_front()? {
            Step::Wait(_) => Some(()),
            Step::Send(event) => self.send(event).await,
            Step::End(event) => {
                self.active = None;
                self.send(event).await
            }
            Step::HangUp => None,
        }
    }

    async fn event(&mut self, event: &Value) -> Option<()> {
        match event["type"].as_str().expect("a type") {
            "session.update" => {
                merge(&mut self.session, &event["session"]);
                if *self.state.defies.lock().expect("unpoisoned") {
                    self.session["audio"]["input"]["turn_detection"]["create_response"] = json!(true);
                }
                let session = self.session.clone();
                self.send(json!({"type": "session.updated", "event_id": "event_u", "session": session})).await
            }
            "conversation.item.create" => {
                let mut item = event["item"].clone();
                item["id"] = json!(self.id("item"));
                for kind in ["conversation.item.added", "conversation.item.done"] {
                    self.send(json!({"type": kind, "event_id": "e", "previous_item_id": null, "item": item})).await?;
                }
                Some(())
            }
            "input_audio_buffer.append" => self.heard(event["audio"].as_str().unwrap_or_default()).await,
            "response.create" if self.active.is_some() => {
                let error = json!({
                    "type": "invalid_request_error", "code": "conversation_already_has_active_response",
                    "message": "Conversation already has an active response in progress.", "param": null, "event_id": event["event_id"]
                });
                self.send(json!({"type": "error", "event_id": "event_e", "error": error})).await
            }
            "response.create" if event["response"]["instructions"] == "be-refused" => {
                let error = json!({
                    "type": "invalid_request_error", "code": "invalid_value", "message": "No.", "param": "response.instructions",
                    "event_id": event["event_id"]
                });
                self.send(json!({"type": "error", "event_id": "event_e", "error": error})).await
            }
            "response.create" => self.begin().await,
            "response.cancel" => {
                let Some(id) = self.active.take() else { return Some(()) };
                self.steps.clear();
                let response = json!({
                    "object": "realtime.response", "id": id, "status": "cancelled", "output": [], "usage": usage(10, 1),
                    "status_details": {"type": "cancelled", "reason": "client_cancelled"}
                });
                self.send(json!({"type": "response.done", "event_id": "event_d", "response": response})).await
            }
            _ => Some(()),
        }
    }

    /// Audio is speech unless it is all zeros, which ends a turn.
    async fn heard(&mut self, audio: &str) -> Option<()> {
        let turns = &self.session["audio"]["input"]["turn_detection"];
        if turns.is_null() {
            return Some(());
        }
        let answers = turns["create_response"] == json!(true);
        let silent = audio.bytes().all(|byte| byte == b'A');
        if !silent {
            if !std::mem::replace(&mut self.speaking, true) {
                self.send(json!({"type": "input_audio_buffer.speech_started", "event_id": "e", "audio_start_ms": 0, "item_id": "i"}))
                    .await?;
            }
            return Some(());
        }
        if !std::mem::replace(&mut self.speaking, false) {
            return Some(());
        }
        self.send(
            json!({"type": "input_audio_buffer.speech_stopped", "event_id": "e", "audio_end_ms": 9, "item_id": "i"}),
        )
        .await?;
        self.send(
            json!({"type": "input_audio_buffer.committed", "event_id": "e", "previous_item_id": null, "item_id": "i"}),
        )
        .await?;
        if answers { self.begin().await } else { Some(()) }
    }

    /// Begins a response by its script.
    async fn begin(&mut self) -> Option<()> {
        let spoken = self.state.script.lock().expect("unpoisoned").pop_front().unwrap_or_default();
        let (id, item) = (self.id("resp"), self.id("item"));
        self.line.lock().expect("unpoisoned").begun += 1;
        self.active = Some(id.clone());
        let response =
            json!({"object": "realtime.response", "id": id, "status": "in_progress", "output": [], "usage": null});
        self.send(json!({"type": "response.created", "event_id": "event_c", "response": response})).await?;
        let place = |kind: &str, more: Value| {
            let mut event = json!({
                "type": kind, "event_id": "event_t", "response_id": id, "item_id": item, "output_index": 0, "content_index": 0
            });
            merge(&mut event, &more);
            event
        };
        for (at, word) in spoken.words.iter().enumerate() {
            if let Some((index, gate)) = &spoken.gate
                && *index == at
            {
                self.steps.push_back(Step::Wait(gate.clone()));
            }
            if spoken.breaks_after == Some(at) {
                self.steps.push_back(Step::HangUp);
            }
            self.steps.push_back(Step::Send(place("response.output_text.delta", json!({"delta": word}))));
        }
        self.steps.push_back(Step::Send(place("response.output_text.done", json!({"text": spoken.words.concat()}))));
        let text = json!({"type": "output_text", "text": spoken.words.concat()});
        let mut output = vec![json!({
            "id": item, "object": "realtime.item", "type": "message", "status": "completed", "role": "assistant", "content": [text]
        })];
        if let Some(name) = spoken.calls {
            output.push(json!({
                "id": "item_f", "object": "realtime.item", "type": "function_call", "status": "completed", "call_id": "call_1",
                "name": name, "arguments": "{}"
            }));
        }
        let done = json!({
            "object": "realtime.response", "id": id, "status": "completed", "status_details": null, "output": output,
            "usage": spoken.usage
        });
        self.steps.push_back(Step::End(json!({"type": "response.done", "event_id": "event_d", "response": done})));
        Some(())
    }

    fn id(&mut self, of: &str) -> String {
        self.count += 1;
        format!("{of}_{}", self.count)
    }
}

/// Resolves when the first step can be carried out.
async fn ready(steps: &VecDeque<Step>) {
    match steps.front() {
        None => std::future::pending().await,
        Some(Step::Wait(gate)) => gate.passed().await,
        Some(Step::Send(_) | Step::End(_) | Step::HangUp) => {}
    }
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}
