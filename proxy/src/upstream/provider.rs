//! What a provider wants around a body: which APIs it has, at which paths, and how its key is sent.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::config::UpstreamKind;
use crate::routes::AiRoute;

/// The APIs that providers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    /// `OpenAI` chat.
    Chat,
    /// `OpenAI` legacy completions.
    Completions,
    /// `OpenAI` embeddings.
    Embeddings,
    /// Anthropic messages.
    Messages,
    /// The size of a prompt in Anthropic's messages.
    CountTokens,
    /// Gemini's generateContent.
    Generate,
    /// Bedrock's Converse.
    Converse,
    /// `OpenAI`'s responses.
    Responses,
    /// `OpenAI`'s moderations.
    Moderations,
    /// `OpenAI`'s images, made of a prompt.
    ImageGenerations,
    /// `OpenAI`'s images, changed.
    ImageEdits,
    /// `OpenAI`'s images, varied.
    ImageVariations,
    /// `OpenAI`'s speech.
    Speech,
    /// `OpenAI`'s transcripts.
    Transcriptions,
    /// `OpenAI`'s transcripts in English.
    Translations,
}

/// One provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    /// `OpenAI`, or a server that speaks like it.
    Openai {
        /// Whether it has `/responses`.
        responses: bool,
    },
    /// `OpenAI`'s models at Azure.
    Azure {
        /// The version in every query.
        api_version: String,
    },
    /// Anthropic.
    Anthropic {
        /// The version in every head.
        version: String,
    },
    /// Google.
    Gemini {
        /// How the key is sent.
        bearer: bool,
    },
    /// Amazon.
    Bedrock,
}

impl Provider {
    /// The provider of a kind; `None` for what is built in.
    pub(crate) fn of(kind: &UpstreamKind) -> Option<Self> {
        Some(match kind {
            UpstreamKind::Openai { responses } => Self::Openai { responses: *responses },
            UpstreamKind::Azure { api_version } => Self::Azure { api_version: api_version.clone() },
            UpstreamKind::Anthropic { version } => Self::Anthropic { version: version.clone() },
            UpstreamKind::Gemini { bearer } => Self::Gemini { bearer: *bearer },
            UpstreamKind::Bedrock(_) => Self::Bedrock,
            UpstreamKind::Echo => return None,
        })
    }

    /// Whether it has an API.
    pub(crate) fn has(&self, api: Api) -> bool {
        match self {
            Self::Openai { responses: true } if api == Api::Responses => true,
            // Azure has neither moderations nor variations.
            Self::Openai { .. } if matches!(api, Api::Moderations | Api::ImageVariations) => true,
            Self::Openai { .. } | Self::Azure { .. } => matches!(
                api,
                Api::Chat
                    | Api::Completions
                    | Api::Embeddings
                    | Api::ImageGenerations
                    | Api::ImageEdits
                    | Api::Speech
                    | Api::Transcriptions
                    | Api::Translations
            ),
            Self::Anthropic { .. } => matches!(api, Api::Messages | Api::CountTokens),
            Self::Gemini { .. } => api == Api::Generate,
            Self::Bedrock => api == Api::Converse,
        }
    }

    /// The API by which it is asked to chat when the client's own is none of its.
    pub(crate) fn chat_api(&self) -> Api {
        match self {
            Self::Openai { .. } | Self::Azure { .. } => Api::Chat,
            Self::Anthropic { .. } => Api::Messages,
            Self::Gemini { .. } => Api::Generate,
            Self::Bedrock => Api::Converse,
        }
    }

    /// The API by which it is asked for what a route wants, where the request is written anew.
    pub(crate) fn api_for(&self, route: AiRoute) -> Api {
        if self.has(route.api()) { route.api() } else { self.chat_api() }
    }

