//! The threads of a load: one for each connection, all connected before the first request, ended by the
//! first fault of any. Knows nothing of what they send.

use std::num::NonZeroU64;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::anthropic;
use crate::client::{Connection, post};
use crate::load::{Outcome, Target};
use crate::script::{BodySize, Provider, chat_request, completion, is_said};

/// A hundred threads that hold a connection each need little stack.
const STACK_BYTES: usize = 256 * 1024;

/// What one thread works with.
pub(crate) struct Worker<'a> {
    /// Its place among the others, from zero.
    pub(crate) index: usize,
    /// Its connection, open.
    pub(crate) connection: Connection,
    /// What it measured so far.
    pub(crate) outcome: Outcome,
    stop: &'a AtomicBool,
    fault: &'a AtomicBool,
}

impl Worker<'_> {
    /// Whether this thread must end: the run was interrupted, or another thread met a fault.
    pub(crate) fn must_end(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.fault.load(Ordering::Relaxed)
    }

    /// Sends one request that is answered whole, compares the answer, notes the latency since `since`.
    pub(crate) fn ask(&mut self, request: &Exchange, since: Instant, body: &mut Vec<u8>) -> Result<()> {
        let answer = self.connection.call_whole(&request.request, body)?;
        match &request.answer {
            Right::Said(script) => {
                expect_ok(answer.status, body)?;
                let (got, meant) = (body.len(), script.len());
                ensure!(is_said(script, body), "an answer of {got} bytes that is not the {meant} bytes of the script");
            }
            Right::Refusal => expect_refusal(answer.status, body)?,
        }
        self.outcome.answers += 1;
        self.outcome.latencies_ns.push(nanoseconds(since.elapsed()));
        Ok(())
    }
}

/// A request and the only right answer to it.
pub(crate) struct Exchange {
    /// Head and body.
    pub(crate) request: Vec<u8>,
    /// What is right.
    pub(crate) answer: Right,
}

/// The right answer.
pub(crate) enum Right {
    /// This body, as a script has it.
    Said(Vec<u8>),
    /// A refusal for a spent budget.
    Refusal,
}

impl Exchange {
    /// A chat request of that size, not streamed.
    pub(crate) fn chat(target: &Target, provider: Provider, size: BodySize) -> Self {
        let body = chat_request(provider, size, None);
        let request = post(target.address, "/v1/chat/completions", &target.bearer, &body);
        let answer = match provider {
            Provider::Anthropic if target.translates => anthropic::translated(size),
            Provider::Openai | Provider::Anthropic => completion(size),
        };
        Self { request, answer: Right::Said(answer) }
    }

    /// A request of 1 KiB that is refused, where somebody's requests are; else one that is answered.
    pub(crate) fn refused(target: &Target) -> Self {
        let (provider, size) = (Provider::Openai, BodySize::Kib1);
        let Some(spent) = &target.spent else { return Self::chat(target, provider, size) };
        let body = chat_request(provider, size, None);
        Self { request: post(target.address, "/v1/chat/completions", spent, &body), answer: Right::Refusal }
    }
}

/// Fails unless a request was refused because nothing is left of a budget.
pub(crate) fn expect_refusal(status: u16, body: &[u8]) -> Result<()> {
    let said = String::from_utf8_lossy(body.get(..400).unwrap_or(body));
    ensure!(status == 429 && said.contains("insufficient_quota"), "status {status} instead of a refusal: {said}");
    Ok(())
}

/// Fails unless the status is 200, with the start of what the answer said.
pub(crate) fn expect_ok(status: u16, body: &[u8]) -> Result<()> {
    let said = String::from_utf8_lossy(body.get(..400).unwrap_or(body));
    ensure!(status == 200, "status {status}: {said}");
    Ok(())
}

/// Runs `work` on `count` threads and joins what they measured.
pub(crate) fn run(
    target: &Target,
    count: usize,
    stop: &AtomicBool,
    work: impl Fn(&mut Worker<'_>) -> Result<()> + Sync,
) -> Result<Outcome> {
    let fault = AtomicBool::new(false);
    let mut workers = Vec::with_capacity(count);
    for index in 0..count {
        let mut connection = Connection::to(target.address);
        connection.open()?;
        workers.push(Worker { index, connection, outcome: Outcome::default(), stop, fault: &fault });
    }
    let started = Instant::now();
    let outcomes = thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = workers
            .into_iter()
            .map(|mut worker| {
                let thread = thread::Builder::new().stack_size(STACK_BYTES);
                thread.spawn_scoped(scope, move || {
                    // The default slack of 50 us would be most of what an open loop at 1,000/s measures.
                    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
                    let done = work(&mut worker);
                    if done.is_err() {
                        worker.fault.store(true, Ordering::Relaxed);
                    }
                    done.map(|()| worker.outcome)
                })
            })
            .collect::<Result<_, _>>()?;
        let ended = threads.into_iter().map(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(cause) => panic::resume_unwind(cause),
        });
        ended.collect::<Vec<Result<Outcome>>>().into_iter().collect::<Result<Vec<_>>>()
    })?;
    ensure!(!stop.load(Ordering::Relaxed), "interrupted");
    let mut all = Outcome { elapsed: started.elapsed(), ..Outcome::default() };
    outcomes.into_iter().for_each(|outcome| all.merge(outcome));
    Ok(all)
}

/// Nanoseconds, as a number that adds up.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A count as the number it is divided by and compared with.
pub(crate) fn count(items: usize) -> Result<u64> {
    u64::try_from(items).context("a count beyond 64 bits")
}
