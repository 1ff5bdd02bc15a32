//! Proofs over raw bytes: HMAC-SHA256, compared in constant time. An empty key proves nothing.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Whether `hex` is the HMAC of these parts under `key`.
pub(super) fn hmac_hex(key: &[u8], parts: &[&[u8]], hex: &str) -> bool {
    let Some(claimed) = unhex(hex).filter(|claimed| claimed.len() == 32 && !key.is_empty()) else { return false };
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().ct_eq(claimed.as_slice()).into()
}

/// Whether two texts are the same; none is the same as an empty one.
pub(super) fn same(one: &str, other: &str) -> bool {
    !one.is_empty() && bool::from(one.as_bytes().ct_eq(other.as_bytes()))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let digits = std::str::from_utf8(pair).ok()?;
        if pair.len() == 2 && pair.iter().all(u8::is_ascii_hexdigit) {
            u8::from_str_radix(digits, 16).ok()
        } else {
            None
        }
    };
    pairs.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_proof_under_the_right_key_holds() {
        // RFC 4231, test case 2.
        let proof = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let data: &[&[u8]] = &[b"what do ya ", b"want for nothing?"];
        assert!(hmac_hex(b"Jefe", data, proof) && hmac_hex(b"Jefe", data, &proof.to_ascii_uppercase()));
        for bad in ["", "5b", &proof[..62], &format!("{proof}00"), &proof.replace('5', "6"), &"é".repeat(32)] {
            assert!(!hmac_hex(b"Jefe", data, bad), "{bad}");
        }
        assert!(!hmac_hex(b"jefe", data, proof) && !hmac_hex(b"", data, proof));
        assert!(same("a", "a") && !same("a", "b") && !same("", "") && !same("a", "ab"));
    }
}
