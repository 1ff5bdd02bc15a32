//! From a finished request to its spans: the request, its seven stages, and each attempt at an upstream under the names of the
//! GenAI conventions. Names, counts and times; never content.

use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::notes::{Fate, Finished};
use super::semantic as name;
use super::trace::{Stage, Trace, Tried};

/// The spans of one request.
struct Spans<'a> {
    finished: &'a Finished,
    trace: &'a Trace,
    scope: &'a InstrumentationScope,
    /// The request's span is the first; attempts follow, then stages.
    next: usize,
    all: Vec<SpanData>,
}

/// A span to be added.
struct Span {
    name: String,
    kind: SpanKind,
    id: u64,
    parent: Option<u64>,
    time: (SystemTime, SystemTime),
    attributes: Vec<KeyValue>,
    status: Status,
}

/// Every span of a request; none where it is not traced.
pub(super) fn of(finished: &Finished, scope: &InstrumentationScope) -> Vec<SpanData> {
    let Some(trace) = &finished.notes.trace else { return Vec::new() };
    let mut spans = Spans { finished, trace, scope, next: trace.tried.len() + 1, all: Vec::new() };
    spans.request();
    spans.stages();
    for place in 0..trace.tried.len() {
        spans.attempt(place);
    }
    spans.all
}

