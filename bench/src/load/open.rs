//! Open loop: requests are due at fixed times, and a latency counts from the time that the request was due,
//! not from when a connection was free to send it. A proxy that stalls is charged for all who waited (no
//! coordinated omission).

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::load::fleet::{self, Exchange, count};
use crate::load::{Outcome, Target};
use crate::script::{BodySize, Provider};

/// When requests are due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    /// Connections that take turns.
    pub(crate) connections: usize,
    /// Requests a second.
    pub(crate) rate: u64,
    /// Requests in all.
    pub(crate) requests: u64,
}

impl Schedule {
    /// How long after the start the request of that number is due.
    fn due(self, number: u64) -> Duration {
        Duration::from_nanos(number.saturating_mul(1_000_000_000) / self.rate.max(1))
    }
}

/// Sends every request of the schedule.
pub(crate) fn drive(target: &Target, size: BodySize, schedule: Schedule, stop: &AtomicBool) -> Result<Outcome> {
    /// Time for the threads to start before the first request is due.
    const LEAD: Duration = Duration::from_millis(50);
    let exchange = Exchange::chat(target, Provider::Openai, size);
    let connections = count(schedule.connections)?;
    let start = Instant::now() + LEAD;
    let outcome = fleet::run(target, schedule.connections, stop, |worker| {
        let mut body = Vec::with_capacity(size.bytes());
        let mut number = count(worker.index)?;
        while !worker.must_end() && number < schedule.requests {
            let due = start + schedule.due(number);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            worker.ask(&exchange, due, &mut body)?;
            number += connections;
        }
        Ok(())
    })?;
    let requests = schedule.requests;
    ensure!(outcome.answers == requests, "{} answers to {requests} requests", outcome.answers);
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_even_distances() {
        let schedule = Schedule { connections: 4, rate: 1_000, requests: 10 };
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(1), Duration::from_millis(1));
        assert_eq!(schedule.due(2_500), Duration::from_millis(2_500));
    }
}
