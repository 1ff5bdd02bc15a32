//! `/v1/agents`, `/v1/sessions`, `/v1/memory`: a tenant's agents and what they keep. There is only ever the caller's own.

use http::Method;
use openclawmu_control::agent::{Agent, AgentError, AgentFields, AgentName, Lines, Of, SessionFile, SessionName, Spec};
use openclawmu_sandbox::RelPath;
use serde_json::{Value, json};

use super::desk::refused;
use super::query::{self, Query};
use crate::answer::{self, Head};
use crate::authenticate::Caller;
use crate::client::Client;
use crate::context::Context;
use crate::gateway::{Gateway, Stop};
use crate::own::percent_decode;
use crate::read;
use crate::refusal::Refusal;
use crate::session::Session;
use crate::workspace::guard;

/// Which of an agent's things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Things {
    /// The agents themselves.
    Agents,
    /// Their conversations.
    Sessions,
    /// What they remember.
    Memory,
}

/// A request about them.
struct Asked<'a> {
    method: Method,
    /// What follows the route, as it stands in the target.
    rest: &'a str,
    query: String,
}

impl Gateway {
    /// Answers a request about agents; `rest` is what follows the route.
    pub(crate) async fn agents_kept(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        caller: &Caller,
        (things, rest): (Things, &str),
    ) -> Result<(), Stop> {
        let head = session.req_header();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let asked = Asked { method: head.method.clone(), rest, query };
        let (status, told) = match things {
            Things::Agents => self.agents_of(session, caller, &asked).await?,
            Things::Sessions => self.sessions_of(caller, &asked).await?,
            Things::Memory => match (&asked.method, asked.rest) {
                (&Method::GET | &Method::HEAD, rest) if !rest.is_empty() => {
                    return self.remembered(session, ctx, caller, &asked).await;
                }
                _ => self.memory_of(session, caller, &asked).await?,
            },
        };
        ctx.status = status;
        if status == 200 {
            return Ok(answer::json(&mut Client::Http(session.again()), ctx.request_id, &told).await?);
        }
        let (head, client) = (Head::of(status, ctx.request_id, ctx.dialect)?, &mut Client::Http(session.again()));
        if status == 204 {
            return Ok(head.send_nothing(client).await?);
        }
        Ok(head.send(client, "application/json", told.to_string().into()).await?)
    }

    async fn agents_of(
        &self,
        session: &mut Session<'_>,
        caller: &Caller,
        asked: &Asked<'_>,
    ) -> Result<(u16, Value), Refusal> {
        Query::read(&asked.query, &[])?;
        let (desk, tenant) = (&self.shared.agents, caller.policy.tenant.clone());
        match (&asked.method, asked.rest) {
            (&Method::POST, _) => {
                let fields: AgentFields = read::fields(&read::body(session, &self.shared.config).await?)?;
                let name = fields.name.clone().ok_or_else(|| Refusal::bad("name", "`name` is needed."))?;
                let name: AgentName = name.parse().map_err(|err| refused(&err))?;
                let spec = fields.apply(&Spec::default(), self.now_ms()).map_err(|err| refused(&err))?;
                let made = desk.with(move |files| {
                    let of = Of(&tenant, &name);
                    files.create(of, &spec, fields.instructions.as_deref().unwrap_or_default())?;
                    files.get(of)?.ok_or(AgentError::NotFound("agent"))
                });
                Ok((201, shown(&made.await?)))
            }
            (&Method::PATCH, name) => {
                let name = query::agent(name)?;
                let fields: AgentFields = read::fields(&read::body(session, &self.shared.config).await?)?;
                if fields.name.is_some() {
                    return Err(Refusal::bad("name", "`name` can't be changed: make another agent."));
                }
                let now = self.now_ms();
                let changed = desk.with(move |files| {
                    let of = Of(&tenant, &name);
                    let agent = files.get(of)?.ok_or(AgentError::NotFound("agent"))?;
                    files.update(of, &fields.apply(&agent.spec, now)?, fields.instructions.as_deref())?;
                    files.get(of)?.ok_or(AgentError::NotFound("agent"))
                });
                Ok((200, shown(&changed.await?)))
            }
            (&Method::DELETE, name) => {
                let name = query::agent(name)?;
                let told = json!({"name": name.as_str(), "object": "agent.deleted", "deleted": true});
                desk.with(move |files| files.remove(Of(&tenant, &name))).await?;
                Ok((200, told))
            }
            (_, "") => {
                let agents = desk.with(move |files| files.list(&tenant)).await?;
                let data: Vec<Value> = agents.iter().map(shown).collect();
                Ok((200, json!({"object": "list", "data": data, "has_more": false})))
            }
            (_, name) => {
                let name = query::agent(name)?;
                let found = desk.with(move |files| files.get(Of(&tenant, &name))?.ok_or(AgentError::NotFound("agent")));
                Ok((200, shown(&found.await?)))
            }
        }
    }

