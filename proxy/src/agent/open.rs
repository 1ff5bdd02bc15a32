//! What a turn goes on from: the agent, the conversation, what is remembered; and what is kept of it as it goes.

use bytes::Bytes;
use openclawmu_control::agent::{Agent, Conversation, Line, Of, Role, history};
use openclawmu_store::{Label, RequestId};
use serde_json::{Map, Value, json};
use tokio::sync::OwnedMutexGuard;

use super::ask::not_found;
use super::chunk::Called;
use super::desk::refused;
use super::edge::PREFIX;
use super::turn::Turn;
use super::{prompt, tool};
use crate::authenticate::Caller;
use crate::context::Shared;
use crate::dialect::ask;
use crate::own;
use crate::read::Call;
use crate::refusal::Refusal;
use crate::routes::AiRoute;
use crate::sandbox::blocking;

/// A turn that is under way.
pub(super) struct Open {
    pub(super) agent: Agent,
    /// The model that it asks.
    pub(super) model: String,
    /// Whom and what its rows are for.
    pub(super) label: Label,
    /// The turn's own name, in each of its lines.
    turn: RequestId,
    /// What the model is told, from the first word on.
    messages: Vec<Value>,
    options: Map<String, Value>,
    conversation: Option<Conversation>,
    by: Option<String>,
    _turn: Option<OwnedMutexGuard<()>>,
}

impl Open {
    /// Reads all that a turn goes on from, once it is its turn, and notes what is said to it.
    ///
    /// # Errors
    /// 404 for an agent that is not there; 403 for one that may do more than who asks; 400 where it has no model; 507 where nothing
    /// more can be kept.
    pub(super) async fn begin(shared: &Shared, caller: &Caller, turn: Turn, by: Option<&str>) -> Result<Self, Refusal> {
        let (desk, tenant) = (&shared.agents, caller.policy.tenant.clone());
        let Turn { agent: name, session, messages, options, mut label, request_id } = turn;
        let held = match &session {
            Some(session) => Some(desk.turn((tenant.clone(), name.clone(), session.clone())).await?),
            None => None,
        };
        let read = desk.with(move |files| {
            let of = Of(&tenant, &name);
            let Some(agent) = files.get(of)? else { return Ok(Err(name)) };
            let system = prompt::system(&agent, &files.always_remembered(of)?, &files.memory(of)?);
            let conversation = session.map(|session| files.converse(of, &session)).transpose()?;
            Ok(Ok((agent, system, conversation)))
        });
        let (agent, system, conversation) = read.await?.map_err(|name| not_found(name.as_str()))?;
        tool::check(caller, &agent.spec.tools)?;
        let model = model_of(shared, caller, &agent)?;
        label.add_tag(&format!("agent={}", agent.name));
        by.iter().for_each(|by| label.add_tag(by));
        let limits = [agent.spec.history_turns, agent.spec.history_bytes];
        let [turns, bytes] = limits.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let before = conversation.as_ref().map_or_else(Vec::new, |talk| history(&talk.lines, (turns, bytes)));
        let told = system.into_iter().chain(before).chain(messages.iter().cloned()).collect();
        let by = by.map(str::to_owned);
        let mut open =
            Self { agent, model, label, turn: request_id, messages: told, options, conversation, by, _turn: held };
        let said = messages.into_iter().map(|message| Line {
            content: message.get("content").cloned().unwrap_or_default(),
            by: open.by.clone(),
            ..open.line(shared, request_id, Role::User)
        });
        let said = said.collect();
        open.keep(said).await?;
        Ok(open)
    }

    /// The next call of the model.
    ///
    /// # Errors
    /// 400 for what the stages would not read.
    pub(super) fn call(&self, request_id: RequestId, is_last: bool) -> Result<Call, Refusal> {
        let mut body = self.options.clone();
        let mut set = |name: &str, value: Value| body.insert(name.to_owned(), value);
        set("model", self.model.as_str().into());
        set("messages", self.messages.clone().into());
        set("stream", true.into());
        set("stream_options", json!({"include_usage": true}));
        let offered = tool::offered(&self.agent.spec.tools);
        if !offered.is_empty() {
            set("tools", offered.into());
            if is_last {
                set("tool_choice", "none".into());
            }
        }
        let route = AiRoute::ChatCompletions;
        let body = Value::Object(body).to_string();
        let ask = ask::read(route, ("", None), &body)?;
        Ok(Call { request_id, route, ask, label: self.label.clone(), body: Bytes::from(body), form: None, asked: None })
    }

    /// The model has said this, and calls that.
    pub(super) async fn said(
        &mut self,
        shared: &Shared,
        request_id: RequestId,
        (text, calls): (&str, &[Called]),
    ) -> Result<(), Refusal> {
        let calls: Vec<Value> = calls.iter().map(Called::value).collect();
        let tool_calls = (!calls.is_empty()).then(|| calls.into());
        // Some providers refuse a text that is there and empty.
        let content = if text.is_empty() && tool_calls.is_some() { Value::Null } else { text.into() };
        let line = Line { content, tool_calls, ..self.line(shared, request_id, Role::Assistant) };
        self.messages.push(line.message());
        self.keep(vec![line]).await
    }

    /// A tool gave this.
    pub(super) async fn gave(&mut self, shared: &Shared, id: &str, text: String) -> Result<(), Refusal> {
        let line = self.line(shared, self.turn, Role::Tool);
        let line = Line { content: text.into(), tool_call_id: Some(id.to_owned()), ..line };
        self.messages.push(line.message());
        self.keep(vec![line]).await
    }

    /// It is over: what was kept survives a loss of power.
    pub(super) async fn end(self) -> Result<(), Refusal> {
        let Some(conversation) = self.conversation else { return Ok(()) };
        blocking(move || conversation.keep()).await?.map_err(|err| refused(&err))
    }

    fn line(&self, shared: &Shared, request_id: RequestId, role: Role) -> Line {
        Line {
            at: shared.store.clock().now().rfc3339(),
            turn: self.turn.to_string(),
            request_id: request_id.to_string(),
            role,
            content: Value::Null,
            tool_calls: None,
            tool_call_id: None,
            by: None,
        }
    }

    async fn keep(&mut self, lines: Vec<Line>) -> Result<(), Refusal> {
        let Some(mut conversation) = self.conversation.take() else { return Ok(()) };
        let (conversation, kept) = blocking(move || {
            let kept = conversation.add(&lines);
            (conversation, kept)
        })
        .await?;
        self.conversation = Some(conversation);
        kept.map_err(|err| refused(&err))
    }
}

/// The model that an agent asks: its own, the tenant's default, or the first that the tenant may talk to.
fn model_of(shared: &Shared, caller: &Caller, agent: &Agent) -> Result<String, Refusal> {
    let default = caller.policy.overlay.default_model.as_ref().filter(|model| !model.starts_with(PREFIX));
    if let Some(model) = agent.spec.model.as_ref().or(default) {
        return Ok(model.clone());
    }
    own::first_chat_model(&shared.catalog.load(), &shared.store, caller).ok_or_else(|| {
        Refusal::bad(
            "model",
            format!("The agent `{}` has no model, and none can be chosen for it: set its `model`.", agent.name),
        )
    })
}
