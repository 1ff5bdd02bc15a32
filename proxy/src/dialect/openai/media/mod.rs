//! Images and audio: what a request asks for, what it may cost, and what its answer says it did cost.
//!
//! Bodies come as JSON or as forms and go on as they came, but for the model's name.
//!
//! - `form`: `multipart/form-data`, taken apart without a copy
//! - `given`: the fields of either kind of body
//! - `image`: pictures made, changed and varied
//! - `audio`: speech made of text, and text of speech
//! - `sound`: how long recordings are
//! - `tariff`: what a request can cost at most, and what counts where its answer says nothing
//! - `watch`: what an answer says

mod audio;
pub(crate) mod form;
mod given;
mod image;
mod sound;
pub(crate) mod tariff;
pub(crate) mod watch;

use http::HeaderValue;

use self::given::Given;
use super::parts::Parts;
use super::service::AskedTier;
use crate::dialect::ask::{Ask, model_name};
use crate::refusal::Refusal;
use crate::routes::AiRoute;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    /// Pictures.
    Images(image::Images),
    /// Speech.
    Speech(audio::Speech),
    /// What was said.
    Transcript(audio::Transcript),
}

/// Reads a request's body.
///
/// # Errors
/// 400 that names the field at fault.
pub(crate) fn read(route: AiRoute, content_type: Option<&HeaderValue>, body: &[u8]) -> Result<Ask, Refusal> {
    let given = Given::read(body, content_type, accepted(route))?;
    let model = given
        .string("model")?
        .ok_or_else(|| Refusal::bad("model", "You must provide a model parameter."))
        .and_then(model_name)?;
    let (media, stream, images) = if route == AiRoute::Speech {
        let (speech, stream) = audio::speech(&given)?;
        (Media::Speech(speech), stream, 0)
    } else if matches!(route, AiRoute::Transcriptions | AiRoute::Translations) {
        let (transcript, stream) = audio::transcript(&given)?;
        (Media::Transcript(transcript), stream, 0)
    } else {
        let (images, stream) = image::read(route, &given)?;
        let inputs = images.inputs;
        (Media::Images(images), stream, inputs)
    };
    Ok(Ask {
        model,
        stream,
        wants_usage: true,
        max_output: None,
        choices: 1,
        inputs: 1,
        parts: Parts { images, unbounded: 0 },
        has_tools: false,
        prediction_bytes: 0,
        service_tier: AskedTier::Auto,
        fields: given.fields(),
        media: Some(media),
    })
}

/// How bodies of a route may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepted {
    Json,
    Form,
    Either,
}

fn accepted(route: AiRoute) -> Accepted {
    match route {
        AiRoute::ImageEdits => Accepted::Either,
        AiRoute::ImageVariations | AiRoute::Transcriptions | AiRoute::Translations => Accepted::Form,
        AiRoute::ImageGenerations
        | AiRoute::Speech
        | AiRoute::Moderations
        | AiRoute::ChatCompletions
        | AiRoute::Completions
        | AiRoute::Embeddings
        | AiRoute::Messages
        | AiRoute::CountTokens
        | AiRoute::GenerateContent
        | AiRoute::Responses
        | AiRoute::Compact => Accepted::Json,
    }
}
