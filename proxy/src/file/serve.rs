//! `/v1/files`: uploading, listing, reading and removing a tenant's own files.

use http::{Method, header};
use openclawmu_store::{NewObject, ObjectKind};
use serde_json::json;

use super::call::Call;
use super::desk::{self, Desk, no_room, no_such_route, reply};
use super::list;
use crate::answer::Head;
use crate::authenticate::Caller;
use crate::client::Client;
use crate::context::Context;
use crate::gateway::{Gateway, Stop};
use crate::read;
use crate::refusal::Refusal;
use crate::session::Session;

const FILE: ObjectKind = ObjectKind::File;

impl Gateway {
    /// Answers a request about files; `rest` is what follows `/v1/files/`.
    pub(crate) async fn files(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        caller: &Caller,
        rest: &str,
    ) -> Result<(), Stop> {
        let method = session.req_header().method.clone();
        let (id, what) = rest.split_once('/').unwrap_or((rest, ""));
        match (&method, id, what) {
            (&Method::POST, "", "") => self.upload(session, ctx, caller).await,
            (&Method::GET | &Method::HEAD, "", "") => {
                let query = session.req_header().uri.query().unwrap_or_default().to_owned();
                let page = list::page((&self.shared, caller), FILE, &query, |object| Ok(object.body.clone()))?;
                let head = Head::of(200, ctx.request_id, ctx.dialect)?;
                Ok(head.send(&mut Client::Http(session.again()), "application/json", page.into()).await?)
            }
            (&Method::GET | &Method::HEAD, id, "") => self.file(session, ctx, caller, id).await,
            (&Method::DELETE, id, "") => self.remove(session, ctx, caller, id).await,
            (&Method::GET | &Method::HEAD, id, "content") => self.download(session, ctx, caller, id).await,
            _ => Err(no_such_route().into()),
        }
    }

    /// The form goes on as it came; what the provider makes of it is the tenant's.
    async fn upload(&self, session: &mut Session<'_>, ctx: &Context, caller: &Caller) -> Result<(), Stop> {
        let shared = &*self.shared;
        let content_type = session.req_header().headers.get(header::CONTENT_TYPE).cloned();
        let content_type = content_type.filter(|value| is_form(value.as_bytes())).ok_or_else(|| {
            Refusal::bad("file", "A file is uploaded as a form: `Content-Type: multipart/form-data; boundary=...`.")
        })?;
        let headers = session.req_header().headers.clone();
        let mut desk = Desk::for_new((shared, caller), (ctx.request_id, &headers), FILE)?;
        let tenant = caller.policy.tenant_key;
        shared.store.check_object_room(tenant, FILE).map_err(|err| no_room(&err))?;
        let body = read::body(session, &shared.config).await?;
        let call = Call { method: Method::POST, path: "/files".to_owned(), content_type, body };
        let body = desk.ask(&call).await?;
        let told = desk.told(&body)?;
        let new = NewObject {
            id: told.id.clone(),
            kind: FILE,
            purpose: told.text("purpose").to_owned(),
            upstream: desk.upstream.name.to_string(),
            own_key: desk.own_key.is_some(),
            body: String::from_utf8_lossy(&body).into_owned(),
        };
        shared.store.keep_object(tenant, new).await.map_err(|err| desk::unavailable(&err))?;
        reply(session, ctx, &desk, body).await
    }

    async fn file(&self, session: &mut Session<'_>, ctx: &Context, caller: &Caller, id: &str) -> Result<(), Stop> {
        let shared = &*self.shared;
        let object = desk::owned((shared, caller), FILE, id)?;
        let headers = session.req_header().headers.clone();
        let mut desk = Desk::of((shared, caller), (ctx.request_id, &headers), (FILE, &object))?;
        let body = desk.ask(&Call::bare(Method::GET, format!("/files/{id}"))).await?;
        if desk.told(&body)?.id != id {
            return Err(desk.unreadable().into());
        }
        let told = String::from_utf8_lossy(&body).into_owned();
        if told != object.body {
            let noted = shared.store.note_object(caller.policy.tenant_key, id, told).await;
            noted.map_err(|err| desk::unavailable(&err))?;
        }
        reply(session, ctx, &desk, body).await
    }

    async fn remove(&self, session: &mut Session<'_>, ctx: &Context, caller: &Caller, id: &str) -> Result<(), Stop> {
        let shared = &*self.shared;
        let object = desk::owned((shared, caller), FILE, id)?;
        let headers = session.req_header().headers.clone();
        let mut desk = Desk::of((shared, caller), (ctx.request_id, &headers), (FILE, &object))?;
        let removed = desk.ask(&Call::bare(Method::DELETE, format!("/files/{id}"))).await;
        let gone = match &removed {
            Ok(_) => true,
            // It was gone at the provider before, by its age or by the operator's hand.
            Err(Stop::Passed(refused)) => refused.status == 404,
            Err(Stop::Refused(..) | Stop::Gone | Stop::Io(_)) => false,
        };
        if gone {
            let forgotten = shared.store.forget_object(caller.policy.tenant_key, id).await;
            forgotten.map_err(|err| desk::unavailable(&err))?;
        }
        removed?;
        // Azure answers with nothing.
        let body = json!({"id": id, "object": "file", "deleted": true}).to_string();
        reply(session, ctx, &desk, body.into()).await
    }
}

/// Whether a content type is that of a form.
fn is_form(value: &[u8]) -> bool {
    let kind = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"multipart/form-data")
}
