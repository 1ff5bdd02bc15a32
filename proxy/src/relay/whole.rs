//! Answers that are read whole before any of it goes on: what is no stream and no sound.

use bytes::Bytes;
use openclawmu_store::{Outcome, Usage};

use super::{Broken, Ending, Relay, Relayed, cut, fault_refusal};
use crate::forward::Reply;
use crate::refusal::Refusal;
use crate::upstream::NotWhole;

/// The largest whole answer, in bytes.
const MAX_WHOLE_BYTES: usize = 64 << 20;

impl Relay<'_, '_> {
    /// Relays a whole answer.
    pub(super) async fn whole(&mut self, mut reply: Reply) -> Relayed {
        let first_byte_ms = self.ticket.elapsed_ms();
        let read = tokio::select! {
            biased; // most answers are there already: then nothing else is looked at
            read = read_whole(&mut reply) => read,
            () = self.client.gone() => Err(Broken::ClientGone),
            () = cut(&mut self.cut) => Err(Broken::Shutdown),
        };
        let body = match read {
            Ok(body) => body,
            Err(broken) => return self.nothing_delivered(broken, first_byte_ms),
        };
        let content_type = reply.content_type.clone();
        reply.release().await;
        let Some(said) = self.way.whole(&content_type, body) else {
            let message = "The upstream answered with something that is not JSON.".to_owned();
            let refusal = Refusal::Upstream { code: "upstream_broken", message };
            return self.nothing_delivered(Broken::Upstream(refusal), first_byte_ms);
        };
        let usage = said.usage.map_or_else(|| self.estimate(said.text_bytes, 0), |usage| self.with_images(usage));
        let (outcome, estimated) = (Outcome::Complete, self.is_estimate(said.usage));
        let service_tier = said.service_tier.unwrap_or(self.unstated.service_tier);
        let content_type = said.content_type.map_or(content_type, str::to_owned);
        let ending = Ending::Whole { content_type, body: said.body };
        Relayed { outcome, usage, service_tier, estimated, first_byte_ms, ending, response: None }
    }

    /// An answer of which the client got nothing. The provider may have worked, but what for can't be told; a client that left
    /// after the answer had begun is billed for its prompt.
    pub(super) fn nothing_delivered(&self, broken: Broken, first_byte_ms: u32) -> Relayed {
        let (outcome, usage, ending) = match broken {
            Broken::ClientGone => (Outcome::Partial, self.estimate(0, 0), Ending::Nothing),
            Broken::Upstream(refusal) | Broken::TurnedAway(refusal) => {
                (Outcome::Void, Usage::default(), Ending::Refusal(refusal))
            }
            Broken::Shutdown => (Outcome::Void, Usage::default(), Ending::Refusal(Refusal::Store)),
        };
        let service_tier = self.unstated.service_tier;
        Relayed { outcome, usage, service_tier, estimated: true, first_byte_ms, ending, response: None }
    }
}

async fn read_whole(reply: &mut Reply) -> Result<Bytes, Broken> {
    reply.whole(MAX_WHOLE_BYTES).await.map_err(|err| {
        Broken::Upstream(match err {
            NotWhole::TooLong => {
                let message = "The upstream's answer is too large.".to_owned();
                Refusal::Upstream { code: "upstream_broken", message }
            }
            NotWhole::Fault(fault) => fault_refusal(&fault),
        })
    })
}
