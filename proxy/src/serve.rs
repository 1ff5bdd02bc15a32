//! `openclawmu serve`: builds the gateway from its configuration and runs it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use anyhow::{Context, anyhow};
use arc_swap::ArcSwap;
use openclawmu_control::admin::{AdminState, Hooks};
use openclawmu_control::audit as audit_log;
use openclawmu_control::backup::{BackupConfig, Backups};
use openclawmu_control::channel::{Channels, Work};
use openclawmu_control::{AdminKeys, KeySource, MasterKey, overlay_file, removal, retention};
use openclawmu_store::{Actor, Store, StoreOptions, SystemClock};
use pingora::proxy::HttpProxy;
use pingora::server::Server;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::services::background::background_service;
use tokio::sync::{Notify, watch};

use crate::agent;
use crate::audit;
use crate::background::Running;
use crate::beside::Beside;
use crate::catalog::Catalog;
use crate::config::{self, Config, Overrides};
use crate::context::{Active, Shared};
use crate::edge::Edge;
use crate::gateway::Gateway;
use crate::inherit;
use crate::lifecycle::{self, Signals, Stops};
use crate::listen::{self, AdminService, EdgeService};
use crate::metrics::{self, Metrics};
use crate::notify;
use crate::observe::{AccessLog, Observer, Sampling, Sink, Tracer};
use crate::outbound;
use crate::own_key::OwnKeys;
use crate::reload::{Reload, Source};
use crate::response::{IsDeleted, Seals, Shelf, sweep};
use crate::sandbox::{Rooms, runner, sweep_containers};
use crate::terminal::{self, Desk};
use crate::{batch, rlimit, upstream, workspace};

/// How long a successor waits for its predecessor to stop admitting.
const TAKEOVER: Duration = Duration::from_secs(30);
/// Longer than any drain: the process ends by itself when it has drained.
const NEVER_SECONDS: u64 = 366 * 24 * 60 * 60;
/// Timeouts above this are forgotten with what they bound. Pingora's own, which are fewer instructions, stay until they would have
/// ended, one for each 10 ms that any of them ends in: those for the ten minutes of a first byte came to a mebibyte or more.
const LONG_TIMEOUT_SECONDS: u64 = 30;

/// What the command line says about serving.
#[derive(Clone, Debug)]
pub(crate) struct ServeOptions {
    /// The configuration file, where one is named.
    pub(crate) file: Option<std::path::PathBuf>,
    /// What the command line sets over it.
    pub(crate) overrides: Overrides,
    /// Take over the sockets of the process that runs on this data directory.
    pub(crate) upgrade: bool,
}

/// Runs the gateway until it is told to end and has drained.
pub(crate) fn serve(options: &ServeOptions) -> anyhow::Result<()> {
    let file = config::find(options.file.as_deref());
    let raw = config::load(file.as_deref(), &options.overrides)?;
    let config = config::check(raw.clone())?;
    lifecycle::start_log(&config);
    rlimit::prepare();
    if let Err(shortage) = rlimit::fits(config.edge.max_connections) {
        tracing::warn!("{shortage}");
    }
    let source = Source { file: options.file.clone(), overrides: options.overrides.clone(), raw };
    let built = if options.upgrade { Built::by_takeover(&config, source)? } else { Built::fresh(&config, source)? };
    let signals = Signals::catch().context("signals can't be watched")?;
    greet(&config, &built.key_source);
    notify::ready_when_up(reachable(config.edge.listen), built.admin_up.clone()).context("no thread can be started")?;
    lifecycle::run(built.server, &built.shared, &built.stops, (signals, built.reload))
}

/// Everything, ready to run.
struct Built {
    server: Server,
    shared: Arc<Shared>,
    key_source: KeySource,
    stops: Stops,
    admin_up: watch::Receiver<bool>,
    reload: Reload,
}

impl Built {
    fn fresh(config: &Config, source: Source) -> anyhow::Result<Self> {
        // Pingora binds the edge itself, and panics where it can't: whoever is in the way is found out here.
        drop(listen::bind("edge.listen", config.edge.listen, Duration::ZERO).map_err(|err| anyhow!(err))?);
        let admin = listen::bind("admin.listen", config.admin.listen, Duration::ZERO).map_err(|err| anyhow!(err))?;
        let store = open_store(config, Duration::ZERO)?;
        clean_up(&store, &config.data_dir)?;
        let mut server = server(config, false);
        server.bootstrap();
        Self::assemble(config, source, server, store, Some(admin))
    }

