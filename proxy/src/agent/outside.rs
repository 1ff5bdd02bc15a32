//! A turn for whoever is no client of the edge, such as a channel: on the tenant's own word, by the same loop and the same stages.
//! Its rows name no token, and whoever brings it as a tag.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openclawmu_control::agent::{self, Agents, TurnEnd, TurnRefused};
use openclawmu_store::Label;
use serde_json::{Map, json};

use super::desk::refused;
use super::ear::{Ear, Voice};
use super::edge::PREFIX;
use super::turn::{self, Turn};
use super::who::Who;
use crate::context::Active;
use crate::gateway::{Gateway, Stop};
use crate::refusal::Refusal;

/// When to ask again where the gateway is about to end.
const SOON: Duration = Duration::from_secs(5);

impl Agents for Gateway {
    fn turn(&self, turn: agent::Turn) -> Pin<Box<dyn Future<Output = TurnEnd> + Send>> {
        let gateway = self.clone();
        Box::pin(async move {
            let (running, active) = (gateway.shared.running.clone(), Active::new(&gateway.shared));
            // On a task of its own: whoever asked may leave, and what was begun is settled all the same.
            let taken = running.spawn(async move {
                let _until_its_end = active;
                gateway.outside(turn).await
            });
            taken.await.unwrap_or_else(|err| {
                tracing::error!(%err, "a turn of an agent did not end");
                Err(TurnRefused { message: "Something went wrong. Please try again.".to_owned(), retry_after: None })
            })
        })
    }
}

impl Gateway {
    /// This gateway's agents, for whoever is no client of the edge.
    #[must_use]
    pub fn agents(&self) -> Arc<dyn Agents> {
        Arc::new(self.clone())
    }

    async fn outside(&self, asked: agent::Turn) -> TurnEnd {
        let shared = &self.shared;
        if shared.draining.load(Ordering::Relaxed) {
            let message = "The gateway is about to restart. Please try again.".to_owned();
            return Err(TurnRefused { message, retry_after: Some(SOON) });
        }
        let request_id = shared.next_id();
        let voice = Voice {
            request_id,
            model: format!("{PREFIX}{}", asked.agent),
            created: shared.store.clock().now().0.div_euclid(1_000),
        };
        let turn = Turn {
            agent: asked.agent.parse().map_err(|err| told(refused(&err).into()))?,
            session: Some(asked.session.parse().map_err(|err| told(refused(&err).into()))?),
            messages: vec![json!({"role": "user", "content": asked.text})],
            options: Map::new(),
            label: Label::default(),
            request_id,
        };
        let who = Who::Tenant { shared: Arc::clone(shared), tenant: asked.tenant, by: asked.by };
        let mut ear = Ear::nobody(voice);
        let total = Box::pin(turn::take(self, &who, turn, &mut ear)).await.map_err(told)?;
        Ok(total.text)
    }
}

/// What whoever spoke is told. A provider's own words may name the operator's account, and go to the log alone.
fn told(stop: Stop) -> TurnRefused {
    let refusal = match stop {
        Stop::Refused(refusal, _) => refusal,
        Stop::Passed(rejected) => {
            let body = String::from_utf8_lossy(&rejected.body);
            tracing::warn!(status = rejected.status, %body, "an agent's model was refused by its provider");
            let message = "The agent's model can't answer this now.".to_owned();
            let retry_after = matches!(rejected.status, 429 | 500..).then_some(SOON);
            return TurnRefused { message, retry_after };
        }
        Stop::Gone | Stop::Io(_) => {
            let message = "The agent's model broke off. Please try again.".to_owned();
            Refusal::Upstream { code: "upstream_broken", message }
        }
    };
    let told = refusal.told();
    let again = matches!(told.status, 409 | 429 | 500..);
    let after = told.retry_after_ms.map(Duration::from_millis).or_else(|| (told.status == 409).then_some(SOON));
    TurnRefused { message: told.message, retry_after: after.filter(|_| again) }
}
