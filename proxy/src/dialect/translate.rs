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
    use crate::dialect::form::{Assembler, Choice, Delta, Part, Stop};
    use crate::sse::{self, Splitter};

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

    /// More digits than a computer's numbers have, and one that a computer would write shorter.
    const DIGITS: &str = r#"{"id":12345678901234567890123,"days":1.50}"#;

    fn called(parts: &[Part]) -> &str {
        let call = parts
            .iter()
            .find_map(|part| if let Part::ToolCall { arguments, .. } = part { Some(arguments.as_str()) } else { None });
        call.expect("a call")
    }

    #[test]
    fn a_call_in_an_answer_keeps_every_digit() {
        let call =
            Part::ToolCall { id: "a".to_owned(), name: "f".to_owned(), arguments: DIGITS.to_owned(), signature: None };
        let choice = Choice { parts: vec![call], stop: Some(Stop::ToolUse), logprobs: None };
        let reply = Reply { choices: vec![choice], ..Reply::default() };
        let shown = Shown { id: "1".to_owned(), model: "m".to_owned(), created: 0, wants_usage: false, echo: None };
        for (dialect, api) in [
            (Dialect::Openai, Api::Chat),
            (Dialect::Anthropic, Api::Messages),
            (Dialect::Gemini, Api::Generate),
            (Dialect::Responses, Api::Responses),
        ] {
            let body = write_reply(dialect, &reply, &shown, 0);
            let again = parse_reply(api, &body).unwrap();
            assert_eq!(called(&again.choices.first().unwrap().parts), DIGITS, "{dialect:?}");
        }
        let begun = format!(
            "event: content_block_start\ndata: {}\n\n",
            format_args!(
                r#"{{"type":"content_block_start","index":0,"content_block":{{"type":"tool_use","id":"a","name":"f","input":{DIGITS}}}}}"#
            )
        );
        let events = read(Api::Messages, begun.as_bytes());
        assert!(
            matches!(&events[1], Event::Grow { delta: Delta::Arguments(said), .. } if said == DIGITS),
            "{events:?}"
        );
    }

    #[test]
    fn a_call_in_a_conversation_keeps_every_digit() {
        let call = r#"{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":ARGS}}]}"#
            .replace("ARGS", &serde_json::to_string(DIGITS).unwrap());
        let body = format!(
            r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"x"}},{call},{{"role":"tool","tool_call_id":"a","content":"y"}}]}}"#
        );
        let request = parse(Dialect::Openai, &body).unwrap();
        for (provider, same) in [
            (Provider::Openai { responses: false }, Some(Dialect::Openai)),
            (Provider::Anthropic { version: "2023-06-01".to_owned() }, Some(Dialect::Anthropic)),
            (Provider::Gemini { bearer: false }, Some(Dialect::Gemini)),
            (Provider::Bedrock, None),
        ] {
            let body = write((&provider, provider.chat_api()), &request, "max_tokens").unwrap();
            let body = String::from_utf8(body).unwrap();
            assert!(body.replace('\\', "").contains(DIGITS), "{provider:?}: {body}");
            let Some(same) = same else { continue };
            let again = parse(same, &body).unwrap();
            let parts: Vec<Part> = again.turns.into_iter().flat_map(|turn| turn.parts).collect();
            assert_eq!(called(&parts), DIGITS, "{provider:?}");
        }
    }

    /// The events of a stream.
    fn read(api: Api, stream: &[u8]) -> Vec<Event> {
        let (mut reader, mut events) = (Reader::of(api).unwrap(), Vec::new());
        let mut splitter = Splitter::default();
        splitter.push(stream).unwrap();
        while let Some(event) = splitter.next() {
            reader.read(sse::name(&event).as_deref(), &sse::data(&event).unwrap(), &mut events);
        }
        reader.end(&mut events);
        events
    }

    /// Names and arguments of what a stream calls, and what it says besides.
    fn heard(events: &[Event]) -> (String, Vec<(String, String)>) {
        let mut assembler = Assembler::default();
        events.iter().for_each(|event| assembler.add(event));
        let (mut text, mut calls) = (String::new(), Vec::new());
        for part in assembler.finish().unwrap().unwrap().choices.remove(0).parts {
            if let Part::ToolCall { name, arguments, .. } = part {
                calls.push((name, arguments));
            } else {
                let Part::Text { text: more, .. } = &part else { panic!("{part:?}") };
                text.push_str(more);
            }
        }
        calls.sort();
        (text, calls)
    }

    #[test]
    fn calls_that_a_server_tells_in_turns_reach_each_client_whole() {
        let events = read(Api::Chat, include_bytes!("../../fuzz/seeds/turns.sse"));
        let calls = [("get_time", r#"{"zone":"CET"}"#), ("get_weather", r#"{"city":"Bern"}"#)];
        let expected =
            ("Two moments.".to_owned(), calls.map(|(name, with)| (name.to_owned(), with.to_owned())).to_vec());
        assert_eq!(heard(&events), expected);
        let (id, model) = ("0".repeat(32), "m".to_owned());
        let shown = Shown { id, model, created: 1, wants_usage: false, echo: None };
        for (dialect, api) in [
            (Dialect::Openai, Api::Chat),
            (Dialect::Anthropic, Api::Messages),
            (Dialect::Gemini, Api::Generate),
            (Dialect::Responses, Api::Responses),
        ] {
            let (mut writer, mut stream) = (Writer::of(dialect, &shown, None), Vec::new());
            events.iter().for_each(|event| writer.write(event, &mut stream));
            assert_eq!(heard(&read(api, &stream)), expected, "{dialect:?}");
        }
    }
}
