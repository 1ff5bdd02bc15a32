//! What the model is told before anything else: what the agent is, and what it remembers.

use openclawmu_control::agent::{Agent, MemoryFile, Tool};
use serde_json::{Value, json};

/// The most names of files that are told.
const MAX_NAMES: usize = 100;

/// The first message; `None` where there is nothing to be told.
pub(super) fn system(agent: &Agent, always: &str, files: &[MemoryFile]) -> Option<Value> {
    let mut parts = Vec::new();
    if !agent.instructions.trim().is_empty() {
        parts.push(agent.instructions.trim().to_owned());
    }
    if agent.spec.tools.contains(&Tool::Memory) {
        parts.push(
            "# Memory\n\nWhat you should know in later conversations you write to your memory: short notes into `MEMORY.md`, \
             which you always see, and longer ones into `memory/<name>.md`, which you read when you need them."
                .to_owned(),
        );
        let others: Vec<String> = files
            .iter()
            .filter(|file| file.path.contains('/'))
            .take(MAX_NAMES)
            .map(|file| format!("- {}", file.path))
            .collect();
        if !others.is_empty() {
            parts.push(format!("Files of your memory:\n{}", others.join("\n")));
        }
    }
    if !always.trim().is_empty() {
        parts.push(format!("# MEMORY.md\n\n{}", always.trim()));
    }
    (!parts.is_empty()).then(|| json!({"role": "system", "content": parts.join("\n\n")}))
}

#[cfg(test)]
mod tests {
    use openclawmu_control::agent::Spec;

    use super::*;

    #[test]
    fn instructions_come_first_and_what_is_remembered_last() {
        let file = |path: &str| MemoryFile { path: path.to_owned(), size_bytes: 1, modified_at_ms: 0 };
        let agent = Agent {
            name: "helper".parse().unwrap(),
            spec: Spec::default(),
            instructions: "Be kind.\n".to_owned(),
            is_builtin: false,
        };
        let told = system(&agent, "Ann likes tea.\n", &[file("MEMORY.md"), file("memory/work.md")]).unwrap();
        let text = told["content"].as_str().unwrap();
        assert!(text.starts_with("Be kind.\n\n# Memory") && text.ends_with("# MEMORY.md\n\nAnn likes tea."), "{text}");
        assert!(text.contains("- memory/work.md") && !text.contains("- MEMORY.md"), "{text}");
        let silent = Agent {
            spec: Spec { tools: std::collections::BTreeSet::new(), ..Spec::default() },
            instructions: " ".to_owned(),
            ..agent
        };
        assert_eq!(system(&silent, "", &[file("memory/work.md")]), None);
    }
}
