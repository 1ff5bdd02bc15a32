//! [`Session`]: what is shared between the shell's side ([`shell`](crate::shell)) and those who look at it
//! ([`attachment`](crate::attachment)).
//!
//! - here: who it is of, who looks at it, and its end
//! - `output`, `input`: what goes from the shell to the viewers, and back
//!
//! Nothing in here waits while it holds the lock, and nothing waits for a viewer.

mod input;
mod output;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::ring::Ring;
use crate::seat::Seat;
use crate::{
    Attachment, Closed, Event, Order, Reason, Role, Settings, Size, Start, TerminalError, Viewer, Viewers, What,
};

pub(crate) use input::Resizing;
pub(crate) use output::{MayRead, Step};

/// How much of the output somebody is shown who has not seen what came before.
const SNAPSHOT_BYTES: usize = 256 << 10;

/// A shell at a terminal, and those who look at it.
#[derive(Debug)]
pub struct Session {
    id: String,
    tenant: String,
    opened_by: String,
    opened_at_ms: i64,
    recording: String,
    began: Instant,
    settings: Settings,
    state: Mutex<State>,
    wakes: Wakes,
    /// Set once, by whoever ends it first.
    asked: watch::Sender<Option<Reason>>,
    gone: watch::Sender<bool>,
}

/// What is known of a session from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// Who opened it.
    pub opened_by: String,
    /// In milliseconds since 1970.
    pub opened_at_ms: i64,
    /// How long nothing was typed.
    pub idle: Duration,
    /// Who looks at it.
    pub viewers: Vec<Arc<Viewer>>,
    /// The recording's name in `recordings`.
    pub recording: String,
    /// How large the terminal is.
    pub size: Size,
    /// How many bytes it has shown.
    pub output_bytes: u64,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    ring: Ring,
    seats: BTreeMap<u64, Seat>,
    next_seat: u64,
    driver: Option<u64>,
    /// What was typed and is not in the terminal yet.
    input: VecDeque<u8>,
    /// How many wait for room in it.
    waiting: usize,
    /// What size the driver wants.
    wanted: Size,
    size: Size,
    /// Whoever draws on the terminal is to draw all of it anew.
    redraw: bool,
    last_input: Instant,
    detached_since: Option<Instant>,
}

#[derive(Debug)]
enum Phase {
    Starting,
    Running,
    /// The shell has ended: what is left is read whatever anybody acknowledged.
    Draining,
    Over(Closed),
}

/// Who waits for what. All but `room` have one who waits, who then looks at the state anew.
#[derive(Debug, Default)]
struct Wakes {
    /// Whether the terminal may be read.
    read: Notify,
    /// Something was typed.
    input: Notify,
    /// There is room for what is typed.
    room: Notify,
    /// Another size is wanted, or a redrawing.
    resize: Notify,
    /// A deadline may have moved.
    time: Notify,
}

