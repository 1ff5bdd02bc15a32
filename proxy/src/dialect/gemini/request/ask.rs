//! What a request may cost, and the fields that the gateway owns, read and changed in place: a body for the same dialect is
//! passed on byte for byte but for them.
//!
//! A field that decides over money is read exactly once: one that is there twice, in whatever spelling, is refused.

use std::borrow::Cow;
use std::ops::Range;

use crate::dialect::openai::parts::Parts;
use crate::dialect::scan;
use crate::refusal::Refusal;

use super::super::members::{Field, Members, is_spelled};
use super::settings::{LARGEST, MAX_CHOICES};

/// What a request asks for, beside what its path says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ask {
    /// Its cap on the answer's tokens.
    pub(crate) max_output: Option<u32>,
    /// Answers that are generated and billed.
    pub(crate) choices: u32,
    /// The prompt's parts besides text.
    pub(crate) parts: Parts,
    /// Whether it offers tools.
    pub(crate) has_tools: bool,
    /// Where the owned fields stand.
    pub(crate) fields: Fields,
}

/// Places in the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    /// The value of `model`, which need not be there: the path names the model.
    model: Option<Range<usize>>,
    cap: Cap,
    /// The client's own notes: only read, never changed.
    pub(crate) labels: Option<Range<usize>>,
}

/// Where the cap on the answer's tokens stands, or would.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cap {
    /// Its value.
    At(Range<usize>),
    /// Right behind the opening brace of `generationConfig`; whether members follow.
    InConfig(usize, bool),
    /// In place of a `generationConfig` that is null.
    Instead(Range<usize>),
    /// Right behind the body's own opening brace; `contents` follows in any case.
    InBody(usize),
}

impl Default for Cap {
    fn default() -> Self {
        Self::InBody(0)
    }
}

/// Fields that decide over money.
const OWNED: [&str; 8] =
    ["model", "contents", "systemInstruction", "tools", "generationConfig", "serviceTier", "cachedContent", "labels"];
/// The same within `generationConfig`.
const OWNED_CONFIG: [&str; 2] = ["maxOutputTokens", "candidateCount"];
/// Tools that Google bills by the call.
const UNPRICED: [&str; 6] =
    ["googleSearch", "googleSearchRetrieval", "googleMaps", "enterpriseWebSearch", "parallelAiSearch", "exaAiSearch"];

