//! What a request may cost, and where the fields stand that the gateway owns, without a full parse.
//!
//! What would cost more than the rate card states is refused here, since these bodies go to the provider as they came.

use std::ops::Range;

use serde::Deserialize;

use super::parts::{self, Parts};
use crate::dialect::ask::model_name;
use crate::dialect::scan;
use crate::refusal::Refusal;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// An answer.
    Answer,
    /// The size of the prompt.
    Count,
}

/// What a request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The model, as the client named it.
    pub(crate) model: String,
    /// Whether it wants a stream.
    pub(crate) stream: bool,
    /// Its cap on the answer's tokens; of a count there is none.
    pub(crate) max_output: Option<u32>,
    /// The prompt's parts besides text.
    pub(crate) parts: Parts,
    /// Whether it offers tools, which the provider wraps into a prompt of its own.
    pub(crate) has_tools: bool,
    /// Where the owned fields stand.
    pub(crate) fields: Fields,
}

/// Places of values in the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    model: Range<usize>,
    max_tokens: Option<Range<usize>>,
    /// The client's own notes, with `user_id`: only read, never changed.
    pub(crate) metadata: Option<Range<usize>>,
}

/// What to change in the body before it goes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edits<'a> {
    /// Another model name.
    pub(crate) model: Option<&'a str>,
    /// Another output cap.
    pub(crate) max_tokens: Option<u32>,
}

/// Fields that decide over money, each read exactly once.
const OWNED: [&str; 12] = [
    "model",
    "max_tokens",
    "stream",
    "messages",
    "tools",
    "speed",
    "inference_geo",
    "container",
    "mcp_servers",
    "service_tier",
    "fallbacks",
    "context_management",
];

/// Tools that the client runs itself, by the beginning of their type; every other one runs at the provider, at prices and
/// with results of sizes that nobody can know before.
const CLIENT_TOOLS: [&str; 7] =
    ["custom", "bash_", "text_editor_", "memory_", "computer_", "computer_toolset_", "browser_toolset_"];

#[derive(Default)]
struct Raw {
    values: [Option<Range<usize>>; OWNED.len()],
    metadata: Option<Range<usize>>,
    twice: Option<&'static str>,
}

impl Raw {
    fn take(&mut self, key: &str, range: Range<usize>) {
        if key == "metadata" {
            self.metadata = Some(range);
        } else if let Some((name, slot)) = OWNED.iter().zip(&mut self.values).find(|(name, _)| **name == key)
            && slot.replace(range).is_some()
        {
            self.twice = Some(name);
        }
    }

    fn range(&self, name: &str) -> Option<Range<usize>> {
        OWNED.iter().zip(&self.values).find(|(known, _)| **known == name).and_then(|(_, range)| range.clone())
    }

    /// The raw text of a value that is not null.
    fn get<'a>(&self, body: &'a str, name: &str) -> Option<&'a str> {
        body.get(self.range(name)?).filter(|raw| *raw != "null")
    }
}

/// Reads what a body says.
///
/// # Errors
/// 400 with the field at fault.
pub(crate) fn facts(asks: Asks, body: &str) -> Result<Facts, Refusal> {
    let mut raw = Raw::default();
    let nested = scan::members(body, |key, range| raw.take(&key, range)).map_err(|err| Refusal::Bad {
        status: 400,
        param: None,
        code: Some("invalid_json"),
        message: format!("We could not parse the JSON body of your request: it {err}."),
    })?;
    if let Some(name) = raw.twice {
        return Err(Refusal::bad(name, format!("`{name}` is given twice.")));
    }
    let model = value(&raw, body, "model", "a string")?
        .ok_or_else(|| Refusal::bad("model", "`model` is missing; name the model that is to answer."))
        .and_then(model_name)?;
    let messages = raw.get(body, "messages").filter(|raw| raw.starts_with('['));
    let messages = messages.ok_or_else(|| Refusal::bad("messages", "`messages` must be a list of messages."))?;
    refuse_unpriced(&raw, body)?;
    let answers = asks == Asks::Answer;
    Ok(Facts {
        model,
        stream: answers && value(&raw, body, "stream", "a boolean")?.unwrap_or(false),
        max_output: if answers { Some(max_tokens(&raw, body)?) } else { None },
        parts: parts::count(messages, nested)
            .map_err(|err| Refusal::bad("messages", format!("`messages` is not a list of messages: {err}.")))?,
        has_tools: raw.get(body, "tools").is_some_and(|tools| tools != "[]"),
        fields: Fields {
            model: raw.range("model").unwrap_or_default(),
            max_tokens: raw.range("max_tokens"),
            metadata: raw.metadata,
        },
    })
}

