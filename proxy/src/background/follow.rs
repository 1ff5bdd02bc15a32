//! Kept responses by their ids: read, followed, cancelled, removed, whether they are being worked on or not.

use http::Method;
use openclawmu_store::TenantId;
use serde_json::Value;

use super::running::{Live, is_alive};
use crate::answer::{self, Head};
use crate::authenticate::Caller;
use crate::client::Client;
use crate::context::Context;
use crate::dialect::responses::state::{self, Kept};
use crate::gateway::{Gateway, Stop};
use crate::own::percent_decode;
use crate::refusal::Refusal;
use crate::response;
use crate::session::Session;

impl Gateway {
    /// `/v1/responses/{id}` and what is below; `rest` is what follows `/v1/responses/`.
    pub(crate) async fn kept_response(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        caller: &Caller,
        rest: &str,
    ) -> Result<(), Stop> {
        let (shared, tenant) = (&*self.shared, &caller.policy.tenant);
        let (method, query) = (session.req_header().method.clone(), session.req_header().uri.query());
        let query = query.unwrap_or_default().to_owned();
        let (id, what) = rest.split_once('/').unwrap_or((rest, ""));
        self.settle_orphan(tenant, id).await?;
        match (&method, what) {
            (&Method::GET, "") if asks_to_follow(&query) => {
                let from = starting_after(&query)?;
                let live = shared.running.get(tenant, id);
                if live.is_none() && shared.shelf.get(tenant, id).await?.is_none() {
                    return Err(state::not_found(id).into());
                }
                let live = live.ok_or_else(no_longer_followed)?;
                return self.follow(session, ctx, &live, from).await;
            }
            (&Method::POST, "cancel") => {
                let answer = self.cancel(tenant, id).await?;
                return Ok(answer::json(&mut Client::Http(session.again()), ctx.request_id, &answer).await?);
            }
            (&Method::DELETE, "") => {
                if let Some(live) = shared.running.get(tenant, id).filter(|live| !live.ended()) {
                    live.cancel().await;
                }
            }
            _ => {}
        }
        let answer = response::serve(&shared.shelf, tenant, (&method, rest, &query)).await?;
        Ok(answer::json(&mut Client::Http(session.again()), ctx.request_id, &answer).await?)
    }

    /// Ends the work on a response; one that is over stays as it is.
    async fn cancel(&self, tenant: &TenantId, id: &str) -> Result<Value, Refusal> {
        let shared = &*self.shared;
        if let Some(live) = shared.running.get(tenant, id) {
            live.cancel().await;
        }
        let kept = shared.shelf.get(tenant, id).await?.ok_or_else(|| state::not_found(id))?;
        if kept.is_background() { Ok(kept.response) } else { Err(state::not_cancellable()) }
    }

    /// What a process did not live to end has failed.
    async fn settle_orphan(&self, tenant: &TenantId, id: &str) -> Result<(), Refusal> {
        let shared = &*self.shared;
        let Some(mut kept) = shared.shelf.get(tenant, id).await? else { return Ok(()) };
        let is_orphan = |kept: &Kept| kept.worker().is_some_and(|worker| !is_alive(worker));
        if !is_orphan(&kept) {
            return Ok(());
        }
        kept.end("failed", state::broken_off());
        let own_days = shared.store.overlay(tenant).map(|overlay| overlay.response_ttl_days);
        shared.shelf.keep(tenant, kept, own_days.map_err(|_| Refusal::Store)?).await
    }

    /// Writes the events of a response from this number on, until it ends or the client leaves.
    pub(super) async fn follow(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        live: &Live,
        mut next: usize,
    ) -> Result<(), Stop> {
        let mut progress = live.progress();
        let mut head = Head::of(200, ctx.request_id, ctx.dialect)?;
        head.set("content-type", "text/event-stream");
        head.set("cache-control", "no-store");
        let client = &mut Client::Http(session.again());
        head.begin(client).await?;
        loop {
            let now = *progress.borrow_and_update();
            for event in live.since(next) {
                next = next.saturating_add(1);
                client.piece(event).await?;
            }
            if now.ended || now.lost {
                return Ok(client.last("data: [DONE]\n\n".into()).await?);
            }
            tokio::select! {
                _ = progress.changed() => {}
                () = client.gone() => return Err(Stop::Gone),
            }
        }
    }
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter_map(|pair| pair.split_once('='))
}

fn asks_to_follow(query: &str) -> bool {
    pairs(query).any(|pair| pair == ("stream", "true"))
}

/// The number of the first event that is asked for.
fn starting_after(query: &str) -> Result<usize, Refusal> {
    let Some((_, text)) = pairs(query).find(|(name, _)| *name == "starting_after") else { return Ok(0) };
    let number = percent_decode(text).and_then(|text| text.parse::<usize>().ok());
    let next = number.and_then(|number| number.checked_add(1));
    next.ok_or_else(|| Refusal::bad("starting_after", "`starting_after` must be the number of an event."))
}

fn no_longer_followed() -> Refusal {
    let message = "Only a response in the background can be followed, and for five minutes after its end; leave `stream` out to read it.";
    Refusal::bad("stream", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_says_from_where_it_follows() {
        assert!(asks_to_follow("stream=true&starting_after=3") && !asks_to_follow("stream=false"));
        assert_eq!(starting_after("stream=true"), Ok(0));
        assert_eq!(starting_after("starting_after=3&stream=true"), Ok(4));
        for bad in ["starting_after=", "starting_after=-1", "starting_after=x", "starting_after=99999999999999999999"] {
            assert!(starting_after(bad).is_err(), "{bad}");
        }
    }
}
