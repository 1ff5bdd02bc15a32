//! A token as text: `tk_<tenant>_<12 base62 id><43 base62 secret><6 base62 CRC-32>`.
//!
//! The CRC covers all that precedes it, so that a mistyped or made-up token is refused without looking anywhere, and a
//! scanner can tell a real one in a leak. It proves nothing: the secret does.

use std::fmt;

use zeroize::Zeroizing;

use crate::error::{Result, StoreError};
use crate::id::{BASE62, TenantId, TokenId};

const PREFIX: &str = "tk_";
const ID_CHARS: usize = 12;
/// 62^43 is just over 2^256.
const SECRET_CHARS: usize = 43;
const CRC_CHARS: usize = 6;

/// A token with its secret. Shown once; it can't be printed or serialized by mistake, and is wiped when dropped.
#[derive(Clone)]
pub struct PlainToken(Zeroizing<String>);

impl fmt::Debug for PlainToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainToken")
    }
}

impl PlainToken {
    /// A new token of `tenant`, with a random id and secret.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the system gives no random bytes.
    pub fn generate(tenant: &TenantId) -> Result<Self> {
        let random = random_base62(ID_CHARS + SECRET_CHARS)?;
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 33 + ID_CHARS + SECRET_CHARS + CRC_CHARS));
        text.push_str(PREFIX);
        text.push_str(tenant.as_str());
        text.push('_');
        text.push_str(&random);
        for digit in crc_digits(text.as_bytes()) {
            text.push(char::from(digit));
        }
        Ok(Self(text))
    }

    /// The text, to hand to its owner.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Text that is no token: no need to ask the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a token")]
pub struct MalformedToken;

/// The parts of a token whose CRC is right. Borrowed: nothing is copied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ParsedToken<'a> {
    tenant: &'a str,
    id: &'a str,
    secret: &'a str,
}

impl fmt::Debug for ParsedToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParsedToken").field("tenant", &self.tenant).field("id", &self.id).finish_non_exhaustive()
    }
}

impl<'a> ParsedToken<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`MalformedToken`] for anything but a token with the right CRC.
    pub fn parse(text: &'a str) -> Result<Self, MalformedToken> {
        Self::parts(text).ok_or(MalformedToken)
    }

    fn parts(text: &'a str) -> Option<Self> {
        let (tenant, rest) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let plain =
            rest.len() == ID_CHARS + SECRET_CHARS + CRC_CHARS && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !plain || !TenantId::is_valid(tenant) {
            return None;
        }
        let (covered, crc) = text.split_at_checked(text.len().checked_sub(CRC_CHARS)?)?;
        if crc.as_bytes() != crc_digits(covered.as_bytes()) {
            return None;
        }
        let (id, rest) = rest.split_at_checked(ID_CHARS)?;
        Some(Self { tenant, id, secret: rest.get(..SECRET_CHARS)? })
    }

    /// The tenant's id.
    #[must_use]
    pub fn tenant(&self) -> &'a str {
        self.tenant
    }

    /// The token's id.
    #[must_use]
    pub fn id(&self) -> &'a str {
        self.id
    }

    pub(super) fn token_id(&self) -> Option<TokenId> {
        self.id.parse().ok()
    }

    pub(super) fn secret(&self) -> &'a str {
        self.secret
    }
}

/// The CRC-32 (IEEE) of `covered` as base62 digits, the most significant first.
fn crc_digits(covered: &[u8]) -> [u8; CRC_CHARS] {
    let mut rest = crc32fast::hash(covered);
    let mut digits = [b'0'; CRC_CHARS];
    for digit in digits.iter_mut().rev() {
        // The remainder is below 62, so there always is a letter.
        *digit = usize::try_from(rest % 62).ok().and_then(|at| BASE62.get(at).copied()).unwrap_or(b'0');
        rest /= 62;
    }
    digits
}

/// Random base62 text, every character equally likely: six random bits that name no character are thrown away.
pub(crate) fn random_base62(chars: usize) -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(chars));
    let mut bytes = Zeroizing::new([0_u8; 64]);
    loop {
        getrandom::fill(bytes.as_mut_slice())
            .map_err(|err| StoreError::Unavailable(format!("no random bytes: {err}")))?;
        for &letter in bytes.iter().filter_map(|byte| BASE62.get(usize::from(byte & 63))) {
            if text.len() == chars {
                return Ok(text);
            }
            text.push(char::from(letter));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> TenantId {
        "acme".parse().unwrap()
    }

    #[test]
    fn a_token_is_what_the_contract_says() {
        let plain = PlainToken::generate(&tenant()).unwrap();
        let text = plain.expose();
        assert_eq!(text.len(), "tk_acme_".len() + 12 + 43 + 6);
        let parsed = ParsedToken::parse(text).unwrap();
        assert_eq!(parsed.tenant(), "acme");
        assert_eq!(format!("tk_acme_{}{}", parsed.id(), parsed.secret()), text[..text.len() - 6]);
    }

    #[test]
    fn a_10_neither_debug_form_shows_the_secret() {
        let plain = PlainToken::generate(&tenant()).unwrap();
        let parsed = ParsedToken::parse(plain.expose()).unwrap();
        assert_eq!(format!("{plain:?}"), "PlainToken");
        assert!(!format!("{parsed:?}").contains(parsed.secret()));
    }

    #[test]
    fn any_one_changed_character_breaks_the_crc() {
        let plain = PlainToken::generate(&tenant()).unwrap();
        for at in 0..plain.expose().len() {
            let mut bytes = plain.expose().as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            assert!(ParsedToken::parse(std::str::from_utf8(&bytes).unwrap()).is_err(), "{at}");
        }
        let text = plain.expose();
        for bad in ["", "tk_", "tk__", &text[1..], &text[..text.len() - 1], &format!("{text}0"), &format!("{text} ")] {
            assert!(ParsedToken::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_base62_character_is_equally_likely() {
        let text = random_base62(62_000).unwrap();
        let mut counts = [0_i64; 128];
        text.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
        // 1,000 expected of each, standard deviation 32: ten of them is no accident, a modulo's bias is eight times as much.
        assert!(BASE62.iter().all(|&byte| (counts[usize::from(byte)] - 1000).abs() < 320));
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC*", tail in "[0-9A-Za-z]{55,63}") {
            proptest::prop_assert!(ParsedToken::parse(&text).is_err());
            let made_up = format!("tk_{text}_{tail}");
            proptest::prop_assert!(ParsedToken::parse(&made_up).is_err() || made_up.is_ascii());
        }
    }
}
