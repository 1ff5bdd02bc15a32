//! One line of a batch's input: `{"custom_id","method","url","body"}`. Its body is read as a request of its own would be, so that
//! what can't be bounded, isn't priced or isn't allowed is refused by the same rules.

use std::ops::Range;

use bytes::Bytes;
use openclawmu_store::{Bound, Label, ModelPrice, RequestId, ServiceTier};

use crate::admit::{count_tokens, input_bound, overhead};
use crate::dialect::ask::{self, Ask};
use crate::dialect::openai::request::Edits;
use crate::dialect::openai::service::AskedTier;
use crate::dialect::scan;
use crate::read::Call;
use crate::refusal::Refusal;
use crate::routes::AiRoute;

/// The longest id of a line.
const MAX_ID: usize = 512;
/// The cap of a legacy completion that names none, by that API's definition.
const COMPLETIONS_DEFAULT: u32 = 16;

/// What a batch asks for in each of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// As the client spelled it.
    pub(super) url: String,
    /// Which route that is.
    pub(super) route: AiRoute,
}

/// A line that was understood.
pub(super) struct Line {
    /// Its id, which no other line has.
    pub(super) custom_id: String,
    /// Where its body stands in it.
    body_at: Range<usize>,
    /// Its request.
    pub(super) call: Call,
}

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    /// 400 that names the member at fault.
    pub(super) fn read(line: &Bytes, endpoint: &Endpoint) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(line).map_err(|_| Refusal::bad("line", "It is not UTF-8."))?;
        let mut members: [Option<Range<usize>>; 4] = [const { None }; 4];
        let mut problem = None;
        scan::members(text, |key, range| {
            let names = ["custom_id", "method", "url", "body"];
            match names.iter().position(|name| *name == key).and_then(|at| members.get_mut(at)) {
                None => {
                    problem = Some(Refusal::bad(key.chars().take(40).collect::<String>(), "A line has no such member."))
                }
                Some(slot) => {
                    if slot.replace(range).is_some() {
                        problem = Some(Refusal::bad(key.into_owned(), "It is given twice."));
                    }
                }
            }
        })
        .map_err(|err| Refusal::bad("line", format!("It {err}.")))?;
        if let Some(problem) = problem {
            return Err(problem);
        }
        let [custom_id, method, url, body] = members;
        let word = |range: Option<Range<usize>>, name: &'static str| -> Result<String, Refusal> {
            let raw = range.and_then(|range| text.get(range));
            let word = raw.and_then(|raw| serde_json::from_str::<String>(raw).ok());
            word.filter(|word| !word.is_empty()).ok_or_else(|| Refusal::bad(name, format!("`{name}` must be a text.")))
        };
        let custom_id = word(custom_id, "custom_id")?;
        if custom_id.len() > MAX_ID {
            return Err(Refusal::bad("custom_id", format!("`custom_id` has more than {MAX_ID} bytes.")));
        }
        if word(method, "method")? != "POST" {
            return Err(Refusal::bad("method", "`method` must be POST."));
        }
        if word(url, "url")? != endpoint.url {
            return Err(Refusal::bad("url", format!("`url` must be the batch's endpoint, {}.", endpoint.url)));
        }
        let body_at = body.ok_or_else(|| Refusal::bad("body", "`body` is missing."))?;
        let call = call(line.slice(body_at.clone()), endpoint.route)?;
        Ok(Self { custom_id, body_at, call })
    }

    /// What it can use at most at `model`, and the line as it is sent, so that it holds. With `exact`, the prompt's tokens are counted
    /// where their encoding is public.
    ///
    /// # Errors
    /// 400 where it can't be bounded.
    pub(super) fn bounded(
        &self,
        (line, sent): (&Bytes, &mut Vec<u8>),
        (model, price): (&str, &ModelPrice),
        exact: bool,
    ) -> Result<Bound, Refusal> {
        let ask = &self.call.ask;
        let (each, cap) = output_each(&self.call, price)?;
        if ask.parts.images > 0 && price.bills_input_images() {
            return Err(Refusal::bad(
                "messages",
                "Images of this model are billed by the piece, which a batch doesn't state.",
            ));
        }
        let edits = Edits { model: (ask.model != model).then_some(model), cap, ..Edits::default() };
        sent.extend_from_slice(line.get(..self.body_at.start).unwrap_or_default());
        sent.extend_from_slice(&ask::edit(&self.call.body, &ask.fields, &edits));
        sent.extend_from_slice(line.get(self.body_at.end..).unwrap_or_default());
        sent.push(b'\n');
        let output_tokens = each
            .saturating_mul(ask.choices)
            .saturating_mul(ask.inputs)
            .saturating_add(ask.prediction_bytes.saturating_mul(ask.choices));
        let plain = ask.parts.images == 0 && ask.parts.unbounded == 0;
        let counted = if exact && plain { count_tokens(&self.call.body, price.tokenizer) } else { None };
        let bytes = input_bound(&self.call, price)?;
        let input = counted.map_or(bytes, |tokens| tokens.saturating_add(overhead(&self.call)).min(bytes));
        Ok(Bound { input_tokens: input, output_tokens, input_images: ask.parts.images, ..Bound::default() })
    }
}

