//! Stage 4. From an admitted call to what goes out: the body as it came, but for the fields that the gateway owns, where the
//! target speaks the client's dialect; else the same request in the target's.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use openclawmu_store::{ModelPrice, RateTable};

use crate::admit::{Promise, count_tokens, estimate_tokens};
use crate::catalog::Target;
use crate::dialect::ask::{self, Fields};
use crate::dialect::form::{Request, shorten};
use crate::dialect::openai::media::tariff::Tariff;
use crate::dialect::openai::media::watch::Watch;
use crate::dialect::openai::request::Edits;
use crate::dialect::openai::service::{self, AskedTier};
use crate::dialect::{Shown, translate};
use crate::own_key::KeyHeaders;
use crate::read::Call;
use crate::refusal::Refusal;
use crate::upstream::provider::{Api, Provider};
use crate::way::Way;

/// What a target that needs a cap is told in a draft where the client named none; what counts is set at admission.
const DRAFTED_CAP: u32 = 4_096;
/// The tier that nobody pays more or less for.
const ORDINARY_TIER: &str = "default";

/// What can be known of a request before it is admitted: whether the target can be asked for it at all.
pub(crate) enum Draft {
    /// It goes out as it came.
    Same,
    /// It is written anew.
    Translated { form: Box<Request>, body: Vec<u8> },
}

/// A request as its upstream gets it.
#[derive(Clone, Debug)]
pub(crate) struct Outbound {
    /// The API that is asked.
    pub(crate) api: Api,
    /// The method.
    pub(crate) method: Method,
    /// The path after the upstream's base URL.
    pub(crate) path: Cow<'static, str>,
    /// What the body is.
    pub(crate) content_type: HeaderValue,
    /// The body.
    pub(crate) body: Bytes,
    /// What is accepted as an answer.
    pub(crate) accept: &'static str,
    /// Headers for this API beside the key.
    pub(crate) headers: Vec<(&'static str, HeaderValue)>,
    /// The tenant's own key there.
    pub(crate) own_key: Option<KeyHeaders>,
}

/// Drafts a call for a target.
///
/// # Errors
/// 400 where the target can't be asked for it: before anything is reserved.
pub(crate) fn draft(call: &Call, target: &Target, rates: &RateTable) -> Result<Draft, Refusal> {
    let provider = target.upstream.provider();
    // A response is always written anew: what is kept of it is not the provider's to know.
    if target.upstream.has(call.route.api()) && call.asked.is_none() {
        return Ok(Draft::Same);
    }
    if !call.route.is_chat() {
        let message = format!("The model `{}` is served by an upstream that has no such API.", call.ask.model);
        return Err(Refusal::bad("model", message));
    }
    let mut form = match &call.asked {
        Some(asked) => asked.request.clone(),
        None => translate::parse(call.route.dialect(), std::str::from_utf8(&call.body).unwrap_or_default())?,
    };
    if call.asked.as_ref().is_some_and(|asked| asked.truncates)
        && let Some(price) = target.price(rates)
    {
        fit(&mut form, &price.price);
    }
    form.model.clone_from(&target.model);
    form.stream = call.ask.stream;
    form.max_output = Some(call.ask.max_output.unwrap_or(DRAFTED_CAP));
    if asked_tier(call).is_some_and(|name| name != ORDINARY_TIER) && !knows_tiers(provider) {
        let message = "This model's provider knows no service tiers; leave `service_tier` out.";
        return Err(Refusal::bad("service_tier", message));
    }
    let body = translate::write((provider, provider.api_for(call.route)), &form, "max_tokens")?;
    Ok(Draft::Translated { form: Box::new(form), body })
}

/// Leaves out the beginning of what is too long for the model; nothing where its context is not known.
fn fit(form: &mut Request, price: &ModelPrice) {
    let Some(window) = price.context_tokens else { return };
    let answer = form.max_output.or(price.max_output_tokens).unwrap_or(0).min(window / 2);
    let count = |text: &str| {
        let exact = count_tokens(&Bytes::copy_from_slice(text.as_bytes()), price.tokenizer);
        usize::try_from(exact.unwrap_or_else(|| estimate_tokens(text.len()))).unwrap_or(usize::MAX)
    };
    shorten(form, window.saturating_sub(answer), count);
}

/// Builds what goes out; nothing is copied when nothing must change.
///
/// # Errors
/// As for [`draft`], which has tried it.
pub(crate) fn route(
    (call, headers): (&Call, &HeaderMap),
    target: &Target,
    draft: Draft,
    promise: Promise,
    own_key: Option<KeyHeaders>,
) -> Result<Outbound, Refusal> {
    let provider = target.upstream.provider();
    let (api, body, headers) = match draft {
        Draft::Same => (call.route.api(), edited(call, target, promise), provider.same_headers(headers)),
        Draft::Translated { form, body } => {
            (provider.api_for(call.route), rewritten(call, provider, (*form, body), promise)?, provider.own_headers())
        }
    };
    let path = provider.path(api, &target.model, call.ask.stream);
    let (method, json) = (Method::POST, HeaderValue::from_static("application/json"));
    let content_type = call.form.clone().unwrap_or(json);
    let accept = match (call.ask.stream, call.route.is_media()) {
        (true, _) => "text/event-stream",
        (false, true) => "*/*",
        (false, false) => "application/json",
    };
    Ok(Outbound { api, method, path, content_type, body, accept, headers, own_key })
}

fn edited(call: &Call, target: &Target, promise: Promise) -> Bytes {
    let is_openai = matches!(call.ask.fields, Fields::Openai(_));
    let named = call.ask.model == target.model && call.ask.fields.names_model();
    let edits = Edits {
        model: (!named).then_some(target.model.as_str()),
        cap: promise.cap.map(|cap| (cap.field, cap.tokens)),
        ordinary_tier: promise.ordinary_tier,
        force_usage: is_openai && call.ask.stream && !call.ask.wants_usage && call.route.has_output(),
    };
    ask::edit(&call.body, &call.ask.fields, &edits)
}

/// The drafted body, written again where admission has set another cap.
fn rewritten(
    call: &Call,
    provider: &Provider,
    (mut form, body): (Request, Vec<u8>),
    promise: Promise,
) -> Result<Bytes, Refusal> {
    let asked = (provider, provider.api_for(call.route));
    let body = match promise.cap {
        Some(cap) => {
            form.max_output = Some(cap.tokens);
            translate::write(asked, &form, cap.field)?
        }
        None if call.ask.max_output.is_some() => body,
        None => {
            form.max_output = None;
            translate::write(asked, &form, "max_tokens")?
        }
    };
    let tier = asked_tier(call).or(promise.ordinary_tier.then_some(ORDINARY_TIER));
    Ok(match tier.filter(|_| knows_tiers(provider)) {
        Some(tier) => with_tier(body, tier),
        None => body,
    }
    .into())
}

/// The tier that a client asks for by name; admission has found its price.
fn asked_tier(call: &Call) -> Option<&'static str> {
    match call.ask.service_tier {
        AskedTier::Named(tier) => service::name(tier),
        AskedTier::Auto => None,
    }
}

