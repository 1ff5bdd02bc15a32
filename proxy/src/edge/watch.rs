//! All connections, watched together: what one of them waits for costs it nothing while it is served.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::connection::Connection;

/// Longest pause between two looks at whether heads are overdue.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The connections that are open.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    open: Mutex<Open>,
    /// No connection takes more than the request that it serves.
    retired: AtomicBool,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Watched>,
}

#[derive(Debug)]
struct Watched {
    connection: Arc<Connection>,
    task: AbortHandle,
}

/// A connection's entry, which goes with whoever holds this.
pub(super) struct Entry {
    watch: Arc<Watch>,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.watch.open().connections.remove(&self.id);
    }
}

impl Watch {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a connection on a task of its own, until it ends or is cut. `serve` has to hold the entry that it is given: a future
    /// around it that did would be as large once more.
    pub(super) fn serve<F: Future<Output = ()> + Send + 'static>(
        self: &Arc<Self>,
        connection: Arc<Connection>,
        serve: impl FnOnce(Entry) -> F,
    ) {
        let mut open = self.open();
        if self.retired.load(Ordering::Acquire) {
            connection.retire();
        }
        let id = open.next;
        open.next += 1;
        let entry = Entry { watch: Arc::clone(self), id };
        #[expect(clippy::disallowed_methods, reason = "tracked: by its entry here")]
        let task = tokio::spawn(serve(entry));
        open.connections.insert(id, Watched { connection, task: task.abort_handle() });
    }

    /// Cuts connections whose heads are overdue, for as long as it is polled. `patience` is what a head is given.
    pub(crate) async fn run(&self, patience: Duration) {
        loop {
            tokio::time::sleep(LOOK_EVERY.min(patience / 8)).await;
            let now = Instant::now();
            let cut = self.cut(|connection| connection.is_overdue(now));
            if cut > 0 {
                tracing::debug!(connections = cut, "closed: no request's head came in time");
            }
        }
    }

    /// No connection takes more requests than the one that it serves.
    pub(crate) fn retire(&self) {
        let open = self.open();
        self.retired.store(true, Ordering::Release);
        open.connections.values().for_each(|watched| watched.connection.retire());
    }

    /// Closes connections that nothing is served on.
    pub(super) fn close_idle(&self) {
        self.cut(Connection::owes);
    }

    fn cut(&self, which: impl Fn(&Connection) -> bool) -> usize {
        let tasks: Vec<AbortHandle> = {
            let open = self.open();
            let cut = open.connections.values().filter(|watched| which(&watched.connection));
            cut.map(|watched| watched.task.clone()).collect()
        };
        tasks.iter().for_each(AbortHandle::abort);
        tasks.len()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// A connection that is served until it is told to end, or cut; the receiver ends with it.
    fn open(watch: &Arc<Watch>, patience: Duration) -> (Arc<Connection>, oneshot::Sender<()>, oneshot::Receiver<()>) {
        let connection = Arc::new(Connection::new(patience, 9));
        let ((end, told), (over, gone)) = (oneshot::channel::<()>(), oneshot::channel::<()>());
        watch.serve(Arc::clone(&connection), |entry| async move {
            let (_entry, _over) = (entry, over);
            let _told = told.await;
        });
        (connection, end, gone)
    }

    #[tokio::test]
    async fn e_07_a_connection_whose_head_is_overdue_is_cut_and_no_other() {
        let (watch, patience) = (Arc::new(Watch::default()), Duration::from_millis(40));
        let (_, _end, gone) = open(&watch, patience);
        let (served, end, kept) = open(&watch, patience);
        served.paid();
        tokio::select! {
            () = watch.run(patience) => {}
            _ = gone => {}
        }
        assert_eq!(watch.open().connections.len(), 1, "who is served goes on");
        drop(end);
        assert!(kept.await.is_err());
        assert!(watch.open().connections.is_empty());
    }

    #[tokio::test]
    async fn what_is_under_way_ends_and_what_is_idle_is_closed() {
        let (watch, patience) = (Arc::new(Watch::default()), Duration::from_secs(60));
        let (idle, _end, gone) = open(&watch, patience);
        let (served, end, kept) = open(&watch, patience);
        served.paid();
        watch.retire();
        assert!(idle.is_retired() && served.is_retired());
        watch.close_idle();
        assert!(gone.await.is_err());
        drop(end);
        assert!(kept.await.is_err());
        let (late, _end, _gone) = open(&watch, patience);
        assert!(late.is_retired(), "one that was accepted last serves one request");
    }
}
