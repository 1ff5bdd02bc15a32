//! The load generator against servers that are wrong in one way each.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use super::*;
use crate::anthropic;
use crate::script::{BodySize, EventScript, OPEN, Provider, StreamAsk, completion};
use crate::wire::{Framing, Head};

static RUNNING: AtomicBool = AtomicBool::new(false);
const ASK: StreamAsk = StreamAsk { size: BodySize::Kib1, chunks: 3, include_usage: true };

/// A server on one connection that gives request `n` what `answer(n)` says.
fn server(answer: impl Fn(usize) -> Vec<u8> + Send + 'static) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut received, mut number) = (Vec::new(), 0);
        loop {
            let mut piece = [0; 4096];
            let Ok(read @ 1..) = stream.read(&mut piece) else {
                return;
            };
            received.extend_from_slice(&piece[..read]);
            let Some((head, taken)) = Head::parse(&received) else {
                continue;
            };
            let Framing::Length(bytes) = head.framing().unwrap() else { panic!("not a length") };
            if received.len() == taken + bytes {
                received.clear();
                if stream.write_all(&answer(number)).is_err() {
                    return;
                }
                number += 1;
            }
        }
    });
    Target { address, bearer: "key".to_owned(), spent: None, translates: true }
}

fn whole(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn events() -> Vec<Vec<u8>> {
    let script = EventScript::new();
    let mut events: Vec<_> = (0..3).map(|index| script.event(index, 3).to_vec()).collect();
    events.push(EventScript::usage_event(3));
    events.push(EventScript::DONE.to_vec());
    events
}

fn closed(answer: impl Fn(usize) -> Vec<u8> + Send + 'static) -> anyhow::Result<Outcome> {
    let plan = Plan::Closed { provider: Provider::Openai, size: BodySize::Kib1, connections: 1, requests: 4 };
    drive(&server(answer), plan, &RUNNING)
}

fn stream(events: Vec<Vec<u8>>) -> anyhow::Result<Outcome> {
    let target = server(move |_| whole("200 OK", &events.concat()));
    drive(&target, Plan::Streams { provider: Provider::Openai, streams: 1, ask: ASK }, &RUNNING)
}

#[test]
fn right_answers_are_counted() {
    let outcome = closed(|_| whole("200 OK", &completion(BodySize::Kib1))).unwrap();
    assert_eq!((outcome.answers, outcome.latencies_ns.len()), (4, 4));
    let outcome = stream(events()).unwrap();
    assert_eq!((outcome.answers, outcome.events), (1, 3));
}

#[test]
fn one_wrong_byte_in_one_answer_fails_the_load() {
    let fault = closed(|number| {
        let mut body = completion(BodySize::Kib1);
        if number == 3 {
            *body.last_mut().unwrap() ^= 1;
        }
        whole("200 OK", &body)
    });
    assert!(format!("{:#}", fault.unwrap_err()).contains("not the 1024 bytes of the script"));
}

#[test]
fn a_translated_answer_may_differ_in_its_id_and_time_alone() {
    let plan = Plan::Closed { provider: Provider::Anthropic, size: BodySize::Kib1, connections: 1, requests: 1 };
    let told = |from: &str, to: &str| {
        let body = String::from_utf8(anthropic::translated(BodySize::Kib1)).unwrap().replace(OPEN, "7");
        let body = body.replace(from, to).into_bytes();
        drive(&server(move |_| whole("200 OK", &body)), plan, &RUNNING)
    };
    assert!(told("", "").is_ok());
    assert!(told("stop", "step").is_err());
    let plan = Plan::Streams { provider: Provider::Anthropic, streams: 1, ask: ASK };
    let events = anthropic::translated_events(3).concat();
    let body = String::from_utf8(events).unwrap().replace(OPEN, "7").into_bytes();
    assert!(drive(&server(move |_| whole("200 OK", &body)), plan, &RUNNING).is_ok());
}

#[test]
fn a_refusal_fails_the_load_and_is_told() {
    let fault = closed(|_| whole("429 Too Many Requests", b"over budget")).unwrap_err();
    assert_eq!(format!("{fault:#}"), "status 429: over budget");
}

#[test]
fn a_stream_with_an_event_too_few_or_too_many_or_changed_fails_the_load() {
    let changed = |change: fn(&mut Vec<Vec<u8>>)| {
        let mut events = events();
        change(&mut events);
        stream(events)
    };
    assert!(changed(|_| {}).is_ok());
    assert!(changed(|events| drop(events.remove(1))).is_err());
    assert!(changed(|events| drop(events.remove(3))).is_err(), "no usage event");
    assert!(changed(|events| drop(events.pop())).is_err(), "no [DONE]");
    assert!(changed(|events| events.push(EventScript::DONE.to_vec())).is_err());
    assert!(changed(|events| events.swap(0, 1)).is_err());
    assert!(changed(|events| events.last_mut().unwrap().truncate(5)).is_err(), "cut");
}

#[test]
fn a_stall_is_charged_to_every_request_that_was_due_meanwhile() {
    let target = server(|number| {
        if number == 0 {
            thread::sleep(Duration::from_millis(300));
        }
        whole("200 OK", &completion(BodySize::Kib1))
    });
    let plan = Plan::Open { size: BodySize::Kib1, connections: 1, rate: 100, requests: 10 };
    let outcome = drive(&target, plan, &RUNNING).unwrap();
    // The last of the ten was due 90 ms after the first, so it waited for 210 ms of the stall.
    let shortest = Duration::from_nanos(outcome.latencies_ns[0]);
    assert!(shortest >= Duration::from_millis(200), "{shortest:?}");
}

#[test]
fn a_raised_flag_ends_a_load_as_a_fault() {
    let target = server(|_| whole("200 OK", &completion(BodySize::Kib1)));
    let plan = Plan::Closed { provider: Provider::Openai, size: BodySize::Kib1, connections: 1, requests: u64::MAX };
    let fault = drive(&target, plan, &AtomicBool::new(true)).unwrap_err();
    assert_eq!(format!("{fault:#}"), "interrupted");
}

#[test]
fn a_refused_load_wants_the_refusal_of_a_spent_budget_and_no_other_answer() {
    const REFUSAL: &[u8] = br#"{"error":{"code":"insufficient_quota"}}"#;
    let plan = Plan::Refused { connections: 1, requests: 3 };
    let drive_spent = |status: &'static str, body: &'static [u8]| {
        let target = Target { spent: Some("spent".to_owned()), ..server(move |_| whole(status, body)) };
        drive(&target, plan, &RUNNING)
    };
    assert_eq!(drive_spent("429 Too Many Requests", REFUSAL).unwrap().answers, 3);
    assert!(drive_spent("200 OK", REFUSAL).is_err());
    assert!(drive_spent("429 Too Many Requests", br#"{"error":{"code":"rate_limit_exceeded"}}"#).is_err());
    let answered = drive(&server(|_| whole("200 OK", &completion(BodySize::Kib1))), plan, &RUNNING).unwrap();
    assert_eq!(answered.answers, 3, "where nobody is refused, the same requests are answered");
}
