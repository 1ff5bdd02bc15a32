//! Which sets go, and what nobody needs any more.
//!
//! Only whole sets are counted, and only older ones go: the newest of a scope always stay. An object goes when no set that is
//! left names it and it is too old to belong to one that is being made.

use std::collections::{BTreeMap, HashSet};

use openclawmu_store::UnixMs;

use crate::error::Result;
use crate::layout::{self, Scope};
use crate::manifest::{MAX_BYTES, Manifest};
use crate::place::Place;
use crate::segment::{parse_audit, parse_ledger};

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Whole sets of each scope, at least one.
    pub keep: usize,
    /// How old an object must be that no set names, in milliseconds: longer than any set takes.
    pub orphans_after_ms: i64,
}

/// What went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Sets.
    pub sets: Vec<String>,
    /// Objects and segments that no set needs.
    pub objects: usize,
}

impl Retention {
    /// Applies it to `scope` in `place`. A manifest goes before its objects, so that no set is ever there in part.
    ///
    /// # Errors
    /// [`crate::BackupError::Place`]; what has not gone goes next time.
    pub async fn apply(&self, place: &Place, scope: &Scope, now: UnixMs) -> Result<Retained> {
        let mut done = Retained::default();
        let mut whole = self.manifests(place).await?;
        let own: Vec<String> = whole.get(scope).map(|sets| sets.keys().cloned().collect()).unwrap_or_default();
        for number in own.iter().take(own.len().saturating_sub(self.keep.max(1))) {
            place.remove(&scope.manifest(number)).await?;
            if let Some(sets) = whole.get_mut(scope) {
                sets.remove(number);
            }
            done.sets.push(number.clone());
        }
        if whole.values().flat_map(BTreeMap::values).any(Option::is_none) {
            // A manifest that can't be read may need any object.
            tracing::warn!(place = place.name(), "a manifest can't be read, so no object is removed");
            return Ok(done);
        }
        let manifests = || whole.values().flat_map(BTreeMap::values).flatten();
        let needed: HashSet<&str> = manifests().flat_map(Manifest::objects).map(|object| object.key.as_str()).collect();
        let old = |at: UnixMs| now.0.saturating_sub(at.0) >= self.orphans_after_ms;
        let mut folders = vec![scope.objects()];
        if *scope == Scope::Gateway {
            folders.push(layout::TENANTS.to_owned());
        }
        for folder in folders {
            for item in place.list(&folder).await? {
                let is_object = layout::parse_scope(&item.key).is_some_and(|(_, rest)| rest.starts_with("objects/"));
                if is_object && old(item.modified_at) && !needed.contains(item.key.as_str()) {
                    place.remove(&item.key).await?;
                    done.objects += 1;
                }
            }
        }
        if *scope == Scope::Gateway {
            let oldest = whole.get(scope).into_iter().flat_map(BTreeMap::values).flatten().map(Manifest::created).min();
            done.objects += self.segments(place, oldest).await?;
        }
        Ok(done)
    }

    /// Every manifest by scope and number; `None` for one that can't be read.
    async fn manifests(&self, place: &Place) -> Result<BTreeMap<Scope, BTreeMap<String, Option<Manifest>>>> {
        let mut found: BTreeMap<Scope, BTreeMap<String, Option<Manifest>>> = BTreeMap::new();
        for folder in [Scope::Gateway.sets(), layout::TENANTS.to_owned()] {
            for item in place.list(&folder).await? {
                let Some((of, number)) = layout::parse_manifest(&item.key) else { continue };
                let Some(bytes) = place.get(&item.key, MAX_BYTES).await? else { continue };
                found.entry(of.clone()).or_default().insert(number, Manifest::parse(&bytes, &of).ok());
            }
        }
        Ok(found)
    }

    /// Segments that are older than the oldest set of the gateway. The audit log stays: it is nowhere else.
    async fn segments(&self, place: &Place, oldest: Option<UnixMs>) -> Result<usize> {
        let Some(oldest) = oldest else { return Ok(0) };
        let limit = oldest.plus_ms(-self.orphans_after_ms.max(3_600_000));
        let mut removed = 0;
        for item in place.list(layout::LEDGER_SEGMENTS).await? {
            if parse_ledger(&item.key).is_some_and(|(at, _)| at < limit) {
                place.remove(&item.key).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// When the newest segment was made.
///
/// # Errors
/// [`crate::BackupError::Place`].
pub async fn newest_segment(place: &Place) -> Result<Option<UnixMs>> {
    let ledger = place.list(layout::LEDGER_SEGMENTS).await?;
    let audit = place.list(layout::AUDIT_SEGMENTS).await?;
    let ledger = ledger.iter().filter_map(|item| parse_ledger(&item.key)).map(|(at, _)| at);
    let audit = audit.iter().filter_map(|item| parse_audit(&item.key)).map(|(_, at, _)| at);
    Ok(ledger.chain(audit).max())
}
