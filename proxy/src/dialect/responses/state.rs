//! What is kept of a response, and what is answered from it. No I/O here: where it is kept, for whom and until when is not
//! this module's to know.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::echo::{Echo, State};
use super::items::Earlier;
use super::reply::{item_id, set};
use crate::dialect::Shown;
use crate::dialect::object::must_be;
use crate::refusal::Refusal;

/// The most items of one page, and how many there are when nobody says.
const MAX_PAGE: usize = 100;
const PAGE: usize = 20;

/// A kept response. Its JSON is the format on disk: fields may be added, none renamed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The whole response object, as it was answered.
    pub(crate) response: Value,
    /// The input of its request, each item with an id.
    pub(crate) input: Vec<Value>,
    /// The process that works on it, until it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
}

impl Kept {
    /// From the response's object and the items of its request. An item without an id gets one of the response's.
    pub(crate) fn new(response: Value, input: Vec<Value>) -> Self {
        let mut kept = Self { response, input, worker: None };
        let id = kept.id().trim_start_matches("resp_").to_owned();
        for (index, item) in kept.input.iter_mut().enumerate() {
            if item.get("type").is_none_or(Value::is_null) {
                set(item, "type", "message".into());
            }
            if item.get("id").is_none_or(Value::is_null) {
                let prefix = match item.get("type").and_then(Value::as_str) {
                    Some("function_call") => "fc",
                    Some("function_call_output") => "fco",
                    Some("reasoning") => "rs",
                    _ => "msg",
                };
                set(item, "id", item_id(prefix, &format!("{id}i"), index).into());
            }
        }
        kept
    }

    /// A response that `worker` will work on.
    pub(crate) fn queued(shown: &Shown, input: Vec<Value>, worker: String) -> Self {
        let state = State {
            status: "in_progress",
            completed_at: None,
            error: Value::Null,
            incomplete: None,
            output: Vec::new(),
            usage: None,
        };
        Self { worker: Some(worker), ..Self::new(Echo::shown(shown).object(shown, state), input) }
    }

    /// Ends it without an answer.
    pub(crate) fn end(&mut self, status: &str, error: Value) {
        set(&mut self.response, "status", status.into());
        set(&mut self.response, "error", error);
        self.worker = None;
    }

    /// The process that works on it.
    pub(crate) fn worker(&self) -> Option<&str> {
        self.worker.as_deref()
    }

    /// Whether it was asked for in the background.
    pub(crate) fn is_background(&self) -> bool {
        self.response.get("background").is_some_and(|background| background == true)
    }

    /// Whether the answer has ended, in full or at a limit.
    pub(crate) fn is_complete(&self) -> bool {
        let status = self.response.get("status").and_then(Value::as_str);
        matches!(status, Some("completed" | "incomplete"))
    }

    /// Its id.
    pub(crate) fn id(&self) -> &str {
        self.response.get("id").and_then(Value::as_str).unwrap_or_default()
    }

    /// Bytes of its items, about.
    pub(crate) fn bytes(&self) -> u64 {
        let items = self.input.iter().chain(self.output());
        items.map(|item| u64::try_from(item.to_string().len()).unwrap_or(u64::MAX)).fold(0, u64::saturating_add)
    }

    /// The response that this one continues.
    pub(crate) fn previous(&self) -> Option<&str> {
        self.response.get("previous_response_id").and_then(Value::as_str)
    }

    fn output(&self) -> impl Iterator<Item = &Value> {
        self.response.get("output").and_then(Value::as_array).into_iter().flatten()
    }

    /// An item of its input or output, by its id.
    pub(crate) fn item(&self, id: &str) -> Option<&Value> {
        self.input.iter().chain(self.output()).find(|item| item.get("id").is_some_and(|known| known == id))
    }

