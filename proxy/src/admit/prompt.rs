//! How many tokens a prompt has: at most, probably, and exactly where that can be known.

use bytes::Bytes;
use openclawmu_store::{ModelPrice, Tokenizer};

use crate::read::Call;
use crate::refusal::Refusal;
use crate::routes::AiRoute;

/// Tokens that a chat template may add without any byte in the request.
const TEMPLATE_TOKENS: u32 = 64;
/// Tokens that a provider may add when tools are offered.
const TOOL_TOKENS: u32 = 600;
/// Bytes of text per token, for estimates that are billed only when a provider says nothing.
const ESTIMATED_BYTES_PER_TOKEN: usize = 4;
/// Prompts longer than this are never counted token by token, in bytes.
const COUNTED_BYTES: usize = 256 << 10;

/// Tokens of the prompt that no byte of the request stands for.
pub(crate) fn overhead(call: &Call) -> u32 {
    let tools = if call.ask.has_tools { TOOL_TOKENS } else { 0 };
    if call.route.is_chat() { TEMPLATE_TOKENS + tools } else { 0 }
}

/// The most tokens that the prompt can be billed as. A byte is an upper bound of a byte-level token; images count by tariff;
/// what has no known size counts as the whole context window, which also bounds everything else.
pub(crate) fn input_bound(call: &Call, price: &ModelPrice) -> Result<u32, Refusal> {
    if call.route == AiRoute::CountTokens {
        return Ok(0);
    }
    let parts = call.ask.parts;
    let bytes = u32::try_from(call.body.len()).unwrap_or(u32::MAX).saturating_add(overhead(call));
    let window = price.context_tokens.map(|context| context.saturating_mul(call.ask.inputs));
    let needs_window = parts.unbounded > 0 || (parts.images > 0 && price.image_tokens.is_none());
    if needs_window {
        return window.ok_or_else(|| {
            Refusal::bad("messages", "The rate card states neither a price for images of this model nor its context window, so this prompt cannot be bounded.")
        });
    }
    let images = parts.images.saturating_mul(price.image_tokens.unwrap_or(0));
    let bound = bytes.saturating_add(images);
    Ok(window.map_or(bound, |window| bound.min(window)))
}

/// Tokens that `bytes` of text probably are; at least one.
pub(crate) fn estimate_tokens(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(ESTIMATED_BYTES_PER_TOKEN)).unwrap_or(u32::MAX)
}

/// The exact number of tokens of a body's text, where the encoding is public and the text is not too long to count.
pub(crate) fn count_tokens(body: &Bytes, tokenizer: Option<Tokenizer>) -> Option<u32> {
    let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= COUNTED_BYTES)?;
    let encoding = match tokenizer? {
        Tokenizer::Cl100kBase => bpe_openai::cl100k_base(),
        Tokenizer::O200kBase => bpe_openai::o200k_base(),
    };
    u32::try_from(encoding.count(text)).ok()
}