    async fn sessions_of(&self, caller: &Caller, asked: &Asked<'_>) -> Result<(u16, Value), Refusal> {
        let (desk, tenant) = (&self.shared.agents, caller.policy.tenant.clone());
        if asked.rest.is_empty() {
            let Query { agent, after, limit } = Query::read(&asked.query, &["agent", "after", "limit"])?;
            let after = after.map(|after| name_of("after", &after)).transpose()?;
            let of = agent.clone();
            let page = desk.with(move |files| {
                known(files.get(Of(&tenant, &of))?)?;
                files.sessions(Of(&tenant, &of), (after.as_ref(), limit))
            });
            let (found, next) = page.await?;
            let data: Vec<Value> = found.iter().map(|file| session_shown(&agent, file)).collect();
            let next = next.map(|name| name.to_string());
            return Ok((200, json!({"object": "list", "data": data, "has_more": next.is_some(), "next": next})));
        }
        let id = percent_decode(asked.rest).and_then(|id| id.parse::<SessionName>().ok());
        let id = id.ok_or_else(|| refused(&AgentError::NotFound("session")))?;
        if asked.method == Method::DELETE {
            let Query { agent, .. } = Query::read(&asked.query, &["agent"])?;
            let told = json!({"id": id.as_str(), "object": "session.deleted", "deleted": true});
            // A turn that is under way would bring it back.
            let _turn = desk.turn_now((tenant.clone(), agent.clone(), id.clone()))?;
            desk.with(move |files| files.remove_session(Of(&tenant, &agent), &id)).await?;
            return Ok((200, told));
        }
        let Query { agent, after, limit } = Query::read(&asked.query, &["agent", "after", "limit"])?;
        let after: usize = match after {
            None => 0,
            Some(after) => after
                .parse()
                .map_err(|_| Refusal::bad("after", "`after` is the `next` of the page before: a number."))?,
        };
        let (of, name) = (agent.clone(), id.clone());
        let lines = desk.with(move |files| files.session(Of(&tenant, &of), &name)).await?;
        Ok((200, messages_shown((&agent, &id), &lines, (after, limit))))
    }

    async fn memory_of(
        &self,
        session: &mut Session<'_>,
        caller: &Caller,
        asked: &Asked<'_>,
    ) -> Result<(u16, Value), Refusal> {
        let Query { agent, .. } = Query::read(&asked.query, &["agent"])?;
        let (desk, tenant) = (&self.shared.agents, caller.policy.tenant.clone());
        if asked.rest.is_empty() {
            let files = desk.with(move |files| {
                known(files.get(Of(&tenant, &agent))?)?;
                files.memory(Of(&tenant, &agent))
            });
            let shown = |file: &openclawmu_control::agent::MemoryFile| json!({"object": "memory", "path": file.path, "size_bytes": file.size_bytes, "modified_at_ms": file.modified_at_ms});
            let data: Vec<Value> = files.await?.iter().map(shown).collect();
            return Ok((200, json!({"object": "list", "data": data, "has_more": false})));
        }
        let path = path_of(asked.rest)?;
        if asked.method == Method::DELETE {
            desk.with(move |files| files.forget(Of(&tenant, &agent), &path)).await?;
            return Ok((204, Value::Null));
        }
        let body = read::body(session, &self.shared.config).await?;
        let text = String::from_utf8(body.to_vec()).map_err(|_| Refusal::bad("content", "The body is not UTF-8."))?;
        let told = json!({"path": path.to_string(), "size_bytes": text.len()});
        let is_new = desk.with(move |files| {
            let of = Of(&tenant, &agent);
            known(files.get(of)?)?;
            let is_new = matches!(files.remembered(of, &path), Err(AgentError::NotFound(_)));
            files.remember(of, &path, &text)?;
            Ok(is_new)
        });
        Ok((if is_new.await? { 201 } else { 200 }, told))
    }

    async fn remembered(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        caller: &Caller,
        asked: &Asked<'_>,
    ) -> Result<(), Stop> {
        let Query { agent, .. } = Query::read(&asked.query, &["agent"])?;
        let (path, tenant) = (path_of(asked.rest)?, caller.policy.tenant.clone());
        let text = self.shared.agents.with(move |files| files.remembered(Of(&tenant, &agent), &path)).await?;
        let mut head = Head::of(200, ctx.request_id, ctx.dialect)?;
        guard(&mut head);
        Ok(head.send(&mut Client::Http(session.again()), "text/markdown; charset=utf-8", text.into()).await?)
    }

    fn now_ms(&self) -> i64 {
        self.shared.store.clock().now().0
    }
}

/// What is asked of an agent that is not there is not there either.
fn known(agent: Option<Agent>) -> Result<Agent, AgentError> {
    agent.ok_or(AgentError::NotFound("agent"))
}

fn path_of(rest: &str) -> Result<RelPath, Refusal> {
    RelPath::from_encoded(rest).map_err(|err| refused(&AgentError::Path(err)))
}

fn name_of(field: &'static str, text: &str) -> Result<SessionName, Refusal> {
    text.parse().map_err(|_| Refusal::bad(field, format!("`{field}` is the `next` of the page before.")))
}

fn shown(agent: &Agent) -> Value {
    let spec = &agent.spec;
    json!({
        "object": "agent",
        "name": agent.name.as_str(),
        "model": spec.model,
        "instructions": agent.instructions,
        "tools": spec.tools,
        "max_steps": spec.max_steps,
        "history_turns": spec.history_turns,
        "history_bytes": spec.history_bytes,
        "builtin": agent.is_builtin,
        "created_at": spec.created_at_ms.div_euclid(1_000),
        "updated_at": spec.updated_at_ms.div_euclid(1_000),
    })
}

fn session_shown(agent: &AgentName, file: &SessionFile) -> Value {
    json!({
        "object": "session",
        "id": file.name.as_str(),
        "agent": agent.as_str(),
        "size_bytes": file.size_bytes,
        "modified_at_ms": file.modified_at_ms,
    })
}

/// A page of a conversation, its messages counted from 0.
fn messages_shown((agent, id): (&AgentName, &SessionName), lines: &Lines, (after, limit): (usize, usize)) -> Value {
    let rest = lines.lines.get(after..).unwrap_or_default();
    let page = rest.get(..limit).unwrap_or(rest);
    let next = (rest.len() > page.len()).then(|| after.saturating_add(page.len()));
    json!({
        "object": "session",
        "id": id.as_str(),
        "agent": agent.as_str(),
        "messages": page,
        "has_more": next.is_some(),
        "next": next,
        "unreadable_lines": lines.unreadable,
    })
}
