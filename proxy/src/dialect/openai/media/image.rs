//! Pictures: made of a prompt, changed, varied.

use serde_json::value::RawValue;

use super::given::{Given, missing};
use crate::refusal::Refusal;
use crate::routes::AiRoute;

/// The most pictures that one request may ask for.
const MAX_IMAGES: u64 = 10;
/// The most pictures that may be changed at once.
const MAX_INPUTS: usize = 16;
/// The most drafts of a picture in a stream.
const MAX_PARTIAL: u64 = 3;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Images {
    /// How many.
    pub(crate) count: u32,
    /// The size, as the client named it.
    pub(crate) size: Option<String>,
    /// The quality, as the client named it.
    pub(crate) quality: Option<String>,
    /// Drafts of each in a stream.
    pub(crate) partial: u32,
    /// Bytes of the prompt.
    pub(crate) prompt_bytes: usize,
    /// Pictures that are given, a mask among them.
    pub(crate) inputs: u32,
}

/// Reads a request, and whether it wants a stream.
pub(super) fn read(route: AiRoute, given: &Given<'_>) -> Result<(Images, bool), Refusal> {
    let prompt_bytes = if route == AiRoute::ImageVariations { 0 } else { given.need("prompt")?.len() };
    let count = given.count("n", (1, MAX_IMAGES))?.unwrap_or(1);
    let stream = given.flag("stream")?;
    if stream && count > 1 {
        let message = "A stream is of one image: providers don't say whether the usage in it is one image's or that of \
                       all. Leave `n` or `stream` out.";
        return Err(Refusal::bad("n", message));
    }
    let partial = given.count("partial_images", (0, MAX_PARTIAL))?.unwrap_or(0);
    let inputs = match (route, given) {
        (AiRoute::ImageGenerations, _) => 0,
        (_, Given::Form(..)) => files(route, given)?,
        (_, Given::Json(..)) => references(given)?,
    };
    let inputs = u32::try_from(inputs).unwrap_or(u32::MAX);
    let (size, quality) = (given.string("size")?, given.string("quality")?);
    Ok((Images { count, size, quality, partial, prompt_bytes, inputs }, stream))
}

/// How many pictures a form holds.
fn files(route: AiRoute, given: &Given<'_>) -> Result<usize, Refusal> {
    let most = if route == AiRoute::ImageVariations { 1 } else { MAX_INPUTS };
    let images = given.files("image").count();
    match images {
        0 => Err(missing("image")),
        _ if images > most => Err(Refusal::bad("image", format!("`image` may be given at most {most} times."))),
        _ => Ok(images + given.files("mask").count()),
    }
}

/// How many pictures a JSON body names. Whose the files are that it names is looked at elsewhere, for every request alike.
fn references(given: &Given<'_>) -> Result<usize, Refusal> {
    if given.raw("image")?.is_some() {
        return Err(Refusal::bad("image", "`image` can't be in a JSON body, which names its images in `images`."));
    }
    let refuse = |name: &'static str| {
        Refusal::bad(name, format!("`{name}` must hold objects with an `image_url` or a `file_id`."))
    };
    let is_object = |raw: &str| raw.starts_with('{');
    let raw = given.raw("images")?.ok_or_else(|| missing("images"))?;
    let images: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| refuse("images"))?;
    if !images.iter().all(|image| is_object(image.get())) {
        return Err(refuse("images"));
    }
    if !(1..=MAX_INPUTS).contains(&images.len()) {
        return Err(Refusal::bad("images", format!("`images` must hold 1 to {MAX_INPUTS} images.")));
    }
    match given.raw("mask")? {
        Some(mask) if !is_object(mask) => Err(refuse("mask")),
        mask => Ok(images.len() + usize::from(mask.is_some())),
    }
}
