//! Streams side by side, each event compared with the script. For cost per event. A stream that lacks an
//! event, has one too many, or ends without `[DONE]` is a fault.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::anthropic;
use crate::client::post;
use crate::load::fleet::{self, Worker, count, nanoseconds};
use crate::load::{Outcome, Target};
use crate::script::{EventScript, Provider, StreamAsk, chat_request, is_said};
use crate::sse::Events;

/// One stream on each of that many connections, all at once.
pub(crate) fn drive(
    target: &Target,
    provider: Provider,
    (streams, ask): (usize, StreamAsk),
    stop: &AtomicBool,
) -> Result<Outcome> {
    let body = chat_request(provider, ask.size, Some(ask));
    let request = post(target.address, "/v1/chat/completions", &target.bearer, &body);
    let expected = match provider {
        Provider::Anthropic if target.translates => anthropic::translated_events(ask.chunks),
        Provider::Openai | Provider::Anthropic => expected_events(&EventScript::new(), ask),
    };
    let outcome = fleet::run(target, streams, stop, |worker| read_stream(worker, &request, &expected))?;
    ensure!(outcome.answers == count(streams)?, "{} of {streams} streams", outcome.answers);
    Ok(Outcome { events: outcome.answers * count(ask.chunks)?, ..outcome })
}

/// Every event that a client must see, in order.
pub(crate) fn expected_events(script: &EventScript, ask: StreamAsk) -> Vec<Vec<u8>> {
    let mut events: Vec<Vec<u8>> = (0..ask.chunks).map(|index| script.event(index, ask.chunks).to_vec()).collect();
    if ask.include_usage {
        events.push(EventScript::usage_event(ask.chunks));
    }
    events.push(EventScript::DONE.to_vec());
    events
}

fn read_stream(worker: &mut Worker<'_>, request: &[u8], expected: &[Vec<u8>]) -> Result<()> {
    let sent_at = Instant::now();
    let (mut events, mut seen, mut opening) = (Events::default(), 0_usize, Vec::new());
    let answer = worker.connection.call(request, |piece| {
        if seen == 0 {
            opening.extend_from_slice(piece); // what a refusal says
        }
        events.feed(piece, |event| {
            let right = expected.get(seen).is_some_and(|expected| is_said(expected, event));
            ensure!(right, "event {seen} is {:?}", String::from_utf8_lossy(event));
            seen += 1;
            Ok(())
        })
    })?;
    fleet::expect_ok(answer.status, &opening)?;
    ensure!(events.is_between(), "the stream ended within an event");
    ensure!(seen == expected.len(), "{seen} of {} events", expected.len());
    worker.outcome.answers += 1;
    worker.outcome.frames += answer.frames;
    worker.outcome.latencies_ns.push(nanoseconds(sent_at.elapsed()));
    Ok(())
}
