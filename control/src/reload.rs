//! Reading the configuration again: checked as a whole, put on record, and only then in force. A signal and the admin API
//! do the same.

use std::fmt;
use std::sync::Arc;

use openclawmu_store::{Actor, AuditNote, AuditOutcome, Change, Store};
use serde::Serialize;
use serde_json::{Value, json};

/// A configuration that was read again and proved usable, not in force yet.
pub struct Prepared {
    /// What is another than before and takes effect, such as `upstream.openai`.
    pub changed: Vec<String>,
    /// What is another than before and waits for the next start, such as `edge.listen`.
    pub needs_restart: Vec<String>,
    /// Puts it in force.
    pub apply: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("changed", &self.changed).finish_non_exhaustive()
    }
}

/// Reads the configuration again; else says what is wrong and what to do.
pub type Reread = Arc<dyn Fn() -> Result<Prepared, String> + Send + Sync>;

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Reloaded {
    /// What is another than before and in force now.
    pub changed: Vec<String>,
    /// What is another than before and waits for the next start.
    pub needs_restart: Vec<String>,
}

/// Puts a configuration in force once that is on record.
pub fn reload(store: &Store, actor: &Actor, prepared: Prepared) -> Change<Reloaded> {
    let Prepared { changed, needs_restart, apply } = prepared;
    let reloaded = Reloaded { changed, needs_restart };
    store.audit(actor, note(AuditOutcome::Ok, json!(reloaded))).map(move |()| reloaded).on_commit(apply)
}

/// Puts on record that a configuration was refused. Not why: the reason may quote the file.
pub fn refused(store: &Store, actor: &Actor) -> Change<()> {
    store.audit(actor, note(AuditOutcome::Failed, json!({"reason": "the configuration is wrong"})))
}

fn note(outcome: AuditOutcome, detail: Value) -> AuditNote {
    AuditNote { action: "config.reload", tenant: None, target: None, outcome, detail }
}

/// What differs between two configurations: what a reload changes, named by `lists` whose entries have a `name` and by
/// tables that are taken whole, and the keys that only a start reads.
#[must_use]
pub fn difference(before: &Value, after: &Value, lists: &[&str], tables: &[&str]) -> (Vec<String>, Vec<String>) {
    let (mut changed, mut needs_restart) = (Vec::new(), Vec::new());
    let part = |config: &Value, name: &str| config.get(name).cloned().unwrap_or_default();
    for list in lists {
        let (old, new) = (named(&part(before, list)), named(&part(after, list)));
        let names = old.iter().chain(&new).map(|(name, _)| name);
        let find = |all: &[(String, Value)], name: &str| all.iter().find(|(known, _)| known == name).cloned();
        for name in names.filter(|name| find(&old, name) != find(&new, name)) {
            let entry = format!("{list}.{name}");
            if !changed.contains(&entry) {
                changed.push(entry);
            }
        }
    }
    let keys =
        |config: &Value| config.as_object().into_iter().flat_map(|tables| tables.keys().cloned()).collect::<Vec<_>>();
    for table in keys(before).into_iter().chain(keys(after)).filter(|table| !lists.contains(&table.as_str())) {
        let (old, new) = (part(before, &table), part(after, &table));
        let to = if tables.contains(&table.as_str()) { &mut changed } else { &mut needs_restart };
        for key in keys(&old).into_iter().chain(keys(&new)).filter(|key| part(&old, key) != part(&new, key)) {
            let entry = format!("{table}.{key}");
            if !to.contains(&entry) {
                to.push(entry);
            }
        }
    }
    (changed, needs_restart)
}

/// The entries of a list by their names.
fn named(list: &Value) -> Vec<(String, Value)> {
    let entries = list.as_array().into_iter().flatten();
    entries
        .map(|entry| (entry.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(), entry.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_effect_is_told_apart_from_what_waits() {
        let before = json!({"edge": {"listen": "a", "threads": 1}, "outbound": {"allow": []}, "upstream": [{"name": "one", "x": 1}, {"name": "two"}]});
        let after = json!({"edge": {"listen": "b", "threads": 1, "tls": {}}, "outbound": {"allow": ["x"]}, "upstream": [{"name": "one", "x": 2}, {"name": "three"}], "model": [{"name": "fast"}]});
        let (changed, needs_restart) = difference(&before, &after, &["upstream", "model"], &["outbound"]);
        assert_eq!(changed, ["upstream.one", "upstream.two", "upstream.three", "model.fast", "outbound.allow"]);
        assert_eq!(needs_restart, ["edge.listen", "edge.tls"]);
        assert_eq!(difference(&after, &after, &["upstream", "model"], &["outbound"]), (vec![], vec![]));
    }
}
