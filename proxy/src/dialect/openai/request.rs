//! What an `OpenAI` request asks for, and the fields that the gateway owns.
//!
//! The body is passed on byte for byte, except `model`, the output cap, `stream_options` and `service_tier`; those are edited in place. A
//! field that decides over money is read exactly once: a repeated one, or one that another parser could take for it, is refused.

use std::ops::Range;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::owned::{Owned, count, parse};
use super::parts::{self, Parts};
use super::service::{self, AskedTier};
use crate::dialect::ask::model_name;
use crate::refusal::Refusal;
use crate::routes::AiRoute;

/// The model of a moderation that names none, by that API's definition.
const DEFAULT_MODERATION: &str = "omni-moderation-latest";
/// The most choices that one request may ask for.
const MAX_CHOICES: u64 = 128;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// The model, as the client named it.
    pub(crate) model: String,
    /// Whether it wants a stream.
    pub(crate) stream: bool,
    /// Whether it asked for the usage event itself.
    pub(crate) wants_usage: bool,
    /// Its cap on the answer's tokens.
    pub(crate) max_output: Option<u32>,
    /// Answers that are generated and billed.
    pub(crate) choices: u32,
    /// Inputs that are billed one by one, each within the context window, and that each get their own answers: several for
    /// legacy completions and embeddings, one for a chat.
    pub(crate) inputs: u32,
    /// The prompt's parts besides text.
    pub(crate) parts: Parts,
    /// Whether it offers tools, which providers wrap into a prompt of their own.
    pub(crate) has_tools: bool,
    /// Bytes of a predicted output, which may be billed as output.
    pub(crate) prediction_bytes: u32,
    /// The service tier that it wants.
    pub(crate) service_tier: AskedTier,
    /// Where the owned fields stand.
    pub(crate) fields: Fields,
}

/// Places of the values of owned fields in the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    model: Option<Range<usize>>,
    cap: Option<Range<usize>>,
    stream_options: Option<Range<usize>>,
    service_tier: Option<Range<usize>>,
    /// Whom the request is for: only read, never changed.
    pub(crate) user: Option<Range<usize>>,
    /// The client's own notes: only read, never changed.
    pub(crate) metadata: Option<Range<usize>>,
    /// Right behind the opening brace.
    first: usize,
}

impl Fields {
    /// The places that every request may have.
    pub(crate) fn of<const N: usize>(body: &str, owned: &Owned<N>) -> Self {
        Self {
            model: owned.range("model"),
            cap: None,
            stream_options: owned.range("stream_options"),
            service_tier: owned.range("service_tier"),
            user: owned.user.clone(),
            metadata: owned.metadata.clone(),
            first: body.find('{').map_or(0, |at| at + 1),
        }
    }

    /// Whether the body names a model.
    pub(crate) fn names_model(&self) -> bool {
        self.model.is_some()
    }
}

/// What to change in the body before it goes out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edits<'a> {
    /// Another model name.
    pub(crate) model: Option<&'a str>,
    /// An output cap: replaces the client's, or is added under this name.
    pub(crate) cap: Option<(&'static str, u32)>,
    /// Force the usage event.
    pub(crate) force_usage: bool,
    /// Name the ordinary service tier, so that the provider chooses no dearer one.
    pub(crate) ordinary_tier: bool,
}

/// Fields that decide over money.
const OWNED: [&str; 15] = [
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "best_of",
    "messages",
    "prompt",
    "input",
    "prediction",
    "service_tier",
    "web_search_options",
    "tools",
    "functions",
];

type Raw = Owned<{ OWNED.len() }>;

/// Reads a request's body.
pub(crate) fn read(route: AiRoute, body: &str) -> Result<Ask, Refusal> {
    let raw = Owned::read(body, &OWNED)?;
    let default = (route == AiRoute::Moderations).then(|| DEFAULT_MODERATION.to_owned());
    let model = parse(raw.get(body, "model"), "model", "a string")?
        .or(default)
        .ok_or_else(|| Refusal::bad("model", "You must provide a model parameter."))
        .and_then(model_name)?;
    let stream = parse(raw.get(body, "stream"), "stream", "a boolean")?.unwrap_or(false) && route.has_output();
    require_prompt(&raw, body, route)?;
    refuse_unpriced(&raw, body)?;
    let (cap_name, max_output) = output_cap(&raw, body, route)?;
    Ok(Ask {
        model,
        stream,
        wants_usage: wants_usage(&raw, body)?,
        max_output,
        choices: choices(&raw, body, route)?,
        inputs: inputs(&raw, body, route)?,
        parts: parts(&raw, body, route)?,
        has_tools: raw.get(body, "tools").is_some() || raw.get(body, "functions").is_some(),
        prediction_bytes: raw.get(body, "prediction").map_or(0, |text| u32::try_from(text.len()).unwrap_or(u32::MAX)),
        service_tier: service::asked(raw.get(body, "service_tier"))?,
        fields: Fields { cap: cap_name.and_then(|name| raw.range(name)), ..Fields::of(body, &raw) },
    })
}