    /// `GET /v1/responses/{id}/input_items`: a page of the input, newest first unless `order` is `asc`.
    ///
    /// # Errors
    /// A limit or an order that there is not; an `after` that is no item of it.
    pub(crate) fn input_items(&self, query: &[(&str, &str)]) -> Result<Value, Refusal> {
        let (mut limit, mut ascending, mut after) = (PAGE, false, None);
        for (name, value) in query {
            match *name {
                "limit" => {
                    limit =
                        value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit)).ok_or_else(|| {
                            must_be("limit".to_owned(), &format!("a whole number from 1 to {MAX_PAGE}"))
                        })?;
                }
                "order" if matches!(*value, "asc" | "desc") => ascending = *value == "asc",
                "order" => return Err(must_be("order".to_owned(), "asc or desc")),
                "after" => after = Some(*value),
                _ => {} // `include` asks for what is kept anyway
            }
        }
        let mut items: Vec<&Value> = self.input.iter().collect();
        if !ascending {
            items.reverse();
        }
        let start = match after {
            None => 0,
            Some(id) => {
                let place = items.iter().position(|item| item.get("id").is_some_and(|known| known == id));
                place.ok_or_else(|| Refusal::bad("after", "`after` is no item of this response's input."))? + 1
            }
        };
        let has_more = items.len() > start.saturating_add(limit);
        let page: Vec<&Value> = items.into_iter().skip(start).take(limit).collect();
        let id = |item: Option<&&Value>| item.and_then(|item| item.get("id")).cloned();
        Ok(json!({
            "object": "list",
            "first_id": id(page.first()),
            "last_id": id(page.last()),
            "has_more": has_more,
            "data": page,
        }))
    }
}

/// What a request that continues a response starts from; the chain is in order, the first response first.
pub(crate) fn earlier(chain: &[Kept]) -> Earlier {
    let items = chain.iter().flat_map(|kept| kept.input.iter().chain(kept.output())).cloned().collect();
    Earlier { items, ..Earlier::default() }
}

/// The ids of the items that a request refers to instead of sending them.
pub(crate) fn references(body: &str) -> Vec<String> {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let items = body.get("input").and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| super::items::reference(item).map(str::to_owned)).collect()
}

/// What the compactions of a request, and of what it continues, were sealed as.
pub(crate) fn compactions(body: &str, earlier: &Earlier) -> Vec<String> {
    let body: Value =
        if body.contains("compaction") { serde_json::from_str(body).unwrap_or_default() } else { Value::Null };
    let items = body.get("input").and_then(Value::as_array).into_iter().flatten();
    let every = earlier.items.iter().chain(earlier.named.values()).chain(items);
    every.filter_map(super::items::sealed).map(str::to_owned).collect()
}

/// What a response says, its texts together.
pub(crate) fn output_text(response: &Value) -> String {
    let list = |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let parts = list(response, "output").into_iter().flat_map(|item| list(&item, "content"));
    parts.filter_map(|part| part.get("text").and_then(Value::as_str).map(str::to_owned)).collect()
}

/// The compaction that a response becomes: what stays as it was, and one item for all else.
pub(crate) fn compaction(response: &Value, retained: &[Value], sealed: &str) -> Value {
    let of = |name: &str| response.get(name).cloned().unwrap_or_default();
    let Kept { input: mut output, .. } = Kept::new(response.clone(), retained.to_vec());
    for item in &mut output {
        if let Some(text) = item.get("content").and_then(Value::as_str) {
            let content = json!([{"type": "input_text", "text": text}]);
            set(item, "content", content);
        }
        set(item, "status", "completed".into());
    }
    let id = response.get("id").and_then(Value::as_str).unwrap_or_default();
    let item = item_id("cmp", id.trim_start_matches("resp_"), 0);
    output.push(json!({"id": item, "type": "compaction", "encrypted_content": sealed}));
    json!({"id": id, "object": "response.compaction", "created_at": of("created_at"), "output": output, "usage": of("usage")})
}

/// Whether an item only refers to another.
pub(crate) fn is_reference(item: &Value) -> bool {
    super::items::reference(item).is_some()
}

/// The response that an item belongs to, by the item's id: the gateway makes both.
pub(crate) fn response_of(item: &str) -> Option<String> {
    let (_, rest) = item.split_once('_')?;
    rest.get(..32).map(|id| format!("resp_{id}"))
}

/// What is answered to a DELETE.
pub(crate) fn deleted(id: &str) -> Value {
    json!({"id": id, "object": "response", "deleted": true})
}

/// Why a response failed, as it tells it.
pub(crate) fn error(refusal: &Refusal) -> Value {
    let told = refusal.told();
    json!({"code": told.code.unwrap_or("server_error"), "message": told.message})
}

