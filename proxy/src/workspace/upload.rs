//! A file's content on its way from a tenant: written beside its place as it comes, and there all at once when it is whole.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header;
use openclawmu_sandbox::{DiskUsage, PathError, RelPath, Root, Staged};
use serde_json::json;
use tokio::sync::mpsc;

use super::{over_quota, with};
use crate::answer::Head;
use crate::authenticate::Caller;
use crate::client::Client;
use crate::context::Context;
use crate::gateway::{Gateway, Stop};
use crate::head;
use crate::refusal::Refusal;
use crate::session::Session;

/// Pieces that wait for the disk.
const PIECES: usize = 8;
/// How much is written before it is looked again at what is left: others write at the same time.
const LOOK_BYTES: u64 = 64 << 20;

/// What the disk is told.
enum Part {
    Piece(Bytes),
    /// It is whole.
    End,
}

impl Gateway {
    pub(super) async fn put(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        caller: &Caller,
        path: RelPath,
    ) -> Result<(), Stop> {
        let quota = caller.policy.quota.storage_bytes;
        let stated =
            session.get_header(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if quota.zip(stated).is_some_and(|(quota, stated)| stated > quota) {
            return Err(over_quota().into());
        }
        let told = path.to_string();
        let (parts, inbox) = mpsc::channel(PIECES);
        let (shared, key) = (Arc::clone(&self.shared), caller.policy.tenant_key);
        let left = Left { quota, saw: Box::new(move |bytes| shared.meter.saw(key, bytes)) };
        let writing = with((&self.shared, caller), move |root| write(root, &path, &left, inbox));
        let (sent, written) = tokio::join!(feed(session, self.shared.config.body_timeout, parts), writing);
        // What the disk says comes first: it is why the rest was not taken.
        let (size, is_new) = written?;
        sent?;
        ctx.status = if is_new { 201 } else { 200 };
        let body = json!({"path": told, "size_bytes": size}).to_string();
        let head = Head::of(ctx.status, ctx.request_id, ctx.dialect)?;
        Ok(head.send(&mut Client::Http(session.again()), "application/json", body.into()).await?)
    }
}

/// Passes the body on, piece by piece, as fast as the disk takes it.
async fn feed(session: &mut Session<'_>, patience: Duration, parts: mpsc::Sender<Part>) -> Result<(), Refusal> {
    let broken = |message: &str| Refusal::Bad {
        status: 400,
        param: None,
        code: Some("body_broken"),
        message: message.to_owned(),
    };
    if head::expects_continue(&session.req_header().headers) {
        let go_on = session.write_continue().await;
        go_on.map_err(|_| broken("The connection broke off."))?;
    }
    loop {
        let read = tokio::time::timeout(patience, session.read_body());
        let part = match read.await {
            Ok(Ok(Some(piece))) => Part::Piece(piece),
            Ok(Ok(None)) => Part::End,
            Ok(Err(_)) => return Err(broken("The body broke off.")),
            Err(_) => {
                let message = "The body did not come in time.".to_owned();
                return Err(Refusal::Bad { status: 408, param: None, code: Some("request_timeout"), message });
            }
        };
        let is_end = matches!(part, Part::End);
        // The disk has refused: it says why itself.
        if parts.send(part).await.is_err() || is_end {
            return Ok(());
        }
    }
}

/// Writes what comes; whether the name is new. It blocks on the disk.
fn write(root: &Root, path: &RelPath, quota: &Left, mut inbox: mpsc::Receiver<Part>) -> Result<(u64, bool), PathError> {
    let mut left = quota.left(root)?;
    let is_new = matches!(root.metadata(path), Err(PathError::NotFound));
    let mut staged = stage(root, path)?;
    let (mut size, mut unseen): (u64, u64) = (0, 0);
    loop {
        match inbox.blocking_recv() {
            Some(Part::Piece(piece)) => {
                let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
                left = left.checked_sub(length).ok_or(PathError::NoSpace)?;
                staged.write_all(&piece).map_err(of_io)?;
                size = size.saturating_add(length);
                unseen = unseen.saturating_add(length);
                if unseen >= LOOK_BYTES {
                    left = quota.left(root)?;
                    unseen = 0;
                }
            }
            Some(Part::End) => {
                // Whoever ends last sees what all have written, so that all together stay within the quota.
                quota.left(root)?;
                staged.commit()?;
                return Ok((size, is_new));
            }
            // The body broke off: nothing of it stays, and the client is told so by whoever read it.
            None => return Ok((0, false)),
        }
    }
}

/// What a tenant may write, and who is told what it has written.
struct Left {
    quota: Option<u64>,
    saw: Box<dyn Fn(u64) + Send>,
}

impl Left {
    /// What the quota leaves, with all that is being written.
    fn left(&self, root: &Root) -> Result<u64, PathError> {
        let Some(quota) = self.quota else { return Ok(u64::MAX) };
        let used = root.disk_usage(DiskUsage { bytes: quota, entries: u64::MAX })?;
        (self.saw)(used.bytes);
        Ok(quota.saturating_sub(used.bytes))
    }
}

fn stage(root: &Root, path: &RelPath) -> Result<Staged, PathError> {
    match root.stage(path) {
        Err(PathError::NotFound) => {
            if let Some(parent) = path.parent() {
                root.create_dir_all(&parent)?;
            }
            root.stage(path)
        }
        staged => staged,
    }
}

fn of_io(err: std::io::Error) -> PathError {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    if matches!(err.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
        PathError::NoSpace
    } else {
        PathError::Io(err)
    }
}
