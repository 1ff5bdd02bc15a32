//! Hands finished requests over to a thread of its own. Handing over never waits: what does not fit is dropped and counted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use super::notes::Finished;

/// Finished requests that wait for the thread.
const WAITING: usize = 8_192;
/// How long they gather: the thread is woken once for all that come meanwhile.
const GATHER: Duration = Duration::from_millis(50);
/// Pause between two looks at whether something was asked of the thread while no request came.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Where finished requests go. Runs on the observer's thread alone, and may take its time there.
pub(crate) trait Sink: Send {
    /// Takes a request.
    fn take(&mut self, finished: &Finished);
    /// Nothing more comes for now: what was taken goes out.
    fn flush(&mut self);
    /// Opens again what may have been moved away.
    fn reopen(&mut self);
}

/// The thread's handle; dropping it hands out what is there and ends the thread.
pub(crate) struct Observer {
    queue: SyncSender<Option<Finished>>,
    asked: Arc<Asked>,
    /// Requests that were dropped.
    dropped: Counter,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What is asked of the thread.
#[derive(Default)]
struct Asked {
    reopen: AtomicBool,
    close: AtomicBool,
}

impl Observer {
    /// Starts the thread; `dropped` counts what it does not get.
    ///
    /// # Errors
    /// The system's words.
    pub(crate) fn start(sinks: Vec<Box<dyn Sink>>, dropped: Counter) -> std::io::Result<Self> {
        Self::holding(WAITING, sinks, dropped)
    }

    fn holding(waiting: usize, sinks: Vec<Box<dyn Sink>>, dropped: Counter) -> std::io::Result<Self> {
        let (queue, finished) = sync_channel(waiting);
        let asked = Arc::new(Asked::default());
        let theirs = Arc::clone(&asked);
        let thread =
            std::thread::Builder::new().name("observer".to_owned()).spawn(move || run(sinks, &finished, &theirs))?;
        Ok(Self { queue, asked, dropped, thread: Mutex::new(Some(thread)) })
    }

    /// Takes a finished request, or drops it. Never waits.
    pub(crate) fn tell(&self, finished: Finished) {
        match self.queue.try_send(Some(finished)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.inc();
            }
        }
    }

    /// Has files opened again.
    pub(crate) fn reopen(&self) {
        self.ask(&self.asked.reopen);
    }

    /// Hands out what is there, and ends the thread.
    pub(crate) fn close(&self) {
        self.ask(&self.asked.close);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the observer's thread panicked; requests went untold");
        }
    }

    fn ask(&self, what: &AtomicBool) {
        what.store(true, Ordering::Release);
        // A full queue needs no nudge: its thread is at work, and looks at what is asked after each batch.
        drop(self.queue.try_send(None));
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.close();
    }
}

fn run(mut sinks: Vec<Box<dyn Sink>>, queue: &Receiver<Option<Finished>>, asked: &Asked) {
    loop {
        let first = match queue.recv_timeout(LOOK_EVERY) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // Read before the queue is emptied: what was told before the end was asked for is still handed out.
        let closing = asked.close.load(Ordering::Acquire);
        if first.is_some() && !closing {
            std::thread::sleep(GATHER);
        }
        if asked.reopen.swap(false, Ordering::AcqRel) {
            sinks.iter_mut().for_each(|sink| sink.reopen());
        }
        for finished in std::iter::once(first).chain(queue.try_iter().take(WAITING)).flatten() {
            sinks.iter_mut().for_each(|sink| sink.take(&finished));
        }
        sinks.iter_mut().for_each(|sink| sink.flush());
        if closing {
            return;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::observe::Notes;
    use http::Method;
    use openclawmu_store::{RequestId, UnixMs};
    use std::sync::mpsc::{Sender, channel};

    pub(in crate::observe) fn finished(id: u128) -> Finished {
        Finished {
            at: UnixMs(0),
            request_id: RequestId(id),
            route: "/v1/chat/completions",
            method: Method::POST,
            status: 200,
            dialect: Dialect::default(),
            peer: None,
            bytes_in: 1,
            bytes_out: 2,
            started: std::time::Instant::now(),
            took: Duration::from_millis(3),
            notes: Notes::new(true),
        }
    }

    /// Tells what it takes, and takes nothing while its gate is held.
    struct Gated(Arc<Mutex<()>>, Sender<u128>);

    impl Sink for Gated {
        fn take(&mut self, finished: &Finished) {
            drop(self.0.lock().unwrap());
            self.1.send(finished.request_id.0).unwrap();
        }
        fn flush(&mut self) {}
        fn reopen(&mut self) {
            self.1.send(u128::MAX).unwrap();
        }
    }

    #[test]
    fn a_stuck_sink_stalls_nobody_and_what_is_dropped_is_counted() {
        let (gate, (told, taken), dropped) = (Arc::new(Mutex::new(())), channel(), Counter::default());
        let held = gate.lock().unwrap();
        let sinks: Vec<Box<dyn Sink>> = vec![Box::new(Gated(Arc::clone(&gate), told))];
        let observer = Observer::holding(4, sinks, dropped.clone()).unwrap();
        // The thread takes at most one more than the queue holds before it is stuck.
        (0..100).for_each(|id| observer.tell(finished(id)));
        assert!(dropped.get() >= 90, "{}", dropped.get());
        drop(held);
        observer.close();
        let taken: Vec<u128> = taken.try_iter().collect();
        assert_eq!(u64::try_from(taken.len()).unwrap() + dropped.get(), 100);
        assert!(taken.is_sorted());
    }

    #[test]
    fn closing_hands_out_what_was_told_and_reopening_comes_in_between() {
        let (told, taken) = channel();
        let sinks: Vec<Box<dyn Sink>> = vec![Box::new(Gated(Arc::default(), told))];
        let observer = Observer::start(sinks, Counter::default()).unwrap();
        observer.tell(finished(1));
        assert_eq!(taken.recv_timeout(Duration::from_secs(10)), Ok(1));
        observer.reopen();
        assert_eq!(taken.recv_timeout(Duration::from_secs(10)), Ok(u128::MAX));
        (2..50).for_each(|id| observer.tell(finished(id)));
        observer.close();
        assert_eq!(taken.try_iter().count(), 48);
    }
}
