//! What an agent may call: code in its tenant's sandbox, and its own memory. What goes wrong with a call is told to the model,
//! which may do better; what the tenant's quota refuses ends the turn.

use std::collections::BTreeSet;
use std::sync::Arc;

use openclawmu_control::agent::{AgentError, AgentName, Of, Tool};
use openclawmu_control::run::{Language, RunAnswer, RunRequest};
use openclawmu_sandbox::RelPath;
use openclawmu_store::{Label, Scope};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::chunk::Called;
use super::desk::refused;
use super::who::Who;
use crate::authenticate::Caller;
use crate::context::Shared;
use crate::refusal::Refusal;
use crate::sandbox;

/// How much of what a run writes the model is told, in bytes.
const TOLD_BYTES: usize = 32 << 10;

/// In whose name something is called.
pub(super) struct Within<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) who: &'a Who,
    pub(super) caller: &'a Caller,
    pub(super) agent: &'a AgentName,
    pub(super) tools: &'a BTreeSet<Tool>,
    pub(super) label: &'a Label,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Code {
    language: Language,
    code: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    path: String,
    content: String,
}

/// Why a call gave nothing.
enum Failed {
    /// The model is told this.
    Told(String),
    /// The turn ends.
    Ends(Refusal),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            refusal @ (Refusal::Quota { .. } | Refusal::Store | Refusal::Exhausted | Refusal::Unauthenticated) => {
                Self::Ends(refusal)
            }
            refusal @ (Refusal::Forbidden { .. }
            | Refusal::NotFound { .. }
            | Refusal::Bad { .. }
            | Refusal::Sandbox { .. }
            | Refusal::Upstream { .. }
            | Refusal::UpstreamTimeout { .. }) => Self::Told(refusal.told().message),
        }
    }
}

/// What the model is offered.
pub(super) fn offered(tools: &BTreeSet<Tool>) -> Vec<Value> {
    let function = |name: &str, description: &str, properties: Value, required: Value| {
        let parameters =
            json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
        json!({"type": "function", "function": {"name": name, "description": description, "parameters": parameters}})
    };
    let text = |description: &str| json!({"type": "string", "description": description});
    let path = || text("`MEMORY.md`, or `memory/<name>.md`");
    let mut offered = Vec::new();
    if tools.contains(&Tool::Sandbox) {
        let language = json!({"type": "string", "enum": ["python", "javascript", "bash"]});
        offered.push(function(
            "run_code",
            "Runs code in a sandbox without a network, on the files of the workspace, which is its current directory. \
             Answers its exit code and what it writes.",
            json!({"language": language, "code": text("The program's text")}),
            json!(["language", "code"]),
        ));
    }
    if tools.contains(&Tool::Memory) {
        offered.push(function("memory_list", "Lists the files of your memory.", json!({}), json!([])));
        let read = "Reads a file of your memory.";
        offered.push(function("memory_read", read, json!({"path": path()}), json!(["path"])));
        offered.push(function(
            "memory_write",
            "Writes a file of your memory whole; what it held before is gone.",
            json!({"path": path(), "content": text("All of its text, as Markdown")}),
            json!(["path", "content"]),
        ));
    }
    offered
}

/// Whether whoever asks may have an agent use these.
///
/// # Errors
/// 403: an agent widens nothing.
pub(super) fn check(caller: &Caller, tools: &BTreeSet<Tool>) -> Result<(), Refusal> {
    if tools.contains(&Tool::Sandbox) && !caller.policy.allows(Scope::Sandbox) {
        return Err(Refusal::scope_missing(Scope::Sandbox));
    }
    Ok(())
}

