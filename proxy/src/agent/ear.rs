//! Who hears a turn: a client, as it is said or when it is over, or whoever asked for it from within, when it is over.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use openclawmu_store::RequestId;
use serde_json::{Value, json};

use super::turn::Total;
use crate::answer::{BUDGET_REMAINING, Head};
use crate::client::Client;
use crate::dialect::Dialect;
use crate::gateway::Stop;

/// Who hears a turn.
pub(super) struct Ear<'a, 'c> {
    client: Option<&'a mut Client<'c>>,
    voice: Voice,
    stream: Option<Stream>,
    /// What is left of the quotas, as the latest step was told.
    standing: Vec<(HeaderName, HeaderValue)>,
}

/// What every answer and every chunk of a turn says of itself.
pub(super) struct Voice {
    /// The request that asked for it.
    pub(super) request_id: RequestId,
    /// The agent, as a model.
    pub(super) model: String,
    /// In seconds since 1970.
    pub(super) created: i64,
}

/// How far a stream has come.
struct Stream {
    wants_usage: bool,
    begun: bool,
    /// Something was said before this step.
    gap: bool,
    said: bool,
}

impl<'a, 'c> Ear<'a, 'c> {
    /// A client that wants the answer when it is over.
    pub(super) fn whole(client: &'a mut Client<'c>, voice: Voice) -> Self {
        Self { client: Some(client), voice, stream: None, standing: Vec::new() }
    }

    /// A client that wants it as it is said.
    pub(super) fn streaming(client: &'a mut Client<'c>, voice: Voice, wants_usage: bool) -> Self {
        let stream = Stream { wants_usage, begun: false, gap: false, said: false };
        Self { client: Some(client), voice, stream: Some(stream), standing: Vec::new() }
    }

    /// No client.
    pub(super) fn nobody(voice: Voice) -> Self {
        Self { client: None, voice, stream: None, standing: Vec::new() }
    }

    /// Resolves when nobody hears it any more.
    pub(super) async fn gone(&mut self) {
        match &mut self.client {
            Some(client) => client.gone().await,
            None => std::future::pending().await,
        }
    }

    /// Whether the answer has begun, so that a refusal can no longer be told as one.
    pub(super) fn has_begun(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.begun)
    }

    /// A step is answered with this head.
    pub(super) fn head(&mut self, head: &Head) {
        let of_quotas = |(name, _): &(&str, &[u8])| *name == BUDGET_REMAINING || name.starts_with("x-ratelimit-");
        let kept = head.headers().filter(of_quotas);
        let header = |(name, value): (&str, &[u8])| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value).ok()?))
        };
        self.standing = kept.filter_map(header).collect();
    }

    /// Another step begins: what is said in it stands apart from what was said before.
    pub(super) fn step(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.gap = stream.said;
        }
    }

    /// Something is said.
    pub(super) async fn text(&mut self, text: &str) -> Result<(), Stop> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let gap = if std::mem::take(&mut stream.gap) { GAP } else { "" };
        stream.said = true;
        self.delta(&json!({"content": format!("{gap}{text}")}), Value::Null, None).await
    }

    /// A tool is called.
    pub(super) async fn tool(&mut self, step: u32, name: &str) -> Result<(), Stop> {
        let note = json!({"step": step, "tool": name});
        self.delta(&json!({}), Value::Null, Some(note)).await
    }

    /// It is over.
    pub(super) async fn done(mut self, total: &Total) -> Result<(), Stop> {
        let Some(stream) = &self.stream else { return self.answer(total).await };
        let wants_usage = stream.wants_usage;
        self.delta(&json!({}), total.finish.as_str().into(), Some(total.extension())).await?;
        let mut last = Vec::new();
        if wants_usage {
            let mut chunk = self.chunk(json!([]));
            if let Some(fields) = chunk.as_object_mut() {
                fields.insert("usage".to_owned(), total.tokens.value());
            }
            last = event(&chunk);
        }
        last.extend(b"data: [DONE]\n\n");
        match &mut self.client {
            Some(client) => Ok(client.last(last.into()).await?),
            None => Ok(()),
        }
    }

    /// It broke off in a stream that has begun.
    pub(super) async fn broken(mut self, stop: Stop) -> Result<(), Stop> {
        let event: Bytes = match stop {
            Stop::Refused(refusal, _) => refusal.told().openai_event().into(),
            Stop::Passed(rejected) => [b"data: ", rejected.body.trim_ascii(), b"\n\n"].concat().into(),
            stop @ (Stop::Gone | Stop::Io(_)) => return Err(stop),
        };
        match &mut self.client {
            Some(client) => Ok(client.last(event).await?),
            None => Ok(()),
        }
    }

    async fn answer(mut self, total: &Total) -> Result<(), Stop> {
        let message = json!({"role": "assistant", "content": total.text, "refusal": null});
        let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": total.finish});
        let answer = json!({
            "id": self.id(),
            "object": "chat.completion",
            "created": self.voice.created,
            "model": self.voice.model,
            "choices": [choice],
            "usage": total.tokens.value(),
            "openclawmu": total.extension(),
        });
        let Some(client) = self.client.take() else { return Ok(()) };
        let mut head = Head::of(200, self.voice.request_id, Dialect::Openai)?;
        head.set_attempt(&total.model, None);
        head.set_cost(total.cost);
        head.extend(self.standing);
        Ok(head.send(client, "application/json", answer.to_string().into()).await?)
    }

    /// One chunk, behind the head and the first one where it is the first.
    async fn delta(&mut self, delta: &Value, finish: Value, note: Option<Value>) -> Result<(), Stop> {
        if !self.stream.as_ref().is_some_and(|stream| stream.begun) {
            self.begin().await?;
        }
        let mut chunk = self.chunk(json!([{"index": 0, "delta": delta, "finish_reason": finish}]));
        if let (Some(note), Some(fields)) = (note, chunk.as_object_mut()) {
            fields.insert("openclawmu".to_owned(), note);
        }
        self.piece(&chunk).await
    }

    async fn begin(&mut self) -> Result<(), Stop> {
        let (Some(stream), Some(client)) = (&mut self.stream, &mut self.client) else { return Ok(()) };
        stream.begun = true;
        let mut head = Head::of(200, self.voice.request_id, Dialect::Openai)?;
        head.set("content-type", "text/event-stream");
        head.set("cache-control", "no-cache");
        head.extend(std::mem::take(&mut self.standing));
        head.begin(client).await?;
        let first = json!({"role": "assistant", "content": ""});
        let chunk = self.chunk(json!([{"index": 0, "delta": first, "finish_reason": null}]));
        self.piece(&chunk).await
    }

    async fn piece(&mut self, chunk: &Value) -> Result<(), Stop> {
        match (&self.stream, &mut self.client) {
            (Some(_), Some(client)) => Ok(client.piece(event(chunk).into()).await?),
            _ => Ok(()),
        }
    }

    fn chunk(&self, choices: Value) -> Value {
        json!({
            "id": self.id(),
            "object": "chat.completion.chunk",
            "created": self.voice.created,
            "model": self.voice.model,
            "choices": choices,
        })
    }

    fn id(&self) -> String {
        format!("chatcmpl-{:032x}", self.voice.request_id.0)
    }
}

/// What stands between what is said in two steps.
pub(super) const GAP: &str = "\n\n";

fn event(value: &Value) -> Vec<u8> {
    format!("data: {value}\n\n").into_bytes()
}
