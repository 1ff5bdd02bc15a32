//! `POST /v1/client_secrets`: the holder of a token makes a secret for a page or an app of its users. No admin key is needed,
//! and the secret is never good for more than the token.

use std::net::IpAddr;

use http::HeaderMap;
use openclawmu_control::client_secret::{Asked, Given, NotGiven, create};
use openclawmu_store::{Actor, ActorKind, StoreError};

use crate::answer::Head;
use crate::authenticate::Caller;
use crate::client::Client;
use crate::context::Context;
use crate::gateway::{Gateway, Stop};
use crate::read;
use crate::refusal::Refusal;
use crate::session::Session;

/// The header that makes a call happen once.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The longest key, in bytes.
const MAX_KEY_BYTES: usize = 255;

impl Gateway {
    /// Makes a client secret of the caller's tenant.
    pub(crate) async fn mint(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        (caller, peer): (&Caller, IpAddr),
    ) -> Result<(), Stop> {
        let shared = &*self.shared;
        let body = read::body(session, &shared.config).await?;
        let new = read::fields(&body)?;
        let key = idempotency_key(&session.req_header().headers)?;
        let policy = &caller.policy;
        let actor = Actor {
            kind: ActorKind::Tenant,
            id: policy.token.to_string(),
            ip: Some(peer),
            request_id: Some(ctx.request_id.to_string()),
        };
        let once = key.map(|key| (key, &*body));
        let given = create(&shared.store, shared.own_keys.master(), Asked { actor: &actor, policy, new, once }).await;
        let (status, replayed, body) = match given.map_err(refused)? {
            Given::Made(body) => (201, false, body.to_string().into_bytes()),
            Given::Before { status, body } => (status, true, body),
        };
        ctx.status = status;
        let mut head = Head::new(status, ctx.request_id)?;
        head.set("cache-control", "no-store");
        if replayed {
            head.set("idempotent-replayed", "true");
        }
        Ok(head.send(&mut Client::Http(session.again()), "application/json", body.into()).await?)
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let is_one =
        |key: &&str| (1..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    let key = value.to_str().ok().filter(is_one).filter(|_| values.next().is_none());
    key.map(Some).ok_or_else(|| {
        Refusal::bad("Idempotency-Key", "`Idempotency-Key` must be one key of 1 to 255 visible ASCII characters.")
    })
}

fn refused(err: NotGiven) -> Refusal {
    match err {
        NotGiven::Store(StoreError::Invalid { field, message }) => {
            let message = format!("`{field}` {message}.");
            Refusal::bad(field, message)
        }
        NotGiven::Store(StoreError::KeyReused) => Refusal::Bad {
            status: 422,
            param: Some("Idempotency-Key".into()),
            code: Some("idempotency_key_reused"),
            message: "This `Idempotency-Key` came with another request before. Use a new key for a new request."
                .to_owned(),
        },
        // The token ended, or lost its scope, since it was let in.
        NotGiven::Store(StoreError::NotFound(_)) => Refusal::Unauthenticated,
        NotGiven::Store(StoreError::Conflict(_)) => Refusal::Forbidden {
            code: "scope_missing",
            message: "This token may make no client secrets: that takes the scopes `client_secrets` and `inference`."
                .to_owned(),
        },
        NotGiven::AnswerLost => Refusal::Bad {
            status: 409,
            param: Some("Idempotency-Key".into()),
            code: Some("answer_lost"),
            message: "This call was made before, but its answer can't be opened any more. Use a new key.".to_owned(),
        },
        NotGiven::Store(err) => {
            tracing::error!(%err, "a client secret can't be made");
            Refusal::Store
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openclawmu_store::NewClientSecret;

    use super::*;

    fn read(body: &str) -> Result<NewClientSecret, (u16, String)> {
        read::fields(&Bytes::copy_from_slice(body.as_bytes())).map_err(|refusal| {
            let told = refusal.told();
            (told.status, told.param.unwrap_or_default().into_owned() + &told.message)
        })
    }

    /// N-03
    #[test]
    fn a_body_is_an_object_of_known_fields_and_what_is_at_fault_is_named() {
        assert!(read("").is_ok() && read("{}").is_ok());
        assert_eq!(read(r#"{"ttl_seconds":60,"user":"ann"}"#).unwrap().ttl_seconds, Some(60));
        for (body, named) in [
            (r#"{"scopes":["usage"]}"#, "scopes"),
            (r#"{"ttl_seconds":"60"}"#, "ttl_seconds"),
            (r#"{"ttl_seconds":-1}"#, "ttl_seconds"),
            (r#"{"max_cost_usd":0.5}"#, "max_cost_usd"),
            (r#"{"models":"gpt-4o"}"#, "models"),
            ("[60]", "object"),
            ("null", "object"),
            ("{} {}", "JSON"),
            ("{", "JSON"),
        ] {
            let (status, said) = read(body).unwrap_err();
            assert!(status == 400 && said.contains(named), "{body}: {said}");
        }
    }

    #[test]
    fn a_key_is_one_and_visible() {
        let with = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY, value.parse().unwrap());
            }
            idempotency_key(&headers).map(|key| key.map(str::to_owned)).map_err(|refusal| refusal.told().status)
        };
        assert_eq!(with(&[]), Ok(None));
        assert_eq!(with(&["a-1"]), Ok(Some("a-1".to_owned())));
        for bad in [&[""][..], &["a b"], &["a", "a"], &["x".repeat(256).as_str()]] {
            assert_eq!(with(bad), Err(400), "{bad:?}");
        }
    }
}
