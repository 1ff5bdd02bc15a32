//! `/channels/{kind}/{binding}` and `/pair/{code}`: what providers send, and the page by which a channel is paired. Neither needs a
//! token: the one is proved by its provider's signature, the other by the code. What they mean is `openclawmu_control`'s.

use http::Method;
use openclawmu_control::channel::{Incoming, NotTaken, Page, Taken};
use openclawmu_store::{Actor, ActorKind};

use crate::answer::Head;
use crate::client::Client;
use crate::context::Context;
use crate::gateway::{Gateway, Stop};
use crate::read;
use crate::refusal::Refusal;
use crate::session::Session;

/// The largest body that a provider sends, in bytes.
const MAX_BODY_BYTES: usize = 1 << 20;
/// The largest form.
const MAX_FORM_BYTES: usize = 64 << 10;

impl Gateway {
    /// Takes what a provider sends; `path` is what follows `/channels/`.
    pub(crate) async fn channel(&self, session: &mut Session<'_>, ctx: &mut Context, path: &str) -> Result<(), Stop> {
        let shared = &*self.shared;
        // Before the body: a stranger's is not read.
        shared.channels.check(path).map_err(refusal)?;
        let head = session.req_header();
        let mut incoming = Incoming {
            method: if head.method == Method::HEAD { Method::GET } else { head.method.clone() },
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers.clone(),
            body: Vec::new(),
        };
        if incoming.method != Method::GET {
            incoming.body = read::body_within(session, &shared.config, MAX_BODY_BYTES).await?.to_vec();
        }
        let Taken(text) = shared.channels.receive(path, &incoming).await.map_err(refusal)?;
        let head = Head::new(200, ctx.request_id)?;
        Ok(head.send(&mut Client::Http(session.again()), "text/plain; charset=utf-8", text.into()).await?)
    }

    /// The page of a pairing link, and its form.
    pub(crate) async fn pairing(&self, session: &mut Session<'_>, ctx: &mut Context, code: &str) -> Result<(), Stop> {
        let shared = &*self.shared;
        let page = if session.req_header().method == Method::POST {
            let headers = session.req_header().headers.clone();
            let body = read::body_within(session, &shared.config, MAX_FORM_BYTES).await?;
            let (ip, request_id) = (Some(session.peer()), Some(ctx.request_id.to_string()));
            let actor = Actor { kind: ActorKind::Unknown, id: String::new(), ip, request_id };
            shared.channels.pair(code, (&headers, &body), &actor).await
        } else {
            shared.channels.pairing_page(code).await
        };
        let Page { status, headers, body } = page;
        ctx.status = status;
        let mut head = Head::new(status, ctx.request_id)?;
        head.extend(headers);
        Ok(head.send(&mut Client::Http(session.again()), "text/html; charset=utf-8", body.into()).await?)
    }
}

fn refusal(why: NotTaken) -> Refusal {
    let bad =
        |status, code, message: &str| Refusal::Bad { status, param: None, code: Some(code), message: message.into() };
    match why {
        NotTaken::Unknown => Refusal::NotFound { code: "not_found", message: "There is no such channel.".to_owned() },
        NotTaken::NotGenuine => {
            bad(401, "invalid_signature", "This did not come from the channel's provider, or not within five minutes.")
        }
        NotTaken::Foreign => {
            let message = "This is about an account that the channel is not paired with.".to_owned();
            Refusal::Forbidden { code: "foreign_account", message }
        }
        NotTaken::Unreadable(what) => bad(400, "invalid_value", &format!("The request can't be used: {what}.")),
        NotTaken::Full => {
            bad(429, "rate_limit_exceeded", "Too many messages wait on this channel. Send it again later.")
        }
        NotTaken::Unavailable => Refusal::Store,
    }
}