impl Session {
    pub(crate) fn new(order: &Order, settings: &Settings) -> Self {
        let now = Instant::now();
        Self {
            id: order.id.to_string(),
            tenant: order.tenant.clone(),
            opened_by: order.opened_by.clone(),
            opened_at_ms: order.opened_at_ms,
            recording: format!("{}.cast", order.id),
            began: now,
            settings: settings.clone(),
            state: Mutex::new(State {
                phase: Phase::Starting,
                ring: Ring::new(settings.ring_bytes),
                seats: BTreeMap::new(),
                next_seat: 0,
                driver: None,
                input: VecDeque::new(),
                waiting: 0,
                wanted: order.size,
                size: order.size,
                redraw: false,
                last_input: now,
                detached_since: Some(now),
            }),
            wakes: Wakes::default(),
            asked: watch::Sender::new(None),
            gone: watch::Sender::new(false),
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whose it is.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Who opened it.
    #[must_use]
    pub fn opened_by(&self) -> &str {
        &self.opened_by
    }

    /// The recording's name in `recordings`.
    #[must_use]
    pub fn recording(&self) -> &str {
        &self.recording
    }

    /// What is known of it from outside.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let state = self.state();
        Summary {
            id: self.id.clone(),
            tenant: self.tenant.clone(),
            opened_by: self.opened_by.clone(),
            opened_at_ms: self.opened_at_ms,
            idle: state.last_input.elapsed(),
            viewers: state.here().map(|(_, seat)| Arc::clone(&seat.viewer)).collect(),
            recording: self.recording.clone(),
            size: state.size,
            output_bytes: state.ring.end(),
        }
    }

    /// Lets somebody look at it. With `resume`, the sequence number of the next byte that they want, they continue exactly there if
    /// it can be had; else they begin with the last of the output. A driver takes over from themselves.
    ///
    /// # Errors
    /// [`TerminalError::Over`], [`TerminalError::Driven`], [`TerminalError::TooManyViewers`].
    pub fn attach(self: &Arc<Self>, viewer: Viewer, resume: Option<u64>) -> Result<Attachment, TerminalError> {
        let viewer = Arc::new(viewer);
        let mut state = self.state();
        match &state.phase {
            Phase::Over(closed) => return Err(TerminalError::Over(closed.reason)),
            Phase::Starting | Phase::Running | Phase::Draining => {}
        }
        let former = state.driver.filter(|_| viewer.role == Role::Driver);
        if let Some(seat) = former.and_then(|former| state.seats.get(&former)) {
            if seat.viewer.who != viewer.who {
                return Err(TerminalError::Driven);
            }
        } else if state.here().count() >= self.settings.viewers_per_session {
            return Err(TerminalError::TooManyViewers { limit: self.settings.viewers_per_session });
        }
        if let Some(former) = former {
            state.dismiss(former, Reason::Replaced);
        }
        let (next, start) = state.place(resume);
        let id = state.next_seat;
        state.next_seat += 1;
        let seat = Seat::new(Arc::clone(&viewer), next, start);
        let attachment = Attachment::new(Arc::clone(self), id, viewer.role, Arc::clone(&seat.wake));
        state.seats.insert(id, seat);
        if viewer.role == Role::Driver {
            state.driver = Some(id);
            state.redraw |= start == Start::Repaint;
        }
        state.viewers_changed();
        self.tell(What::Attached(viewer));
        drop(state);
        self.wakes.time.notify_one();
        self.wakes.read.notify_one();
        self.wakes.resize.notify_one();
        Ok(attachment)
    }

    /// Ends it: within a second nothing of it is left. The first reason counts.
    pub fn end(&self, reason: Reason) {
        self.asked.send_if_modified(|asked| {
            let first = asked.is_none();
            asked.get_or_insert(reason);
            first
        });
    }

    /// Ends the part of every viewer whom this holds for; the session goes on.
    pub fn dismiss_where(&self, which: impl Fn(&Viewer) -> bool, reason: Reason) {
        let mut state = self.state();
        let those: Vec<u64> = state.here().filter(|(_, seat)| which(&seat.viewer)).map(|(id, _)| id).collect();
        for id in those {
            state.dismiss(id, reason);
        }
        state.viewers_changed();
        drop(state);
        self.wakes.time.notify_one();
        self.wakes.read.notify_one();
        self.wakes.room.notify_waiters();
    }

    /// Waits until nothing of it is left: no process, and the recording is complete.
    pub async fn gone(&self) {
        // An error would mean that this session is no more.
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }

    /// Why it is to end, when it is.
    pub(crate) async fn asked_to_end(&self) -> Reason {
        let mut asked = self.asked.subscribe();
        let asked = asked.wait_for(Option::is_some).await.map(|asked| *asked);
        asked.ok().flatten().unwrap_or(Reason::Failed)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Since it began.
    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// The shell runs.
    pub(crate) fn opened(&self) {
        let mut state = self.state();
        let now = Instant::now();
        (state.phase, state.last_input, state.detached_since) = (Phase::Running, now, Some(now));
        self.tell(What::Opened { opened_by: self.opened_by.clone(), recording: self.recording.clone() });
    }

    /// Whether the shell has run at all.
    pub(crate) fn has_opened(&self) -> bool {
        !matches!(self.state().phase, Phase::Starting)
    }

    /// It is over; the first word counts.
    pub(crate) fn close(&self, closed: Closed) {
        let mut state = self.state();
        let opened = match state.phase {
            Phase::Over(_) => return,
            Phase::Starting => false,
            Phase::Running | Phase::Draining => true,
        };
        state.phase = Phase::Over(closed.clone());
        state.wake_all();
        if opened {
            self.tell(What::Closed(closed));
        }
        drop(state);
        self.wakes.room.notify_waiters();
        self.gone.send_replace(true);
    }

    /// When it is to end if nothing happens, and why.
    pub(crate) fn deadline(&self) -> (Instant, Reason) {
        let state = self.state();
        let Settings { detached_life, idle, hard_limit, .. } = self.settings;
        let detached = state.detached_since.map(|since| (since + detached_life, Reason::Detached));
        let others = [(self.began + hard_limit, Reason::TimeLimit), (state.last_input + idle, Reason::Idle)];
        let [first, second] = others;
        [second].into_iter().chain(detached).fold(first, |a, b| if b.0 < a.0 { b } else { a })
    }

    /// Waits until a deadline may have moved.
    pub(crate) async fn deadline_moved(&self) {
        self.wakes.time.notified().await;
    }

    /// A viewer has gone.
    pub(crate) fn detach(&self, id: u64) {
        let mut state = self.state();
        let Some(seat) = state.seats.remove(&id) else { return };
        if state.driver == Some(id) {
            state.driver = None;
        }
        state.viewers_changed();
        self.tell(What::Detached { viewer: seat.viewer, violations: seat.violations });
        drop(state);
        self.wakes.time.notify_one();
        self.wakes.read.notify_one();
    }

    /// Whoever receives it may be gone, at the very end.
    fn tell(&self, what: What) {
        let _ = self.settings.events.send(Event { session: self.id.clone(), tenant: self.tenant.clone(), what });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Those who have a part in it.
    fn here(&self) -> impl Iterator<Item = (u64, &Seat)> {
        self.seats.iter().filter(|(_, seat)| seat.gone.is_none()).map(|(id, seat)| (*id, seat))
    }

    fn viewers(&self) -> Viewers {
        let count = |role| {
            let those = self.here().filter(|(_, seat)| seat.viewer.role == role).count();
            u16::try_from(those).unwrap_or(u16::MAX)
        };
        Viewers { drivers: count(Role::Driver), observers: count(Role::Observer), moderators: count(Role::Moderator) }
    }

    /// Somebody came or went.
    fn viewers_changed(&mut self) {
        let alone = self.here().next().is_none();
        self.detached_since = alone.then(|| self.detached_since.unwrap_or_else(Instant::now));
        for seat in self.seats.values_mut() {
            seat.viewers_changed = true;
        }
        self.wake_all();
    }

    fn wake_all(&self) {
        self.seats.values().for_each(|seat| seat.wake.notify_one());
    }

    fn dismiss(&mut self, id: u64, reason: Reason) {
        if let Some(seat) = self.seats.get_mut(&id) {
            seat.gone.get_or_insert(reason);
            seat.wake.notify_one();
        }
        if self.driver == Some(id) {
            self.driver = None;
        }
    }

    /// Where somebody begins.
    fn place(&self, resume: Option<u64>) -> (u64, Start) {
        let (start, end) = (self.ring.start(), self.ring.end());
        match resume {
            Some(seq) if (start..=end).contains(&seq) => (seq, Start::Exact),
            Some(_) => (self.ring.safe_start(SNAPSHOT_BYTES), Start::Repaint),
            None => match self.ring.safe_start(SNAPSHOT_BYTES) {
                0 => (0, Start::Beginning),
                seq => (seq, Start::Repaint),
            },
        }
    }
}
