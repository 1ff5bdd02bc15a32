//! What a request asks for, in whatever dialect: what decides over money, and where the fields stand that the gateway owns.

use std::ops::Range;

use bytes::Bytes;

use super::anthropic::request::facts::{self, Asks};
use super::gemini::path::Framing;
use super::openai::media::Media;
use super::openai::parts::Parts;
use super::openai::request::Edits;
use super::openai::service::AskedTier;
use super::{anthropic, gemini, openai};
use crate::refusal::Refusal;
use crate::routes::AiRoute;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// The model, as the client named it.
    pub(crate) model: String,
    /// Whether it wants a stream.
    pub(crate) stream: bool,
    /// Whether it asked for the usage event itself, where that is a choice.
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
    /// What is asked for, where it is not text.
    pub(crate) media: Option<Media>,
}

/// Whether a model may be named so.
pub(crate) fn is_model_name(name: &str) -> bool {
    (1..=200).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// A model's name as a body has it.
///
/// # Errors
/// 400 that names the field.
pub(crate) fn model_name(name: String) -> Result<String, Refusal> {
    if is_model_name(&name) {
        return Ok(name);
    }
    Err(Refusal::bad("model", "`model` must have 1 to 200 characters."))
}

/// Places in the body, as each dialect knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fields {
    /// `OpenAI`'s.
    Openai(openai::request::Fields),
    /// `OpenAI`'s, in a form: values as text.
    Form {
        /// The model.
        model: Option<Range<usize>>,
        /// Whom it is for.
        user: Option<Range<usize>>,
    },
    /// Anthropic's.
    Anthropic(facts::Fields),
    /// Of a request for a response: it is always written anew, so only the label's are known.
    Responses {
        /// Whom it is for.
        user: Option<Range<usize>>,
        /// The client's own notes.
        metadata: Option<Range<usize>>,
    },
    /// Google's, and how the answer is framed.
    Gemini(gemini::request::Fields, Framing),
}

impl Fields {
    /// For whom it says that it is.
    pub(crate) fn user(&self, body: &[u8]) -> Option<String> {
        let place = match self {
            Self::Openai(fields) => fields.user.clone(),
            Self::Responses { user, .. } => user.clone(),
            Self::Form { user, .. } => {
                return body.get(user.clone()?).map(|text| String::from_utf8_lossy(text).into_owned());
            }
            Self::Anthropic(_) | Self::Gemini(..) => None,
        };
        serde_json::from_slice(body.get(place?)?).ok()
    }

    /// Whether it says which model it wants.
    pub(crate) fn names_model(&self) -> bool {
        match self {
            Self::Openai(fields) => fields.names_model(),
            Self::Form { .. } | Self::Responses { .. } | Self::Anthropic(_) | Self::Gemini(..) => true,
        }
    }

    /// Where the client's own notes stand.
    pub(crate) fn metadata(&self) -> Option<Range<usize>> {
        match self {
            Self::Openai(fields) => fields.metadata.clone(),
            Self::Responses { metadata, .. } => metadata.clone(),
            Self::Anthropic(fields) => fields.metadata.clone(),
            Self::Gemini(fields, _) => fields.labels.clone(),
            Self::Form { .. } => None,
        }
    }
}

/// Reads a request: its body, and what follows the route in its target, such as `gemini-2.5-pro:generateContent`.
///
/// # Errors
/// 400 that names the field at fault.
pub(crate) fn read(route: AiRoute, (rest, query): (&str, Option<&str>), body: &str) -> Result<Ask, Refusal> {
    match route {
        AiRoute::ChatCompletions | AiRoute::Completions | AiRoute::Embeddings | AiRoute::Moderations => {
            openai::request::read(route, body).map(Ask::from)
        }
        AiRoute::ImageGenerations
        | AiRoute::ImageEdits
        | AiRoute::ImageVariations
        | AiRoute::Speech
        | AiRoute::Transcriptions
        | AiRoute::Translations => openai::media::read(route, None, body.as_bytes()),
        // What it continues is not in its body: `response::call` reads it.
        AiRoute::Responses | AiRoute::Compact => Err(Refusal::bad("input", "A response can't be asked for here.")),
        AiRoute::Messages => facts::facts(Asks::Answer, body).map(Ask::from),
        AiRoute::CountTokens => facts::facts(Asks::Count, body).map(Ask::from),
        AiRoute::GenerateContent => {
            let target = gemini::path::parse(rest, query).ok_or_else(|| Refusal::NotFound {
                code: "unknown_url",
                message: "The path must be /v1beta/models/{model}:generateContent or :streamGenerateContent."
                    .to_owned(),
            })?;
            let ask = gemini::request::read(body)?;
            Ok(Ask {
                model: target.model,
                stream: target.framing != Framing::Whole,
                wants_usage: true,
                max_output: ask.max_output,
                choices: ask.choices.max(1),
                inputs: 1,
                parts: ask.parts,
                has_tools: ask.has_tools,
                prediction_bytes: 0,
                service_tier: AskedTier::Auto,
                fields: Fields::Gemini(ask.fields, target.framing),
                media: None,
            })
        }
    }
}

impl From<openai::request::Ask> for Ask {
    fn from(ask: openai::request::Ask) -> Self {
        let openai::request::Ask {
            model,
            stream,
            wants_usage,
            max_output,
            choices,
            inputs,
            parts,
            has_tools,
            prediction_bytes,
            service_tier,
            fields,
        } = ask;
        let fields = Fields::Openai(fields);
        Self {
            model,
            stream,
            wants_usage,
            max_output,
            choices,
            inputs,
            parts,
            has_tools,
            prediction_bytes,
            service_tier,
            fields,
            media: None,
        }
    }
}

impl From<facts::Facts> for Ask {
    fn from(facts: facts::Facts) -> Self {
        Self {
            model: facts.model,
            stream: facts.stream,
            wants_usage: true,
            max_output: facts.max_output,
            choices: 1,
            inputs: 1,
            parts: Parts { images: facts.parts.images, unbounded: facts.parts.unbounded },
            has_tools: facts.has_tools,
            prediction_bytes: 0,
            service_tier: AskedTier::Auto,
            fields: Fields::Anthropic(facts.fields),
            media: None,
        }
    }
}

/// The body with `edits` made and every other byte as it was; nothing is copied where nothing must change.
pub(crate) fn edit(body: &Bytes, fields: &Fields, edits: &Edits<'_>) -> Bytes {
    if *edits == Edits::default() {
        return body.clone();
    }
    let cap = edits.cap.map(|(_, tokens)| tokens);
    match fields {
        Fields::Openai(fields) => openai::request::edit(body, fields, edits).into(),
        Fields::Anthropic(fields) => {
            let edits = facts::Edits { model: edits.model, max_tokens: cap };
            anthropic::request::facts::edit(body, fields, &edits).into()
        }
        Fields::Form { model, .. } => match (model, edits.model) {
            (Some(place), Some(name)) => {
                let part = |range| body.get(range).unwrap_or_default();
                [part(0..place.start), name.as_bytes(), part(place.end..body.len())].concat().into()
            }
            (None, _) | (_, None) => body.clone(),
        },
        Fields::Responses { .. } => body.clone(),
        Fields::Gemini(fields, _) => gemini::request::edit(body, fields, edits.model, cap).into_owned().into(),
    }
}
