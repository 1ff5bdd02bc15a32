//! `/v1/workspace/files`: a tenant's files, which its sandbox works on.
//!
//! - `serve`: the routes: listing, moving, removing
//! - `meter`: what they take of the disk, for the books
//! - `download`, `upload`: a file's content, piece by piece, whatever its size
//!
//! Every path goes through `openclawmu_sandbox::RelPath` and every file through the workspace's own handle: what a link, a
//! pipe or a device there is, is nothing that can be opened.

mod download;
mod meter;
mod serve;
mod upload;

use std::sync::Arc;

pub(crate) use meter::{Meter, run as meter};
use openclawmu_sandbox::{PathError, RelPath, Root, SandboxError};
pub(crate) use serve::guard;

use crate::authenticate::Caller;
use crate::context::Shared;
use crate::refusal::Refusal;
use crate::sandbox::blocking;

/// What a client is told of a path that was not opened. A link is told like nothing at all.
pub(crate) fn refused(param: &'static str, err: &PathError) -> Refusal {
    let bad = |status, code| Refusal::Bad {
        status,
        param: Some(param.into()),
        code: Some(code),
        message: format!("`{param}`: {err}."),
    };
    match err {
        PathError::Empty | PathError::Escape | PathError::Forbidden | PathError::TooLong | PathError::BadEncoding => {
            bad(400, "invalid_path")
        }
        PathError::NotFound | PathError::Refused => {
            Refusal::NotFound { code: "file_not_found", message: "There is no such file.".to_owned() }
        }
        PathError::Conflict | PathError::TooMany => bad(409, "conflict"),
        PathError::NoSpace => over_quota(),
        PathError::Unsupported | PathError::Io(_) => {
            tracing::error!(%err, "a workspace can't be used");
            Refusal::Sandbox { code: "workspace", message: "The workspace can't be used at the moment.".to_owned() }
        }
    }
}

/// No space is left for this tenant.
pub(crate) fn over_quota() -> Refusal {
    Refusal::Bad {
        status: 507,
        param: None,
        code: Some("storage_quota_exceeded"),
        message: "The workspace is full: remove files, or ask the operator for more `storage_bytes`.".to_owned(),
    }
}

/// Does something with a tenant's files, where waiting for the disk holds nobody up.
async fn with<T: Send + 'static>(
    (shared, caller): (&Arc<Shared>, &Caller),
    work: impl FnOnce(&Root) -> Result<T, PathError> + Send + 'static,
) -> Result<T, Refusal> {
    let (shared, policy) = (Arc::clone(shared), Arc::clone(&caller.policy));
    let done = blocking(move || {
        let workspace = shared.rooms.workspace(&policy.tenant, policy.tenant_key)?;
        work(workspace.files()).map_err(SandboxError::Path)
    });
    done.await?.map_err(|err| {
        let err = if let SandboxError::Path(err) = err { err } else { PathError::Io(std::io::Error::other(err)) };
        refused("path", &err)
    })
}

/// The path that a URL names.
fn path_of(rest: &str) -> Result<RelPath, Refusal> {
    RelPath::from_encoded(rest).map_err(|err| refused("path", &err))
}
