//! What a stream waits for beside its next event, and asks after only when that has something to say.
//!
//! A task is woken for one of the things that it waits for and would ask all of them. For an event of a stream that is
//! the dearer half of its waiting: nothing else has happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// A waker of its own for those that are asked rarely.
#[derive(Default)]
pub(super) struct Bell(Option<(Arc<Rung>, Waker)>);

/// Remembers that it woke the task.
struct Rung {
    is_rung: AtomicBool,
    task: Waker,
}

impl Wake for Rung {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl Bell {
    /// Whoever waits with it is asked the next time, whether it has rung or not.
    pub(super) fn ring(&mut self) {
        self.0 = None;
    }

    /// Asks whoever waits with this bell, if it has rung since the last time. They must be woken by the context that they are
    /// asked in, and go on to be when they are not asked again; for one that does not, [`Bell::ring`].
    pub(super) fn poll<T>(&mut self, cx: &mut Context<'_>, ask: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        if let Some((rung, waker)) = &self.0
            && rung.task.will_wake(cx.waker())
        {
            if !rung.is_rung.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            rung.is_rung.swap(false, Ordering::Acquire);
            return ask(&mut Context::from_waker(waker));
        }
        let rung = Arc::new(Rung { is_rung: AtomicBool::new(false), task: cx.waker().clone() });
        let (_, waker) = self.0.insert((Arc::clone(&rung), Waker::from(rung)));
        ask(&mut Context::from_waker(waker))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::task::noop_waker;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn who_has_nothing_to_say_is_asked_once_and_again_when_it_has() {
        let (sender, receiver) = oneshot::channel::<u8>();
        let (mut bell, mut asked, mut receiver) = (Bell::default(), 0, pin!(receiver));
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let mut poll = |bell: &mut Bell| {
            bell.poll(&mut cx, |cx| {
                asked += 1;
                receiver.as_mut().poll(cx)
            })
        };
        for _ in 0..3 {
            assert!(poll(&mut bell).is_pending());
        }
        sender.send(7).unwrap();
        assert_eq!(poll(&mut bell), Poll::Ready(Ok(7)));
        assert_eq!(asked, 2);
    }

    #[test]
    fn it_wakes_the_task_that_asked_last() {
        let (sender, receiver) = oneshot::channel::<u8>();
        let (mut bell, mut receiver) = (Bell::default(), pin!(receiver));
        let tasks = [Arc::new(Flag::default()), Arc::new(Flag::default())];
        for task in &tasks {
            let waker = Waker::from(Arc::clone(task));
            let polled = bell.poll(&mut Context::from_waker(&waker), |cx| receiver.as_mut().poll(cx));
            assert!(polled.is_pending());
        }
        drop(sender);
        assert_eq!(tasks.map(|task| task.0.load(Ordering::Acquire)), [false, true]);
    }

    #[test]
    fn who_is_rung_for_by_hand_is_asked() {
        let (mut bell, mut asked) = (Bell::default(), 0);
        let waker = noop_waker();
        for _ in 0..3 {
            bell.ring();
            let _pending: Poll<()> = bell.poll(&mut Context::from_waker(&waker), |_| {
                asked += 1;
                Poll::Pending
            });
        }
        assert_eq!(asked, 3);
    }

    #[derive(Default)]
    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }
}
