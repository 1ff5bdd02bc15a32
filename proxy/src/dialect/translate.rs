//! From a client's dialect to a provider's and back, by way of the form: which dialect's functions do what.

use super::form::{Event, Reply, Request, Trouble};
use super::gemini::path::Framing;
use super::{Dialect, Shown, anthropic, bedrock, gemini, openai, responses};
use crate::dialect::openai::chat;
use crate::refusal::Refusal;
use crate::upstream::provider::{Api, Provider};

/// A client's body as the form.
///
/// # Errors
/// 400 that names the field that has no place in other dialects.
pub(crate) fn parse(dialect: Dialect, body: &str) -> Result<Request, Refusal> {
    match dialect {
        Dialect::Openai => chat::parse(body),
        Dialect::Anthropic => anthropic::request::parse(body),
        Dialect::Gemini => gemini::request::parse(body),
        Dialect::Responses => responses::parse(body, &responses::Earlier::default()).map(|asked| asked.request),
    }
}

/// The form as a provider's body. `cap` is the name of the output cap where a dialect has two.
///
/// # Errors
/// 400 that names the field that the provider can't be asked for.
pub(crate) fn write(
    (provider, api): (&Provider, Api),
    request: &Request,
    cap: &'static str,
) -> Result<Vec<u8>, Refusal> {
    let takes_system_alone =
        matches!(provider, Provider::Openai { .. } | Provider::Azure { .. }) && !request.system.is_empty();
    if request.turns.iter().all(|turn| turn.parts.is_empty()) && !takes_system_alone {
        return Err(Refusal::bad("messages", "This model's provider wants at least one message besides the system's."));
    }
    match provider {
        Provider::Openai { .. } if api == Api::Responses => responses::write(request),
        Provider::Openai { .. } | Provider::Azure { .. } => chat::write(request, cap),
        Provider::Anthropic { version } => anthropic::request::write(request, version),
        Provider::Gemini { .. } => gemini::request::write(request),
        Provider::Bedrock => bedrock::request::write(request),
    }
}

/// A provider's whole answer as the form; `None` when it is none.
pub(crate) fn parse_reply(api: Api, body: &[u8]) -> Option<Reply> {
    match api {
        Api::Chat => chat::parse_reply(body),
        Api::Messages => anthropic::reply::parse(body),
        Api::Generate => gemini::reply::parse(body),
        Api::Converse => bedrock::reply::parse(body),
        Api::Responses => responses::parse_reply(body),
        Api::Completions
        | Api::Embeddings
        | Api::CountTokens
        | Api::Moderations
        | Api::ImageGenerations
        | Api::ImageEdits
        | Api::ImageVariations
        | Api::Speech
        | Api::Transcriptions
        | Api::Translations => None,
    }
}

/// The form as a client's whole answer.
/// `completed_at` is in seconds since 1970.
pub(crate) fn write_reply(dialect: Dialect, reply: &Reply, shown: &Shown, completed_at: i64) -> Vec<u8> {
    match dialect {
        Dialect::Openai => chat::write_reply(reply, shown),
        Dialect::Anthropic => anthropic::reply::write(reply, shown),
        Dialect::Gemini => gemini::reply::write(reply, shown),
        Dialect::Responses => responses::write_reply(reply, shown, completed_at),
    }
}

/// What a provider's refusal says.
pub(crate) fn parse_trouble(api: Api, status: u16, body: &[u8]) -> Trouble {
    match api {
        Api::Chat
        | Api::Completions
        | Api::Embeddings
        | Api::Moderations
        | Api::ImageGenerations
        | Api::ImageEdits
        | Api::ImageVariations
        | Api::Speech
        | Api::Transcriptions
        | Api::Translations => openai::trouble::parse(status, body),
        Api::Messages | Api::CountTokens => anthropic::trouble::parse(status, body),
        Api::Generate => gemini::trouble::parse(status, body),
        Api::Converse => bedrock::trouble::parse(status, body),
        Api::Responses => responses::trouble::parse(status, body),
    }
}

/// A failure as a client's dialect tells it.
pub(crate) fn write_trouble(dialect: Dialect, trouble: &Trouble, request_id: &str) -> Vec<u8> {
    match dialect {
        Dialect::Openai => openai::trouble::write(trouble, request_id),
        Dialect::Anthropic => anthropic::trouble::write(trouble, request_id),
        Dialect::Gemini => gemini::trouble::write(trouble, request_id),
        Dialect::Responses => responses::trouble::write(trouble, request_id),
    }
}

