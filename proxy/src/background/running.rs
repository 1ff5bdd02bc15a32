//! What is being worked on in this process, and what was until a short while ago: its events, for those who follow.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openclawmu_store::TenantId;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// The most bytes of events that are kept of one response; after that it can be read but no longer followed.
const MAX_BYTES: usize = 8 << 20;
/// The most bytes of events that are kept of responses that have ended.
const MAX_ENDED_BYTES: usize = 128 << 20;
/// How long the events of a response that has ended are kept.
const ENDED_FOR: Duration = Duration::from_secs(300);

/// How far a response is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Events so far.
    pub(super) events: usize,
    /// There will be no more, and what is to be kept of it is kept.
    pub(super) ended: bool,
    /// Its events were too many to be kept.
    pub(super) lost: bool,
}

/// A response that is being worked on, or has just ended.
#[derive(Debug)]
pub(super) struct Live {
    tenant: TenantId,
    events: Mutex<(Vec<Bytes>, usize)>,
    progress: watch::Sender<Progress>,
    cancelled: watch::Sender<bool>,
}

impl Live {
    /// Adds an event.
    pub(super) fn push(&self, event: Bytes) {
        let mut kept = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let (events, bytes) = &mut *kept;
        *bytes = bytes.saturating_add(event.len());
        let lost = *bytes > MAX_BYTES;
        if lost {
            events.clear();
        } else {
            events.push(event);
        }
        let events = events.len();
        drop(kept);
        self.progress.send_modify(|progress| *progress = Progress { events, lost, ended: false });
    }

    /// The events from this number on.
    pub(super) fn since(&self, number: usize) -> Vec<Bytes> {
        let kept = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        kept.0.get(number..).unwrap_or_default().to_vec()
    }

    /// Tells of progress.
    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Whether it is over.
    pub(super) fn ended(&self) -> bool {
        self.progress.borrow().ended
    }

    /// Asks for its end, and waits for it.
    pub(super) async fn cancel(&self) {
        self.cancelled.send_replace(true);
        // The sender lives as long as `self`.
        let _ = self.progress().wait_for(|progress| progress.ended).await;
    }

    /// Resolves when its end is asked for.
    pub(super) async fn cancelled(&self) {
        let mut asked = self.cancelled.subscribe();
        let _ = asked.wait_for(|asked| *asked).await;
    }

    fn bytes(&self) -> usize {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

/// Everything that is being worked on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running {
    live: Arc<Mutex<HashMap<String, Arc<Live>>>>,
    ended_bytes: Arc<AtomicUsize>,
    pub(super) tasks: TaskTracker,
}

impl Running {
    /// Begins a response.
    pub(super) fn begin(&self, tenant: &TenantId, id: &str) -> Arc<Live> {
        let live = Arc::new(Live {
            tenant: tenant.clone(),
            events: Mutex::default(),
            progress: watch::Sender::new(Progress::default()),
            cancelled: watch::Sender::new(false),
        });
        self.lock().insert(id.to_owned(), Arc::clone(&live));
        live
    }

    /// A response of this tenant.
    pub(super) fn get(&self, tenant: &TenantId, id: &str) -> Option<Arc<Live>> {
        self.lock().get(id).filter(|live| live.tenant == *tenant).map(Arc::clone)
    }

    /// Ends a response. Who follows it gets the rest of it for some time.
    pub(super) fn end(&self, id: &str, live: &Live) {
        live.progress.send_modify(|progress| progress.ended = true);
        let bytes = live.bytes();
        if self.ended_bytes.fetch_add(bytes, Ordering::AcqRel).saturating_add(bytes) > MAX_ENDED_BYTES {
            return self.forget(id, bytes);
        }
        let (running, id) = (self.clone(), id.to_owned());
        self.tasks.spawn(async move {
            tokio::time::sleep(ENDED_FOR).await;
            running.forget(&id, bytes);
        });
    }

    /// Works on something that goes on when who asked for it has left.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.tasks.spawn(work)
    }

    /// Drops a response that never began.
    pub(super) fn drop_refused(&self, id: &str) {
        self.lock().remove(id);
    }

    fn forget(&self, id: &str, bytes: usize) {
        self.lock().remove(id);
        self.ended_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// This process, told apart from any other that ever has its number.
pub(super) fn this_process() -> String {
    let pid = std::process::id();
    format!("{pid}:{}", started(pid).unwrap_or_default())
}

/// Whether a process that [`this_process`] named still runs.
pub(super) fn is_alive(process: &str) -> bool {
    let named = process.split_once(':').and_then(|(pid, start)| Some((pid.parse().ok()?, start)));
    named.is_some_and(|(pid, start): (u32, &str)| started(pid).is_some_and(|now| now == start))
}

/// When a process was started, in the kernel's ticks: the 22nd field of its `stat`, the 20th after its name (proc(5)).
fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_are_there_for_their_tenant_alone_and_from_any_number_on() {
        let running = Running::default();
        let (acme, other): (TenantId, TenantId) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let live = running.begin(&acme, "resp_1");
        assert!(running.get(&other, "resp_1").is_none() && running.get(&acme, "resp_2").is_none());
        for text in ["a", "b", "c"] {
            live.push(Bytes::from_static(text.as_bytes()));
        }
        let seen = running.get(&acme, "resp_1").unwrap();
        assert_eq!(seen.since(1), [Bytes::from_static(b"b"), Bytes::from_static(b"c")]);
        assert!(seen.since(3).is_empty() && seen.since(9).is_empty());
        assert_eq!(*seen.progress().borrow(), Progress { events: 3, ended: false, lost: false });
        let (cancel, ()) = tokio::join!(seen.cancel(), async {
            live.cancelled().await;
            running.end("resp_1", &live);
        });
        assert_eq!(cancel, ());
        assert!(running.get(&acme, "resp_1").unwrap().ended());
    }

    #[tokio::test]
    async fn what_is_too_much_is_no_longer_kept() {
        let running = Running::default();
        let acme: TenantId = "acme".parse().unwrap();
        let live = running.begin(&acme, "resp_1");
        live.push(Bytes::from(vec![b'x'; MAX_BYTES]));
        assert!(!live.progress().borrow().lost);
        live.push(Bytes::from_static(b"x"));
        assert!(live.progress().borrow().lost && live.since(0).is_empty());
        for count in 0..20 {
            let id = format!("resp_many{count}");
            let live = running.begin(&acme, &id);
            live.push(Bytes::from(vec![b'x'; MAX_BYTES]));
            running.end(&id, &live);
        }
        let kept = (0..20).filter(|count| running.get(&acme, &format!("resp_many{count}")).is_some()).count();
        assert_eq!(kept, MAX_ENDED_BYTES / MAX_BYTES);
    }

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let this = this_process();
        assert!(is_alive(&this));
        let (pid, _) = this.split_once(':').unwrap();
        for dead in [format!("{pid}:1"), "0:1".to_owned(), "x".to_owned(), String::new()] {
            assert!(!is_alive(&dead), "{dead}");
        }
    }
}
