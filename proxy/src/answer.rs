//! Writing answers: heads, bodies, refusals. The only code that decides which headers a client gets.

mod head;

use std::time::Duration;

use openclawmu_store::{RequestId, Standing};

pub(crate) use self::head::{BUDGET_REMAINING, Head};
use crate::client::Client;
use crate::dialect::Dialect;
use crate::head::expects_continue;
use crate::refusal::Told;

/// The most of an unread body that is read so that the connection can go on.
const DRAIN_BYTES: usize = 64 << 10;
/// Longest wait for the rest of a body that nobody will read.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);
/// The most of it that is thrown away behind a refusal, before a connection is closed that can't go on.
const LINGER_BYTES: usize = 64 << 20;
/// Longest time for that.
const LINGER_PATIENCE: Duration = Duration::from_secs(5);

/// Answers with JSON that is written already.
pub(crate) async fn whole(client: &mut Client<'_>, request_id: RequestId, body: Vec<u8>) -> pingora::Result<()> {
    Head::of(200, request_id, Dialect::Anthropic)?.send(client, "application/json", body.into()).await
}

/// Answers with JSON.
pub(crate) async fn json(
    client: &mut Client<'_>,
    request_id: RequestId,
    value: &impl serde::Serialize,
) -> pingora::Result<()> {
    let body = serde_json::to_vec(value).map_err(|err| {
        pingora::Error::because(pingora::ErrorType::InternalError, "an answer can't be written as JSON", err)
    })?;
    Head::new(200, request_id)?.send(client, "application/json", body.into()).await
}

/// Answers with a refusal. What the client is still sending is read up to a bound, else the connection is closed, so that the
/// rest of this body is never taken for the next request.
pub(crate) async fn refuse(
    client: &mut Client<'_>,
    (request_id, dialect): (RequestId, Dialect),
    told: &Told,
    standing: &Standing,
) -> pingora::Result<()> {
    let ends = told.closes || !drained(client).await;
    if ends {
        client.close();
    }
    let mut head = Head::of(told.status, request_id, dialect)?;
    head.set_standing(standing);
    if let Some(ms) = told.retry_after_ms {
        head.set("retry-after", ms.div_ceil(1000));
        head.set("retry-after-ms", ms);
    }
    if let Some(should) = told.should_retry {
        head.set("x-should-retry", should);
    }
    if let (405, Some(allow)) = (told.status, told.param.as_deref()) {
        head.set("allow", allow);
    }
    if told.status == 426 {
        head.set("upgrade", "websocket");
        head.set("sec-websocket-version", 13);
    }
    let body = dialect.refusal_body(told, request_id);
    head.send(client, "application/json", body.into()).await?;
    if ends && (!told.closes || matches!(told.status, 413 | 431)) {
        linger(client).await;
    }
    Ok(())
}

/// Reads on and throws away behind a refusal, up to a bound: who closes with bytes unread has the system reset the connection, and the
/// answer may be lost with it before a client that is still sending has read it (RFC 9112, 9.6). A client that waits to be told to
/// go on sends nothing; over HTTP/2 a stream is reset by itself.
async fn linger(client: &mut Client<'_>) {
    let Client::Http(session) = client else { return };
    let waits = expects_continue(&session.req_header().headers) && session.body_bytes().0 == 0;
    if waits || session.is_http2() {
        return;
    }
    let rest = async {
        let mut read = 0;
        while let Ok(Some(piece)) = session.read_body().await {
            read += piece.len();
            if read > LINGER_BYTES {
                return;
            }
        }
    };
    // Whoever has more to send, or is slower, is reset in the end.
    let _over = tokio::time::timeout(LINGER_PATIENCE, rest).await;
}

async fn drained(client: &mut Client<'_>) -> bool {
    let session = match client {
        Client::Http(session) => session,
        Client::Pipe(_) => return true,
    };
    if session.is_body_done() {
        return true;
    }
    if expects_continue(&session.req_header().headers) {
        return false;
    }
    let rest = async {
        let mut read = 0;
        while let Ok(Some(piece)) = session.read_body().await {
            read += piece.len();
            if read > DRAIN_BYTES {
                return false;
            }
        }
        session.is_body_done()
    };
    tokio::time::timeout(DRAIN_PATIENCE, rest).await.unwrap_or(false)
}
