//! Turns and deliveries. Only the process that owns the ledger works; what it has taken is leased, so that whatever it leaves
//! behind is taken up by itself or its successor.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use openclawmu_store::{DueMessage, DueReply, SealedChannel, StoreError};
use tokio::task::JoinSet;

use super::adapter::{NotSent, Outgoing, Then};
use super::count::Counts;
use super::desk::Channels;
use super::kind::Kind;
use super::split;
use crate::agent::{Agents, Turn, TurnEnd, TurnRefused};
use crate::pause::{self, MAX_WAIT_SECONDS};

/// Turns and deliveries at once.
const AT_ONCE: usize = 32;
/// How long what was taken is nobody else's, in milliseconds, and how often that is said again while it is worked on.
const LEASE_MS: i64 = 15_000;
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// A delivery's lease: longer than any attempt.
const DELIVERY_MS: i64 = 60_000;
/// Pause between two looks at the queues when nobody says that something waits.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The longest that a refused turn waits to be tried again; whoever is refused for longer is told so.
const PATIENCE: Duration = Duration::from_secs(60);
/// Turns of one message that are tried.
const MAX_TURNS: u32 = 6;
/// What is said where nothing came of a message, again and again.
const BROKEN: &str =
    "Sorry, something went wrong here, and your message could not be answered. Please try again later.";

/// Keeps the process from ending while something is done, as long as what it gives lives.
pub type Busy = Arc<dyn Fn() -> Box<dyn Send> + Send + Sync>;

/// The work on channels.
#[derive(Clone)]
pub struct Work {
    /// Whose.
    pub channels: Arc<Channels>,
    /// Who takes the turns.
    pub agents: Arc<dyn Agents>,
    /// Tells the process that something is being done.
    pub busy: Busy,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").finish_non_exhaustive()
    }
}