    /// The path after the base URL, query included.
    pub(crate) fn path(&self, api: Api, model: &str, stream: bool) -> Cow<'static, str> {
        let plain = match api {
            Api::Chat => "/chat/completions",
            Api::Completions => "/completions",
            Api::Embeddings => "/embeddings",
            Api::Responses => "/responses",
            Api::Moderations => "/moderations",
            Api::ImageGenerations => "/images/generations",
            Api::ImageEdits => "/images/edits",
            Api::ImageVariations => "/images/variations",
            Api::Speech => "/audio/speech",
            Api::Transcriptions => "/audio/transcriptions",
            Api::Translations => "/audio/translations",
            Api::Messages => "/messages",
            Api::CountTokens => "/messages/count_tokens",
            Api::Generate => {
                let call = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
                return format!("/models/{}:{call}", encoded(model)).into();
            }
            Api::Converse => {
                let call = if stream { "converse-stream" } else { "converse" };
                return format!("/model/{}/{call}", encoded(model)).into();
            }
        };
        match self {
            Self::Azure { api_version } => {
                format!("/openai/deployments/{}{plain}?api-version={}", encoded(model), encoded(api_version)).into()
            }
            Self::Openai { .. } | Self::Anthropic { .. } | Self::Gemini { .. } | Self::Bedrock => plain.into(),
        }
    }

    /// The path of its list of models, query included, which costs nothing to ask for; `None` where there is none at its base URL.
    pub(crate) fn models_path(&self) -> Option<String> {
        match self {
            Self::Openai { .. } | Self::Anthropic { .. } | Self::Gemini { .. } => Some("/models".to_owned()),
            Self::Azure { api_version } => Some(format!("/openai/models?api-version={}", encoded(api_version))),
            Self::Bedrock => None,
        }
    }

    /// The path of its Realtime API, query included; `None` where it has none.
    pub(crate) fn realtime_path(&self, model: &str) -> Option<String> {
        let model = encoded(model);
        match self {
            Self::Openai { .. } => Some(format!("/realtime?model={model}")),
            Self::Azure { api_version } => {
                Some(format!("/openai/realtime?api-version={}&deployment={model}", encoded(api_version)))
            }
            Self::Anthropic { .. } | Self::Gemini { .. } | Self::Bedrock => None,
        }
    }

    /// The status of a refusal as every other provider would have it: Amazon says 403 to a key that it does not know or that may
    /// not call the model, with names of the operator's account in it.
    pub(crate) fn refusal_status(&self, status: u16) -> u16 {
        if *self == Self::Bedrock && status == 403 { 401 } else { status }
    }

    /// The headers that carry a key.
    ///
    /// # Errors
    /// The sentence to show when the key can't be sent.
    pub(crate) fn key_headers(&self, key: Option<&SecretString>) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let mut headers = Vec::new();
        if let Some(key) = key {
            let bearer = || format!("Bearer {}", key.expose_secret());
            let plain = || key.expose_secret().to_owned();
            let (name, text) = match self {
                Self::Openai { .. } | Self::Gemini { bearer: true } => (AUTHORIZATION, bearer()),
                Self::Azure { .. } => (HeaderName::from_static("api-key"), plain()),
                Self::Anthropic { .. } => (HeaderName::from_static("x-api-key"), plain()),
                Self::Gemini { bearer: false } => (HeaderName::from_static("x-goog-api-key"), plain()),
                Self::Bedrock => return Err("a request to Bedrock is signed, it has no api_key".to_owned()),
            };
            let mut value =
                HeaderValue::try_from(text).map_err(|_| "the API key holds characters that no header can hold")?;
            value.set_sensitive(true);
            headers.push((name, value));
        }
        Ok(headers)
    }

    /// The headers of a request that the gateway has written.
    pub(crate) fn own_headers(&self) -> Vec<(&'static str, HeaderValue)> {
        match self {
            Self::Anthropic { version } => {
                let value = HeaderValue::try_from(version.as_str());
                value.ok().map(|value| ("anthropic-version", value)).into_iter().collect()
            }
            Self::Openai { .. } | Self::Azure { .. } | Self::Gemini { .. } | Self::Bedrock => Vec::new(),
        }
    }

    /// The headers of a request that goes on as it came: those of the client's that say how its body is to be read.
    pub(crate) fn same_headers(&self, client: &HeaderMap) -> Vec<(&'static str, HeaderValue)> {
        let named = |name: &'static str| client.get(name).map(|value| (name, value.clone()));
        match self {
            Self::Openai { .. } | Self::Azure { .. } => named("openai-beta").into_iter().collect(),
            Self::Anthropic { .. } => {
                let version = named("anthropic-version").map(|named| vec![named]);
                version.unwrap_or_else(|| self.own_headers()).into_iter().chain(named("anthropic-beta")).collect()
            }
            Self::Gemini { .. } | Self::Bedrock => Vec::new(),
        }
    }
}