fn value<'a, T: Deserialize<'a>>(
    raw: &Raw,
    body: &'a str,
    name: &'static str,
    what: &str,
) -> Result<Option<T>, Refusal> {
    raw.get(body, name)
        .map(|raw| serde_json::from_str(raw).map_err(|_| Refusal::bad(name, format!("`{name}` must be {what}."))))
        .transpose()
}

/// The cap, which this dialect demands. A number with a fraction or an exponent is not whole, whatever its value.
fn max_tokens(raw: &Raw, body: &str) -> Result<u32, Refusal> {
    let Some(raw) = raw.range("max_tokens").and_then(|range| body.get(range)) else {
        return Err(Refusal::bad("max_tokens", "`max_tokens` is missing; say how many tokens an answer may have."));
    };
    let most = u32::MAX >> 1;
    let cap = raw.parse::<u32>().ok().filter(|cap| (1..=most).contains(cap));
    cap.ok_or_else(|| Refusal::bad("max_tokens", format!("`max_tokens` must be a whole number from 1 to {most}.")))
}

/// Options that change the price in ways that the rate card does not state.
fn refuse_unpriced(raw: &Raw, body: &str) -> Result<(), Refusal> {
    let unpriced = |name: &'static str, what: &str| {
        Err(Refusal::bad(name, format!("{what} not priced by the rate card; leave `{name}` out.")))
    };
    let word = |name| value::<String>(raw, body, name, "a string");
    if word("speed")?.is_some_and(|speed| speed != "standard") {
        return unpriced("speed", "Other speeds than `standard` are");
    }
    if word("inference_geo")?.is_some_and(|geo| geo != "global") {
        return unpriced("inference_geo", "Other places than `global` are");
    }
    if word("service_tier")?.is_some_and(|tier| tier != "auto" && tier != "standard_only") {
        return unpriced("service_tier", "Other tiers than `auto` and `standard_only` are");
    }
    if raw.get(body, "container").is_some() {
        return unpriced("container", "Containers are");
    }
    if raw.get(body, "mcp_servers").is_some_and(|servers| servers != "[]") {
        return unpriced("mcp_servers", "MCP servers are");
    }
    if raw.get(body, "fallbacks").is_some_and(|models| models != "[]") {
        return unpriced("fallbacks", "Other models than `model` are");
    }
    if compacts(raw, body)? {
        return unpriced("context_management", "Compaction, whose tokens the provider counts apart, is");
    }
    server_tools(raw, body)
}

/// Whether the provider is to summarise a long prompt, with tokens that its totals leave out.
fn compacts(raw: &Raw, body: &str) -> Result<bool, Refusal> {
    #[derive(Deserialize)]
    struct Management {
        #[serde(default)]
        edits: Vec<Kind>,
    }
    let what = "an object with a list of edits";
    let management: Option<Management> = value(raw, body, "context_management", what)?;
    let edits = management.map(|management| management.edits).unwrap_or_default();
    Ok(edits.iter().any(|edit| edit.kind.as_ref().is_some_and(|kind| kind.starts_with("compact"))))
}

/// Something that may name its type.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type", default)]
    kind: Option<String>,
}

fn server_tools(raw: &Raw, body: &str) -> Result<(), Refusal> {
    let tools: Vec<Kind> = value(raw, body, "tools", "a list of tools")?.unwrap_or_default();
    for (at, tool) in tools.iter().enumerate() {
        if let Some(kind) = &tool.kind
            && !CLIENT_TOOLS.iter().any(|known| kind.starts_with(known))
        {
            let message =
                format!("The tool `{kind}` runs at the provider and is not priced by the rate card; leave it out.");
            return Err(Refusal::bad(format!("tools[{at}].type"), message));
        }
    }
    Ok(())
}