/// What the prompt holds besides text.
fn parts(raw: &Raw, body: &str, route: AiRoute) -> Result<Parts, Refusal> {
    if let Some(messages) = raw.get(body, "messages") {
        return parts::count(messages, raw.nested)
            .map_err(|err| Refusal::bad("messages", format!("`messages` is not a list of messages: {err}.")));
    }
    match raw.get(body, "input").filter(|_| route == AiRoute::Moderations) {
        Some(input) => parts::of_input(input)
            .map_err(|err| Refusal::bad("input", format!("`input` is not a list of strings or of parts: {err}."))),
        None => Ok(Parts::default()),
    }
}

/// A refusal of a body that is no text.
pub(crate) fn not_utf8() -> Refusal {
    Refusal::Bad {
        status: 400,
        param: None,
        code: Some("invalid_json"),
        message: "We could not parse the JSON body of your request: it is not UTF-8.".to_owned(),
    }
}

/// The cap that the client set, by either name. Both at once are refused: providers differ in which one wins.
fn output_cap(raw: &Raw, body: &str, route: AiRoute) -> Result<(Option<&'static str>, Option<u32>), Refusal> {
    if !route.has_output() {
        return Ok((None, None));
    }
    let largest = u64::from(u32::MAX >> 1);
    let cap = |name| raw.get(body, name).map(|raw| count(raw, name, (1, largest))).transpose();
    let (old, new) = (cap("max_tokens")?, cap("max_completion_tokens")?);
    match (old, new) {
        (Some(_), Some(_)) => {
            Err(Refusal::bad("max_tokens", "Give either `max_tokens` or `max_completion_tokens`, not both."))
        }
        (Some(cap), None) => Ok((Some("max_tokens"), Some(cap))),
        (None, Some(cap)) => Ok((Some("max_completion_tokens"), Some(cap))),
        (None, None) => Ok((None, None)),
    }
}

/// What a request can't be without: told here, before anything is reserved.
fn require_prompt(raw: &Raw, body: &str, route: AiRoute) -> Result<(), Refusal> {
    let begins = |name, with: &[char]| raw.get(body, name).is_some_and(|raw| raw.starts_with(with));
    if route == AiRoute::ChatCompletions && !begins("messages", &['[']) {
        return Err(Refusal::bad("messages", "`messages` must be a list of messages."));
    }
    if route == AiRoute::Embeddings && !begins("input", &['"', '[']) {
        return Err(Refusal::bad("input", "`input` must be a string, a list of strings, or token ids."));
    }
    if route == AiRoute::Moderations && !begins("input", &['"', '[']) {
        return Err(Refusal::bad("input", "`input` must be a string, or a list of strings or of parts."));
    }
    Ok(())
}

/// Options that change the price in ways that the rate card does not state.
fn refuse_unpriced(raw: &Raw, body: &str) -> Result<(), Refusal> {
    match raw.get(body, "web_search_options") {
        None | Some("null") => Ok(()),
        Some(_) => Err(Refusal::bad(
            "web_search_options",
            "Web search is not priced by the rate card; leave `web_search_options` out.",
        )),
    }
}

fn choices(raw: &Raw, body: &str, route: AiRoute) -> Result<u32, Refusal> {
    if !route.has_output() {
        return Ok(1);
    }
    let option = |name| match raw.get(body, name) {
        None | Some("null") => Ok(None),
        Some(raw) => count(raw, name, (1, MAX_CHOICES)).map(Some),
    };
    let n = option("n")?.unwrap_or(1);
    let best_of = if route == AiRoute::Completions { option("best_of")?.unwrap_or(1) } else { 1 };
    Ok(n.max(best_of))
}

/// How many prompts an array holds: each is generated for, or embedded, by itself. A list of token ids is one prompt.
fn inputs(raw: &Raw, body: &str, route: AiRoute) -> Result<u32, Refusal> {
    let name = if route == AiRoute::Completions { "prompt" } else { "input" };
    if !matches!(route, AiRoute::Completions | AiRoute::Embeddings | AiRoute::Moderations) {
        return Ok(1);
    }
    let Some(raw) = raw.get(body, name).filter(|raw| raw.starts_with('[')) else { return Ok(1) };
    let what = "a string, a list of strings, or token ids";
    let list: Vec<IgnoredAny> = parse(Some(raw), name, what)?.unwrap_or_default();
    let first = raw.strip_prefix('[').and_then(|rest| rest.trim_start().bytes().next());
    let token_ids = first.is_some_and(|byte| byte.is_ascii_digit());
    Ok(if token_ids { 1 } else { u32::try_from(list.len()).unwrap_or(u32::MAX).max(1) })
}

