//! Client secrets as they are handed out: the answer that holds one, and the cookie that carries it.
//!
//! The admin API and the edge make them in the same way; who may is theirs to know.

use std::sync::Arc;

use openclawmu_store::{Actor, ClientSecret, NewClientSecret, Policy, Store, TokenId, UnixMs};
use serde::Serialize;
use serde_json::{Value, json};

use crate::key::MasterKey;
use crate::once::{self, OnceKey};

pub use crate::once::{Given, NotGiven};

/// The cookie that carries a client secret. Its prefix makes browsers refuse it from other hosts, paths and plain HTTP
/// (RFC 6265bis, section 4.1.3.2).
pub const COOKIE: &str = "__Host-openclawmu";

/// A new client secret
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct ClientSecretShown {
    id: TokenId,
    /// What is presented: `ek_<tenant>_...`.
    value: String,
    #[schema(value_type = UnixMs)]
    expires_at: String,
    /// A ready `Set-Cookie`.
    cookie: String,
}

/// The answer that holds a new secret.
pub(crate) fn render(secret: &ClientSecret) -> Value {
    json!(ClientSecretShown {
        id: secret.id.clone(),
        value: secret.expose().to_owned(),
        expires_at: secret.expires_at.rfc3339(),
        cookie: cookie(secret),
    })
}

/// A ready `Set-Cookie`. It goes along from other sites only where the secret is bound to the origin that then must be there.
fn cookie(secret: &ClientSecret) -> String {
    let same_site = if secret.origin.is_some() { "None" } else { "Strict" };
    format!(
        "{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite={same_site}; Max-Age={}",
        secret.expose(),
        secret.ttl_seconds
    )
}

/// A tenant's call for a client secret.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Who asks.
    pub actor: &'a Actor,
    /// What the token that asks may do.
    pub policy: &'a Policy,
    /// What for.
    pub new: NewClientSecret,
    /// The call's `Idempotency-Key`, and its body.
    pub once: Option<(&'a str, &'a [u8])>,
}

/// Makes a client secret for the holder of a token, once where the call has a key. Keys of different tokens never meet.
///
/// # Errors
/// Why there is none.
pub async fn create(store: &Store, master: &Arc<MasterKey>, asked: Asked<'_>) -> Result<Given, NotGiven> {
    let Asked { actor, policy, new, once } = asked;
    let key = once.map(|(key, body)| OnceKey::of_token(policy.token.as_str(), key, body));
    once::once(master, key, store.create_client_secret_of(actor, policy, new), render).await
}
