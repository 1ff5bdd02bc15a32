//! A store in a directory of its own with the tenant `acme`, and the admin API over it.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, StatusCode};
use openclawmu_backup::{BucketOptions, Place};
use openclawmu_store::{
    Actor, AuditNote, AuditOutcome, Bound, ChannelPolicy, Demand, Durability, End, LabelKey, ManualClock, ModelPrice,
    NanoUsd, NewChannel, NewMessage, NewPairing, Outcome, RequestId, ServiceTier, Store, StoreError, StoreOptions,
    TenantId, Ticket, UnixMs, Usage,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use crate::admin::{AdminState, Hooks, Peer, router};
use crate::backup::{BackupConfig, Backups};
use crate::key::{AdminKeys, MasterKey};
use crate::reload::Prepared;
use crate::run::{EnforcedLimits, OperatorRun, RunAnswer, RunIsolation, RunRefused, Runner};
use crate::terminal::{Desk, StaffTicket, TerminalShown, TerminalViewers, Terminals, TicketShown, Work};

/// The admin key of every scene.
pub(crate) const KEY: &str = "the-admin-key-of-the-tests-0123456789";

/// Who may speak on every channel of a scene.
pub(crate) const SENDER: &str = "U1";

/// Where a tenant's calls come from.
pub(crate) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(crate) struct Scene {
    pub(crate) dir: TempDir,
    /// Where backups go.
    pub(crate) places: TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: Store,
    pub(crate) state: AdminState,
    pub(crate) app: Router,
    /// The first token of `acme`.
    pub(crate) token: String,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|err| panic!("{err} in {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The code of a refusal in the shape that all have.
    pub(crate) fn refused(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        let error = &self.json()["error"];
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{}", self.text);
        error["code"].as_str().unwrap().to_owned()
    }
}

/// A request to be sent by [`Scene::send`].
pub(crate) fn request(method: Method, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "127.0.0.1:8081")
}

/// The same with a place for backups.
fn backing_up(state: AdminState, place: &std::path::Path) -> AdminState {
    let place = Place::parse("to", place.to_str().unwrap(), &BucketOptions::default()).unwrap();
    let config = BackupConfig { to: Some(place), ..BackupConfig::default() };
    let backups = Backups::new(state.store.clone(), Arc::clone(&state.master), config);
    state.with_backups(Arc::new(backups))
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(UnixMs::parse_rfc3339("2026-11-22T12:00:00Z").unwrap()));
        let options = StoreOptions {
            dir: dir.path().to_owned(),
            clock: clock.clone(),
            takeover: Duration::ZERO,
            durability: Durability::default(),
        };
        let store = Store::open(&options).unwrap();
        let places = tempfile::tempdir().unwrap();
        let state = backing_up(state_of(&store), places.path());
        let app = router(state.clone());
        let mut scene = Self { dir, places, clock, store, state, app, token: String::new() };
        let made = scene.post("/v1/tenants", &json!({"id": "acme", "name": "Acme"})).await;
        assert_eq!(made.status, 201, "{}", made.text);
        scene.token = made.json()["token"]["value"].as_str().unwrap().to_owned();
        scene
    }

    /// A channel of `acme` on which [`SENDER`] may speak and somebody asks to: its id, and the code of who asks.
    pub(crate) fn channel(&self) -> (String, String) {
        let (system, acme) = (Actor::system(), "acme".parse().unwrap());
        let new = NewPairing { kind: "slack".to_owned(), agent: "default".to_owned(), policy: ChannelPolicy::Pairing };
        let link = self.store.create_pairing(&system, &acme, new).wait().unwrap();
        let id = format!("cb_{}", link.id);
        let new = NewChannel { id: id.clone(), identity: link.id.clone(), label: String::new(), sealed: vec![1] };
        self.store.bind_channel(&system, &link.id, new).wait().unwrap();
        let channel = self.store.sealed_channel(&id).unwrap();
        let says = |sender: &str| NewMessage {
            event: sender.to_owned(),
            sender: sender.to_owned(),
            label: String::new(),
            session: sender.to_owned(),
            text: "hello".to_owned(),
            reply_to: String::new(),
        };
        // A test's own runtime can't be blocked on.
        let asked = || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let messages = vec![says(SENDER), says("U2")];
            runtime.block_on(self.store.queue_messages(&channel, messages, str::to_owned)).unwrap();
        };
        std::thread::scope(|scope| scope.spawn(asked).join()).unwrap();
        let code = |sender: &str| {
            let pending = self.store.channel_senders(&acme, &id).unwrap().pending;
            pending.into_iter().find(|one| one.sender == sender).unwrap().code
        };
        self.store.approve_sender(&system, &acme, (&id, &code(SENDER)), "").wait().unwrap();
        let code = code("U2");
        (id, code)
    }

    /// The id of the first token of `acme`.
    pub(crate) fn token_id(&self) -> String {
        let tokens = self.store.tokens(&"acme".parse().unwrap(), None, 1);
        tokens.unwrap()[0].id.to_string()
    }

    /// Sends a request as it is, from `ip`.
    pub(crate) async fn send_from(&self, ip: &str, mut request: Request<Body>) -> Answer {
        request.extensions_mut().insert(ConnectInfo(Peer::Network(ip.parse::<IpAddr>().unwrap())));
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 64 << 20).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        self.send_from("192.0.2.1", request).await
    }

    /// Sends with the admin key.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let request = request(method, path).header(AUTHORIZATION, format!("Bearer {KEY}"));
        let request = match body {
            Some(body) => request.header(CONTENT_TYPE, "application/json").body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        self.send(request.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    /// A call that has been served and billed: 1,000 tokens in, 500 out, at 2 and 4 USD per million.
    pub(crate) async fn bill(&self, model: &str, request_id: u128) -> NanoUsd {
        let ticket = self.admit(model, request_id).await;
        let usage = Usage { input: 1_000, output: 500, ..Usage::default() };
        let settled = ticket.settle(End {
            outcome: Outcome::Complete,
            http_status: 200,
            estimated: false,
            usage,
            service_tier: ServiceTier::Standard,
            first_byte_ms: 1,
        });
        self.store.flush().await.unwrap();
        settled.cost
    }

    /// A call that may cost as much and is in flight.
    async fn admit(&self, model: &str, request_id: u128) -> Ticket {
        let policy = self.store.authenticate(&self.token, HERE).unwrap();
        let price = Arc::new(ModelPrice::flat(NanoUsd(2_000_000_000), NanoUsd(4_000_000_000)));
        let demand = Demand {
            request_id: RequestId(request_id),
            attempt: 0,
            stream: false,
            tenant: policy.tenant_key,
            token: policy.token_key,
            quota: &policy.quota,
            zone: &policy.zone,
            model: self.store.name_key(model).await.unwrap(),
            upstream: self.store.name_key("echo").await.unwrap(),
            price: &price,
            rate_card: 1,
            bound: Bound { input_tokens: 1_000, output_tokens: 500, ..Bound::default() },
            prompt_estimate: 1_000,
            service_tier: ServiceTier::Standard,
            label: LabelKey::default(),
            markup: policy.markup,
            cap: policy.cap(),
        };
        self.store.admit(&demand).unwrap()
    }

    /// The scene after its process died with one call of `m` in flight, priced by a rate card of the same prices: its prompt
    /// is billed and the rest is held.
    pub(crate) async fn with_a_hold(self) -> Self {
        let rates = json!({"models": {"m": {"input": "2", "output": "4"}}});
        assert_eq!(self.call(Method::PUT, "/v1/rates", Some(&rates)).await.status, 200);
        let open = self.admit("m", 9).await;
        self.store.flush().await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        copy(self.dir.path(), dir.path());
        drop(open);
        let options = StoreOptions {
            dir: dir.path().to_owned(),
            clock: self.clock.clone(),
            takeover: Duration::ZERO,
            durability: Durability::default(),
        };
        let store = Store::open(&options).unwrap();
        let state = backing_up(state_of(&store), self.places.path());
        Self {
            app: router(state.clone()),
            dir,
            places: self.places,
            store,
            state,
            clock: self.clock,
            token: self.token,
        }
    }
}

/// Copies a data directory as a process that dies leaves it.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to.join("inflight")).unwrap();
    for folder in ["", "inflight"] {
        for entry in std::fs::read_dir(from.join(folder)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), to.join(folder).join(entry.file_name())).unwrap();
            }
        }
    }
}

