//! Reading the API's answers: fields that may be missing, and values as people read them.

use serde_json::Value;

use crate::cli::table::grouped;

/// A field of an answer; null where there is none.
pub(crate) fn field<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

/// A value for people: text without its quotes, counts in groups, lists with commas.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), grouped),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Object(_) => value.to_string(),
    }
}