/// The values of the members in `names`, each with its place in `json`; every other member is left alone.
fn owned<const N: usize>(json: &str, names: [&'static str; N]) -> Result<[Option<Range<usize>>; N], Refusal> {
    let mut values = [const { None }; N];
    let mut problem = None;
    let scanned = scan::members(json, |key, range| {
        let Some(at) = names.iter().position(|name| folds_to(&key, name)) else { return };
        let (Some(name), Some(slot)) = (names.get(at), values.get_mut(at)) else { return };
        if !is_spelled(&key, name) {
            problem = Some(Refusal::bad(*name, format!("`{name}` is misspelled.")));
        } else if slot.replace(range).is_some() {
            problem = Some(Refusal::bad(*name, format!("`{name}` is given twice.")));
        }
    });
    scanned.map_err(|err| Refusal::Bad {
        status: 400,
        param: None,
        code: Some("invalid_json"),
        message: format!("We could not parse the JSON body of your request: it {err}."),
    })?;
    problem.map_or(Ok(values), Err)
}

/// Whether a laxer parser could take `key` for `name`: one that ignores case or underscores.
fn folds_to(key: &str, name: &str) -> bool {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    key.chars().filter(|&letter| letter != '_').map(fold).eq(name.chars().map(fold))
}

/// Reads a request's body.
///
/// # Errors
/// 400 that names the field at fault.
pub(crate) fn read(body: &str) -> Result<Ask, Refusal> {
    let [model, contents, system, tools, config, tier, cached, labels] = owned(body, OWNED)?;
    let field = |name: &str, range: &Option<Range<usize>>| {
        let raw = body.get(range.clone()?).filter(|raw| *raw != "null")?;
        Some(Field { path: name.to_owned(), raw })
    };
    if let Some(cached) = field("cachedContent", &cached) {
        return Err(cached.refuse("is not supported: what a cached content costs is not metered"));
    }
    if let Some(tier) = field("serviceTier", &tier)
        && !matches!(tier.string()?.to_ascii_lowercase().as_str(), "unspecified" | "standard")
    {
        return Err(tier.refuse("names a service tier that is not priced by the rate card"));
    }
    let contents = field("contents", &contents).filter(|contents| contents.raw.starts_with('['));
    let contents = contents.ok_or_else(|| Refusal::bad("contents", "`contents` must be a list of contents."))?;
    let mut parts = Parts::default();
    for content in contents.list()? {
        count(&content, &mut parts)?;
    }
    if let Some(system) = field("systemInstruction", &system) {
        count(&system, &mut parts)?;
    }
    let tools = field("tools", &tools);
    if let Some(tools) = &tools {
        count_tools(tools, &mut parts)?;
    }
    let first = body.find('{').map_or(0, |at| at + 1);
    let mut ask = Ask { choices: 1, parts, has_tools: tools.is_some(), ..Ask::default() };
    ask.fields = Fields { model, cap: Cap::InBody(first), labels };
    if let Some(place) = config {
        read_config(body, place, &mut ask)?;
    }
    Ok(ask)
}

fn read_config(body: &str, place: Range<usize>, ask: &mut Ask) -> Result<(), Refusal> {
    let raw = body.get(place.clone()).unwrap_or_default();
    if raw == "null" {
        ask.fields.cap = Cap::Instead(place);
        return Ok(());
    }
    if !raw.starts_with('{') {
        return Err(Refusal::bad("generationConfig", "`generationConfig` must be an object."));
    }
    let [cap, choices] = owned(raw, OWNED_CONFIG)?;
    let field = |name: &str, range: &Range<usize>| Field {
        path: format!("generationConfig.{name}"),
        raw: raw.get(range.clone()).unwrap_or_default(),
    };
    if let Some(choices) = choices.map(|range| field("candidateCount", &range)).filter(|field| field.raw != "null") {
        ask.choices = choices.count(1, MAX_CHOICES)?;
    }
    ask.fields.cap = match cap {
        Some(range) => {
            ask.max_output = Some(field("maxOutputTokens", &range).count(1, LARGEST)?);
            Cap::At(place.start + range.start..place.start + range.end)
        }
        None => {
            let inner = raw.get(1..).unwrap_or_default().trim_start();
            Cap::InConfig(place.start + 1, !inner.starts_with('}'))
        }
    };
    Ok(())
}

/// Counts what a content holds besides text.
fn count(content: &Field<'_>, parts: &mut Parts) -> Result<(), Refusal> {
    let Some(list) = content.object()?.take("parts")? else { return Ok(()) };
    for part in list.list()? {
        count_part(part.object()?, parts)?;
    }
    Ok(())
}

fn count_part(mut part: Members<'_>, parts: &mut Parts) -> Result<(), Refusal> {
    if let Some(response) = part.take("functionResponse")?
        && let Some(inner) = response.object()?.take("parts")?
    {
        for part in inner.list()? {
            count_media(part.object()?, parts)?;
        }
    }
    count_media(part, parts)
}

fn count_media(mut part: Members<'_>, parts: &mut Parts) -> Result<(), Refusal> {
    let elsewhere = part.take("fileData")?;
    let inline = part.take("inlineData")?;
    for (media, in_place) in [(inline, true), (elsewhere, false)] {
        let Some(media) = media else { continue };
        let kind = media.object()?.take("mimeType")?.map(|kind| kind.string()).transpose()?.unwrap_or_default();
        match kind.split('/').next() {
            Some("image") => parts.images = parts.images.saturating_add(1),
            Some("audio") if in_place => {} // audio in place is longer than its tokens
            _ => parts.unbounded = parts.unbounded.saturating_add(1),
        }
    }
    Ok(())
}

/// Tools that run at Google put what they find into the prompt; those that are billed by the call are refused.
fn count_tools(tools: &Field<'_>, parts: &mut Parts) -> Result<(), Refusal> {
    for tool in tools.list()? {
        let mut members = tool.object()?;
        for name in UNPRICED {
            members.refuse(name, "is not priced by the rate card")?;
        }
        for name in ["codeExecution", "urlContext", "fileSearch", "mcpServers", "retrieval"] {
            if members.take(name)?.is_some() {
                parts.unbounded = parts.unbounded.saturating_add(1);
            }
        }
    }
    Ok(())
}

/// The body with another model, where it names one, and another cap, and every other byte as it was.
pub(crate) fn edit<'a>(body: &'a [u8], fields: &Fields, model: Option<&str>, cap: Option<u32>) -> Cow<'a, [u8]> {
    let mut changes: Vec<(Range<usize>, String)> = Vec::new();
    if let (Some(model), Some(place)) = (model, &fields.model) {
        changes.push((place.clone(), serde_json::Value::from(model).to_string()));
    }
    if let Some(cap) = cap {
        changes.push(match &fields.cap {
            Cap::At(place) => (place.clone(), cap.to_string()),
            Cap::InConfig(at, true) => (*at..*at, format!("\"maxOutputTokens\":{cap},")),
            Cap::InConfig(at, false) => (*at..*at, format!("\"maxOutputTokens\":{cap}")),
            Cap::Instead(place) => (place.clone(), format!("{{\"maxOutputTokens\":{cap}}}")),
            Cap::InBody(at) => (*at..*at, format!("\"generationConfig\":{{\"maxOutputTokens\":{cap}}},")),
        });
    }
    if changes.is_empty() {
        return Cow::Borrowed(body);
    }
    changes.sort_by_key(|(place, _)| place.start);
    let mut edited = Vec::with_capacity(body.len() + 64);
    let mut at = 0;
    for (place, text) in changes {
        edited.extend(body.get(at..place.start).unwrap_or_default());
        edited.extend(text.as_bytes());
        at = place.end;
    }
    edited.extend(body.get(at..).unwrap_or_default());
    Cow::Owned(edited)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(body: &str, cap: u32) -> String {
        let ask = read(body).unwrap();
        String::from_utf8(edit(body.as_bytes(), &ask.fields, Some("m2"), Some(cap)).into_owned()).unwrap()
    }

    #[test]
    fn q_03_the_cap_goes_where_google_reads_it() {
        for (body, expected) in [
            (r#" { "contents":[]}"#, r#" {"generationConfig":{"maxOutputTokens":7}, "contents":[]}"#),
            (
                r#"{"contents":[],"generationConfig":{ }}"#,
                r#"{"contents":[],"generationConfig":{"maxOutputTokens":7 }}"#,
            ),
            (
                r#"{"contents":[],"generation_config":{"topK":1}}"#,
                r#"{"contents":[],"generation_config":{"maxOutputTokens":7,"topK":1}}"#,
            ),
            (
                r#"{"contents":[],"generationConfig":{"max_output_tokens": 99}}"#,
                r#"{"contents":[],"generationConfig":{"max_output_tokens": 7}}"#,
            ),
            (
                r#"{"generationConfig":null,"contents":[],"model":"models/x"}"#,
                r#"{"generationConfig":{"maxOutputTokens":7},"contents":[],"model":"m2"}"#,
            ),
        ] {
            assert_eq!(edited(body, 7), expected);
        }
        let body = r#"{"contents":[]}"#;
        assert_eq!(edit(body.as_bytes(), &read(body).unwrap().fields, Some("m"), None), body.as_bytes());
    }

    #[test]
    fn q_04_a_field_that_decides_over_money_is_read_once_and_whole() {
        for config in [
            r#"{"maxOutputTokens":1,"max_output_tokens":2}"#,
            r#"{"maxOutputTokens":1,"maxOutputTokens":2}"#,
            r#"{"MaxOutputTokens":2}"#,
            r#"{"maxOutput\u0054okens":1,"maxOutputTokens":2}"#,
            r#"{"maxOutputTokens":"10"}"#,
            r#"{"maxOutputTokens":null}"#,
            r#"{"maxOutputTokens":-1}"#,
            r#"{"maxOutputTokens":1e9}"#,
            r#"{"maxOutputTokens":9223372036854775808}"#,
            r#"{"candidateCount":0}"#,
            r#"{"candidateCount":1,"candidate_count":8}"#,
            "[]",
        ] {
            let told = read(&format!(r#"{{"contents":[],"generationConfig":{config}}}"#)).unwrap_err().told();
            assert_eq!(told.status, 400, "{config}");
        }
        for body in [
            r#"{"contents":[],"generationConfig":{},"generation_config":{}}"#,
            r#"{"contents":[],"generationconfig":{}}"#,
            r#"{"contents":{}}"#,
            r#"{"generationConfig":{}}"#,
            r#"{"contents":[],"cachedContent":"cachedContents/x"}"#,
            r#"{"contents":[],"cached_content":"cachedContents/x"}"#,
            r#"{"contents":[],"serviceTier":"priority"}"#,
            r#"{"contents":[],"tools":[{"google_search":{}}]}"#,
        ] {
            assert_eq!(read(body).unwrap_err().told().status, 400, "{body}");
        }
    }

    #[test]
    fn images_files_and_tools_are_counted_in_either_spelling() {
        let body = r#"{"contents":[{"parts":[{"text":"inlineData"},{"inlineData":{"mimeType":"image/png","data":""}},
            {"inline_data":{"mime_type":"image/png","data":""}},{"inlineData":{"mimeType":"audio/wav","data":""}},
            {"fileData":{"fileUri":"gs://x"}},{"text":"x","file_data":{"file_uri":"y","mimeType":"video/mp4"}},
            {"functionResponse":{"name":"f","parts":[{"inlineData":{"mimeType":"image/png","data":""}}]}}]}],
            "tools":[{"functionDeclarations":[]},{"codeExecution":{}}],"generationConfig":{"candidateCount":3,"maxOutputTokens":5}}"#;
        let ask = read(body).unwrap();
        assert_eq!(ask.parts, Parts { images: 3, unbounded: 3 });
        assert_eq!((ask.has_tools, ask.choices, ask.max_output), (true, 3, Some(5)));
    }
}
