//! A rotation of the master key from its beginning to its end, and that of the pepper.

use std::sync::Arc;

use openclawmu_store::{Actor, AuditNote, AuditOutcome, ResealCursor, Resealed, SealedPlace, Store, StoreError, Turn};
use serde_json::json;
use zeroize::Zeroizing;

use crate::error::KeyError;
use crate::key::master::{Fresh, MasterKey, channel_place, place};
use crate::once;

/// Texts that are sealed anew in one commit.
const AT_ONCE: u32 = 500;

/// Why a rotation ended early. What it has done stays done, and the next one goes on there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotationError {
    /// The key file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another process owns the data directory by now.
    #[error("this gateway has handed over to its successor: rotate the key there")]
    HandedOver,
}

/// What a rotation did.
#[derive(Debug)]
pub(crate) struct Rotated {
    /// The id of the key that seals now.
    pub(crate) kid: String,
    /// The ids of the keys that left the file.
    pub(crate) retired: Vec<String>,
    /// Whether it went on with one that had not ended.
    pub(crate) resumed: bool,
    /// What was sealed anew.
    pub(crate) resealed: Resealed,
}

/// Rotates the master key: see the head of `master`.
pub(crate) async fn master(store: &Store, master: &Arc<MasterKey>, actor: &Actor) -> Result<Rotated, RotationError> {
    let rotation = master.rotation().await;
    let owned = || if store.owns_ledger() { Ok(()) } else { Err(RotationError::HandedOver) };
    owned()?;
    let fresh = rotation.prepare()?;
    let resumed = fresh.is_none();
    // On record before anything is done: what can't be put on record is not done.
    let kids = fresh.iter().map(Fresh::kid).chain(master.kids()?).collect::<Vec<_>>();
    let detail = json!({"kids": kids, "resumed": resumed});
    let (action, outcome) = ("keys.rotate", AuditOutcome::Ok);
    store.audit(actor, AuditNote { action, tenant: None, target: None, outcome, detail }).await?;
    rotation.begin(fresh).await?;
    let (mark, opener) = (master.mark(), Arc::clone(master));
    let turn: Turn = Arc::new(move |place, sealed| {
        let aad = aad(place);
        let plain = Zeroizing::new(opener.open(&aad, sealed).ok()?);
        opener.seal(&aad, &plain).ok()
    });
    let (mut resealed, mut after): (Resealed, Option<ResealCursor>) = (Resealed::default(), None);
    loop {
        let step = store.reseal(mark.clone(), Arc::clone(&turn), after, AT_ONCE).await?;
        resealed.sealed += step.sealed;
        resealed.unreadable += step.unreadable;
        match step.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    owned()?;
    let retired = rotation.end()?;
    Ok(Rotated { kid: kids.into_iter().next().unwrap_or_default(), retired, resumed, resealed })
}

/// What a text is bound to by its place.
fn aad(of: &SealedPlace) -> Vec<u8> {
    match of {
        SealedPlace::ProviderKey { tenant, upstream, id } => place(tenant, upstream, id).into_bytes(),
        SealedPlace::Channel { tenant, id } => channel_place(tenant, id).into_bytes(),
        SealedPlace::Answer { key } => once::place(key),
    }
}