/// Puts on record what it would run, and runs nothing.
fn runner(store: Store) -> Runner {
    Runner::new(move |asked: OperatorRun| {
        let store = store.clone();
        async move {
            let said = |status, message: String| RunRefused {
                status,
                code: "invalid_value",
                message,
                field: Some("command".to_owned()),
                retry_after_seconds: None,
            };
            store.tenant(&asked.tenant).map_err(|err| said(404, err.to_string()))?;
            if asked.request.command.is_none() {
                return Err(said(400, "send a command".to_owned()));
            }
            let note = AuditNote {
                action: "sandbox.exec",
                tenant: Some(asked.tenant),
                target: None,
                outcome: AuditOutcome::Ok,
                detail: json!({}),
            };
            store.audit(&asked.actor, note).await.map_err(|err| said(503, err.to_string()))?;
            Ok(answer())
        }
    })
}

/// The terminal that can be ended.
pub(crate) const TERMINAL: &str = "term_0";

/// Has one terminal; a ticket is put on record, and leads nowhere.
struct NoTerminals(Store);

impl NoTerminals {
    fn one(&self, opened_by: String) -> TerminalShown {
        TerminalShown {
            id: TERMINAL.to_owned(),
            tenant: "acme".parse().unwrap(),
            opened_by,
            opened_at: self.0.clock().now().rfc3339(),
            recording: "r".to_owned(),
            viewers: TerminalViewers::default(),
        }
    }
}