/// A segment of a path: what is not unreserved is escaped (RFC 3986, section 2.3).
fn encoded(segment: &str) -> String {
    let mut encoded = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string can't fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_is_asked_at_its_own_path() {
        let azure = Provider::Azure { api_version: "2024-10-21".to_owned() };
        let gemini = Provider::Gemini { bearer: false };
        let anthropic = Provider::Anthropic { version: "2023-06-01".to_owned() };
        for (provider, api, stream, path) in [
            (Provider::Openai { responses: false }, Api::Chat, true, "/chat/completions"),
            (azure.clone(), Api::Chat, false, "/openai/deployments/a%2Fb/chat/completions?api-version=2024-10-21"),
            (azure, Api::Speech, false, "/openai/deployments/a%2Fb/audio/speech?api-version=2024-10-21"),
            (Provider::Openai { responses: false }, Api::ImageEdits, true, "/images/edits"),
            (anthropic, Api::Messages, true, "/messages"),
            (gemini.clone(), Api::Generate, false, "/models/a%2Fb:generateContent"),
            (gemini, Api::Generate, true, "/models/a%2Fb:streamGenerateContent?alt=sse"),
            (Provider::Bedrock, Api::Converse, true, "/model/a%2Fb/converse-stream"),
        ] {
            assert_eq!(provider.path(api, "a/b", stream), path);
        }
        assert_eq!(encoded("anthropic.claude-3:0"), "anthropic.claude-3%3A0");
    }

    #[test]
    fn a_model_name_leads_to_no_other_path() {
        let provider = Provider::Gemini { bearer: false };
        for model in ["../files", "a?key=b", "a#b", "a%2e%2e/b", "é\r\n"] {
            let path = provider.path(Api::Generate, model, false).into_owned();
            assert!(path.is_ascii() && path.matches('/').count() == 2 && !path.contains(['?', '#', '\r']), "{path}");
        }
    }

    #[test]
    fn the_key_goes_where_the_provider_looks_for_it() {
        let key = SecretString::from("k");
        let name = |provider: Provider| provider.key_headers(Some(&key)).unwrap().first().unwrap().0.to_string();
        assert_eq!(name(Provider::Openai { responses: false }), "authorization");
        assert_eq!(name(Provider::Azure { api_version: "v".to_owned() }), "api-key");
        assert_eq!(name(Provider::Anthropic { version: "v".to_owned() }), "x-api-key");
        assert_eq!(name(Provider::Gemini { bearer: false }), "x-goog-api-key");
        assert_eq!(name(Provider::Gemini { bearer: true }), "authorization");
        assert!(Provider::Bedrock.key_headers(Some(&key)).is_err());
        let anthropic = Provider::Anthropic { version: "2023-06-01".to_owned() };
        assert_eq!(anthropic.own_headers().len(), 1, "the version goes with every request");
        assert!(Provider::Openai { responses: false }.key_headers(Some(&SecretString::from("a\nb"))).is_err());
    }
}
