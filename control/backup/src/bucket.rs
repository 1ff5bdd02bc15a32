//! A bucket as a place: S3 and what speaks it (MinIO, R2, GCS). Every call has an end: retries are few and bounded, and what
//! it failed on is told with what to do.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};
use openclawmu_store::UnixMs;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::{BackupError, Result};
use crate::place::{Item, Written};
use crate::progress::Progress;

/// Files up to this size go out in one request.
const WHOLE_BYTES: u64 = 16 << 20;
/// Bytes of a part of a larger one.
const PART_BYTES: u64 = 16 << 20;
/// The most parts that S3 takes.
const MAX_PARTS: u64 = 9_000;
/// The first pause before a request is sent again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The longest time from a request to its last repetition.
const PATIENCE: Duration = Duration::from_secs(120);

/// How buckets are reached.
#[derive(Clone, Debug)]
pub struct BucketOptions {
    /// Where the service is; absent: Amazon's own in the region.
    pub endpoint: Option<String>,
    /// The region.
    pub region: String,
    /// The bucket's name is in the path, not in the host's name.
    pub path_style: bool,
    /// The public part of the access key.
    pub access_key_id: Option<SecretString>,
    /// Its secret part.
    pub secret_access_key: Option<SecretString>,
    /// Present where the key is temporary.
    pub session_token: Option<SecretString>,
    /// How the service encrypts what it keeps.
    pub encryption: Option<Encryption>,
    /// The longest time of one request.
    pub timeout: Duration,
    /// How often a request is sent again.
    pub retries: usize,
}

/// How the service encrypts what it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// With keys of its own.
    Aes256,
    /// With a key of its key service: the named one.
    Kms(String),
}

impl Default for BucketOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: "us-east-1".to_owned(),
            path_style: false,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            encryption: None,
            timeout: Duration::from_secs(60),
            retries: 5,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    store: Arc<AmazonS3>,
    name: String,
    prefix: String,
}

