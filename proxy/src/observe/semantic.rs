//! The names of OpenTelemetry's semantic conventions, in one place: those of generative AI change from version to version
//! (<https://opentelemetry.io/docs/specs/semconv/gen-ai/>). What the conventions do not name is below `openclawmu`.

use crate::routes::AiRoute;
use crate::upstream::provider::Provider;
use crate::upstream::{Backend, Upstream};

/// Where the names are from.
pub(super) const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";

pub(super) const HTTP_METHOD: &str = "http.request.method";
pub(super) const HTTP_ROUTE: &str = "http.route";
pub(super) const HTTP_STATUS: &str = "http.response.status_code";
pub(super) const CLIENT_ADDRESS: &str = "client.address";
pub(super) const SERVER_ADDRESS: &str = "server.address";
pub(super) const SERVER_PORT: &str = "server.port";
pub(super) const ERROR_TYPE: &str = "error.type";

pub(super) const OPERATION: &str = "gen_ai.operation.name";
pub(super) const PROVIDER: &str = "gen_ai.provider.name";
pub(super) const REQUEST_MODEL: &str = "gen_ai.request.model";
pub(super) const RESPONSE_MODEL: &str = "gen_ai.response.model";
pub(super) const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub(super) const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
pub(super) const CACHE_READ_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
pub(super) const CACHE_WRITE_TOKENS: &str = "gen_ai.usage.cache_creation.input_tokens";

pub(super) const REQUEST_ID: &str = "openclawmu.request_id";
pub(super) const TENANT: &str = "openclawmu.tenant";
pub(super) const TOKEN: &str = "openclawmu.token";
pub(super) const UPSTREAM: &str = "openclawmu.upstream";
pub(super) const ASKED_MODEL: &str = "openclawmu.asked_model";
pub(super) const STREAM: &str = "openclawmu.stream";
pub(super) const ATTEMPT: &str = "openclawmu.attempt";
pub(super) const OUTCOME: &str = "openclawmu.outcome";
pub(super) const COST_USD: &str = "openclawmu.cost_usd";
pub(super) const ESTIMATED: &str = "openclawmu.estimated";
pub(super) const FIRST_BYTE_MS: &str = "openclawmu.first_byte_ms";

/// `gen_ai.operation.name` of a conversation over `OpenAI`'s Realtime API, which the conventions don't know.
pub(crate) const REALTIME: &str = "realtime";

/// `gen_ai.operation.name`
pub(crate) fn operation(route: AiRoute) -> &'static str {
    match route {
        AiRoute::ChatCompletions | AiRoute::Messages | AiRoute::Responses => "chat",
        AiRoute::GenerateContent => "generate_content",
        AiRoute::Completions => "text_completion",
        AiRoute::Embeddings => "embeddings",
        AiRoute::CountTokens => "count_tokens",
        AiRoute::Compact => "compact",
        AiRoute::Moderations => "moderation",
        AiRoute::ImageGenerations => "image_generation",
        AiRoute::ImageEdits => "image_edit",
        AiRoute::ImageVariations => "image_variation",
        AiRoute::Speech => "speech",
        AiRoute::Transcriptions => "transcription",
        AiRoute::Translations => "translation",
    }
}

/// `gen_ai.provider.name`
pub(super) fn provider(upstream: &Upstream) -> &'static str {
    match &upstream.backend {
        Backend::Echo => "openclawmu",
        Backend::Http(provider, _) => match provider {
            Provider::Openai { .. } => "openai",
            Provider::Azure { .. } => "azure.ai.openai",
            Provider::Anthropic { .. } => "anthropic",
            Provider::Gemini { .. } => "gcp.gemini",
            Provider::Bedrock => "aws.bedrock",
        },
    }
}
