//! Whom and what a request is for, as its client says: an end user and tags, for reports.
//!
//! A label's key is made of what it says, so that an admission never waits for a label to be stored. Its text is queued
//! before the request's row is, and committed with it or earlier; until then a file beside the in-flight table has it.

use std::collections::{BTreeSet, HashSet};
use std::sync::{PoisonError, RwLock};

use rusqlite::{Transaction, params};
use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::id::{LabelKey, TenantKey};
use crate::store::Store;

/// The longest user or tag that is kept, in bytes; what is longer is cut.
const MAX_BYTES: usize = 256;
/// The most tags of one request.
const MAX_TAGS: usize = 16;
/// Labels remembered as stored; past it, they are forgotten and stored again, which changes nothing.
const KEPT: usize = 65_536;

/// Whom and what a request is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    user: String,
    tags: BTreeSet<String>,
}

impl Label {
    /// Says for whom. What is longer than 256 bytes is cut.
    pub fn set_user(&mut self, user: &str) {
        self.user = cut(user);
    }

    /// Whether it says for whom.
    #[must_use]
    pub fn has_user(&self) -> bool {
        !self.user.is_empty()
    }

    /// Adds a tag; the seventeenth and later ones are left out, and empty ones.
    pub fn add_tag(&mut self, tag: &str) {
        let tag = cut(tag);
        if !tag.is_empty() && self.tags.len() < MAX_TAGS {
            self.tags.insert(tag);
        }
    }

    fn key(&self, tenant: TenantKey) -> LabelKey {
        if self == &Self::default() {
            return LabelKey::default();
        }
        let mut hash = Sha256::new();
        hash.update(tenant.0.to_le_bytes());
        for text in std::iter::once(&self.user).chain(&self.tags) {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        let head = hash.finalize().first_chunk().copied().unwrap_or_default();
        LabelKey(i64::from_le_bytes(head).max(i64::MIN + 1))
    }
}

/// Control characters are dropped: they have no place in a report.
fn cut(text: &str) -> String {
    let mut kept = String::new();
    for letter in text.trim().chars().filter(|letter| !letter.is_control()) {
        if kept.len() + letter.len_utf8() > MAX_BYTES {
            break;
        }
        kept.push(letter);
    }
    kept
}

/// Labels that are stored, or on their way.
#[derive(Debug, Default)]
pub(crate) struct Labels(RwLock<HashSet<LabelKey>>);

/// A label to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewLabel {
    key: LabelKey,
    label: Label,
}

impl NewLabel {
    pub(crate) fn new(tenant: TenantKey, label: &Label) -> Self {
        Self { key: label.key(tenant), label: label.clone() }
    }

    pub(crate) fn key(&self) -> LabelKey {
        self.key
    }

    /// One line that [`NewLabel::from_line`] reads.
    pub(crate) fn to_line(&self) -> serde_json::Result<String> {
        let Label { user, tags } = &self.label;
        Ok(serde_json::to_string(&(self.key.0, user, tags))? + "\n")
    }

    /// `None` for a line that was cut off.
    pub(crate) fn from_line(line: &[u8]) -> Option<Self> {
        let (key, user, tags) = serde_json::from_slice(line).ok()?;
        Some(Self { key: LabelKey(key), label: Label { user, tags } })
    }
}

impl Store {
    /// The key of a tenant's label. Never waits.
    #[must_use]
    pub fn label_key(&self, tenant: TenantKey, label: &Label) -> LabelKey {
        let key = label.key(tenant);
        let seen = &self.inner.labels.0;
        if key == LabelKey::default() || seen.read().unwrap_or_else(PoisonError::into_inner).contains(&key) {
            return key;
        }
        self.inner.writer().post_label(NewLabel::new(tenant, label));
        let mut seen = seen.write().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= KEPT {
            seen.clear();
        }
        seen.insert(key);
        key
    }
}

/// Stores labels; those that are there already stay as they are.
pub(crate) fn insert(tx: &Transaction<'_>, labels: &[NewLabel]) -> Result<()> {
    for NewLabel { key, label } in labels {
        tx.prepare_cached("INSERT INTO labels (key, user) VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING")?
            .execute(params![key.0, label.user])?;
        for tag in &label.tags {
            tx.prepare_cached("INSERT INTO label_tags (key, tag) VALUES (?1, ?2) ON CONFLICT (key, tag) DO NOTHING")?
                .execute(params![key.0, tag])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(user: &str, tags: &[&str]) -> Label {
        let mut label = Label::default();
        label.set_user(user);
        tags.iter().for_each(|tag| label.add_tag(tag));
        label
    }

    #[test]
    fn a_label_that_says_nothing_has_no_key() {
        assert_eq!(label(" ", &["", "\n"]).key(TenantKey(1)), LabelKey(0));
    }

    #[test]
    fn the_key_tells_users_tags_and_tenants_apart() {
        let keys: HashSet<LabelKey> = [
            label("ann", &[]).key(TenantKey(1)),
            label("ann", &[]).key(TenantKey(2)),
            label("", &["ann"]).key(TenantKey(1)),
            label("an", &["n"]).key(TenantKey(1)),
            label("ann", &["a", "b"]).key(TenantKey(1)),
            label("ann", &["ab"]).key(TenantKey(1)),
        ]
        .into();
        assert_eq!(keys.len(), 6);
        assert_eq!(label("ann", &["b", "a", "a"]).key(TenantKey(1)), label("ann", &["a", "b"]).key(TenantKey(1)));
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        let long = label(&"é".repeat(200), &[]);
        assert_eq!(long.user.len(), 256);
        let many: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        assert_eq!(label("", &many.iter().map(String::as_str).collect::<Vec<_>>()).tags.len(), MAX_TAGS);
    }
}
