//! What is counted: fixed requests, one after the other, each answer compared with the script.

use anyhow::{Context as _, Result, ensure};

use crate::anthropic;
use crate::client::{Connection, post};
use crate::load::{expect_ok, expect_refusal, expected_events};
use crate::pace::Turns;
use crate::script::{BodySize, EventScript, Provider, StreamAsk, chat_request, completion, is_said};
use crate::sse::Events;
use crate::stages::count::{ANSWERED, REFUSED, Request};
use crate::stages::parked::Thread;

/// Chunks of a stream.
const CHUNKS: usize = 200;

/// One kind of request, and how often it is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// As in the table.
    pub(crate) name: &'static str,
    /// What its requests consist of.
    pub(crate) parts: &'static [&'static str],
    /// Requests before the ones that count: tables and pools have their size then.
    warm_up: usize,
    /// Requests that count.
    counted: usize,
    provider: Provider,
    size: BodySize,
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Whole,
    Stream,
    Refused,
}

/// All of them, in the order in which they run.
pub(crate) const ALL: [Scenario; 8] = [
    Scenario::new("closed_1k", Provider::Openai, BodySize::Kib1, Shape::Whole),
    Scenario::new("closed_64k", Provider::Openai, BodySize::Kib64, Shape::Whole),
    Scenario::new("translated_1k", Provider::Anthropic, BodySize::Kib1, Shape::Whole),
    Scenario::new("translated_64k", Provider::Anthropic, BodySize::Kib64, Shape::Whole),
    Scenario::new("refused", Provider::Openai, BodySize::Kib1, Shape::Refused),
    Scenario::new("stream", Provider::Openai, BodySize::Kib1, Shape::Stream),
    Scenario::new("stream_64k", Provider::Openai, BodySize::Kib64, Shape::Stream),
    Scenario::new("translated_stream", Provider::Anthropic, BodySize::Kib1, Shape::Stream),
];

impl Scenario {
    const fn new(name: &'static str, provider: Provider, size: BodySize, shape: Shape) -> Self {
        let (parts, warm_up, counted) = match shape {
            Shape::Whole => (ANSWERED, 12, 15),
            Shape::Stream => (ANSWERED, 2, 12),
            Shape::Refused => (REFUSED, 12, 15),
        };
        Self { name, parts, warm_up, counted, provider, size, shape }
    }

    /// Requests in all.
    pub(crate) fn requests(&self) -> usize {
        (self.warm_up + self.counted) * self.each()
    }

    /// The requests that count, of all that were sent.
    pub(crate) fn counted<'r>(&self, all: &'r [Request]) -> Vec<&'r Request> {
        let (each, uncounted) = (self.each(), self.warm_up);
        all.chunks(each).skip(uncounted).filter_map(<[Request]>::last).collect()
    }

    /// A stream takes so long that what caches do now and then is due after each: a request before it, which does not count,
    /// finds that.
    fn each(&self) -> usize {
        if self.shape == Shape::Stream { 2 } else { 1 }
    }

    /// Whether its requests are in the ledger.
    pub(crate) fn is_billed(&self) -> bool {
        self.shape != Shape::Refused
    }
}

/// Who sends.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    /// Its connection.
    pub(crate) connection: Connection,
    /// Where to.
    pub(crate) address: std::net::SocketAddr,
    /// Whose requests are answered.
    pub(crate) token: &'a str,
    /// Whose requests are refused.
    pub(crate) spent_token: &'a str,
    /// Who serves.
    pub(crate) server: &'a Thread,
    /// When the upstream goes on.
    pub(crate) turns: &'a Turns,
}

impl Client<'_> {
    /// Sends every request of a scenario, each when the gateway has nothing left to do.
    pub(crate) fn send(&mut self, scenario: &Scenario) -> Result<()> {
        let ask = StreamAsk { size: scenario.size, chunks: CHUNKS, include_usage: false };
        let stream = (scenario.shape == Shape::Stream).then_some(ask);
        let bearer = if scenario.is_billed() { self.token } else { self.spent_token };
        let body = chat_request(scenario.provider, scenario.size, stream);
        let request = post(self.address, "/v1/chat/completions", bearer, &body);
        let whole =
            post(self.address, "/v1/chat/completions", bearer, &chat_request(scenario.provider, scenario.size, None));
        for _ in 0..scenario.warm_up + scenario.counted {
            if scenario.each() > 1 {
                self.server.wait()?;
                self.whole(&whole, scenario).context(scenario.name)?;
            }
            self.server.wait()?;
            match scenario.shape {
                Shape::Whole => self.whole(&request, scenario),
                Shape::Stream => self.stream(&request, (scenario.provider, ask)),
                Shape::Refused => self.refused(&request),
            }
            .with_context(|| scenario.name)?;
        }
        Ok(())
    }

    fn whole(&mut self, request: &[u8], scenario: &Scenario) -> Result<()> {
        let mut body = Vec::new();
        let answer = self.connection.call_whole(request, &mut body)?;
        expect_ok(answer.status, &body)?;
        let script = match scenario.provider {
            Provider::Openai => completion(scenario.size),
            Provider::Anthropic => anthropic::translated(scenario.size),
        };
        ensure!(is_said(&script, &body), "an answer that is not the script's");
        Ok(())
    }

    fn refused(&mut self, request: &[u8]) -> Result<()> {
        let mut body = Vec::new();
        let answer = self.connection.call_whole(request, &mut body)?;
        expect_refusal(answer.status, &body)
    }

    fn stream(&mut self, request: &[u8], (provider, ask): (Provider, StreamAsk)) -> Result<()> {
        let expected = match provider {
            Provider::Openai => expected_events(&EventScript::new(), ask),
            Provider::Anthropic => anthropic::translated_events(ask.chunks),
        };
        self.turns.restart();
        let (mut events, mut seen, mut opening, turns) = (Events::default(), 0_usize, Vec::new(), self.turns);
        let answer = self.connection.call(request, |piece| {
            if seen == 0 {
                opening.extend_from_slice(piece);
            }
            events.feed(piece, |event| {
                let right = expected.get(seen).is_some_and(|expected| is_said(expected, event));
                ensure!(right, "event {seen} is {:?}", String::from_utf8_lossy(event));
                seen += 1;
                if event.starts_with(b"data: {") {
                    turns.grant();
                }
                Ok(())
            })
        })?;
        expect_ok(answer.status, &opening)?;
        ensure!(seen == expected.len(), "{seen} of {} events", expected.len());
        Ok(())
    }
}