    /// The sockets first, then the ledger: the predecessor stops admitting only when its sockets have been handed over.
    fn by_takeover(config: &Config, source: Source) -> anyhow::Result<Self> {
        tracing::info!("waiting for the running gateway's sockets; send it SIGQUIT");
        let heir = inherit::Heir::wait(&config.data_dir).context("nothing can be taken over")?;
        let mut server = server(config, true);
        server.bootstrap();
        let store = open_store(config, TAKEOVER)?;
        // It was left before the ledger was handed over.
        let admin = heir.take(config.admin.listen);
        Self::assemble(config, source, server, store, admin)
    }

    fn assemble(
        config: &Config,
        source: Source,
        mut server: Server,
        store: Store,
        admin: Option<std::net::TcpListener>,
    ) -> anyhow::Result<Self> {
        let (audit, reopen) = audit::open(config, &store)?;
        let system = Actor::system();
        store
            .import_first_rates(&system, config.first_rates.clone())
            .wait()
            .context("the first rate card can't be stored")?;
        if let Err(err) = overlay_file::write_all(&store) {
            tracing::warn!(%err, "a copy of a tenant's configuration can't be written; the store has it");
        }
        let keys = AdminKeys::load_or_create(&config.data_dir, config.admin.keys.clone())?;
        let master = Arc::new(MasterKey::load_or_create(&config.data_dir)?);
        let key_source = keys.source().clone();
        store.set_alerts(config.alerts.alerts.clone());
        let shared = Arc::new(shared(config, store, &master)?);
        terminal::keep_record(&shared);
        let reload = Reload::new(source, Arc::clone(&shared), reopen);
        let (stops, (up, admin_up)) = (Stops::new(), watch::channel(false));
        let stopped = stops.rest.subscribe();

        let gateway = Gateway { shared: Arc::clone(&shared) };
        let mut proxy = HttpProxy::new(gateway.clone(), Arc::clone(&server.configuration));
        proxy.handle_init_modules();
        let edge = Edge::new(gateway, proxy, &config.edge, shared.metrics.connections.clone());
        server.add_service(EdgeService::new(edge, &config.edge, stops.edge.subscribe()).map_err(|err| anyhow!(err))?);

        let stripe = outbound::stripe_push(&shared.store, config.stripe.as_ref()).map_err(|err| anyhow!(err))?;
        let deliverer = outbound::deliverer(&shared, &config.alerts).map_err(|err| anyhow!(err))?;
        let backed_up = BackupConfig { audit: Some(audit.folder.clone()), ..config.backup.clone() };
        let mut backups = Backups::new(shared.store.clone(), Arc::clone(&master), backed_up);
        if deliverer.is_some() {
            backups = backups.with_webhook();
        }
        let backups = Arc::new(backups);
        let state = AdminState::new(shared.store.clone(), keys, master, hooks(&shared, &reload, &backups));
        let mut state = state.with_backups(Arc::clone(&backups)).with_audit(audit);
        state = state.with_public_url(&config.channels.public_url);
        if deliverer.is_some() {
            state = state.with_webhook();
        }
        if let Some(stripe) = &stripe {
            state = state.with_stripe(Arc::clone(stripe));
        }
        let nightly = outbound::nightly(stripe.as_ref(), config.stripe.as_ref());
        outbound::serve(&mut server, deliverer, nightly, &stopped);
        let (store, denials) = (shared.store.clone(), state.denials());
        let told = move |stop| audit_log::run(store.clone(), Arc::clone(&denials), stop);
        server.add_service(background_service("audit", Beside::new(stopped.clone(), told)));
        let sock = config.data_dir.join("admin.sock");
        server.add_service(background_service(
            "admin",
            AdminService::new((admin, config.admin.listen), (sock, stops.admin.clone()), state, (up, stopped.clone())),
        ));
        beside(&mut server, &shared, config, &stopped);
        messengers(&mut server, &shared, &stopped);
        let by_itself = move |stop| Arc::clone(&backups).run(stop);
        server.add_service(background_service("backups", Beside::new(stopped, by_itself)));
        Ok(Self { server, shared, key_source, stops, admin_up, reload })
    }
}

