//! A turn: the model is asked, what it calls is run, until it has nothing more to call or has had its steps.

use openclawmu_control::agent::{AgentName, SessionName};
use openclawmu_store::{Label, NanoUsd, RequestId};
use serde_json::{Map, Value, json};

use super::chunk::{Called, Tokens};
use super::ear::{Ear, GAP};
use super::open::Open;
use super::step::{self, Step};
use super::tool::Within;
use super::who::Who;
use crate::authenticate::Caller;
use crate::gateway::{Gateway, Stop};

/// What is asked of an agent.
pub(super) struct Turn {
    pub(super) agent: AgentName,
    pub(super) session: Option<SessionName>,
    pub(super) messages: Vec<Value>,
    /// Fields for the model.
    pub(super) options: Map<String, Value>,
    pub(super) label: Label,
    pub(super) request_id: RequestId,
}

/// What a turn came to.
#[derive(Debug, Default)]
pub(super) struct Total {
    pub(super) text: String,
    pub(super) tokens: Tokens,
    pub(super) cost: NanoUsd,
    pub(super) finish: String,
    /// The model that was asked.
    pub(super) model: String,
    steps: u32,
    tools: Vec<String>,
    session: Option<String>,
}

impl Total {
    /// What an answer says beside what OpenAI's would.
    pub(super) fn extension(&self) -> Value {
        json!({"session": self.session, "steps": self.steps, "tools": self.tools})
    }

    fn add(&mut self, step: &Step) {
        if !self.text.is_empty() && !step.heard.text.is_empty() {
            self.text.push_str(GAP);
        }
        self.text.push_str(&step.heard.text);
        self.tokens.add(&step.heard.tokens);
        self.cost = NanoUsd(self.cost.0.saturating_add(step.cost.0));
        self.steps += 1;
    }
}

/// Takes a turn.
///
/// # Errors
/// What the stages or a tool's quota refuse at any step: what was done until then is done, and settled.
pub(super) async fn take(gateway: &Gateway, who: &Who, turn: Turn, ear: &mut Ear<'_, '_>) -> Result<Total, Stop> {
    let (shared, request_id) = (&gateway.shared, turn.request_id);
    let mut caller = who.caller()?;
    let session = turn.session.as_ref().map(ToString::to_string);
    let mut open = tokio::select! {
        open = Open::begin(shared, &caller, turn, who.by()) => open?,
        () = ear.gone() => return Err(Stop::Gone),
    };
    let mut total = Total { model: open.model.clone(), session, ..Total::default() };
    let most = open.agent.spec.max_steps;
    for number in 1..=most {
        let (is_first, is_last) = (number == 1, number == most);
        if !is_first {
            caller = who.caller()?;
        }
        let id = if is_first { request_id } else { shared.next_id() };
        ear.step();
        let call = open.call(id, is_last)?;
        let step = Box::pin(step::ask(gateway, (&caller, who), &call, ear)).await?;
        total.add(&step);
        // Whoever has had its steps calls in vain.
        let calls = if is_last { Vec::new() } else { step.heard.calls() };
        open.said(shared, id, (&step.heard.text, &calls)).await?;
        if calls.is_empty() {
            total.finish = finish(&step, is_last);
            break;
        }
        for called in calls {
            ear.tool(number, &called.name).await?;
            total.tools.push(called.name.clone());
            let gave = call_tool((gateway, who, &caller), &open, &called, ear).await?;
            open.gave(shared, &called.id, gave).await?;
        }
    }
    open.end().await?;
    Ok(total)
}

/// Why it ends, as the model says it; `length` where it would have gone on.
fn finish(step: &Step, is_last: bool) -> String {
    let wanted_more = is_last && !step.heard.calls().is_empty();
    if wanted_more { "length".to_owned() } else { step.heard.finish.clone().unwrap_or_else(|| "stop".to_owned()) }
}

/// Runs what is called, until nobody hears it or may have it any more.
async fn call_tool(
    (gateway, who, caller): (&Gateway, &Who, &Caller),
    open: &Open,
    called: &Called,
    ear: &mut Ear<'_, '_>,
) -> Result<String, Stop> {
    let within = Within {
        shared: &gateway.shared,
        who,
        caller,
        agent: &open.agent.name,
        tools: &open.agent.spec.tools,
        label: &open.label,
    };
    tokio::select! {
        gave = Box::pin(within.run(called)) => Ok(gave?),
        () = ear.gone() => Err(Stop::Gone),
        refusal = who.forbidden() => Err(refusal.into()),
    }
}