fn wants_usage(raw: &Raw, body: &str) -> Result<bool, Refusal> {
    #[derive(Deserialize)]
    struct StreamOptions {
        #[serde(default)]
        include_usage: Option<bool>,
    }
    let options: Option<Option<StreamOptions>> =
        parse(raw.get(body, "stream_options"), "stream_options", "an object such as {\"include_usage\": true}")?;
    Ok(options.flatten().and_then(|options| options.include_usage).unwrap_or(false))
}

/// The body with `edits` made and every other byte as it was.
pub(crate) fn edit(body: &[u8], fields: &Fields, edits: &Edits<'_>) -> Vec<u8> {
    let mut changes: Vec<(Range<usize>, String)> = Vec::new();
    let mut added = String::new();
    if let Some(model) = edits.model {
        let name = serde_json::Value::from(model).to_string();
        match &fields.model {
            Some(place) => changes.push((place.clone(), name)),
            None => added.push_str(&format!("\"model\":{name},")),
        }
    }
    if let Some((name, cap)) = edits.cap {
        match &fields.cap {
            Some(place) => changes.push((place.clone(), cap.to_string())),
            None => added.push_str(&format!("\"{name}\":{cap},")),
        }
    }
    if edits.force_usage {
        match &fields.stream_options {
            Some(place) => changes.push((place.clone(), forced_options(body.get(place.clone()).unwrap_or_default()))),
            None => added.push_str("\"stream_options\":{\"include_usage\":true},"),
        }
    }
    if edits.ordinary_tier {
        match &fields.service_tier {
            Some(place) => changes.push((place.clone(), "\"default\"".to_owned())),
            None => added.push_str("\"service_tier\":\"default\","),
        }
    }
    if !added.is_empty() {
        // There is at least the prompt, so what follows needs the comma.
        changes.push((fields.first..fields.first, added));
    }
    changes.sort_by_key(|(place, _)| place.start);
    let mut edited = Vec::with_capacity(body.len() + changes.iter().map(|(_, text)| text.len()).sum::<usize>());
    let mut at = 0;
    for (place, text) in changes {
        edited.extend(body.get(at..place.start).unwrap_or_default());
        edited.extend(text.as_bytes());
        at = place.end;
    }
    edited.extend(body.get(at..).unwrap_or_default());
    edited
}

