//! One call of the agent's model, through the stages like a request of its own: its own admission, its own row, its own notes.

use bytes::Bytes;
use http::{HeaderMap, Method};
use openclawmu_store::NanoUsd;
use tokio::sync::mpsc;

use super::chunk::Heard;
use super::ear::Ear;
use super::who::Who;
use crate::authenticate::Caller;
use crate::client::{Client, Piped, pipe};
use crate::context::{Context, Wire};
use crate::gateway::{Gateway, Stop};
use crate::observe::{Fate, Notes};
use crate::read::Call;
use crate::refusal::Refusal;

/// Events that wait to be taken.
const PIECES: usize = 8;
/// What such a call is counted and told as.
const ROUTE: &str = "openclaw/*";

/// What the model said, and what that cost.
pub(super) struct Step {
    pub(super) heard: Heard,
    pub(super) cost: NanoUsd,
}

/// Why nothing more is taken of an answer.
enum Left {
    Gone,
    Forbidden(Refusal),
}

/// Asks the model. Text is heard as it comes.
///
/// # Errors
/// What the stages refuse, as for a client; [`Stop::Gone`] where nobody hears it any more: then its upstream is cut.
pub(super) async fn ask(
    gateway: &Gateway,
    (caller, who): (&Caller, &Who),
    call: &Call,
    ear: &mut Ear<'_, '_>,
) -> Result<Step, Stop> {
    let (asking, answer) = pipe(HeaderMap::new(), PIECES);
    let answering = async {
        let mut ctx = Context::new(&gateway.shared);
        (ctx.request_id, ctx.route, ctx.notes) = (call.request_id, ROUTE, Notes::new(true));
        ctx.trace(None);
        ctx.notes.caller(&caller.policy);
        let mut client = Client::Pipe(asking);
        let answered = gateway.answer(&mut client, &mut ctx, caller, call).await;
        if let Err(stop) = &answered {
            note(&mut ctx, stop);
        }
        let cost = ctx.notes.billed.map_or(NanoUsd::ZERO, |billed| billed.cost);
        let bytes = (call.body.len(), client.sent());
        ctx.finish(|| Wire { method: Method::POST, peer: None, bytes });
        answered.map(|()| cost)
    };
    // However it ends, the stages go on to their end: they settle it.
    let (answered, taken) = tokio::join!(Box::pin(answering), take(answer, who, ear));
    match taken {
        Err(Left::Gone) => Err(Stop::Gone),
        Err(Left::Forbidden(refusal)) => Err(refusal.into()),
        Ok(heard) => {
            let cost = answered?;
            let broke = |message: String| Refusal::Upstream { code: "upstream_broken", message };
            match &heard.error {
                Some(message) => Err(broke(message.clone()).into()),
                None if heard.finish.is_none() => Err(broke("The model's answer broke off.".to_owned()).into()),
                None => Ok(Step { heard, cost }),
            }
        }
    }
}

/// Notes why a call came to nothing, as whoever tells it to a client does.
fn note(ctx: &mut Context, stop: &Stop) {
    match stop {
        Stop::Refused(refusal, _) => {
            let told = refusal.told();
            ctx.status = told.status;
            ctx.notes.ended(refusal.fate(), told.code);
        }
        Stop::Passed(rejected) => {
            ctx.status = rejected.status;
            ctx.notes.ended(Fate::UpstreamRefused, None);
        }
        Stop::Gone | Stop::Io(_) => {
            ctx.status = 499;
            ctx.notes.ended(Fate::ClientGone, None);
        }
    }
}

/// Takes what comes out of the pipe to its end. Leaving it is leaving: the upstream is cut.
async fn take(mut answer: mpsc::Receiver<Piped>, who: &Who, ear: &mut Ear<'_, '_>) -> Result<Heard, Left> {
    let mut heard = Heard::default();
    let mut forbidden = std::pin::pin!(who.forbidden());
    loop {
        let piece: Bytes = tokio::select! {
            biased;
            piped = answer.recv() => match piped {
                Some(Piped::Piece(piece)) => piece,
                Some(Piped::Head(head)) => {
                    ear.head(&head);
                    continue;
                }
                Some(Piped::End) | None => return Ok(heard),
            },
            () = ear.gone() => return Err(Left::Gone),
            refusal = &mut forbidden => return Err(Left::Forbidden(refusal)),
        };
        let new = heard.take(&piece);
        if !new.is_empty() && ear.text(&new).await.is_err() {
            return Err(Left::Gone);
        }
    }
}