fn no_terminal() -> RunRefused {
    RunRefused {
        status: 404,
        code: "not_found",
        message: "no such terminal".to_owned(),
        field: None,
        retry_after_seconds: None,
    }
}

impl Desk for NoTerminals {
    fn ticket(&self, asked: StaffTicket) -> Work<TicketShown> {
        let store = self.0.clone();
        Box::pin(async move {
            let refused = |status, message: String| RunRefused { status, message, ..no_terminal() };
            store.tenant(&asked.tenant).map_err(|err| refused(404, err.to_string()))?;
            if asked.request.reason.is_none_or(|reason| reason.is_empty()) {
                let field = Some("reason".to_owned());
                return Err(RunRefused { code: "invalid_value", field, ..refused(400, "say why".to_owned()) });
            }
            let note = AuditNote {
                action: "terminal.ticket",
                tenant: Some(asked.tenant),
                target: None,
                outcome: AuditOutcome::Ok,
                detail: json!({}),
            };
            store.audit(&asked.actor, note).await.map_err(|err| refused(503, err.to_string()))?;
            let expires_at = store.clock().now().rfc3339();
            Ok(TicketShown { ticket: "a.b".to_owned(), session: "s".to_owned(), url: "ws://x".to_owned(), expires_at })
        })
    }

    fn list(&self, tenant: Option<&TenantId>) -> Vec<TerminalShown> {
        let one = self.one("admin.keys[0]".to_owned());
        Some(one).filter(|one| tenant.is_none_or(|tenant| *tenant == one.tenant)).into_iter().collect()
    }

    fn end(&self, actor: Actor, session: String) -> Work<TerminalShown> {
        let store = self.0.clone();
        Box::pin(async move {
            if session != TERMINAL {
                return Err(no_terminal());
            }
            let tenant: TenantId = "acme".parse().unwrap();
            let note = AuditNote {
                action: "terminal.end",
                tenant: Some(tenant),
                target: Some(session),
                outcome: AuditOutcome::Ok,
                detail: json!({}),
            };
            let unwritten = |err: StoreError| RunRefused { status: 503, message: err.to_string(), ..no_terminal() };
            store.audit(&actor, note).await.map_err(unwritten)?;
            Ok(NoTerminals(store).one(actor.id))
        })
    }

    fn end_tenant(&self, _: TenantId) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async {})
    }
}

fn answer() -> RunAnswer {
    let held = || "nothing".to_owned();
    RunAnswer {
        id: "run_0".to_owned(),
        exit_code: 0,
        signal: None,
        outcome: "exited",
        stdout: String::new(),
        stderr: String::new(),
        stdout_base64: None,
        stderr_base64: None,
        stdout_bytes: 0,
        stderr_bytes: 0,
        truncated: false,
        artifacts: BTreeMap::new(),
        duration_ms: 0,
        cpu_ms: None,
        memory_peak_bytes: None,
        processes_limit_hit: false,
        backend: "none",
        isolation: RunIsolation {
            uid_map: String::new(),
            seccomp: 0,
            no_new_privs: false,
            limits: EnforcedLimits { memory: held(), processes: held(), cpu: held(), disk: held(), user: held() },
        },
    }
}

/// The API's state over `store`, with the keys of its directory.
pub(crate) fn state_of(store: &Store) -> AdminState {
    let keys = AdminKeys::load_or_create(store.dir(), vec![SecretString::from(KEY)]).unwrap();
    let master = MasterKey::load_or_create(store.dir()).unwrap();
    let hooks = Hooks {
        metrics: Arc::new(|| "openclawmu_up 1\n".to_owned()),
        readiness: Arc::new(|| Ok(())),
        upstreams: Arc::new(|| vec!["echo".to_owned(), "openai".to_owned()]),
        takes_own_key: Arc::new(|name| name != "echo"),
        config: Arc::new(|| json!({"edge": {"listen": "127.0.0.1:8080"}})),
        reread: Arc::new(|| {
            let changed = vec!["upstream.openai".to_owned()];
            Ok(Prepared { changed, needs_restart: Vec::new(), apply: Box::new(|| {}) })
        }),
        runner: runner(store.clone()),
        terminals: Terminals::new(Arc::new(NoTerminals(store.clone()))),
    };
    AdminState::new(store.clone(), keys, Arc::new(master), hooks)
}
