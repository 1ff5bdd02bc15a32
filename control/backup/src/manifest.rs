//! What a set says of itself: every object with its hash, and what a restore may expect of each.

use openclawmu_store::{SnapshotFacts, TenantId, UnixMs};
use serde::{Deserialize, Serialize};

use crate::digest;
use crate::error::{BackupError, Result};
use crate::layout::Scope;
use crate::seal::{Key, Sealing};

/// The newest form of a manifest. The first had no digest of its own.
pub(crate) const FORM: u32 = 2;
/// No manifest is larger, in bytes.
pub(crate) const MAX_BYTES: u64 = 256 << 20;

/// What a set is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of this file.
    pub form: u32,
    /// The program that wrote it.
    pub program: String,
    /// Another one for every run: tells two writers apart.
    pub run: String,
    /// When the snapshot was taken, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// The same for people.
    pub created_at: String,
    /// The tenant, where it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// What the database held.
    pub store: SnapshotFacts,
    /// Fingerprints of the keys that its hashes and sealed keys need; never the keys.
    pub keys: KeyPrints,
    /// The end of the audit log, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_head: Option<AuditHead>,
    /// How its objects are sealed, where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealing: Option<Sealing>,
    /// The database, in a set of the whole gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<Object>,
    /// Files of request detail that had left the database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archives: Vec<NamedObject>,
    /// The tenants.
    pub tenants: Vec<TenantParts>,
    /// The SHA-256 of all of the above, so that damage to this file shows as damage to an object does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Binds all of the above to the passphrase, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

/// Fingerprints of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPrints {
    /// Of each line of `pepper.key`: without it no token can be verified.
    pub pepper: Vec<String>,
    /// Of each line of `master.key`: without them no provider key can be opened.
    pub master: Vec<String>,
}

/// The newest line of the audit log: a log that ends before it was cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditHead {
    /// Its number.
    pub seq: i64,
    /// Its link of the chain.
    pub mac: String,
}

/// An object: bytes in the place, known by their hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// Where.
    pub key: String,
    /// SHA-256 of the bytes as they lie there.
    pub sha256: String,
    /// How many there are.
    pub bytes: u64,
    /// How many they are once they are unsealed and unpacked.
    pub plain_bytes: u64,
}

/// An object with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedObject {
    /// What it is of: a month, a file's name.
    pub name: String,
    /// The object.
    pub object: Object,
}

/// What a set holds of one tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantParts {
    /// Who.
    pub id: TenantId,
    /// Its rows but the ledger's.
    pub rows: Object,
    /// Its ledger, by month.
    pub ledger: Vec<NamedObject>,
    /// Its directory.
    pub files: Files,
}

/// A directory as archives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// The archives; the first has all directories.
    pub parts: Vec<FilePart>,
    /// What was left out: links, pipes, devices, and files with more than one name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
    /// How many were left out.
    #[serde(default)]
    pub skipped_count: u64,
}

/// One archive of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePart {
    /// The archive.
    pub object: Object,
    /// Files and directories in it.
    pub entries: u64,
    /// Bytes in its files.
    pub file_bytes: u64,
    /// Names in it that differ from another's in their case alone.
    pub case_twins: u64,
}

/// Something that no backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// Its path, percent-encoded.
    pub path: String,
}