/// The body with `edits` made and every other byte as it was.
pub(crate) fn edit(body: &[u8], fields: &Fields, edits: &Edits<'_>) -> Vec<u8> {
    let model = edits.model.map(|model| (fields.model.clone(), serde_json::Value::from(model).to_string()));
    let cap = fields.max_tokens.clone().zip(edits.max_tokens.map(|cap| cap.to_string()));
    let mut changes: Vec<(Range<usize>, String)> = model.into_iter().chain(cap).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn param(body: &str) -> Option<String> {
        facts(Asks::Answer, body).err().and_then(|refusal| refusal.told().param.map(|param| param.into_owned()))
    }

    #[test]
    fn q_04_an_output_cap_that_is_missing_or_no_positive_integer_is_400() {
        assert_eq!(param(r#"{"model":"m","messages":[]}"#).as_deref(), Some("max_tokens"));
        for bad in
            ["9223372036854775808", "-1", "\"10\"", "1e99", "null", "0", "1.5", "10.0", "true", "[]", "4294967296"]
        {
            let body = format!(r#"{{"model":"m","messages":[],"max_tokens":{bad}}}"#);
            assert_eq!(param(&body).as_deref(), Some("max_tokens"), "{body}");
        }
        for name in ["model", "max_tokens", "messages", "stream"] {
            let body = format!(r#"{{"{name}":1,"model":"m","messages":[],"max_tokens":1,"stream":true,"{name}":1}}"#);
            assert_eq!(param(&body).as_deref(), Some(name));
        }
    }

    #[test]
    fn what_the_rate_card_does_not_price_is_refused_by_name() {
        for (field, name) in [
            (
                r#""tools":[{"name":"f","input_schema":{}},{"type":"web_search_20260318","name":"web_search"}]"#,
                "tools[1].type",
            ),
            (r#""tools":[{"type":"code_execution_20260521","name":"code_execution"}]"#, "tools[0].type"),
            (r#""mcp_servers":[{"type":"url"}]"#, "mcp_servers"),
            (r#""container":"c""#, "container"),
            (r#""speed":"fast""#, "speed"),
            (r#""inference_geo":"us""#, "inference_geo"),
            (r#""service_tier":"batch""#, "service_tier"),
            (r#""fallbacks":[{"model":"x"}]"#, "fallbacks"),
            (r#""context_management":{"edits":[{"type":"compact_20260112"}]}"#, "context_management"),
        ] {
            let body = format!(r#"{{"model":"m","messages":[],"max_tokens":1,{field}}}"#);
            assert_eq!(param(&body).as_deref(), Some(name), "{body}");
        }
        let fine = r#"{"model":"m","messages":[],"max_tokens":1,"tools":[{"type":"bash_20250124","name":"bash"},{"type":null,"name":"f"}],
            "mcp_servers":[],"container":null,"speed":"standard","inference_geo":null,"service_tier":"auto",
            "context_management":{"edits":[{"type":"clear_tool_uses_20250919"}]}}"#;
        assert!(facts(Asks::Answer, fine).unwrap().has_tools);
    }

    #[test]
    fn a_count_needs_no_cap_and_never_streams() {
        let counted = facts(Asks::Count, r#"{"model":"m","messages":[],"stream":true}"#).unwrap();
        assert_eq!((counted.max_output, counted.stream, counted.has_tools), (None, false, false));
    }

    #[test]
    fn every_byte_but_the_edited_values_stays() {
        let body = "{ \"max_tokens\" : 4096,\n\"x\":[1.10], \"model\":\"a\\u0062\" ,\"messages\":[] }";
        let fields = facts(Asks::Answer, body).unwrap().fields;
        let edits = Edits { model: Some("b\"c"), max_tokens: Some(7) };
        let edited = String::from_utf8(edit(body.as_bytes(), &fields, &edits)).unwrap();
        assert_eq!(edited, "{ \"max_tokens\" : 7,\n\"x\":[1.10], \"model\":\"b\\\"c\" ,\"messages\":[] }");
        assert_eq!(edit(body.as_bytes(), &fields, &Edits::default()), body.as_bytes());
    }
}
