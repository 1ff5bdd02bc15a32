//! Listeners, and the services that stand behind them in Pingora's server.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use openclawmu_control::admin::{self, AdminState};
use pingora::listeners::tls::TlsSettings;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::background::BackgroundService;
use pingora::services::{Service as ServiceTrait, listening::Service};
use tokio::sync::watch;

use crate::config::EdgeConfig;
use crate::edge::{Edge, Watch};
use crate::inherit;

/// What a connection reads beside what it is asked for. Heads and bodies are read into buffers of their own, which go with their
/// request; one here would stay for as long as the client does.
const READ_BUFFER_BYTES: usize = 0;
/// Bytes that a connection gathers before it writes: whoever writes gathers by itself.
const WRITE_BUFFER_BYTES: usize = 0;
/// How long a successor waits for its predecessor to leave the admin listener.
const ADMIN_PATIENCE: Duration = Duration::from_secs(10);

/// Binds a TCP listener, or says who is in the way. `patience` is for a predecessor that is about to leave.
pub(crate) fn bind(key: &str, address: SocketAddr, patience: Duration) -> Result<TcpListener, String> {
    let deadline = Instant::now() + patience;
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(err) if err.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5))
            }
            Err(err) => return Err(explain(key, address, &err)),
        }
    }
}

fn explain(key: &str, address: SocketAddr, err: &std::io::Error) -> String {
    let flag = key.trim_end_matches(".listen");
    let hint = if err.kind() == std::io::ErrorKind::AddrInUse {
        format!("address in use: stop what listens there, or choose another with `--{flag} ADDR`")
    } else if err.kind() == std::io::ErrorKind::PermissionDenied {
        "permission denied: ports below 1024 need CAP_NET_BIND_SERVICE, or choose another".to_owned()
    } else {
        format!("{err}: choose an address of this machine with `--{flag} ADDR`")
    };
    format!("{key}: can't listen on {address}: {hint}")
}

/// The edge as a service that stops accepting when it is told to, not only when the whole server ends: a successor that has
/// its sockets must get every new connection.
pub(crate) struct EdgeService {
    inner: Service<Edge>,
    watch: Arc<Watch>,
    header_timeout: Duration,
    stop: watch::Receiver<bool>,
}

impl EdgeService {
    /// Listens as configured.
    pub(crate) fn new(edge: Edge, config: &EdgeConfig, stop: watch::Receiver<bool>) -> Result<Self, String> {
        let edge = match &config.tls {
            None => edge,
            Some(tls) => {
                let (cert, key) = (tls.cert.display().to_string(), tls.key.display().to_string());
                let mut settings = TlsSettings::intermediate(&cert, &key).map_err(|err| format!("edge.tls: {err}"))?;
                settings.enable_h2();
                edge.over_tls(settings)
            }
        };
        let watch = edge.watch();
        let mut inner = Service::new("edge".to_owned(), edge);
        inner.add_listener(listener(&config.listen.to_string()));
        inner.threads = Some(config.threads);
        Ok(Self { inner, watch, header_timeout: config.header_timeout, stop })
    }
}

#[async_trait]
impl ServiceTrait for EdgeService {
    async fn start_service(&mut self, fds: Option<ListenFds>, shutdown: ShutdownWatch, listeners_per_fd: usize) {
        let (watch, header_timeout) = (Arc::clone(&self.watch), self.header_timeout);
        #[expect(
            clippy::disallowed_methods,
            reason = "connections outlive this service, and end with its runtime, as this does"
        )]
        tokio::spawn(async move { watch.run(header_timeout).await });
        let (either, stop) = watch::channel(false);
        let mut own = self.stop.clone();
        let mut servers = shutdown;
        let told = async {
            tokio::select! {
                _ = own.wait_for(|stop| *stop) => {}
                _ = servers.wait_for(|stop| *stop) => {}
            }
            self.watch.retire();
            either.send_replace(true);
            // The sender must live until the service has seen it.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.inner.start_service(fds, stop, listeners_per_fd) => {}
            () = told => {}
        }
    }

    fn name(&self) -> &'static str {
        "edge"
    }

    fn threads(&self) -> Option<usize> {
        self.inner.threads
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        ServiceTrait::listen_addresses(&self.inner)
    }
}

/// A listener whose connections hold nothing.
fn listener(address: &str) -> ListenerConfig {
    ListenerConfig::tcp(address).l4_buffer(L4BufferSettings::new(READ_BUFFER_BYTES, WRITE_BUFFER_BYTES))
}

/// The operator's listener once more, for a successor.
#[derive(Clone, Debug, Default)]
pub(crate) struct AdminSocket(Arc<Mutex<Option<TcpListener>>>);

impl AdminSocket {
    fn lock(&self) -> MutexGuard<'_, Option<TcpListener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, listener: &TcpListener) -> std::io::Result<()> {
        *self.lock() = Some(listener.try_clone()?);
        Ok(())
    }

    /// Leaves it to the successor that waits in this data directory; here it is served until the admin service ends.
    pub(crate) fn leave(&self, data: &Path) {
        let Some(listener) = self.lock().take() else { return };
        if let Err(err) = inherit::leave(data, &listener) {
            tracing::info!(%err, "the successor takes the admin listener's address when it is free");
        }
    }

    /// Without a successor it closes with the admin service: who comes then finds no gateway.
    pub(crate) fn close(&self) {
        self.lock().take();
    }
}

/// The admin API as a service.
pub(crate) struct AdminService {
    address: SocketAddr,
    sock: PathBuf,
    /// Bound before the server runs, or left by the predecessor; absent where that one was too old to leave it and still holds
    /// the address.
    listener: Mutex<Option<TcpListener>>,
    kept: AdminSocket,
    state: AdminState,
    /// Turns true when it listens.
    up: watch::Sender<bool>,
    stop: watch::Receiver<bool>,
}

impl AdminService {
    pub(crate) fn new(
        (listener, address): (Option<TcpListener>, SocketAddr),
        (sock, kept): (PathBuf, AdminSocket),
        state: AdminState,
        (up, stop): (watch::Sender<bool>, watch::Receiver<bool>),
    ) -> Self {
        Self { address, sock, listener: Mutex::new(listener), kept, state, up, stop }
    }

    async fn listen(&self) -> Result<tokio::net::TcpListener, String> {
        let bound = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        let address = self.address;
        let listener = match bound {
            Some(listener) => listener,
            None => tokio::task::spawn_blocking(move || bind("admin.listen", address, ADMIN_PATIENCE))
                .await
                .map_err(|err| err.to_string())??,
        };
        self.kept
            .keep(&listener)
            .and_then(|()| listener.set_nonblocking(true))
            .and_then(|()| tokio::net::TcpListener::from_std(listener))
            .map_err(|err| err.to_string())
    }
}

#[async_trait]
impl BackgroundService for AdminService {
    async fn start(&self, shutdown: ShutdownWatch) {
        let listener = match self.listen().await {
            Ok(listener) => listener,
            Err(err) => {
                tracing::error!(err, "the admin listener can't start; the edge goes on without it");
                return;
            }
        };
        self.up.send_replace(true);
        let (mut own, mut servers) = (self.stop.clone(), shutdown);
        let stop = async move {
            tokio::select! {
                _ = own.wait_for(|stop| *stop) => {}
                _ = servers.wait_for(|stop| *stop) => {}
            }
        };
        if let Err(err) = admin::serve(listener, &self.sock, self.state.clone(), stop).await {
            tracing::error!(%err, "the admin listener ended");
        }
    }
}
