//! `/v1/batches`: making, listing, reading and cancelling a tenant's own batches.

use http::{HeaderMap, Method};
use openclawmu_store::{Batch, ObjectKind, UpstreamObject};

use super::show::{is_over, show};
use crate::answer::Head;
use crate::authenticate::Caller;
use crate::client::Client;
use crate::context::Context;
use crate::file::call::Call;
use crate::file::desk::{self, Desk, Told, no_such_route, reply};
use crate::file::list;
use crate::gateway::{Gateway, Stop};
use crate::refusal::Refusal;
use crate::session::Session;

const BATCH: ObjectKind = ObjectKind::Batch;

impl Gateway {
    /// Answers a request about batches; `rest` is what follows `/v1/batches/`.
    pub(crate) async fn batches(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        caller: &Caller,
        rest: &str,
    ) -> Result<(), Stop> {
        let head = session.req_header();
        let (method, headers) = (head.method.clone(), head.headers.clone());
        let (id, what) = rest.split_once('/').unwrap_or((rest, ""));
        match (&method, id, what) {
            (&Method::POST, "", "") => self.create_batch(session, ctx, caller).await,
            (&Method::GET | &Method::HEAD, "", "") => {
                let query = session.req_header().uri.query().unwrap_or_default().to_owned();
                let shown = |object: &UpstreamObject| {
                    let batch = self.batch_of(caller, &object.id)?;
                    let told = Told::read(object.body.as_bytes()).ok_or(Refusal::Store)?;
                    Ok(show(&told.object, &batch.input_file, batch.ended))
                };
                let page = list::page((&self.shared, caller), BATCH, &query, shown)?;
                whole(session, ctx, page).await
            }
            (&Method::GET | &Method::HEAD, id, "") => self.look_at_batch(session, ctx, caller, (id, &headers)).await,
            (&Method::POST, id, "cancel") => self.cancel_batch(session, ctx, caller, (id, &headers)).await,
            _ => Err(no_such_route().into()),
        }
    }

    fn batch_of(&self, caller: &Caller, id: &str) -> Result<Batch, Refusal> {
        let batch = self.shared.store.batch(caller.policy.tenant_key, id).map_err(|err| desk::unavailable(&err))?;
        batch.ok_or_else(|| desk::not_found(BATCH, id))
    }

    async fn look_at_batch(
        &self,
        session: &mut Session<'_>,
        ctx: &Context,
        caller: &Caller,
        (id, headers): (&str, &HeaderMap),
    ) -> Result<(), Stop> {
        let shared = &*self.shared;
        let object = desk::owned((shared, caller), BATCH, id)?;
        let batch = self.batch_of(caller, id)?;
        if batch.ended {
            // Nothing about it changes any more.
            let told = Told::read(object.body.as_bytes()).ok_or(Refusal::Store)?;
            return whole(session, ctx, show(&told.object, &batch.input_file, batch.ended)).await;
        }
        let mut desk = Desk::of((shared, caller), (ctx.request_id, headers), (BATCH, &object))?;
        let call = Call::bare(Method::GET, format!("/batches/{id}"));
        self.show_told(session, ctx, &mut desk, (&batch, &call)).await
    }

    async fn cancel_batch(
        &self,
        session: &mut Session<'_>,
        ctx: &Context,
        caller: &Caller,
        (id, headers): (&str, &HeaderMap),
    ) -> Result<(), Stop> {
        let shared = &*self.shared;
        let object = desk::owned((shared, caller), BATCH, id)?;
        let batch = self.batch_of(caller, id)?;
        let mut desk = Desk::of((shared, caller), (ctx.request_id, headers), (BATCH, &object))?;
        let call = Call::bare(Method::POST, format!("/batches/{id}/cancel"));
        self.show_told(session, ctx, &mut desk, (&batch, &call)).await
    }

    /// Asks about a batch, notes what is said and shows it. One that has ended is billed at once, by the watch.
    async fn show_told(
        &self,
        session: &mut Session<'_>,
        ctx: &Context,
        desk: &mut Desk<'_>,
        (batch, call): (&Batch, &Call),
    ) -> Result<(), Stop> {
        let shared = &*self.shared;
        let body = desk.ask(call).await?;
        let told = desk.told(&body)?;
        if batch.id.as_deref() != Some(&told.id) {
            return Err(desk.unreadable().into());
        }
        let known = String::from_utf8_lossy(&body).into_owned();
        let noted = shared.store.note_object(batch.reservation.tenant, &told.id, known).await;
        noted.map_err(|err| desk::unavailable(&err))?;
        if is_over(told.text("status")) && !batch.ended {
            shared.batches.notify_one();
        }
        reply(session, ctx, desk, show(&told.object, &batch.input_file, batch.ended).into()).await
    }
}

async fn whole(session: &mut Session<'_>, ctx: &Context, body: String) -> Result<(), Stop> {
    let head = Head::of(200, ctx.request_id, ctx.dialect)?;
    Ok(head.send(&mut Client::Http(session.again()), "application/json", body.into()).await?)
}