/// What goes on beside the listeners, until `stopped`.
fn beside(server: &mut Server, shared: &Arc<Shared>, config: &Config, stopped: &watch::Receiver<bool>) {
    let (of_batches, every) = (Arc::clone(shared), config.batch_poll);
    let watched = move |stop| batch::run(Arc::clone(&of_batches), every, stop);
    server.add_service(background_service("batches", Beside::new(stopped.clone(), watched)));
    let store = shared.store.clone();
    let removed = move |stop| removal::run(store.clone(), stop);
    server.add_service(background_service("removal", Beside::new(stopped.clone(), removed)));
    let shelf = shared.shelf.clone();
    let swept = move |stop| sweep::run(shelf.clone(), stop);
    server.add_service(background_service("responses", Beside::new(stopped.clone(), swept)));
    let (store, lines) = (shared.store.clone(), shared.rooms.lines());
    let told = move |stop| {
        let (store, lines) = (store.clone(), Arc::clone(&lines));
        async move { lines.write(&store, stop).await }
    };
    server.add_service(background_service("connections", Beside::new(stopped.clone(), told)));
    let of_dead = Arc::clone(shared);
    let swept = move |stop| sweep_containers(Arc::clone(&of_dead), stop);
    server.add_service(background_service("containers", Beside::new(stopped.clone(), swept)));
    let of_files = Arc::clone(shared);
    let metered = move |stop| workspace::meter(Arc::clone(&of_files), stop);
    server.add_service(background_service("storage", Beside::new(stopped.clone(), metered)));
    if let Some(months) = config.detail_months {
        let store = shared.store.clone();
        let keep = move |stop| retention::run(store.clone(), months, stop);
        server.add_service(background_service("retention", Beside::new(stopped.clone(), keep)));
    }
}

/// Turns and deliveries for messengers, until `stopped`.
fn messengers(server: &mut Server, shared: &Arc<Shared>, stopped: &watch::Receiver<bool>) {
    let busy = Arc::clone(shared);
    let work = Work {
        channels: Arc::clone(&shared.channels),
        agents: Gateway { shared: Arc::clone(shared) }.agents(),
        busy: Arc::new(move || Box::new(Active::new(&busy))),
    };
    let worked = move |stop| work.clone().run(stop);
    server.add_service(background_service("channels", Beside::new(stopped.clone(), worked)));
}

/// What a process that died left half done, before anything is served.
fn clean_up(store: &Store, data: &Path) -> anyhow::Result<()> {
    openclawmu_backup::clear_spool(data)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(openclawmu_backup::recover(store, data)).context("a restore that was cut off can't be undone")
}

fn open_store(config: &Config, takeover: Duration) -> anyhow::Result<Store> {
    let options = StoreOptions {
        dir: config.data_dir.clone(),
        clock: Arc::new(SystemClock),
        takeover,
        durability: config.durability,
    };
    Ok(Store::open(&options)?)
}

pub(crate) fn shared(config: &Config, store: Store, master: &Arc<MasterKey>) -> anyhow::Result<Shared> {
    let upstreams = upstream::all(&config.upstreams).map_err(|err| anyhow!(err))?;
    let metrics = Metrics::new(config.metrics_tenants, store.clock().now());
    Ok(Shared {
        catalog: ArcSwap::from_pointee(Catalog::new(upstreams, &config.aliases)),
        config: config.edge.clone(),
        observer: observer(config, &metrics)?,
        logs_access: config.access_log.is_some(),
        sampling: config
            .traces
            .as_ref()
            .map(|traces| Sampling { one_in: traces.sample_one_in, trusted: traces.trusted_peers.clone() }),
        metrics,
        shelf: Shelf::open(&config.data_dir, config.responses, (Arc::clone(store.clock()), is_deleted(&store)))
            .context("the directory of the tenants can't be opened")?,
        agents: agent::Desk::open(&config.data_dir, config.agents_bytes, is_deleted(&store))
            .context("the directory of the tenants can't be opened")?,
        terminals: Desk::new(config.terminal.clone()).context("no terminals can be had")?,
        rooms: Rooms::open(&config.data_dir, config.sandbox.clone())
            .context("the directory of the sandbox can't be opened")?,
        meter: workspace::Meter::new(Arc::clone(store.clock())),
        running: Running::default(),
        seals: Seals::new(Arc::clone(master)),
        channels: Arc::new(
            Channels::new(store.clone(), Arc::clone(master), config.channels.clone()).map_err(|err| anyhow!(err))?,
        ),
        own_keys: OwnKeys::new(Arc::clone(master)),
        batches: Notify::new(),
        id_prefix: lifecycle::random_u64()?,
        requests: AtomicUsize::new(0),
        active: AtomicUsize::new(0),
        draining: AtomicBool::new(false),
        cut: watch::Sender::new(false),
        store,
    })
}

