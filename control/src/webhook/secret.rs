//! The key that webhooks are signed with, and the signature: `v1,` and the base64 of HMAC-SHA256 over
//! `id.timestamp.body` (Standard Webhooks, "Signature scheme").

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What a key in base64 begins with.
const PREFIX: &str = "whsec_";
/// The least bytes of a key, by the specification.
const MIN_BYTES: usize = 24;
/// Signatures of one message that are looked at.
const MAX_LISTED: usize = 8;

/// A webhook's key. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct WebhookSecret(Zeroizing<Vec<u8>>);

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}

impl WebhookSecret {
    /// Reads `whsec_` and base64, or takes any other text as the key's bytes.
    ///
    /// # Errors
    /// The sentence to show when it is too short or no base64; it never repeats the secret.
    pub fn parse(secret: &SecretString) -> Result<Self, String> {
        let text = secret.expose_secret();
        let bytes = match text.strip_prefix(PREFIX) {
            Some(coded) => STANDARD.decode(coded).map_err(|_| format!("what follows {PREFIX} is not base64"))?,
            None => text.as_bytes().to_vec(),
        };
        let bytes = Zeroizing::new(bytes);
        if bytes.len() < MIN_BYTES {
            return Err(format!(
                "has fewer than {MIN_BYTES} bytes: make one with `echo whsec_$(openssl rand -base64 32)`"
            ));
        }
        Ok(Self(bytes))
    }

    /// Whether one of the signatures in a `webhook-signature` header is this key's for a message, whose time stands as it came
    /// (Standard Webhooks, "Verifying signatures": a sender that changes its key signs with both).
    pub(crate) fn proves(&self, (id, at, body): (&str, &str, &[u8]), header: &str) -> bool {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            return false;
        };
        for part in [id.as_bytes(), b".", at.as_bytes(), b".", body] {
            mac.update(part);
        }
        let proof = mac.finalize().into_bytes();
        let listed = header.split(' ').filter_map(|one| one.strip_prefix("v1,")).take(MAX_LISTED);
        let same = |coded: &str| STANDARD.decode(coded).is_ok_and(|claimed| proof.ct_eq(claimed.as_slice()).into());
        listed.fold(false, |found, coded| same(coded) | found)
    }

    /// The signature of a message that is sent at `at_seconds` (UNIX time).
    pub(crate) fn sign(&self, id: &str, at_seconds: i64, body: &str) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            return String::new(); // no length is refused
        };
        for part in [id, ".", &at_seconds.to_string(), ".", body] {
            mac.update(part.as_bytes());
        }
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Result<WebhookSecret, String> {
        WebhookSecret::parse(&SecretString::from(text))
    }

    /// The vector of the specification's own libraries.
    #[test]
    fn the_specifications_example_has_its_signature() {
        let secret = secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}"),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert_eq!(format!("{secret:?}"), "WebhookSecret");
    }

    #[test]
    fn any_listed_signature_may_be_the_right_one_and_nothing_else_is() {
        let secret = secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let (id, at, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b"{\"test\": 2432232314}");
        let good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        for header in
            [good.to_owned(), format!("v1,AAAA {good}"), format!("v1a,x {good} v1,zz"), format!("{good} v2,x")]
        {
            assert!(secret.proves((id, at, body), &header), "{header}");
        }
        for header in ["", "v1,", &good[3..], &good.replace("v1", "v2"), &good.replace('g', "h"), &good[..40]] {
            assert!(!secret.proves((id, at, body), header), "{header}");
        }
        assert!(!secret.proves((id, "1614265331", body), good) && !secret.proves(("msg_other", at, body), good));
        assert!(!secret.proves((id, at, b"{\"test\": 2432232315}"), good));
    }

    #[test]
    fn a_short_or_garbled_key_is_refused_and_not_repeated() {
        for text in ["whsec_c2hvcnQ=", "whsec_not base64 at all, is it?", "too-short-to-be-a-key", "whsec_"] {
            let err = secret(text).unwrap_err();
            assert!(!err.contains("short-to") && !err.contains("c2hv") && !err.contains("at all"), "{err}");
        }
        assert!(secret("a-raw-key-of-24-bytes-ok").is_ok());
    }
}