impl Manifest {
    /// What it is of.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.tenant.clone().map_or(Scope::Gateway, Scope::Tenant)
    }

    /// When its snapshot was taken.
    #[must_use]
    pub fn created(&self) -> UnixMs {
        UnixMs(self.created_at_ms)
    }

    /// Every object that it needs.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        let tenants = self.tenants.iter().flat_map(|tenant| {
            let files = tenant.files.parts.iter().map(|part| &part.object);
            std::iter::once(&tenant.rows).chain(tenant.ledger.iter().map(|part| &part.object)).chain(files)
        });
        self.database.iter().chain(self.archives.iter().map(|archive| &archive.object)).chain(tenants)
    }

    /// Bytes of its objects in the place.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.objects().map(|object| object.bytes).sum()
    }

    /// The file's bytes; bound to `key` where there is one.
    pub(crate) fn to_bytes(&self, key: Option<&Key>) -> Result<Vec<u8>> {
        let bare = text(&self.bare())?;
        let mac = key.map(|key| key.mac(&bare)).transpose()?.map(|mac| digest::hex(&mac));
        text(&Self { mac, digest: Some(digest::of(&bare)), ..self.clone() })
    }

    /// What the digest and the mac are of.
    fn bare(&self) -> Self {
        Self { mac: None, digest: None, ..self.clone() }
    }

    /// Reads a file. What it names is looked at before anything is made of it.
    pub(crate) fn parse(bytes: &[u8], scope: &Scope) -> Result<Self> {
        let broken = |why: String| BackupError::Damaged(format!("the manifest: {why}"));
        let form: Form = serde_json::from_slice(bytes).map_err(|err| broken(err.to_string()))?;
        if form.form > FORM {
            return Err(BackupError::Damaged(format!(
                "the manifest is of form {}, which a newer openclawmu wrote; restore it with that one",
                form.form
            )));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|err| broken(err.to_string()))?;
        if manifest.form > 1 && manifest.digest != Some(digest::of(&text(&manifest.bare())?)) {
            return Err(broken("it is not as it was written".to_owned()));
        }
        if manifest.scope() != *scope {
            return Err(broken("it is of another tenant than its place".to_owned()));
        }
        let own = |object: &Object| {
            let named = object.key.rsplit('/').next().unwrap_or_default();
            let is_hash = object.sha256.len() == 64 && digest::unhex(&object.sha256).is_some();
            is_hash && named.starts_with(&object.sha256) && crate::layout::parse_scope(&object.key).is_some()
        };
        let foreign = manifest.objects().find(|object| !own(object)).map(|object| object.key.clone());
        foreign.map_or(Ok(manifest), |key| Err(broken(format!("no object can have the key `{key}`"))))
    }

    /// Refuses a manifest that was not written with this passphrase, or was altered.
    pub(crate) fn authenticate(&self, key: &Key) -> Result<()> {
        let expected = digest::hex(&key.mac(&text(&self.bare())?)?);
        if self.mac.as_deref() == Some(&expected) {
            Ok(())
        } else {
            Err(BackupError::Damaged("the manifest was altered after it was written".to_owned()))
        }
    }
}

/// A form that is newer may have other fields: only the number is looked at first.
#[derive(Deserialize)]
struct Form {
    form: u32,
}

fn text(manifest: &Manifest) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(manifest)
        .map_err(|err| BackupError::Damaged(format!("a manifest can't be written: {err}")))
}

/// A set as a list shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed {
    /// Its number.
    pub id: String,
    /// Where it is, as a restore takes it.
    pub url: String,
    /// The tenant, where it is of one.
    pub tenant: Option<TenantId>,
    /// When its snapshot was taken.
    pub created_at: String,
    /// Bytes in the place, some of which other sets share.
    pub bytes: u64,
    /// Tenants in it.
    pub tenants: usize,
    /// Rows of the ledger in the database that it is of.
    pub ledger_rows: u64,
    /// Whether it is sealed with a passphrase.
    pub encrypted: bool,
}

impl Listed {
    pub(crate) fn of(number: &str, place: &str, manifest: &Manifest) -> Self {
        Self {
            id: number.to_owned(),
            url: format!("{place}/{}{number}", manifest.scope().sets()),
            tenant: manifest.tenant.clone(),
            created_at: manifest.created_at.clone(),
            bytes: manifest.bytes(),
            tenants: manifest.tenants.len(),
            ledger_rows: manifest.store.ledger_rows,
            encrypted: manifest.sealing.is_some(),
        }
    }
}
