//! `/v1/keys`: the gateway's own keys, by their ids, and how they are rotated. No answer shows a key.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use openclawmu_store::StoreError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::admin::call::Call;
use crate::admin::idempotency;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::error::KeyError;
use crate::key::rotate::{self, RotationError};

/// The gateway's own keys, by their ids
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Keys {
    /// What provider keys are sealed with: the first id's key seals, those after it only open, until a rotation has ended.
    master: Vec<String>,
    /// What tokens are hashed with: the first id's key hashes new ones, those after it still verify older ones.
    pepper: Vec<String>,
}

/// The ids of the gateway's own keys
#[utoipa::path(get, path = "/v1/keys", tag = "keys", responses((status = 200, description = "The ids", body = Keys)))]
pub(super) async fn list(State(state): State<AdminState>) -> Result<Json<Keys>, Refusal> {
    Ok(Json(Keys { master: state.master.kids()?, pepper: state.store.pepper_kids() }))
}

/// Which key to rotate
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeyKind {
    /// What provider keys are sealed with.
    #[default]
    Master,
    /// What tokens are hashed with.
    Pepper,
}

/// A rotation
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = KeyRotation)]
pub(super) struct Rotation {
    /// Which key; absent: master.
    #[serde(default)]
    key: KeyKind,
}

/// A key that was rotated
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RotatedKey {
    /// The id of the new key.
    kid: String,
    /// The ids of the keys that nothing uses any more; they are gone.
    retired: Vec<String>,
    /// Whether this went on with a rotation that had not ended, and made no further key.
    resumed: bool,
    /// How many values were sealed anew.
    resealed: u64,
    /// How many values no key opens: sealed with a key that was lost, and as useless as before.
    unreadable: u64,
}

/// Make a new key and put it in the old one's place
///
/// While the gateway serves, and resumable: called again after it was cut, it goes on. `master`: everything that is sealed is
/// sealed anew, then the old key is removed; a backup from before can no longer be opened. `pepper`: new tokens are hashed
/// with the new key, and old ones go on as they are; an old key is removed once no live token needs it, and with it end the
/// client secrets that were made before the last two rotations.
#[utoipa::path(post, path = "/v1/keys/rotate", tag = "keys", request_body = Rotation, responses(
    (status = 201, description = "The new key's id, and what was done", body = RotatedKey),
))]
pub(super) async fn rotate(State(state): State<AdminState>, call: Call<Rotation>) -> Result<Response, Refusal> {
    if let Some(once) = &call.once
        && let Some(answer) = idempotency::replayed(&state, once)?
    {
        return Ok(answer);
    }
    let rotated = match call.body.key {
        KeyKind::Master => {
            let done = rotate::master(&state.store, &state.master, &call.actor).await?;
            RotatedKey {
                kid: done.kid,
                retired: done.retired,
                resumed: done.resumed,
                resealed: done.resealed.sealed,
                unreadable: done.resealed.unreadable,
            }
        }
        KeyKind::Pepper => {
            let (kid, retired) = state.store.rotate_pepper(&call.actor).await?;
            RotatedKey { kid, retired, resumed: false, resealed: 0, unreadable: 0 }
        }
    };
    let kept = state.store.keep_answer(json!(rotated));
    idempotency::create(&state, call.once, kept, Value::clone).await
}

impl From<KeyError> for Refusal {
    fn from(err: KeyError) -> Self {
        Self::internal(&err)
    }
}

impl From<RotationError> for Refusal {
    fn from(err: RotationError) -> Self {
        match err {
            RotationError::Key(err) => err.into(),
            RotationError::Store(err) => err.into(),
            RotationError::HandedOver => StoreError::Conflict(err.to_string()).into(),
        }
    }
}
