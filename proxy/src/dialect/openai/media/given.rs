//! The fields of a body that decide what it may cost, whether it came as JSON or as a form. Each is read exactly once.

use std::ops::Range;

use http::HeaderValue;

use super::Accepted;
use super::form::{self, Part};
use crate::dialect::ask::Fields;
use crate::dialect::openai::owned::{Owned, count, folds_to, parse};
use crate::dialect::openai::request;
use crate::refusal::Refusal;

/// Fields that decide over money, of any route for images and audio.
const OWNED: [&str; 16] = [
    "model",
    "prompt",
    "n",
    "size",
    "quality",
    "stream",
    "partial_images",
    "image",
    "images",
    "mask",
    "input",
    "instructions",
    "response_format",
    "speed",
    "stream_format",
    "chunking_strategy",
];
/// Of a form, those that are files.
const FILES: [&str; 3] = ["image", "mask", "file"];

/// A body.
pub(super) enum Given<'a> {
    /// A JSON object.
    Json(&'a str, Box<Owned<{ OWNED.len() }>>),
    /// A form.
    Form(&'a [u8], Vec<Part>),
}

impl<'a> Given<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// 400 where it is malformed, not of an accepted kind, or has a field twice.
    pub(super) fn read(
        body: &'a [u8],
        content_type: Option<&HeaderValue>,
        accepted: Accepted,
    ) -> Result<Self, Refusal> {
        let text = content_type.map(|value| value.to_str().map_err(|_| wrong_type("is not text"))).transpose()?;
        match (text.map(form::boundary).transpose()?.flatten(), accepted) {
            (Some(boundary), Accepted::Form | Accepted::Either) => {
                let parts = form::parts(body, &boundary)?;
                check(&parts)?;
                Ok(Self::Form(body, parts))
            }
            (Some(_), Accepted::Json) => Err(wrong_type("must be application/json")),
            (None, Accepted::Form) => Err(wrong_type("must be multipart/form-data")),
            (None, Accepted::Json | Accepted::Either) => {
                let text = std::str::from_utf8(body).map_err(|_| request::not_utf8())?;
                Ok(Self::Json(text, Box::new(Owned::read(text, &OWNED)?)))
            }
        }
    }

    /// A string; null and a field that is not there are none.
    pub(super) fn string(&self, name: &'static str) -> Result<Option<String>, Refusal> {
        match self {
            Self::Json(text, owned) => Ok(parse::<Option<String>>(owned.get(text, name), name, "a string")?.flatten()),
            Self::Form(..) => Ok(self.text(name)?.map(str::to_owned)),
        }
    }

    /// A string that must be there and say something.
    pub(super) fn need(&self, name: &'static str) -> Result<String, Refusal> {
        let found = self.string(name)?.filter(|text| !text.is_empty());
        found.ok_or_else(|| missing(name))
    }

    /// A whole number within bounds.
    pub(super) fn count(&self, name: &'static str, bounds: (u64, u64)) -> Result<Option<u32>, Refusal> {
        let raw = match self {
            Self::Json(text, owned) => owned.get(text, name).filter(|raw| *raw != "null"),
            Self::Form(..) => self.text(name)?,
        };
        raw.map(|raw| count(raw, name, bounds)).transpose()
    }

    /// A boolean.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool, Refusal> {
        let raw = match self {
            Self::Json(text, owned) => owned.get(text, name),
            Self::Form(..) => self.text(name)?,
        };
        match raw {
            None | Some("false" | "null") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Refusal::bad(name, format!("`{name}` must be true or false."))),
        }
    }

    /// A value as it stands in the body: JSON, or a form's text.
    pub(super) fn raw(&self, name: &'static str) -> Result<Option<&'a str>, Refusal> {
        match self {
            Self::Json(text, owned) => Ok(owned.get(text, name).filter(|raw| *raw != "null")),
            Self::Form(..) => self.text(name),
        }
    }

    /// The files of this name, `name[]` and `name[0]` among them.
    pub(super) fn files(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        let (body, parts): (&'a [u8], &[Part]) = match self {
            Self::Form(body, parts) => (body, parts),
            Self::Json(..) => (&[], &[]),
        };
        let named = parts.iter().filter(move |part| part.file && base(&part.name) == name);
        let content: Vec<Range<usize>> = named.map(|part| part.content.clone()).collect();
        content.into_iter().map(move |content| body.get(content).unwrap_or_default())
    }

    /// Where the fields stand that the gateway owns or reads.
    pub(super) fn fields(&self) -> Fields {
        match self {
            Self::Json(text, owned) => Fields::Openai(request::Fields::of(text, owned)),
            Self::Form(_, parts) => {
                let place = |name: &str| parts.iter().find(|part| part.name == name).map(|part| part.content.clone());
                Fields::Form { model: place("model"), user: place("user") }
            }
        }
    }

    /// A form's text.
    fn text(&self, name: &'static str) -> Result<Option<&'a str>, Refusal> {
        let Self::Form(body, parts) = self else { return Ok(None) };
        let Some(part) = parts.iter().find(|part| part.name == name) else { return Ok(None) };
        if part.file {
            return Err(Refusal::bad(name, format!("`{name}` must be text, not a file.")));
        }
        let content = body.get(part.content.clone()).unwrap_or_default();
        std::str::from_utf8(content).map(Some).map_err(|_| Refusal::bad(name, format!("`{name}` must be UTF-8 text.")))
    }
}

/// A refusal of a body that lacks a field.
pub(super) fn missing(name: &'static str) -> Refusal {
    let message = format!("`{name}` is missing.");
    Refusal::Bad { status: 400, param: Some(name.into()), code: Some("missing_required_parameter"), message }
}

fn wrong_type(what: &str) -> Refusal {
    Refusal::bad("content-type", format!("The `content-type` of this request {what}."))
}

/// The name without the brackets of a list.
fn base(name: &str) -> &str {
    name.split('[').next().unwrap_or(name)
}

/// Refuses a field that is there twice, or that another reader could take for one of ours.
fn check(parts: &[Part]) -> Result<(), Refusal> {
    let known = |name: &str| OWNED.iter().chain(&["file"]).copied().find(|owned| folds_to(base(name), owned));
    let mut seen = Vec::new();
    for part in parts {
        let Some(owned) = known(&part.name) else { continue };
        let list = FILES.contains(&owned) && base(&part.name) == owned && part.file;
        if part.name != owned && !list {
            let name = &part.name;
            let message = format!("`{name}` may be read as `{owned}` by some servers; spell it exactly.");
            return Err(Refusal::bad(owned, message));
        }
        if FILES.contains(&owned) && !part.file {
            return Err(Refusal::bad(owned, format!("`{owned}` must be a file.")));
        }
        if owned != "image" && seen.contains(&owned) {
            return Err(Refusal::bad(owned, format!("`{owned}` is given twice.")));
        }
        seen.push(owned);
    }
    Ok(())
}