fn is_deleted(store: &Store) -> Arc<IsDeleted> {
    let store = store.clone();
    Arc::new(move |tenant| removal::is_deleted(&store, tenant))
}

/// Who is told of finished requests, where anybody is.
fn observer(config: &Config, metrics: &Metrics) -> anyhow::Result<Option<Observer>> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    if let Some(path) = &config.access_log {
        let log = AccessLog::open(path, metrics.access_lost.clone()).with_context(|| {
            format!("log.access: {} can't be opened; name a file that this user can write", path.display())
        })?;
        sinks.push(Box::new(log));
    }
    if let Some(traces) = &config.traces {
        let tracer = Tracer::start(&traces.endpoint, metrics.spans_lost.clone());
        sinks.push(Box::new(tracer.map_err(|err| anyhow!("traces.otlp_endpoint: {err}"))?));
    }
    if sinks.is_empty() {
        return Ok(None);
    }
    Ok(Some(Observer::start(sinks, metrics.untold.clone()).context("no thread can be started")?))
}

fn server(config: &Config, upgrade: bool) -> Server {
    let conf = ServerConf {
        threads: config.edge.threads,
        upgrade_sock: config.data_dir.join("upgrade.sock").display().to_string(),
        upgrade_sock_connect_accept_max_retries: Some(60),
        grace_period_seconds: Some(NEVER_SECONDS),
        graceful_shutdown_timeout_seconds: Some(1),
        fast_timeout_to_tokio_threshold_seconds: Some(LONG_TIMEOUT_SECONDS),
        ..ServerConf::default()
    };
    let opt = Opt { upgrade, ..Opt::default() };
    Server::new_with_opt_and_conf(opt, conf)
}

fn hooks(shared: &Arc<Shared>, reload: &Reload, backups: &Arc<Backups>) -> Hooks {
    let backups = Arc::clone(backups);
    let (metrics, ready, named, asked) =
        (Arc::clone(shared), Arc::clone(shared), Arc::clone(shared), Arc::clone(shared));
    let (shown, reread) = (reload.clone(), reload.clone());
    Hooks {
        metrics: Arc::new(move || backups.metrics() + &metrics.channels.metrics() + &metrics::render(&metrics)),
        readiness: Arc::new(move || ready.ready().map_err(str::to_owned)),
        upstreams: Arc::new(move || named.catalog.load().upstreams()),
        takes_own_key: Arc::new(move |name| asked.catalog.load().takes_own_key(name)),
        config: Arc::new(move || shown.shown()),
        reread: Arc::new(move || reread.prepare()),
        runner: runner(shared),
        terminals: terminal::for_staff(shared),
    }
}

/// What a new user needs next.
#[expect(clippy::print_stdout, reason = "this is what the command says to the person who started it")]
fn greet(config: &Config, source: &KeySource) {
    let (edge, admin) = (reachable(config.edge.listen), reachable(config.admin.listen));
    let scheme = if config.edge.tls.is_some() { "https" } else { "http" };
    println!(
        "openclawmu {} serves tenants on {scheme}://{edge} and the operator on http://{admin}",
        env!("CARGO_PKG_VERSION")
    );
    let KeySource::Created(path) = source else {
        return;
    };
    println!("{}", first_steps(path, &format!("{scheme}://{edge}"), &format!("http://{admin}")));
}

fn first_steps(key: &Path, edge: &str, admin: &str) -> String {
    let key = key.display();
    format!(
        "
The admin key is in {key}. Make a first tenant; its token is shown once:

  curl -s {admin}/v1/tenants -H \"Authorization: Bearer $(cat {key})\" \\
    -H 'Content-Type: application/json' -d '{{\"id\":\"acme\",\"quota\":{{\"usd_per_day\":\"5\"}}}}'

Then call it with an unchanged SDK (pip install openai), its token in the place of the API key:

  from openai import OpenAI
  client = OpenAI(base_url=\"{edge}/v1\", api_key=\"tk_acme_...\")
  reply = client.chat.completions.create(model=\"echo\", messages=[{{\"role\": \"user\", \"content\": \"Hello\"}}])
  print(reply.choices[0].message.content)

In a browser, with that admin key: {admin}/console
"
    )
}

/// An address that a person can paste: a wildcard is reached by the loopback address.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], address.port())) } else { address }
}