/// A line's body as a request of its own.
fn call(body: Bytes, route: AiRoute) -> Result<Call, Refusal> {
    let text = std::str::from_utf8(&body).unwrap_or_default();
    if !text.starts_with('{') {
        return Err(Refusal::bad("body", "`body` must be an object."));
    }
    let ask = ask::read(route, ("", None), text)?;
    if ask.stream {
        return Err(Refusal::bad("stream", "A batch can't stream; leave `stream` out."));
    }
    match ask.service_tier {
        AskedTier::Auto | AskedTier::Named(ServiceTier::Standard) => {}
        AskedTier::Named(ServiceTier::Batch | ServiceTier::Flex | ServiceTier::Priority) => {
            return Err(Refusal::bad(
                "service_tier",
                "A batch has a service tier of its own; leave `service_tier` out.",
            ));
        }
    }
    Ok(Call { request_id: RequestId(0), route, ask, label: Label::default(), body, form: None, asked: None })
}

/// A cap that is written into a line: the field's name, and tokens.
type WrittenCap = Option<(&'static str, u32)>;

/// What each answer of it can have at most, and the cap to be written where it names none.
fn output_each(call: &Call, price: &ModelPrice) -> Result<(u32, WrittenCap), Refusal> {
    let Ask { max_output, .. } = call.ask;
    if !call.route.has_output() {
        return Ok((0, None));
    }
    if let Some(tokens) = max_output {
        return Ok((tokens, None));
    }
    if call.route == AiRoute::Completions {
        return Ok((COMPLETIONS_DEFAULT, Some(("max_tokens", COMPLETIONS_DEFAULT))));
    }
    // OpenAI's newer models know only the new name; other servers may know only the old one.
    let field = if price.tokenizer.is_some() { "max_completion_tokens" } else { "max_tokens" };
    match price.max_output_tokens.or(price.context_tokens) {
        Some(tokens) => Ok((tokens, Some((field, tokens)))),
        None => Err(Refusal::bad(
            "max_tokens",
            format!("`max_tokens` is needed: the rate card states no output limit for `{}`.", call.ask.model),
        )),
    }
}

#[cfg(test)]
mod tests {
    use openclawmu_store::NanoUsd;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint { url: "/v1/chat/completions".to_owned(), route: AiRoute::ChatCompletions }
    }

    fn line(body: &str) -> String {
        format!(r#"{{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{body}}}"#)
    }

    fn read(text: &str) -> Result<Line, Refusal> {
        Line::read(&Bytes::copy_from_slice(text.as_bytes()), &endpoint())
    }

    fn price() -> ModelPrice {
        ModelPrice { max_output_tokens: Some(100), ..ModelPrice::flat(NanoUsd(1), NanoUsd(1)) }
    }

    const GOOD: &str = r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#;

    #[test]
    fn a_line_that_could_be_read_in_two_ways_or_not_at_all_is_400() {
        let good = line(GOOD);
        assert!(read(&good).is_ok());
        for (bad, param) in [
            (good.replace("\"method\":\"POST\"", "\"method\":\"GET\""), "method"),
            (good.replace("/v1/chat", "/v1/other"), "url"),
            (good.replace("\"custom_id\":\"a\",", ""), "custom_id"),
            (good.replace("\"custom_id\":\"a\"", "\"custom_id\":7"), "custom_id"),
            (good.replace("\"custom_id\":\"a\"", "\"custom_id\":\"\""), "custom_id"),
            (good.replace("{\"custom_id\"", "{\"extra\":1,\"custom_id\""), "extra"),
            (good.replace("{\"custom_id\"", "{\"body\":{},\"custom_id\""), "body"),
            (good.replace("{\"custom_id\"", "{\"bod\\u0079\":{},\"custom_id\""), "body"),
            (good.replace(GOOD, "[]"), "body"),
            (good.replace(GOOD, "null"), "body"),
            (line(r#"{"model":"m","messages":[],"stream":true}"#), "stream"),
            (line(r#"{"model":"m","messages":[],"service_tier":"priority"}"#), "service_tier"),
            (line(r#"{"model":"m","messages":[],"max_tokens":1,"max_tokens":2}"#), "max_tokens"),
            ("nothing".to_owned(), "line"),
            (good.clone() + "{}", "line"),
        ] {
            let refusal = read(&bad).err().unwrap_or_else(|| panic!("{bad}"));
            assert_eq!(refusal.told().param.as_deref(), Some(param), "{bad}");
        }
    }

    fn sent(text: &str, price: &ModelPrice) -> Result<(Bound, Value), Refusal> {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let line = Line::read(&bytes, &endpoint()).unwrap();
        let mut sent = Vec::new();
        let bound = line.bounded((&bytes, &mut sent), ("gpt", price), false)?;
        assert_eq!(sent.iter().filter(|byte| **byte == b'\n').count(), 1, "one line is one line");
        Ok((bound, serde_json::from_slice(&sent).unwrap()))
    }

    /// Q-03
    #[test]
    fn what_the_bound_relies_on_is_written_into_the_line() {
        let (bound, sent_line) = sent(&line(GOOD), &price()).unwrap();
        assert_eq!(bound.output_tokens, 100);
        assert!(bound.input_tokens >= 5);
        assert_eq!(sent_line["body"]["model"], "gpt");
        assert_eq!(sent_line["body"]["max_tokens"], 100);
        assert_eq!(sent_line["body"]["messages"], json!([{"role": "user", "content": "hello"}]));
        assert_eq!(sent_line["custom_id"], "a");
        let own = line(r#"{"n":3,"model":"gpt","messages":[],"max_completion_tokens":7}"#);
        let (bound, sent_line) = sent(&own, &price()).unwrap();
        assert_eq!((bound.output_tokens, sent_line), (21, serde_json::from_str(&own).unwrap()));
        let unlimited = ModelPrice::flat(NanoUsd(1), NanoUsd(1));
        assert_eq!(sent(&line(GOOD), &unlimited).unwrap_err().told().param.as_deref(), Some("max_tokens"));
    }

    proptest! {
        /// Whatever the bytes: what is sent is one line, of which nothing but the model and the cap are others than they were.
        #[test]
        fn a_line_that_is_taken_is_sent_as_it_came_but_for_what_the_bound_relies_on(
            id in ".{1,20}", text in ".{0,40}", cap in proptest::option::of(1_u32..99), n in 1_u32..4, torn in 0_usize..400
        ) {
            let mut body = json!({"model": "m", "messages": [{"role": "user", "content": text}], "n": n});
            if let Some(cap) = cap {
                body["max_tokens"] = cap.into();
            }
            let whole = json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body});
            let (bound, mut seen) = sent(&whole.to_string(), &price()).unwrap();
            prop_assert_eq!(bound.output_tokens, cap.unwrap_or(100) * n);
            prop_assert!(usize::try_from(bound.input_tokens).unwrap() >= text.len());
            prop_assert_eq!(&seen["body"]["model"], "gpt");
            prop_assert_eq!(&seen["body"]["max_tokens"], &json!(cap.unwrap_or(100)));
            seen["body"]["model"] = "m".into();
            seen["body"]["max_tokens"] = whole["body"]["max_tokens"].clone();
            if cap.is_none() {
                seen["body"].as_object_mut().unwrap().remove("max_tokens");
            }
            prop_assert_eq!(&seen, &whole);
            let (text, torn): (String, String) = (whole.to_string(), whole.to_string().chars().take(torn).collect());
            if torn.len() < text.len() {
                prop_assert!(read(&torn).is_err());
            }
        }
    }
}
