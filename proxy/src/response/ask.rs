//! From a body to a call. What the request continues is put in front of its input, and what counts is the whole: so a long
//! conversation is paid for, and bounded, like one that is sent in full.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use http::HeaderMap;
use openclawmu_store::{RequestId, TenantId};
use serde_json::{Map, Value};

use super::seal::Seals;
use super::shelf::Shelf;
use crate::dialect::ask::{Ask, Fields};
use crate::dialect::form::{Part, Request, Source};
use crate::dialect::openai::parts::Parts;
use crate::dialect::responses::{self, Asked, Earlier, state};
use crate::dialect::scan;
use crate::label::label;
use crate::read::Call;
use crate::refusal::Refusal;
use crate::routes::AiRoute;

/// Who asks.
pub(crate) struct Asking<'a> {
    pub(crate) request_id: RequestId,
    pub(crate) tenant: &'a TenantId,
    pub(crate) headers: &'a HeaderMap,
    /// The most bytes of a request, what it continues included.
    pub(crate) max_bytes: usize,
    /// What it continues, where whoever passes it on remembers that: it is then not looked up.
    pub(crate) near: Option<&'a [Value]>,
    /// Opens what a client carries.
    pub(crate) seals: &'a Seals,
    /// What is kept of the tenant is not this caller's: it is not looked up, and nothing is kept.
    pub(crate) apart: bool,
}

/// Understands a request for a response.
///
/// # Errors
/// 400 that names the field at fault.
pub(crate) async fn call(shelf: &Shelf, asking: Asking<'_>, body: &Bytes) -> Result<Call, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| not_json("it is not UTF-8"))?;
    let fields = fields(text)?;
    let label = label(asking.headers, body, &fields)?;
    let earlier = earlier(shelf, &asking, text).await?;
    let mut asked = responses::parse(text, &earlier)?;
    if !shelf.keeps() || asking.apart {
        asked.not_kept();
    }
    let whole = expanded(text, &earlier, &asked)?;
    if whole.len() > asking.max_bytes {
        let message = format!("The input and what it continues are larger than {} bytes.", asking.max_bytes);
        return Err(Refusal::bad("input", message));
    }
    let request = &asked.request;
    let ask = Ask {
        model: request.model.clone(),
        stream: request.stream,
        wants_usage: true,
        max_output: request.max_output,
        choices: 1,
        inputs: 1,
        parts: parts(request)?,
        has_tools: !request.tools.is_empty(),
        prediction_bytes: 0,
        service_tier: asked.service_tier,
        fields,
        media: None,
    };
    let (request_id, route) = (asking.request_id, AiRoute::Responses);
    Ok(Call { request_id, route, ask, label, body: whole, form: None, asked: Some(Box::new(asked)) })
}

fn not_json(why: &str) -> Refusal {
    Refusal::Bad {
        status: 400,
        param: None,
        code: Some("invalid_json"),
        message: format!("We could not parse the JSON body of your request: {why}."),
    }
}

/// Where the label's fields stand. No member may be there twice: somebody else could read the other one.
fn fields(text: &str) -> Result<Fields, Refusal> {
    let (mut user, mut metadata) = (None, None);
    let (mut seen, mut twice) = (HashSet::new(), None);
    scan::members(text, |key, place| {
        match key.as_ref() {
            "user" => user = Some(place),
            "metadata" => metadata = Some(place),
            _ => {}
        }
        if !seen.insert(key.clone().into_owned()) {
            twice.get_or_insert(key.into_owned());
        }
    })
    .map_err(|err| not_json(&err.to_string()))?;
    match twice {
        Some(key) => Err(Refusal::bad(key.clone(), format!("`{key}` is given twice."))),
        None => Ok(Fields::Responses { user, metadata }),
    }
}

/// What the request continues and refers to.
async fn earlier(shelf: &Shelf, asking: &Asking<'_>, text: &str) -> Result<Earlier, Refusal> {
    let tenant = asking.tenant;
    let mut earlier = match (responses::previous(text)?, asking.near) {
        (None, _) => Earlier::default(),
        (Some(_), Some(items)) => Earlier { items: items.to_vec(), ..Earlier::default() },
        (Some(id), None) if asking.apart => return Err(state::previous_not_found(&id)),
        (Some(id), None) => match shelf.chain(tenant, &id).await? {
            Ok(chain) if chain.iter().any(|kept| kept.worker().is_some()) => {
                let message = "That response is still being worked on; continue it when it has ended.";
                return Err(Refusal::bad("previous_response_id", message));
            }
            Ok(chain) => state::earlier(&chain),
            Err(missing) => return Err(state::previous_not_found(&missing)),
        },
    };
    let mut named = HashMap::new();
    for id in state::references(text).into_iter().filter(|_| !asking.apart) {
        let Some(response) = state::response_of(&id) else { continue };
        let Some(kept) = shelf.get(tenant, &response).await? else { continue };
        if let Some(item) = kept.item(&id) {
            named.insert(id, item.clone());
        }
    }
    earlier.named = named;
    earlier.opened = asking.seals.open(tenant, &state::compactions(text, &earlier));
    Ok(earlier)
}

/// The request as it would be without anything kept: what its prompt is bounded by.
fn expanded(text: &str, earlier: &Earlier, asked: &Asked) -> Result<Bytes, Refusal> {
    if earlier.items.is_empty() && earlier.named.is_empty() && earlier.opened.is_empty() {
        return Ok(Bytes::copy_from_slice(text.as_bytes()));
    }
    let mut members: Map<String, Value> = serde_json::from_str(text).map_err(|err| not_json(&err.to_string()))?;
    let named = earlier.named.values();
    let input = earlier.items.iter().chain(named).chain(&asked.input).map(|item| earlier.opened(item)).collect();
    members.insert("input".to_owned(), Value::Array(input));
    serde_json::to_vec(&members).map(Bytes::from).map_err(|err| not_json(&err.to_string()))
}

/// What the prompt holds besides text. A file at the provider belongs to nobody in particular, so none can be named.
fn parts(request: &Request) -> Result<Parts, Refusal> {
    let mut parts = Parts::default();
    let turns = request.turns.iter().flat_map(|turn| &turn.parts);
    let mut left: Vec<&Part> = request.system.iter().chain(turns).collect();
    while let Some(part) = left.pop() {
        match part {
            Part::Image { source: Source::File(_), .. } | Part::Document { source: Source::File(_), .. } => {
                return Err(Refusal::bad(
                    "input",
                    "A `file_id` can't be used here; send the file's data or its address.",
                ));
            }
            Part::Image { .. } => parts.images = parts.images.saturating_add(1),
            // A text is as long as its bytes.
            Part::Document { source: Source::Text(_), .. } => {}
            Part::Document { .. } => parts.unbounded = parts.unbounded.saturating_add(1),
            Part::ToolResult { content, .. } => left.extend(content),
            Part::Text { .. }
            | Part::Audio { .. }
            | Part::Thinking { .. }
            | Part::RedactedThinking { .. }
            | Part::ToolCall { .. }
            | Part::Refusal { .. } => {}
        }
    }
    Ok(parts)
}