/// The client's stream options with `include_usage` on; what else stands there stays.
fn forced_options(raw: &[u8]) -> String {
    let mut options: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(raw).unwrap_or_default();
    options.insert("include_usage".to_owned(), true.into());
    serde_json::Value::Object(options).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a chat's body, with a prompt added where the test gives none.
    fn chat(body: &str) -> Result<Ask, Refusal> {
        if body.contains("\"messages\"") {
            return read(AiRoute::ChatCompletions, body);
        }
        let end = body.rfind('}').unwrap();
        read(AiRoute::ChatCompletions, &format!("{},\"messages\":[]{}", &body[..end], &body[end..]))
    }

    #[test]
    fn a_request_without_its_prompt_is_400() {
        for bad in [r#"{"model":"m","messages":"x"}"#, r#"{"model":"m","messages":null}"#] {
            assert_eq!(chat(bad).unwrap_err().told().param.as_deref(), Some("messages"));
        }
        assert!(read(AiRoute::ChatCompletions, r#"{"model":"m"}"#).is_err());
        assert_eq!(read(AiRoute::Embeddings, r#"{"model":"m"}"#).unwrap_err().told().param.as_deref(), Some("input"));
        assert!(read(AiRoute::Completions, r#"{"model":"m"}"#).is_ok());
    }

    #[test]
    fn q_04_an_output_cap_that_is_no_positive_integer_is_400() {
        for bad in
            ["9223372036854775808", "-1", "\"10\"", "1e99", "null", "0", "1.5", "10.0", "true", "[]", "4294967296"]
        {
            for name in ["max_tokens", "max_completion_tokens"] {
                let body = format!(r#"{{"model":"m","messages":[],"{name}":{bad}}}"#);
                assert_eq!(chat(&body).unwrap_err().told().status, 400, "{body}");
            }
        }
        assert_eq!(chat(r#"{"model":"m","max_tokens":10}"#).unwrap().max_output, Some(10));
    }

    #[test]
    fn q_04_a_field_that_decides_over_money_is_read_once() {
        for twice in [
            r#"{"model":"m","max_tokens":1,"max_tokens":2}"#,
            r#"{"model":"m","max_tokens":1,"max\u005ftokens":2}"#,
            r#"{"model":"m","max_tokens":1,"MAX_TOKENS":2}"#,
            r#"{"model":"m","max_tokens":1,"max_to\u212aens":2}"#,
            r#"{"model":"m","max_tokenſ":2}"#,
            r#"{"model":"m","max_tokens":1,"max_completion_tokens":2}"#,
            r#"{"model":"a","model":"b"}"#,
            r#"{"model":"a","n":1,"N":9}"#,
        ] {
            assert_eq!(chat(twice).unwrap_err().told().status, 400, "{twice}");
        }
    }

    #[test]
    fn what_the_rate_card_does_not_price_is_refused() {
        assert!(chat(r#"{"model":"m","service_tier":"scale"}"#).is_err());
        assert!(chat(r#"{"model":"m","web_search_options":{}}"#).is_err());
        assert!(chat(r#"{"model":"m","service_tier":"auto","web_search_options":null}"#).is_ok());
    }

    #[test]
    fn choices_and_prompts_multiply() {
        assert_eq!(chat(r#"{"model":"m","n":8}"#).unwrap().choices, 8);
        assert!(chat(r#"{"model":"m","n":0}"#).is_err() && chat(r#"{"model":"m","n":1000}"#).is_err());
        let ask = read(AiRoute::Completions, r#"{"model":"m","prompt":["a","b"],"n":2,"best_of":5}"#).unwrap();
        assert_eq!((ask.choices, ask.inputs), (5, 2));
        let ask = read(AiRoute::Embeddings, r#"{"model":"m","input":[1,2,3],"n":7}"#).unwrap();
        assert_eq!((ask.choices, ask.inputs), (1, 1));
        assert_eq!(read(AiRoute::Embeddings, r#"{"model":"m","input":[[1,2],[3]]}"#).unwrap().inputs, 2);
    }

    #[test]
    fn edits_touch_nothing_else() {
        let body = r#" { "x":[1, 2], "model" : "fast", "stream":true,"max_tokens":9,"y":"\u00e9" }"#;
        let ask = chat(body).unwrap();
        let edits =
            Edits { model: Some("gpt\"4"), cap: Some(("max_tokens", 5)), force_usage: true, ordinary_tier: true };
        let edited = String::from_utf8(edit(body.as_bytes(), &ask.fields, &edits)).unwrap();
        let expected = r#" {"stream_options":{"include_usage":true},"service_tier":"default", "x":[1, 2], "model" : "gpt\"4", "stream":true,"max_tokens":5,"y":"\u00e9" }"#;
        assert_eq!(edited, expected);
        assert_eq!(edit(body.as_bytes(), &ask.fields, &Edits::default()), body.as_bytes());
    }

    #[test]
    fn usage_is_forced_whatever_the_client_sent() {
        for (options, wanted) in [
            (r#"{"include_usage":false,"k":1}"#, false),
            (r#"{"include_usage":true}"#, true),
            ("null", false),
            ("{}", false),
        ] {
            let body = format!(r#"{{"model":"m","stream":true,"stream_options":{options}}}"#);
            let ask = chat(&body).unwrap();
            assert_eq!(ask.wants_usage, wanted);
            let edited = edit(body.as_bytes(), &ask.fields, &Edits { force_usage: true, ..Edits::default() });
            let value: serde_json::Value = serde_json::from_slice(&edited).unwrap();
            assert_eq!(value["stream_options"]["include_usage"], true);
            assert_eq!(value["stream_options"].get("k").is_some(), options.contains('k'));
        }
        assert!(chat(r#"{"model":"m","stream_options":{"include_usage":"yes"}}"#).is_err());
    }

    #[test]
    fn the_ordinary_tier_takes_the_place_of_auto() {
        let body = r#"{"service_tier":"auto","model":"m"}"#;
        let edits = Edits { ordinary_tier: true, ..Edits::default() };
        let edited = edit(body.as_bytes(), &chat(body).unwrap().fields, &edits);
        assert_eq!(edited, br#"{"service_tier":"default","model":"m"}"#);
    }

    #[test]
    fn an_absent_cap_is_added() {
        let body = r#"{"model":"m"}"#;
        let edited = edit(
            body.as_bytes(),
            &chat(body).unwrap().fields,
            &Edits { cap: Some(("max_tokens", 7)), ..Edits::default() },
        );
        assert_eq!(edited, br#"{"max_tokens":7,"model":"m"}"#);
    }
}