impl Within<'_> {
    /// Runs what is called; what the model is told.
    ///
    /// # Errors
    /// What the quota refuses.
    pub(super) async fn run(&self, called: &Called) -> Result<String, Refusal> {
        let gave = match called.name.as_str() {
            "run_code" if self.tools.contains(&Tool::Sandbox) => self.run_code(called).await,
            "memory_list" if self.tools.contains(&Tool::Memory) => self.list().await,
            "memory_read" if self.tools.contains(&Tool::Memory) => self.read(called).await,
            "memory_write" if self.tools.contains(&Tool::Memory) => self.write(called).await,
            _ => Err(Failed::Told("There is no such tool.".to_owned())),
        };
        match gave {
            Ok(gave) => Ok(gave),
            Err(Failed::Told(message)) => Ok(json!({ "error": message }).to_string()),
            Err(Failed::Ends(refusal)) => Err(refusal),
        }
    }

    async fn run_code(&self, called: &Called) -> Result<String, Failed> {
        let Code { language, code } = arguments(called)?;
        let request_id = self.shared.next_id();
        let owner = self.who.owner(self.caller, request_id);
        let request = RunRequest { code: Some(code), language: Some(language), ..RunRequest::default() };
        let ran = Box::pin(sandbox::run_tool(self.shared, (owner, self.label.clone()), request_id, request)).await?;
        Ok(told(&ran))
    }

    async fn list(&self) -> Result<String, Failed> {
        let (tenant, agent) = (self.caller.policy.tenant.clone(), self.agent.clone());
        let files = self.shared.agents.with(move |files| files.memory(Of(&tenant, &agent))).await?;
        let files: Vec<Value> =
            files.iter().map(|file| json!({"path": file.path, "size_bytes": file.size_bytes})).collect();
        Ok(json!({ "files": files }).to_string())
    }

    async fn read(&self, called: &Called) -> Result<String, Failed> {
        let Place { path } = arguments(called)?;
        let path = path_of(&path)?;
        let (tenant, agent) = (self.caller.policy.tenant.clone(), self.agent.clone());
        Ok(self.shared.agents.with(move |files| files.remembered(Of(&tenant, &agent), &path)).await?)
    }

    async fn write(&self, called: &Called) -> Result<String, Failed> {
        let Note { path, content } = arguments(called)?;
        let path = path_of(&path)?;
        let (tenant, agent) = (self.caller.policy.tenant.clone(), self.agent.clone());
        self.shared.agents.with(move |files| files.remember(Of(&tenant, &agent), &path, &content)).await?;
        Ok(json!({ "written": true }).to_string())
    }
}

fn arguments<T: DeserializeOwned>(called: &Called) -> Result<T, Failed> {
    serde_json::from_str(&called.arguments).map_err(|err| Failed::Told(format!("The arguments can't be read: {err}.")))
}

fn path_of(path: &str) -> Result<RelPath, Failed> {
    Ok(RelPath::parse(path.as_bytes()).map_err(|err| refused(&AgentError::Path(err)))?)
}

/// What the model is told of a run.
fn told(ran: &RunAnswer) -> String {
    let (stdout, stderr) = (cut(&ran.stdout), cut(&ran.stderr));
    let truncated = ran.truncated || stdout.len() < ran.stdout.len() || stderr.len() < ran.stderr.len();
    json!({
        "exit_code": ran.exit_code,
        "outcome": ran.outcome,
        "stdout": stdout,
        "stderr": stderr,
        "truncated": truncated,
    })
    .to_string()
}

/// The beginning of a text, between two characters.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(TOLD_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_offered_what_it_may_use_and_nothing_else() {
        let names = |tools: &[Tool]| -> Vec<String> {
            let offered = offered(&tools.iter().copied().collect());
            offered.iter().map(|tool| tool["function"]["name"].as_str().unwrap().to_owned()).collect()
        };
        assert!(names(&[]).is_empty());
        assert_eq!(names(&[Tool::Sandbox]), ["run_code"]);
        assert_eq!(names(&[Tool::Memory, Tool::Sandbox]), ["run_code", "memory_list", "memory_read", "memory_write"]);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = format!("x{}", "ä".repeat(TOLD_BYTES));
        assert_eq!(cut(&long).len(), TOLD_BYTES - 1);
    }
}
