//! The routes of a tenant's files.

use std::ffi::OsString;

use http::Method;
use openclawmu_sandbox::{Kind, RelPath};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{path_of, refused, with};
use crate::answer::{self, Head};
use crate::authenticate::Caller;
use crate::client::Client;
use crate::context::Context;
use crate::gateway::{Gateway, Stop};
use crate::own::{percent_bytes, percent_decode};
use crate::read;
use crate::refusal::Refusal;
use crate::session::Session;

/// How many names a page has that names no number.
const PAGE: usize = 100;
/// How many it may have.
const MAX_PAGE: usize = 1000;

/// What a `POST` on a file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    move_to: String,
}

/// What a listing asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    dir: Option<RelPath>,
    after: Option<OsString>,
    limit: usize,
}

impl Gateway {
    /// Answers a request about files; `rest` is what follows `/v1/workspace/files/`.
    pub(crate) async fn workspace(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        caller: &Caller,
        rest: &str,
    ) -> Result<(), Stop> {
        let method = session.req_header().method.clone();
        let query = session.req_header().uri.query().unwrap_or_default().to_owned();
        if rest.is_empty() {
            let listed = self.list(caller, &query).await?;
            return Ok(answer::json(&mut Client::Http(session.again()), ctx.request_id, &listed).await?);
        }
        let path = path_of(rest)?;
        match method {
            Method::PUT => self.put(session, ctx, caller, path).await,
            Method::DELETE => self.remove_path(session, ctx, caller, (path, &query)).await,
            Method::POST => self.rename_path(session, ctx, caller, path).await,
            _ => self.get(session, ctx, caller, path).await,
        }
    }

    async fn list(&self, caller: &Caller, query: &str) -> Result<Value, Refusal> {
        let Asked { dir, after, limit } = asked(query)?;
        let of = dir.clone();
        let page = with((&self.shared, caller), move |root| root.list(of.as_ref(), after.as_deref(), limit)).await?;
        let data: Vec<Value> = page
            .entries
            .iter()
            .map(|entry| {
                let kind = match entry.metadata.kind {
                    Kind::File => "file",
                    Kind::Directory => "directory",
                    Kind::Other => "other",
                };
                // As a URL takes it; a name that no URL can hold is shown all the same.
                let path = match &dir {
                    Some(dir) => dir.join(&entry.name),
                    None => RelPath::parse(std::os::unix::ffi::OsStrExt::as_bytes(entry.name.as_os_str())),
                };
                json!({
                    "path": path.ok().map(|path| path.to_string()),
                    "name": entry.name.to_string_lossy(),
                    "kind": kind,
                    "size_bytes": entry.metadata.size_bytes,
                    "modified_at_ms": entry.metadata.modified_at_ms,
                })
            })
            .collect();
        let next = page.next.as_ref().map(|name| encoded(name));
        Ok(json!({"object": "list", "data": data, "has_more": next.is_some(), "next": next}))
    }

    async fn remove_path(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        caller: &Caller,
        (path, query): (RelPath, &str),
    ) -> Result<(), Stop> {
        let whole = match query {
            "" | "recursive=false" => false,
            "recursive=true" => true,
            _ => return Err(Refusal::bad("recursive", "The query is `recursive=true` or nothing.").into()),
        };
        let removed = with((&self.shared, caller), move |root| match root.metadata(&path) {
            Ok(found) if found.kind == Kind::Directory && whole => root.remove_tree(&path),
            Ok(found) if found.kind == Kind::Directory => Err(openclawmu_sandbox::PathError::Conflict),
            // A link or a pipe is no file, and is removed as one.
            Ok(_) | Err(openclawmu_sandbox::PathError::Refused) => root.remove_file(&path),
            Err(err) => Err(err),
        });
        removed.await?;
        ctx.status = 204;
        Ok(Head::new(204, ctx.request_id)?.send_nothing(&mut Client::Http(session.again())).await?)
    }

    async fn rename_path(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        caller: &Caller,
        from: RelPath,
    ) -> Result<(), Stop> {
        let body = read::body(session, &self.shared.config).await?;
        let Move { move_to } = serde_json::from_slice(&body)
            .map_err(|err| Refusal::bad("move_to", format!("The body is `{{\"move_to\": \"path\"}}`: {err}.")))?;
        let to = RelPath::from_encoded(&move_to).map_err(|err| refused("move_to", &err))?;
        let told = json!({"path": to.to_string()});
        let moved = with((&self.shared, caller), move |root| {
            if let Some(parent) = to.parent() {
                root.create_dir_all(&parent)?;
            }
            root.rename(&from, &to)
        });
        moved.await?;
        Ok(answer::json(&mut Client::Http(session.again()), ctx.request_id, &told).await?)
    }
}

fn asked(query: &str) -> Result<Asked, Refusal> {
    let mut asked = Asked { limit: PAGE, ..Asked::default() };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "prefix" => {
                let dir = value.strip_suffix('/').or_else(|| value.strip_suffix("%2F")).unwrap_or(value);
                asked.dir = match dir {
                    "" => None,
                    dir => Some(RelPath::from_encoded(dir).map_err(|err| refused("prefix", &err))?),
                };
            }
            "after" => {
                // A sandbox may have made a name that no path may hold.
                let name = percent_bytes(value).filter(|name| !name.is_empty());
                let name = name.ok_or_else(|| Refusal::bad("after", "`after` is the `next` of the page before."))?;
                asked.after = Some(std::os::unix::ffi::OsStringExt::from_vec(name));
            }
            "limit" => {
                let number = percent_decode(value).and_then(|text| text.parse().ok());
                let number = number.filter(|number| (1..=MAX_PAGE).contains(number));
                asked.limit =
                    number.ok_or_else(|| Refusal::bad("limit", format!("`limit` must be 1 to {MAX_PAGE}.")))?;
            }
            other => return Err(Refusal::bad("query", format!("`{other}` is not one of prefix, after, limit."))),
        }
    }
    Ok(asked)
}

/// A name as a query takes it.
fn encoded(name: &std::ffi::OsStr) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for byte in std::os::unix::ffi::OsStrExt::as_bytes(name) {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// What keeps a browser from taking a tenant's file for a page of the gateway's.
pub(crate) fn guard(head: &mut Head) {
    head.set("x-content-type-options", "nosniff");
    head.set("content-disposition", "attachment");
    head.set("cache-control", "private, no-store");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_asked_for_strictly() {
        let asked_for = asked("prefix=a/b/&limit=7&after=x%20y").unwrap();
        assert_eq!(asked_for.dir.unwrap().to_string(), "a/b");
        assert_eq!((asked_for.limit, asked_for.after), (7, Some("x y".into())));
        assert_eq!(asked("").unwrap(), Asked { limit: PAGE, ..Asked::default() });
        for bad in ["limit=0", "limit=1001", "prefix=../x", "prefix=/etc", "depth=3", "after=", "after=%f"] {
            assert!(asked(bad).is_err(), "{bad}");
        }
    }
}
