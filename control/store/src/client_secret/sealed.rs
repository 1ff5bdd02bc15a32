//! A client secret as text: `ek_<tenant>_<base64url of what it says, as JSON, and an HMAC-SHA-256 of the tenant and that>`.
//!
//! Nothing of it is believed, and nothing read, before the signature is right. Every secret has one text: base64 that another
//! text could stand for is refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{Result, StoreError};
use crate::id::{TenantId, TokenId};
use crate::token::Pepper;

/// What every client secret begins with.
pub(super) const PREFIX: &str = "ek_";
/// The longest secret, in bytes: with its name and attributes it fits the 4,096 bytes that browsers keep of a cookie.
const MAX_BYTES: usize = 3_800;
/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 32;

/// What a secret says. Its readers are this program's versions alone; whoever holds it can read it too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Claims {
    /// Its id.
    #[serde(rename = "i")]
    pub(super) id: TokenId,
    /// The token that made it; absent: the operator did.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<TokenId>,
    #[serde(rename = "e")]
    pub(super) expires_at_ms: i64,
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub(super) models: Option<Vec<String>>,
    /// The key of the row that counts its use.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub(super) counted: Option<i64>,
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub(super) max_cost_nanos: Option<i64>,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(super) max_requests: Option<u64>,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<String>,
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
}

/// The parts of a secret whose signature is right.
pub(super) struct Opened<'a> {
    pub(super) tenant: &'a str,
    pub(super) signature: [u8; SIGNATURE_BYTES],
    said: Vec<u8>,
}

/// Writes and signs a secret.
///
/// # Errors
/// [`StoreError::Invalid`] when it would be longer than a cookie can be.
pub(super) fn seal(pepper: &Pepper, tenant: &TenantId, claims: &Claims) -> Result<Zeroizing<String>> {
    let mut bytes = serde_json::to_vec(claims)?;
    let signature = pepper.sign([tenant.as_str().as_bytes(), &framed(&bytes)])?;
    bytes.extend_from_slice(&signature);
    let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES));
    text.push_str(PREFIX);
    text.push_str(tenant.as_str());
    text.push('_');
    URL_SAFE_NO_PAD.encode_string(&bytes, &mut text);
    if text.len() > MAX_BYTES {
        return Err(StoreError::invalid("models", "the list is too long for a client secret; name fewer, or patterns"));
    }
    Ok(text)
}

/// Opens a secret; `None` for anything but a text that [`seal`] made under one of the keys.
pub(super) fn open<'a>(pepper: &Pepper, text: &'a str) -> Option<Opened<'a>> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let (tenant, rest) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let mut said = URL_SAFE_NO_PAD.decode(rest).ok()?;
    let signature = *said.last_chunk::<SIGNATURE_BYTES>()?;
    said.truncate(said.len().checked_sub(SIGNATURE_BYTES)?);
    let genuine = pepper.signed([tenant.as_bytes(), &framed(&said)], &signature);
    (genuine && TenantId::is_valid(tenant)).then_some(Opened { tenant, signature, said })
}

/// What stands between a tenant's id and what is said: no id holds it, so that no two pairs are signed alike.
fn framed(said: &[u8]) -> Vec<u8> {
    [b"\n", said].concat()
}

impl Opened<'_> {
    /// What it says; `None` for what another version of this program signed.
    pub(super) fn claims(&self) -> Option<Claims> {
        serde_json::from_slice(&self.said).ok()
    }
}