/// The same from an event or an error's body.
pub(crate) fn error_of(said: &Value) -> Value {
    let error = said.pointer("/response/error").or_else(|| said.get("error")).unwrap_or(said);
    let of = |name: &str| error.get(name).cloned().unwrap_or_default();
    let code = of("code");
    json!({"code": if code.is_null() { json!("server_error") } else { code }, "message": of("message")})
}

/// The work on a response came to no end.
pub(crate) fn broken_off() -> Value {
    json!({"code": "server_error", "message": "The response broke off."})
}

/// There is no such response, or not for this tenant.
pub(crate) fn not_found(id: &str) -> Refusal {
    Refusal::NotFound { code: "response_not_found", message: unknown(id) }
}

/// A request continues a response that there is not.
pub(crate) fn previous_not_found(id: &str) -> Refusal {
    Refusal::Bad {
        status: 400,
        param: Some("previous_response_id".into()),
        code: Some("previous_response_not_found"),
        message: unknown(id),
    }
}

fn unknown(id: &str) -> String {
    let id: String = id.chars().take(100).collect();
    format!("There is no response `{id}`. It may have expired, or was not stored.")
}

/// What is answered to a cancellation: only responses in the background go on after their request.
pub(crate) fn not_cancellable() -> Refusal {
    Refusal::bad("response_id", "Only a response that was created with `background` can be cancelled.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let call = json!({"id": "fc_1", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
        let response = json!({"id": "resp_ab", "previous_response_id": "resp_aa", "output": [call]});
        let input = ["a", "b", "c"].map(|text| json!({"role": "user", "content": text}));
        Kept::new(response, input.to_vec())
    }

    #[test]
    fn what_is_kept_is_read_as_the_same() {
        let kept = kept();
        let bytes = serde_json::to_vec(&kept).unwrap();
        assert_eq!(serde_json::from_slice::<Kept>(&bytes).unwrap(), kept);
        assert_eq!(kept.previous(), Some("resp_aa"));
        assert_eq!(kept.item("fc_1").unwrap()["call_id"], "c");
        assert_eq!(kept.item("msg_abi0001").unwrap()["content"], "b");
        assert_eq!(earlier(&[kept.clone(), kept]).items.len(), 8);
        assert_eq!(deleted("resp_ab"), json!({"id": "resp_ab", "object": "response", "deleted": true}));
        assert!(matches!(not_found("x"), Refusal::NotFound { .. }));
        let previous = previous_not_found(&"x".repeat(1_000));
        assert!(
            matches!(previous, Refusal::Bad { code: Some("previous_response_not_found"), message, .. } if message.len() < 200)
        );
        assert!(matches!(not_cancellable(), Refusal::Bad { status: 400, .. }));
    }

    #[test]
    fn a_continuation_sees_what_was_said() {
        let body = json!({"model": "m", "input": [
            {"type": "function_call_output", "call_id": "c", "output": "ok"}, {"type": "item_reference", "id": "fc_1"},
        ]})
        .to_string();
        assert_eq!(references(&body), ["fc_1"]);
        assert!(references("[").is_empty());
        let mut known = earlier(&[kept()]);
        known.named.insert("fc_1".to_owned(), kept().item("fc_1").unwrap().clone());
        assert_eq!(super::super::parse(&body, &known).unwrap().request.turns.len(), 6);
    }

    #[test]
    fn input_items_are_paged() {
        let texts = |page: &Value| -> Vec<String> {
            page["data"].as_array().unwrap().iter().map(|item| item["content"].as_str().unwrap().to_owned()).collect()
        };
        let page = kept().input_items(&[("limit", "2")]).unwrap();
        assert_eq!((texts(&page), &page["has_more"]), (vec!["c".to_owned(), "b".to_owned()], &json!(true)));
        let last = page["last_id"].as_str().unwrap();
        let rest = kept().input_items(&[("after", last)]).unwrap();
        assert_eq!((texts(&rest), &rest["has_more"]), (vec!["a".to_owned()], &json!(false)));
        assert_eq!(texts(&kept().input_items(&[("order", "asc")]).unwrap()), ["a", "b", "c"]);
        for wrong in [("limit", "0"), ("limit", "101"), ("limit", "x"), ("order", "up"), ("after", "nothing")] {
            assert!(kept().input_items(&[wrong]).is_err(), "{wrong:?}");
        }
    }
}
