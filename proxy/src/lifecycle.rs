//! The process's life: log, signals, draining, hand-over.
//!
//! SIGTERM: no new connections, running requests may end for `edge.drain_seconds`, what is left is cut and settled.
//! SIGQUIT: the sockets go to the successor, which then owns the ledger; running requests end here, however long they take.
//! SIGUSR2: the same, to a successor that is started here. SIGINT: like SIGTERM.
//! SIGHUP: the configuration is read again; a bad one changes nothing. The files of access log and audit log are opened anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pingora::server::{ExecutionPhase, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, broadcast, mpsc, watch};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};
use crate::context::Shared;
use crate::listen::AdminSocket;
use crate::notify::{self, Note};
use crate::reload::Reload;

/// How long requests that were cut may take to settle.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);
/// How long the answers of the last requests may take to leave the socket buffers.
const FLUSH: Duration = Duration::from_millis(100);
/// Pause between two looks at what is still running.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long busy clients have to hear that their connections end, before those that are silent are closed: a request that is on its
/// way to a connection that closes is lost.
const WIND_DOWN: Duration = Duration::from_millis(300);
/// How long clients have to leave before the ledger is handed over: connections end with their answers, WebSockets as soon as
/// nothing is under way. Longer than the pause between two looks of a WebSocket.
const LEAVE: Duration = Duration::from_millis(1_100);

/// Starts logging to standard error.
pub(crate) fn start_log(config: &Config) {
    // The configuration was checked: its level is a filter.
    let filter = EnvFilter::new(format!("pingora=warn,{}", config.log_level));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.log_format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    if let Err(err) = started {
        tracing::warn!(err, "logging was started already");
    }
}

/// A random number for request ids.
pub(crate) fn random_u64() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|err| anyhow::anyhow!("the system gives no random bytes: {err}"))?;
    Ok(u64::from_le_bytes(bytes))
}

/// Runs the server until it was told to end and everything has its row.
pub(crate) fn run(
    server: Server,
    shared: &Arc<Shared>,
    stops: &Stops,
    (signals, reload): (Signals, Reload),
) -> anyhow::Result<()> {
    let mut phases = server.watch_execution_phase();
    let signals = Box::new(Watch { signals: Mutex::new(signals), reload });
    // The server's own end is a fixed sleep; this thread ends the process as soon as it has drained.
    std::thread::Builder::new()
        .name("server".to_owned())
        .spawn(move || server.run(RunArgs { shutdown_signal: signals }))?;
    match next_end(&mut phases) {
        End::Terminate => {
            notify::tell(Note::Stopping);
            stops.admin.close();
            leave(shared, stops);
            drain(shared, stops, Some(shared.config.drain));
        }
        End::HandOver => {
            stops.admin.leave(shared.store.dir());
            tracing::info!("the sockets are with the successor");
            // New connections wait for it; who is here is still admitted, and told to leave.
            leave(shared, stops);
            std::thread::sleep(LEAVE);
            shared.store.hand_over();
            drain(shared, stops, None);
        }
    }
    shared.store.close();
    if let Some(observer) = &shared.observer {
        observer.close();
    }
    tracing::info!("drained; ending");
    Ok(())
}

enum End {
    Terminate,
    HandOver,
}

fn next_end(phases: &mut broadcast::Receiver<ExecutionPhase>) -> End {
    loop {
        match phases.blocking_recv() {
            Ok(ExecutionPhase::GracefulUpgradeCloseTimeout) => return End::HandOver,
            Ok(ExecutionPhase::GracefulTerminate | ExecutionPhase::ShutdownStarted | ExecutionPhase::Terminated) => {
                return End::Terminate;
            }
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return End::Terminate,
        }
    }
}

/// What is told to end.
pub(crate) struct Stops {
    /// The edge's listener and its idle connections.
    pub(crate) edge: watch::Sender<bool>,
    /// Everything else: the admin listener, and what goes on beside.
    pub(crate) rest: watch::Sender<bool>,
    /// What a successor gets of the admin listener.
    pub(crate) admin: AdminSocket,
}

impl Stops {
    /// Nothing is told yet.
    pub(crate) fn new() -> Self {
        Self { edge: watch::channel(false).0, rest: watch::channel(false).0, admin: AdminSocket::default() }
    }
}

/// Has connections end with their answers, then takes no more, and closes those that are silent.
fn leave(shared: &Shared, stops: &Stops) {
    shared.draining.store(true, Ordering::Relaxed);
    if shared.metrics.connections.get() > 0 {
        std::thread::sleep(WIND_DOWN);
    }
    stops.edge.send_replace(true);
}

/// Waits for running requests; cuts what is left after `patience`.
fn drain(shared: &Shared, stops: &Stops, patience: Option<Duration>) {
    stops.rest.send_replace(true);
    tracing::info!(active = shared.active.load(Ordering::Acquire), "draining");
    let idle = |patience: Option<Duration>| {
        let deadline = patience.map(|patience| Instant::now() + patience);
        while shared.active.load(Ordering::Acquire) > 0 {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        true
    };
    if !idle(patience) {
        tracing::warn!(active = shared.active.load(Ordering::Acquire), "requests are cut: edge.drain_seconds are over");
        shared.cut.send_replace(true);
        if !idle(Some(SETTLE_PATIENCE)) {
            tracing::error!("requests did not settle in time; the next start resolves them");
        }
    }
    std::thread::sleep(FLUSH);
}

/// Signals in the order of their arrival.
pub(crate) struct Signals(mpsc::UnboundedReceiver<SignalKind>);

impl Signals {
    /// From its return on no signal ends the process unasked: to be called before anybody can be served, and before anybody is
    /// told that the gateway is there. Until then a signal's own effect is the right one, since there is nothing to drain.
    pub(crate) fn catch() -> anyhow::Result<Self> {
        let (told, signals) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let kinds = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::quit(),
            SignalKind::hangup(),
            SignalKind::user_defined2(),
        ];
        let within = runtime.enter();
        let caught: Vec<_> = kinds.into_iter().map(|kind| Ok((kind, signal(kind)?))).collect::<anyhow::Result<_>>()?;
        drop(within);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let each = caught.into_iter().map(|(kind, signal)| pass_on(kind, signal, told.clone()));
            runtime.block_on(futures_util::future::join_all(each))
        })?;
        Ok(Self(signals))
    }
}

/// Until nobody listens any more.
async fn pass_on(kind: SignalKind, mut signal: Signal, told: mpsc::UnboundedSender<SignalKind>) {
    while signal.recv().await.is_some() && told.send(kind).is_ok() {}
}

/// Waits for signals that mean an end; a reload happens here.
struct Watch {
    signals: Mutex<Signals>,
    reload: Reload,
}

#[async_trait::async_trait]
impl ShutdownSignalWatch for Watch {
    async fn recv(&self) -> ShutdownSignal {
        let mut signals = self.signals.lock().await;
        while let Some(kind) = signals.0.recv().await {
            if kind == SignalKind::terminate() || kind == SignalKind::interrupt() {
                return ShutdownSignal::GracefulTerminate;
            } else if kind == SignalKind::quit() {
                return ShutdownSignal::GracefulUpgrade;
            } else if kind == SignalKind::hangup() {
                self.reload.by_signal().await;
            } else if self.reload.succeeded().await {
                return ShutdownSignal::GracefulUpgrade;
            }
        }
        tracing::error!("signals can't be watched any more");
        std::future::pending().await
    }
}