/// Whether a provider can be told the tier of a request that is written for it.
fn knows_tiers(provider: &Provider) -> bool {
    matches!(provider, Provider::Openai { .. })
}

/// Names the service tier in a body that names none.
fn with_tier(body: Vec<u8>, tier: &str) -> Vec<u8> {
    match body.strip_prefix(b"{") {
        Some(rest) => [format!("{{\"service_tier\":\"{tier}\",").as_bytes(), rest].concat(),
        None => body,
    }
}

impl Outbound {
    /// The way of the answer to a client of `call`'s dialect.
    pub(crate) fn way(&self, call: &Call, created: i64, tariff: Option<Tariff>) -> Way {
        if let (Some(media), Some(tariff)) = (&call.ask.media, tariff) {
            return Way::Media(Box::new(Watch::new(media, tariff)));
        }
        let dialect = call.route.dialect();
        let framing = match &call.ask.fields {
            Fields::Gemini(_, framing) => Some(*framing),
            Fields::Openai(_) | Fields::Form { .. } | Fields::Anthropic(_) | Fields::Responses { .. } => None,
        };
        let is_array = framing == Some(crate::dialect::gemini::path::Framing::Array);
        if self.api == call.route.api() && !is_array && call.asked.is_none() {
            return Way::same(dialect);
        }
        let shown = Shown {
            id: format!("{:032x}", call.request_id.0),
            model: call.ask.model.clone(),
            created,
            wants_usage: call.ask.wants_usage,
            echo: call.asked.as_ref().map(|asked| Arc::clone(&asked.echo)),
        };
        Way::between(self.api, dialect, shown, framing)
    }
}
