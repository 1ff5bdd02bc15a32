//! A file's content on its way to a tenant: piece by piece, whatever its size, as fast as the tenant reads.

use bytes::Bytes;
use http::Method;
use openclawmu_store::{ObjectKind, Outcome};
use pingora::{Error, ErrorType};
use tokio::sync::watch;

use super::call::Call;
use super::desk::{self, Desk};
use crate::answer::Head;
use crate::authenticate::Caller;
use crate::client::Client;
use crate::context::Context;
use crate::gateway::{Gateway, Stop};
use crate::session::Session;
use crate::upstream::Answer;

impl Gateway {
    pub(super) async fn download(
        &self,
        session: &mut Session<'_>,
        ctx: &Context,
        caller: &Caller,
        id: &str,
    ) -> Result<(), Stop> {
        let shared = &*self.shared;
        let object = desk::owned((shared, caller), ObjectKind::File, id)?;
        let headers = session.req_header().headers.clone();
        let mut desk = Desk::of((shared, caller), (ctx.request_id, &headers), (ObjectKind::File, &object))?;
        let (ticket, mut answer) = desk.begin(&Call::bare(Method::GET, format!("/files/{id}/content"))).await?;
        let content_type = answer.header("content-type").unwrap_or("application/octet-stream").to_owned();
        let mut head = match Head::of(200, ctx.request_id, ctx.dialect) {
            Ok(head) => head,
            Err(err) => {
                desk.end(ticket, Outcome::Partial);
                return Err(err.into());
            }
        };
        head.set_standing(desk.standing());
        let bodiless = session.req_header().method == Method::HEAD;
        let client = &mut Client::Http(session.again());
        if bodiless {
            desk.end(ticket, Outcome::Complete);
            return Ok(head.send(client, &content_type, Bytes::new()).await?);
        }
        head.set("content-type", content_type);
        let relayed = match head.begin(client).await {
            Ok(()) => relay(client, &mut answer, shared.cut.subscribe()).await,
            Err(err) => Err(err),
        };
        match relayed {
            Ok(()) => {
                answer.release().await;
                desk.end(ticket, Outcome::Complete);
                Ok(client.last(Bytes::new()).await?)
            }
            Err(err) => {
                drop(answer); // closes its connection
                desk.end(ticket, Outcome::Partial);
                client.close();
                Err(err.into())
            }
        }
    }
}

/// Relays every piece; an answer that breaks off never looks whole, since its last chunk is not written.
async fn relay(client: &mut Client<'_>, answer: &mut Answer, mut cut: watch::Receiver<bool>) -> pingora::Result<()> {
    loop {
        let piece = tokio::select! {
            piece = answer.piece() => piece,
            () = client.gone() => return Error::e_explain(ErrorType::WriteError, "the client is gone"),
            _ = cut.wait_for(|cut| *cut) => return Error::e_explain(ErrorType::WriteError, "the gateway is shutting down"),
        };
        match piece {
            Ok(Some(piece)) if piece.is_empty() => {}
            Ok(Some(piece)) => client.piece(piece).await?,
            Ok(None) => return Ok(()),
            Err(fault) => {
                return Error::e_explain(ErrorType::ReadError, format!("the upstream broke off: {fault}"));
            }
        }
    }
}