impl Bucket {
    /// The bucket of `rest`, what follows `s3://`.
    pub(crate) fn new(field: &'static str, rest: &str, options: &BucketOptions) -> Result<Self> {
        let invalid = |message: String| BackupError::Invalid { field, message };
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let fits = (3..=63).contains(&name.len()) && name.bytes().all(plain);
        if !fits || prefix.split('/').any(|part| matches!(part, "." | "..") || !part.bytes().all(plain)) {
            return Err(invalid(format!("`s3://{rest}` is no bucket: write it as s3://BUCKET/PREFIX")));
        }
        let client = ClientOptions::new()
            .with_timeout(options.timeout)
            .with_connect_timeout(options.timeout.min(Duration::from_secs(10)))
            .with_allow_http(true);
        let backoff = BackoffConfig { init_backoff: FIRST_PAUSE, max_backoff: LONGEST_PAUSE, base: 2.0 };
        let retry = RetryConfig { backoff, max_retries: options.retries, retry_timeout: PATIENCE };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(name)
            .with_region(&options.region)
            .with_virtual_hosted_style_request(!options.path_style)
            .with_disable_tagging(true)
            .with_client_options(client)
            .with_retry(retry);
        if let Some(endpoint) = &options.endpoint {
            builder = builder.with_endpoint(endpoint_of(endpoint, name, options.path_style));
        }
        // Without keys, the machine's own role is asked for them.
        if let (Some(id), Some(secret)) = (&options.access_key_id, &options.secret_access_key) {
            builder = builder.with_access_key_id(id.expose_secret()).with_secret_access_key(secret.expose_secret());
        }
        if let Some(token) = &options.session_token {
            builder = builder.with_token(token.expose_secret());
        }
        builder = match &options.encryption {
            None => builder,
            Some(Encryption::Aes256) => {
                let key = "aws_server_side_encryption".parse();
                builder.with_config(key.map_err(|err: object_store::Error| invalid(err.to_string()))?, "AES256")
            }
            Some(Encryption::Kms(key)) => builder.with_sse_kms_encryption(key),
        };
        let store = builder.build().map_err(|err| invalid(err.to_string()))?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { store: Arc::new(store), name: format!("s3://{}", rest.trim_end_matches('/')), prefix })
    }

    pub(crate) async fn put_file(&self, key: &str, path: &Path) -> Result<()> {
        let fail = |source| BackupError::File { path: path.to_owned(), source };
        let mut file = tokio::fs::File::open(path).await.map_err(fail)?;
        let bytes = file.metadata().await.map_err(fail)?.len();
        if bytes <= WHOLE_BYTES {
            let mut whole = Vec::new();
            file.read_to_end(&mut whole).await.map_err(fail)?;
            return self.put(key, whole).await;
        }
        let part_bytes = PART_BYTES.max(bytes.div_ceil(MAX_PARTS));
        let location = self.location(key);
        let mut upload =
            self.store.put_multipart(&location).await.map_err(|err| self.failed("can't take an upload", &err))?;
        let sent = async {
            loop {
                let mut part = Vec::new();
                (&mut file).take(part_bytes).read_to_end(&mut part).await.map_err(fail)?;
                if part.is_empty() {
                    break;
                }
                let put = upload.put_part(PutPayload::from(Bytes::from(part)));
                put.await.map_err(|err| self.failed("can't take a part of an upload", &err))?;
            }
            upload.complete().await.map_err(|err| self.failed("can't finish an upload", &err))
        }
        .await;
        if let Err(err) = sent {
            // What can't be taken back now costs space until the bucket's own rule for unfinished uploads removes it.
            if let Err(abort) = upload.abort().await {
                tracing::warn!(%abort, key, "an unfinished upload is left in the bucket");
            }
            return Err(err);
        }
        Ok(())
    }

    pub(crate) async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<()> {
        let location = self.location(key);
        let put = self.store.put(&location, PutPayload::from(Bytes::from(bytes)));
        put.await.map(drop).map_err(|err| self.failed("can't be written", &err))
    }

    pub(crate) async fn put_new(&self, key: &str, bytes: Vec<u8>) -> Result<Written> {
        let ours = Bytes::from(bytes);
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&self.location(key), PutPayload::from(ours.clone()), options).await {
            Ok(_) => Ok(Written::New),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                // An answer may have been lost on the way and the request sent again: then it is ours that is there.
                let found = self.get(key, ours.len() as u64).await.unwrap_or(None);
                Ok(if found.is_some_and(|found| found == ours) { Written::New } else { Written::Taken })
            }
            Err(err) => Err(self.failed("can't be written", &err)),
        }
    }

    pub(crate) async fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let found = match self.store.get(&self.location(key)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(|err| self.failed("can't be read", &err))?,
        };
        if found.meta.size > limit {
            return Err(BackupError::Damaged(format!("{key} is larger than it may be")));
        }
        let bytes = found.bytes().await.map_err(|err| self.failed("can't be read", &err))?;
        Ok(Some(bytes.to_vec()))
    }

    pub(crate) async fn get_file(&self, key: &str, to: &Path, limit: u64, progress: &Progress) -> Result<bool> {
        let fail = |source| BackupError::File { path: to.to_owned(), source };
        let found = match self.store.get(&self.location(key)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(false),
            found => found.map_err(|err| self.failed("can't be read", &err))?,
        };
        if found.meta.size > limit {
            return Err(BackupError::Damaged(format!("{key} is larger than it should be")));
        }
        let mut file =
            tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).await.map_err(fail)?;
        let mut stream = found.into_stream();
        while let Some(chunk) = stream.try_next().await.map_err(|err| self.failed("can't be read", &err))? {
            file.write_all(&chunk).await.map_err(fail)?;
            progress.fetched(chunk.len() as u64);
        }
        file.flush().await.map_err(fail)?;
        Ok(true)
    }

    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<Item>> {
        let below = self.location(prefix.trim_end_matches('/'));
        let listed: Vec<_> =
            self.store.list(Some(&below)).try_collect().await.map_err(|err| self.failed("can't be listed", &err))?;
        let items = listed.into_iter().filter_map(|meta| {
            let key = meta.location.as_ref().strip_prefix(&self.prefix)?.to_owned();
            let modified_at = UnixMs(meta.last_modified.timestamp_millis());
            Some(Item { key, bytes: meta.size, modified_at })
        });
        Ok(items.collect())
    }

    pub(crate) async fn remove(&self, key: &str) -> Result<()> {
        match self.store.delete(&self.location(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(err) => Err(self.failed("can't remove an object", &err)),
        }
    }

    fn location(&self, key: &str) -> Key {
        Key::from(format!("{}{key}", self.prefix))
    }

    /// The service's words, and what to do about them. They never hold the secret key: it is only ever a signature.
    fn failed(&self, action: &'static str, err: &object_store::Error) -> BackupError {
        let cause = err.to_string();
        use object_store::Error::{NotFound, PermissionDenied, Unauthenticated};
        let hint = if matches!(err, PermissionDenied { .. } | Unauthenticated { .. }) {
            "may this access key list, read, write and delete in the bucket? see backup.access_key_id"
        } else if matches!(err, NotFound { .. }) || cause.contains("NoSuchBucket") {
            "does the bucket exist? see backup.to"
        } else {
            "is the service up and reachable? see backup.endpoint; the next run tries again"
        };
        BackupError::Place { place: self.name.clone(), action, cause, hint }
    }
}

/// Of a service of one's own, the bucket's name may be in the host's name too.
fn endpoint_of(endpoint: &str, bucket: &str, path_style: bool) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    match endpoint.split_once("://") {
        Some((scheme, host)) if !path_style => format!("{scheme}://{bucket}.{host}"),
        Some(_) | None => endpoint.to_owned(),
    }
}