impl Spans<'_> {
    fn add(&mut self, span: Span, remote: bool) {
        let Span { name, kind, id, parent, time, attributes, status } = span;
        let context = SpanContext::new(
            TraceId::from(self.trace.id),
            SpanId::from(id),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        );
        self.all.push(SpanData {
            span_context: context,
            parent_span_id: parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: remote,
            span_kind: kind,
            name: name.into(),
            start_time: time.0,
            end_time: time.1,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: self.scope.clone(),
        });
    }

    /// When a moment was by the clock on the wall.
    fn at(&self, moment: Instant) -> SystemTime {
        self.start() + moment.saturating_duration_since(self.finished.started)
    }

    fn start(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(self.finished.at.0).unwrap_or(0))
    }

    fn end(&self) -> Instant {
        self.finished.started + self.finished.took
    }

    fn request(&mut self) {
        let finished = self.finished;
        let notes = &finished.notes;
        let mut attributes = vec![
            KeyValue::new(name::HTTP_METHOD, finished.method.as_str().to_owned()),
            KeyValue::new(name::HTTP_ROUTE, finished.route),
            KeyValue::new(name::HTTP_STATUS, i64::from(finished.status)),
            KeyValue::new(name::REQUEST_ID, finished.request_id.to_string()),
            KeyValue::new(name::OUTCOME, finished.fate().name()),
            KeyValue::new(name::STREAM, notes.stream),
        ];
        if let Some(peer) = finished.peer {
            attributes.push(KeyValue::new(name::CLIENT_ADDRESS, peer.to_string()));
        }
        if let Some(caller) = &notes.caller {
            attributes.push(KeyValue::new(name::TENANT, caller.tenant.to_string()));
            attributes.push(KeyValue::new(name::TOKEN, caller.token.to_string()));
        }
        if let Some(asked) = &notes.asked {
            attributes.push(KeyValue::new(name::ASKED_MODEL, asked.chars().take(200).collect::<String>()));
        }
        // A refusal is no error of a server's (HTTP conventions: only 5xx are).
        let failed = finished.status >= 500;
        if failed || notes.error.is_some() {
            let error = notes.error.map_or_else(|| finished.status.to_string(), str::to_owned);
            attributes.push(KeyValue::new(name::ERROR_TYPE, error));
        }
        let span = Span {
            name: format!("{} {}", finished.method, finished.route),
            kind: SpanKind::Server,
            id: self.trace.span(0),
            parent: self.trace.parent,
            time: (self.start(), self.at(self.end())),
            attributes,
            status: if failed { Status::error("") } else { Status::Unset },
        };
        self.add(span, self.trace.parent.is_some());
    }

    /// Each stage until the next; what an attempt waits for its upstream is a part of that attempt.
    fn stages(&mut self) {
        let (trace, mut attempt) = (self.trace, 0_usize);
        for (place, (stage, began)) in trace.stages.iter().enumerate() {
            let ended = trace.stages.get(place + 1).map_or(self.end(), |(_, next)| *next);
            let parent = match stage {
                Stage::Forward | Stage::Relay => trace.attempt_span(attempt),
                Stage::Authenticate | Stage::Read | Stage::Admit | Stage::Route | Stage::Settle => trace.span(0),
            };
            if *stage == Stage::Settle {
                attempt += 1;
            }
            let (id, time) = (trace.span(self.next), (self.at(*began), self.at(ended)));
            self.next += 1;
            let span = Span {
                name: stage.name().to_owned(),
                kind: SpanKind::Internal,
                id,
                parent: Some(parent),
                time,
                attributes: Vec::new(),
                status: Status::Unset,
            };
            self.add(span, false);
        }
    }

    fn attempt(&mut self, place: usize) {
        let trace = self.trace;
        let Some(tried) = trace.tried.get(place) else { return };
        let last = place + 1 == trace.tried.len();
        let settles = trace.stages.iter().filter(|(stage, _)| *stage == Stage::Settle);
        let ended = settles.map(|(_, at)| *at).nth(place).unwrap_or_else(|| self.end());
        let mut attributes = self.asked(tried, place);
        let mut error = tried.error.clone();
        if last {
            attributes.extend(self.billed());
            let fate = self.finished.fate();
            if error.is_none() && matches!(fate, Fate::Partial | Fate::ClientGone | Fate::UpstreamFailed) {
                error = Some(fate.name().to_owned());
            }
        }
        let status = if error.is_some() { Status::error("") } else { Status::Unset };
        attributes.extend(error.map(|error| KeyValue::new(name::ERROR_TYPE, error)));
        let span = Span {
            name: format!("{} {}", tried.operation, tried.model),
            kind: SpanKind::Client,
            id: trace.attempt_span(place),
            parent: Some(trace.span(0)),
            time: (self.at(tried.began), self.at(ended)),
            attributes,
            status,
        };
        self.add(span, false);
    }

    fn asked(&self, tried: &Tried, place: usize) -> Vec<KeyValue> {
        let mut attributes = vec![
            KeyValue::new(name::OPERATION, tried.operation),
            KeyValue::new(name::PROVIDER, name::provider(&tried.upstream)),
            KeyValue::new(name::REQUEST_MODEL, tried.model.clone()),
            KeyValue::new(name::UPSTREAM, tried.upstream.name.to_string()),
            KeyValue::new(name::ATTEMPT, i64::try_from(place).unwrap_or(i64::MAX)),
        ];
        if let Some((host, port)) = tried.upstream.address() {
            attributes.push(KeyValue::new(name::SERVER_ADDRESS, host.to_owned()));
            attributes.push(KeyValue::new(name::SERVER_PORT, i64::from(port)));
        }
        if let Some(model) = &tried.answered {
            attributes.push(KeyValue::new(name::RESPONSE_MODEL, model.clone()));
        }
        attributes
    }

    fn billed(&self) -> Vec<KeyValue> {
        let Some(billed) = &self.finished.notes.billed else { return Vec::new() };
        let count = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
        let usage = &billed.usage;
        vec![
            KeyValue::new(name::INPUT_TOKENS, count(usage.prompt_tokens())),
            KeyValue::new(name::OUTPUT_TOKENS, count(usage.completion_tokens())),
            KeyValue::new(name::CACHE_READ_TOKENS, i64::from(usage.cache_read)),
            KeyValue::new(name::CACHE_WRITE_TOKENS, i64::from(usage.cache_write) + i64::from(usage.cache_write_1h)),
            KeyValue::new(name::COST_USD, billed.cost.to_string()),
            KeyValue::new(name::ESTIMATED, billed.estimated),
            KeyValue::new(name::FIRST_BYTE_MS, i64::from(billed.first_byte_ms)),
        ]
    }
}
