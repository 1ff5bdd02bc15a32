//! What a client sees of a batch: its own input file, and nothing of what the batch put out before that is billed.

use serde_json::{Map, Value};

/// Whether a batch of this status runs no more.
pub(super) fn is_over(status: &str) -> bool {
    matches!(status, "completed" | "failed" | "expired" | "cancelled")
}

/// A batch over `input_file` as its tenant sees it; `billed`: with what it put out.
pub(super) fn show(told: &Map<String, Value>, input_file: &str, billed: bool) -> String {
    let mut shown = told.clone();
    shown.insert("input_file_id".to_owned(), input_file.into());
    let over = told.get("status").and_then(Value::as_str).is_some_and(is_over);
    if !billed {
        let mut hidden = vec!["output_file_id", "error_file_id"];
        if over {
            // It has ended and is being billed: the results are being prepared, as the provider's API has it.
            shown.insert("status".to_owned(), "finalizing".into());
            hidden.extend(["completed_at", "failed_at", "expired_at", "cancelled_at", "usage"]);
        }
        for name in hidden {
            if let Some(value) = shown.get_mut(name) {
                *value = Value::Null;
            }
        }
    }
    Value::Object(shown).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_batch_put_out_is_seen_when_it_is_billed() {
        let told = json!({"id": "batch_1", "status": "completed", "input_file_id": "file-sent", "output_file_id": "o", "error_file_id": "e", "completed_at": 1});
        let told = told.as_object().unwrap();
        let seen = |ended| serde_json::from_str::<Value>(&show(told, "file-own", ended)).unwrap();
        assert_eq!(
            seen(false),
            json!({"id": "batch_1", "status": "finalizing", "input_file_id": "file-own", "output_file_id": null, "error_file_id": null, "completed_at": null})
        );
        assert_eq!(
            seen(true),
            json!({"id": "batch_1", "status": "completed", "input_file_id": "file-own", "output_file_id": "o", "error_file_id": "e", "completed_at": 1})
        );
    }
}