impl Work {
    /// Works until `stop`; what is being done then is done to its end.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) {
        let mut stop = std::pin::pin!(stop);
        let (mut turns, mut deliveries) = (JoinSet::new(), JoinSet::new());
        loop {
            if self.channels.store.owns_ledger() {
                self.take(&mut turns, &mut deliveries).await;
            }
            tokio::select! {
                () = &mut stop => break,
                () = self.channels.waiting.notified() => {}
                Some(_) = turns.join_next() => {}
                Some(_) = deliveries.join_next() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        while turns.join_next().await.is_some() || deliveries.join_next().await.is_some() {}
    }

    async fn take(&self, turns: &mut JoinSet<()>, deliveries: &mut JoinSet<()>) {
        let store = &self.channels.store;
        let room = |running: usize| u32::try_from(AT_ONCE.saturating_sub(running)).unwrap_or(0);
        if room(turns.len()) > 0 {
            match store.claim_messages(room(turns.len()), LEASE_MS).await {
                Ok(due) => due.into_iter().for_each(|message| {
                    let (this, busy) = (self.clone(), (self.busy)());
                    turns.spawn(async move {
                        this.turn(message).await;
                        drop(busy);
                    });
                }),
                Err(err) => tracing::error!(%err, "the messages of channels can't be read"),
            }
        }
        if room(deliveries.len()) > 0 {
            match store.claim_replies(room(deliveries.len()), DELIVERY_MS).await {
                Ok(due) => due.into_iter().for_each(|reply| {
                    let (this, busy) = (self.clone(), (self.busy)());
                    deliveries.spawn(async move {
                        this.deliver(&reply).await;
                        drop(busy);
                    });
                }),
                Err(err) => tracing::error!(%err, "the answers of channels can't be read"),
            }
        }
    }

    /// A channel, where it still is and works.
    fn channel(&self, id: &str) -> Result<Option<SealedChannel>, StoreError> {
        match self.channels.store.sealed_channel(id) {
            Ok(channel) => Ok(Some(channel).filter(|channel| channel.disabled.is_none())),
            Err(StoreError::NotFound(_)) => Ok(None),
            Err(err) => Err(err),
        }
    }

    async fn turn(&self, message: DueMessage) {
        let (id, attempts) = (message.id, message.attempts);
        let counts = &self.channels.counts;
        let channel = match self.channel(&message.channel) {
            Ok(Some(channel)) => channel,
            Ok(None) => return self.noted("answer", self.channels.store.answer_message(id, None).await),
            // Its lease ends by itself.
            Err(err) => return tracing::error!(%err, "a channel can't be read"),
        };
        let ended = if attempts >= MAX_TURNS {
            tracing::error!(
                channel = message.channel,
                attempts,
                "a message was given up: no turn on it came to an end"
            );
            Err(TurnRefused { message: BROKEN.to_owned(), retry_after: None })
        } else {
            self.taken(channel, message).await
        };
        let answer = match ended {
            Ok(text) => {
                Counts::add(&counts.answered);
                text
            }
            Err(TurnRefused { retry_after: Some(after), .. }) if after <= PATIENCE && attempts + 1 < MAX_TURNS => {
                Counts::add(&counts.postponed);
                let ms = i64::try_from(after.as_millis()).unwrap_or(LEASE_MS).max(100);
                return self.noted("wait", self.channels.store.keep_message(id, ms).await);
            }
            Err(refused) => {
                Counts::add(&counts.refused);
                refused.message
            }
        };
        self.noted("answer", self.channels.store.answer_message(id, Some(answer)).await);
        self.channels.waiting.notify_one();
    }

    /// The turn itself; the message stays ours as long as it lasts.
    async fn taken(&self, channel: SealedChannel, message: DueMessage) -> TurnEnd {
        let turn = Turn {
            tenant: channel.tenant,
            agent: channel.agent,
            session: message.session,
            by: format!("channel:{}", channel.id),
            text: message.text,
        };
        let mut turn = self.agents.turn(turn);
        loop {
            tokio::select! {
                ended = &mut turn => return ended,
                () = tokio::time::sleep(RENEW_EVERY) => {
                    self.noted("lease", self.channels.store.keep_message(message.id, LEASE_MS).await);
                }
            }
        }
    }

    async fn deliver(&self, reply: &DueReply) {
        let store = &self.channels.store;
        let channel = match self.channel(&reply.channel) {
            Ok(Some(channel)) => channel,
            Ok(None) => {
                Counts::add(&self.channels.counts.given_up);
                return self
                    .noted("end", store.reply_failed(reply.row, "the channel takes nothing any more", None).await);
            }
            Err(err) => return tracing::error!(%err, "a channel can't be read"),
        };
        let Err(failed) = self.send(&channel, reply).await else {
            Counts::add(&self.channels.counts.delivered);
            return self.noted("delivery", store.reply_delivered(reply.row).await);
        };
        let wait = match failed.then {
            Then::Again(wait) => pause_ms(reply.attempt, wait),
            Then::Never | Then::Disable => None,
        };
        let (count, outcome): (&AtomicU64, _) = match wait {
            Some(_) => (&self.channels.counts.retried, "it will be sent again"),
            None => (&self.channels.counts.given_up, "it was given up"),
        };
        Counts::add(count);
        let (id, attempt, why) = (&reply.id, reply.attempt, &failed.why);
        tracing::warn!(channel = channel.id, id, attempt, why, outcome, "an answer was not delivered");
        self.noted("failure", store.reply_failed(reply.row, why, wait).await);
        if failed.then == Then::Disable {
            match store.disable_channel(&channel, why).await {
                Ok(()) | Err(StoreError::NotFound(_)) => {}
                Err(err) => tracing::error!(%err, channel = channel.id, "a channel can't be ended"),
            }
        }
    }

    /// Sends the parts that are not out yet.
    async fn send(&self, channel: &SealedChannel, reply: &DueReply) -> Result<(), NotSent> {
        let store = &self.channels.store;
        let kind = Kind::parse(&channel.kind).ok_or_else(|| NotSent::never("there are no channels of that kind"))?;
        let with = self.channels.open(channel);
        let with = with.ok_or_else(|| NotSent::again("the credentials were sealed with another master key"))?;
        let adapter = self.channels.adapter(kind);
        let parts = split::parts(&reply.text, adapter.part_units());
        for (at, text) in (1_u32..).zip(&parts).skip(usize::try_from(reply.parts_sent).unwrap_or(usize::MAX)) {
            let outgoing = Outgoing {
                id: &reply.id,
                reply_to: &reply.reply_to,
                text,
                received_at: reply.received_at,
                made_at: reply.made_at,
                now: store.clock().now(),
            };
            adapter.reply(outgoing, &with).await?;
            if usize::try_from(at).is_ok_and(|at| at < parts.len()) {
                self.noted("part", store.reply_parts_sent(reply.row, at).await);
            }
        }
        Ok(())
    }

    fn noted(&self, what: &str, outcome: Result<(), StoreError>) {
        if let Err(err) = outcome {
            tracing::error!(%err, what, "what became of a message can't be noted: it will be done again");
        }
    }
}

/// Milliseconds until the next attempt; `None` after the last. A receiver that says when it can take more knows better than the plan.
fn pause_ms(attempt: u32, wait: Option<Duration>) -> Option<i64> {
    let planned = pause::planned(attempt)?;
    let asked = wait.map(|wait| i64::try_from(wait.as_secs()).unwrap_or(MAX_WAIT_SECONDS).clamp(1, MAX_WAIT_SECONDS));
    Some(pause::spread_ms(asked.unwrap_or(planned)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pause::PAUSES_SECONDS;

    #[test]
    fn pauses_grow_and_end_and_a_receiver_may_say_when() {
        for (attempt, seconds) in (1..).zip(PAUSES_SECONDS) {
            let pause = pause_ms(attempt, None).unwrap();
            assert!((seconds * 1_000..=seconds * 1_100).contains(&pause), "attempt {attempt}: {pause}");
        }
        assert_eq!(pause_ms(10, None), None);
        assert!((1_000..=1_100).contains(&pause_ms(3, Some(Duration::ZERO)).unwrap()));
        assert!(pause_ms(1, Some(Duration::MAX)).unwrap() <= 95_040_000);
    }
}
