//! What is noted of a request on its way. While nobody observes, nothing is: each call is one branch.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method};
use openclawmu_store::{NanoUsd, Outcome, Policy, RequestId, Settled, UnixMs, Usage};
use serde::Deserialize;

use super::trace::{Stage, Trace};
use crate::catalog::Target;
use crate::dialect::Dialect;
use crate::forward::Failure;
use crate::read::Call;
use crate::relay::Relayed;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Answered in full.
    Complete,
    /// Cut while it was being answered.
    Partial,
    /// Refused here.
    Refused,
    /// Refused by the upstream.
    UpstreamRefused,
    /// The upstream was not reached, broke, or took too long.
    UpstreamFailed,
    /// The client left first.
    ClientGone,
}

impl Fate {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Refused => "refused",
            Self::UpstreamRefused => "upstream_refused",
            Self::UpstreamFailed => "upstream_failed",
            Self::ClientGone => "client_gone",
        }
    }
}

/// A bill, as far as it is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Billed {
    /// What was used.
    pub(crate) usage: Usage,
    /// The usage is ours, not the provider's.
    pub(crate) estimated: bool,
    /// What it cost.
    pub(crate) cost: NanoUsd,
    /// Milliseconds from admission to the answer's first byte.
    pub(crate) first_byte_ms: u32,
}

/// The notes of one request.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    on: bool,
    /// Who asked.
    pub(crate) caller: Option<Arc<Policy>>,
    /// The model that it asked for.
    pub(crate) asked: Option<String>,
    /// Whether a stream was asked for.
    pub(crate) stream: bool,
    /// Attempts at upstreams.
    pub(crate) attempts: u16,
    /// The last one's upstream, and the model's name there.
    pub(crate) target: Option<(Arc<str>, String)>,
    /// The last one's bill.
    pub(crate) billed: Option<Billed>,
    /// The word of the refusal.
    pub(crate) error: Option<&'static str>,
    /// What became of it, where that is not what its status says.
    pub(crate) fate: Option<Fate>,
    /// Its trace, where it is sampled.
    pub(crate) trace: Option<Box<Trace>>,
}

impl Notes {
    /// Notes that are kept only where somebody observes.
    pub(crate) fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }

    /// Traces the request from now on, where there is a trace.
    pub(crate) fn traced(&mut self, trace: Option<Box<Trace>>) {
        self.on |= trace.is_some();
        self.trace = trace;
    }

    /// Whether anything is kept.
    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// Notes that a stage begins. Stays a function of its own, since the bench counts instructions from one call to the next.
    #[inline(never)]
    pub(crate) fn stage(&mut self, stage: Stage) {
        if let Some(trace) = &mut self.trace {
            trace.stage(stage);
        }
    }

    /// What an upstream is told of the trace, where it is to be told.
    pub(crate) fn traceparent(&self, target: &Target) -> Option<HeaderValue> {
        self.trace.as_ref().filter(|_| target.upstream.traceparent)?.header()
    }

    /// Notes why the latest attempt failed.
    pub(crate) fn missed(&mut self, failure: &Failure) {
        self.stage(Stage::Settle);
        if let Some(tried) = self.trace.as_mut().and_then(|trace| trace.tried.last_mut()) {
            tried.error = Some(failure.kind());
        }
    }

    /// Notes the model that a whole answer names. Only what is sampled is looked at.
    pub(crate) fn answered(&mut self, body: &[u8]) {
        #[derive(Deserialize)]
        struct Named<'b> {
            #[serde(borrow, alias = "modelVersion")]
            model: Option<Cow<'b, str>>,
        }
        if let Some(tried) = self.trace.as_mut().and_then(|trace| trace.tried.last_mut()) {
            let named = serde_json::from_slice::<Named<'_>>(body).ok().and_then(|named| named.model);
            tried.answered = named.map(|model| model.chars().take(200).collect());
        }
    }

    /// Notes who asks.
    pub(crate) fn caller(&mut self, policy: &Arc<Policy>) {
        if self.on {
            self.caller = Some(Arc::clone(policy));
        }
    }

    /// Notes what for.
    pub(crate) fn call(&mut self, call: &Call) {
        self.asked(&call.ask.model);
        self.stream = call.ask.stream;
    }

    /// Notes the model that is asked for.
    pub(crate) fn asked(&mut self, model: &str) {
        if self.on {
            self.asked = Some(model.to_owned());
        }
    }

    /// Notes an attempt; `number` counts from 0, `operation` is what the conventions call it.
    pub(crate) fn attempt(&mut self, number: u16, target: &Target, operation: &'static str) {
        if self.on {
            self.attempts = number.saturating_add(1);
            self.target = Some((Arc::clone(&target.upstream.name), target.model.clone()));
        }
        if let Some(trace) = &mut self.trace {
            trace.attempt(target, operation);
        }
    }

    /// Notes a bill.
    pub(crate) fn settled(&mut self, relayed: &Relayed, settled: &Settled) {
        if relayed.outcome == Outcome::Partial {
            self.fate = Some(Fate::Partial);
        }
        if self.on {
            let Relayed { usage, estimated, first_byte_ms, .. } = *relayed;
            self.billed = Some(Billed { usage, estimated, cost: settled.cost, first_byte_ms });
        }
    }

    /// Notes why there is no answer.
    pub(crate) fn ended(&mut self, fate: Fate, error: Option<&'static str>) {
        (self.fate, self.error) = (Some(fate), error);
    }
}

/// A request that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// When it came.
    pub(crate) at: UnixMs,
    /// Its id.
    pub(crate) request_id: RequestId,
    /// Its route.
    pub(crate) route: &'static str,
    /// Its method.
    pub(crate) method: Method,
    /// The status that it got.
    pub(crate) status: u16,
    /// What its client speaks.
    pub(crate) dialect: Dialect,
    /// The client's address.
    pub(crate) peer: Option<IpAddr>,
    /// Bytes of its body.
    pub(crate) bytes_in: usize,
    /// Bytes of the answer's body.
    pub(crate) bytes_out: usize,
    /// The moment of its head.
    pub(crate) started: Instant,
    /// From its head to the answer's end.
    pub(crate) took: Duration,
    /// The rest.
    pub(crate) notes: Notes,
}

impl Finished {
    /// What became of it.
    pub(crate) fn fate(&self) -> Fate {
        let by_status = if self.status < 400 { Fate::Complete } else { Fate::Refused };
        self.notes.fate.unwrap_or(by_status)
    }
}
