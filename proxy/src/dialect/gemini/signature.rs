//! Signatures of thoughts. Google's are bytes, written in base64, and its SDKs decode and encode them on the way; those of
//! other providers are texts that must come back letter by letter, and some of their thoughts are hidden altogether.
//!
//! What is base64 as Google writes it goes as it is. Any other text is marked and put into base64 as a whole.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// Marks the signature of another provider's thought.
const THOUGHT: &[u8] = b"openclawmu/thought/";
/// Marks another provider's hidden thoughts.
const HIDDEN: &[u8] = b"openclawmu/hidden/";

/// What a signature stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    /// The proof that a thought or a call is the model's.
    Thought(String),
    /// Thoughts that the provider hides.
    Hidden(String),
}

/// Whether Google itself could have written it.
pub(super) fn is_googles(signature: &str) -> bool {
    STANDARD.decode(signature).is_ok_and(|bytes| !bytes.starts_with(THOUGHT) && !bytes.starts_with(HIDDEN))
}

/// A thought's signature as it goes out.
pub(super) fn thought(signature: &str) -> String {
    if is_googles(signature) { signature.to_owned() } else { marked(THOUGHT, signature) }
}

/// Hidden thoughts as they go out.
pub(super) fn hidden(data: &str) -> String {
    marked(HIDDEN, data)
}

fn marked(mark: &[u8], text: &str) -> String {
    STANDARD.encode([mark, text.as_bytes()].concat())
}

/// Reads what came in; what is no base64 stays as it is.
pub(super) fn read(signature: &str) -> Signature {
    let plain = || Signature::Thought(standard(signature).unwrap_or_else(|| signature.to_owned()));
    let Some(bytes) = standard(signature).and_then(|text| STANDARD.decode(text).ok()) else { return plain() };
    let text = |mark: &[u8]| bytes.strip_prefix(mark).and_then(|rest| String::from_utf8(rest.to_vec()).ok());
    if let Some(text) = text(THOUGHT) {
        return Signature::Thought(text);
    }
    text(HIDDEN).map_or_else(plain, Signature::Hidden)
}

/// Base64 in either alphabet, padded or not, as padded standard base64; `None` when it is no base64.
pub(super) fn standard(text: &str) -> Option<String> {
    let plain: String = text
        .trim_end_matches('=')
        .chars()
        .map(|letter| match letter {
            '-' => '+',
            '_' => '/',
            other => other,
        })
        .collect();
    STANDARD_NO_PAD.decode(&plain).ok()?;
    let padding = plain.len().next_multiple_of(4) - plain.len();
    Some(plain + "===".get(..padding).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn googles_own_come_back_as_they_were_whatever_the_alphabet() {
        assert_eq!(thought("AY89+/8="), "AY89+/8=");
        assert_eq!(read("AY89-_8="), Signature::Thought("AY89+/8=".to_owned()));
        assert_eq!(read("AY89-_8"), Signature::Thought("AY89+/8=".to_owned()));
        assert_eq!(read("no base64!"), Signature::Thought("no base64!".to_owned()));
    }

    proptest! {
        #[test]
        fn whatever_goes_out_comes_back(text: String, bytes: Vec<u8>) {
            prop_assert_eq!(read(&thought(&text)), Signature::Thought(text.clone()));
            prop_assert_eq!(read(&hidden(&text)), Signature::Hidden(text));
            let encoded = STANDARD.encode(bytes);
            prop_assert_eq!(read(&thought(&encoded)), Signature::Thought(encoded));
        }
    }
}
