//! A real S3 server in this process, which verifies every signature, behind a proxy whose faults are scripted.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::sync::Barrier;

use crate::listening::Listening;

/// The bucket's name.
pub const BUCKET: &str = "backups";
/// The public part of the access key.
pub const ACCESS_KEY: &str = "AKIATESTTESTTEST";
/// Its secret part: distinctive, so that a leak can be searched for.
pub const SECRET_KEY: &str = "s3-secret-canary-77c0ffee77c0ffee77c0ffee";

/// What happens to a request in the place of an answer, or before it.
#[derive(Clone)]
pub enum BucketFault {
    /// The service answers this status.
    Status(u16),
    /// It answers after this long.
    Slow(Duration),
    /// The connection is cut without an answer; nothing was done.
    Cut,
    /// It waits until as many requests are here as the barrier is for.
    Together(Arc<Barrier>),
}

struct Rule {
    method: Method,
    part: String,
    fault: BucketFault,
    left: usize,
}

#[derive(Default)]
struct State {
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<(Method, String, Option<String>)>>,
    /// The server looks and writes in two steps: those that come together are served one after the other.
    turn: tokio::sync::Mutex<()>,
}

/// A running one; it ends with its handle.
pub struct Bucket {
    listening: Listening,
    dir: TempDir,
    state: Arc<State>,
}

impl Bucket {
    /// Starts one with an empty bucket on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let dir = TempDir::new().expect("a temp dir");
        std::fs::create_dir(dir.path().join(BUCKET)).expect("a bucket");
        let mut builder = S3ServiceBuilder::new(FileSystem::new(dir.path()).expect("a directory"));
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let listening = Listening::start(move |stream| {
            let (state, service) = (Arc::clone(&shared), service.clone());
            async move {
                let answering = service_fn(move |request| {
                    let (state, service) = (Arc::clone(&state), service.clone());
                    async move { answer(&state, &service, request).await }
                });
                // A client that went away is its own affair, and so is one that was cut.
                let _ended =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answering).await;
            }
        })
        .await;
        Self { listening, dir, state }
    }

    /// The `[backup]` table of a gateway that backs up here, with these keys beside.
    #[must_use]
    pub fn table(&self, keys: &[&str]) -> String {
        format!(
            "[backup]\nto = \"s3://{BUCKET}/prod\"\nendpoint = \"http://{}\"\npath_style = true\naccess_key_id = \"env:TEST_S3_ID\"\nsecret_access_key = \"env:TEST_S3_SECRET\"\n{}\n",
            self.listening.address(),
            keys.join("\n")
        )
    }

    /// The environment that the table refers to.
    #[must_use]
    pub fn env() -> Vec<(String, String)> {
        vec![("TEST_S3_ID".to_owned(), ACCESS_KEY.to_owned()), ("TEST_S3_SECRET".to_owned(), SECRET_KEY.to_owned())]
    }

    /// The next `times` requests of this method whose path holds `part` get this fault.
    pub fn fault(&self, method: Method, part: &str, fault: BucketFault, times: usize) {
        let rule = Rule { method, part: part.to_owned(), fault, left: times };
        self.state.rules.lock().unwrap().push(rule);
    }

    /// No more faults.
    pub fn heal(&self) {
        self.state.rules.lock().unwrap().clear();
    }

    /// Every request so far: method, path, and how it asked the service to encrypt.
    #[must_use]
    pub fn seen(&self) -> Vec<(Method, String, Option<String>)> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The keys in the bucket that hold `part`, without those that the server keeps for itself.
    #[must_use]
    pub fn keys(&self, part: &str) -> Vec<String> {
        let root = self.root();
        let mut keys: Vec<String> = files(&root)
            .into_iter()
            .filter_map(|path| path.strip_prefix(&root).ok()?.to_str().map(str::to_owned))
            .filter(|key| key.contains(part))
            .collect();
        keys.sort();
        keys
    }

    /// The directory that the bucket lies in.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.path().join(BUCKET)
    }
}

/// Every file below a directory.
#[must_use]
pub fn files(root: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) { pending.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

async fn answer(
    state: &State,
    service: &S3Service,
    request: Request<Incoming>,
) -> std::io::Result<Response<s3s::Body>> {
    let encryption = request.headers().get("x-amz-server-side-encryption");
    let encryption = encryption.and_then(|value| value.to_str().ok()).map(str::to_owned);
    state.seen.lock().unwrap().push((request.method().clone(), request.uri().path().to_owned(), encryption));
    let mut turn = None;
    match take(state, request.method(), request.uri().path()) {
        None => {}
        Some(BucketFault::Status(status)) => {
            let body =
                format!("<?xml version=\"1.0\"?><Error><Code>Scripted</Code><Message>{status}</Message></Error>");
            let mut response = Response::new(s3s::Body::from(body));
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            return Ok(response);
        }
        Some(BucketFault::Slow(pause)) => tokio::time::sleep(pause).await,
        Some(BucketFault::Cut) => return Err(std::io::ErrorKind::ConnectionReset.into()),
        Some(BucketFault::Together(barrier)) => {
            barrier.wait().await;
            turn = Some(state.turn.lock().await);
        }
    }
    let _turn = turn;
    service.call(request.map(s3s::Body::from)).await.map_err(|err| std::io::Error::other(format!("{err:?}")))
}

fn take(state: &State, method: &Method, path: &str) -> Option<BucketFault> {
    let mut rules = state.rules.lock().unwrap();
    let rule = rules.iter_mut().find(|rule| rule.left > 0 && rule.method == *method && path.contains(&rule.part))?;
    rule.left -= 1;
    Some(rule.fault.clone())
}

/// The SHA-256 of some bytes, in hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