/// Reads a provider's stream.
pub(crate) enum Reader {
    /// `OpenAI` chat.
    Chat(chat::Reader),
    /// Anthropic messages.
    Messages(anthropic::stream::Reader),
    /// Google's chunks.
    Generate(gemini::stream::Reader),
    /// Amazon's frames.
    Converse(bedrock::stream::Reader),
    /// `OpenAI` responses.
    Responses(Box<responses::Reader>),
}

impl Reader {
    /// The reader of an API; `None` where it has no streams.
    pub(crate) fn of(api: Api) -> Option<Self> {
        match api {
            Api::Chat => Some(Self::Chat(chat::Reader::default())),
            Api::Messages => Some(Self::Messages(anthropic::stream::Reader::default())),
            Api::Generate => Some(Self::Generate(gemini::stream::Reader::default())),
            Api::Converse => Some(Self::Converse(bedrock::stream::Reader::default())),
            Api::Responses => Some(Self::Responses(Box::default())),
            Api::Completions
            | Api::Embeddings
            | Api::CountTokens
            | Api::Moderations
            | Api::ImageGenerations
            | Api::ImageEdits
            | Api::ImageVariations
            | Api::Speech
            | Api::Transcriptions
            | Api::Translations => None,
        }
    }

    /// Takes one event: its name and its data.
    pub(crate) fn read(&mut self, event: Option<&str>, data: &[u8], out: &mut Vec<Event>) {
        match self {
            Self::Chat(reader) => reader.read(event, data, out),
            Self::Messages(reader) => reader.read(event, data, out),
            Self::Generate(reader) => reader.read(event, data, out),
            Self::Converse(reader) => reader.read(event, data, out),
            Self::Responses(reader) => reader.read(event, data, out),
        }
    }

    /// The body has ended.
    pub(crate) fn end(&mut self, out: &mut Vec<Event>) {
        match self {
            Self::Chat(reader) => reader.end(out),
            Self::Messages(reader) => reader.end(out),
            Self::Generate(reader) => reader.end(out),
            Self::Converse(reader) => reader.end(out),
            Self::Responses(reader) => reader.end(out),
        }
    }
}

/// Writes a client's stream.
pub(crate) enum Writer {
    /// `OpenAI` chat.
    Openai(chat::Writer),
    /// Anthropic messages.
    Anthropic(anthropic::stream::Writer),
    /// Google's chunks.
    Gemini(gemini::stream::Writer),
    /// `OpenAI` responses.
    Responses(Box<responses::Writer>),
}

impl Writer {
    /// The writer of a dialect. Google's has two framings.
    pub(crate) fn of(dialect: Dialect, shown: &Shown, framing: Option<Framing>) -> Self {
        match dialect {
            Dialect::Openai => Self::Openai(chat::Writer::new(shown)),
            Dialect::Anthropic => Self::Anthropic(anthropic::stream::Writer::new(shown)),
            Dialect::Gemini if framing == Some(Framing::Array) => Self::Gemini(gemini::stream::Writer::array(shown)),
            Dialect::Gemini => Self::Gemini(gemini::stream::Writer::new(shown)),
            Dialect::Responses => Self::Responses(Box::new(responses::Writer::new(shown))),
        }
    }

    /// Writes one event.
    pub(crate) fn write(&mut self, event: &Event, out: &mut Vec<u8>) {
        match self {
            Self::Openai(writer) => writer.write(event, out),
            Self::Anthropic(writer) => writer.write(event, out),
            Self::Gemini(writer) => writer.write(event, out),
            Self::Responses(writer) => writer.write(event, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_prompt_alone_is_written_only_for_those_that_take_it() {
        let request = parse(Dialect::Openai, r#"{"model":"m","messages":[{"role":"system","content":"x"}]}"#).unwrap();
        assert!(write((&Provider::Openai { responses: false }, Api::Chat), &request, "max_tokens").is_ok());
        let anthropic = Provider::Anthropic { version: "2023-06-01".to_owned() };
        for provider in [anthropic, Provider::Gemini { bearer: false }, Provider::Bedrock] {
            let refusal = write((&provider, provider.chat_api()), &request, "max_tokens").unwrap_err();
            assert_eq!(refusal.told().param.as_deref(), Some("messages"), "{provider:?}");
        }
        let silent = parse(Dialect::Openai, r#"{"model":"m","messages":[{"role":"user","content":[]}]}"#).unwrap();
        assert!(write((&Provider::Openai { responses: false }, Api::Chat), &silent, "max_tokens").is_err());
    }
}
