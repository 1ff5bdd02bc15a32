//! Every key in a place. Keys are made here, of checked ids and hashes; nothing that a tenant wrote is ever part of one.

use std::fmt;

use openclawmu_store::TenantId;

use crate::error::{BackupError, Result};

/// What a set is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The whole gateway.
    Gateway,
    /// One tenant.
    Tenant(TenantId),
}

impl Scope {
    /// The folder of its sets and objects, with a `/` at its end.
    pub(crate) fn folder(&self) -> String {
        match self {
            Self::Gateway => "gateway/".to_owned(),
            Self::Tenant(id) => format!("tenants/{id}/"),
        }
    }

    /// The folder of its sets.
    pub(crate) fn sets(&self) -> String {
        format!("{}backups/", self.folder())
    }

    /// The folder of its objects.
    pub(crate) fn objects(&self) -> String {
        format!("{}objects/", self.folder())
    }

    /// The manifest of set `number`.
    pub(crate) fn manifest(&self, number: &str) -> String {
        format!("{}{number}/manifest.json", self.sets())
    }

    /// An object of this content.
    pub(crate) fn object(&self, sha256: &str, form: &str) -> String {
        format!("{}{sha256}.{form}", self.objects())
    }

    /// For people and for the log.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Gateway => "gateway".to_owned(),
            Self::Tenant(id) => id.to_string(),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// The file for people in a folder.
pub(crate) fn readme(folder: &str) -> String {
    format!("{folder}README.txt")
}

/// How the passphrase's key is made.
pub(crate) const ENCRYPTION: &str = "encryption.json";
/// The folder of ledger segments.
pub(crate) const LEDGER_SEGMENTS: &str = "gateway/segments/ledger/";
/// The folder of audit segments.
pub(crate) const AUDIT_SEGMENTS: &str = "gateway/segments/audit/";
/// The folder of all tenants.
pub(crate) const TENANTS: &str = "tenants/";

/// What is written to see whether a place takes it, and removed again: nothing that a backup is made of.
pub(crate) fn probe(name: &str) -> String {
    format!("probe/{name}")
}

/// The scope and number of a manifest's key; `None` for every other key.
pub(crate) fn parse_manifest(key: &str) -> Option<(Scope, String)> {
    let (scope, rest) = parse_scope(key)?;
    let number = rest.strip_prefix("backups/")?.strip_suffix("/manifest.json")?;
    is_number(number).then(|| (scope, number.to_owned()))
}

/// The scope of a key, and what follows.
pub(crate) fn parse_scope(key: &str) -> Option<(Scope, &str)> {
    if let Some(rest) = key.strip_prefix("gateway/") {
        return Some((Scope::Gateway, rest));
    }
    let (id, rest) = key.strip_prefix(TENANTS)?.split_once('/')?;
    Some((Scope::Tenant(id.parse().ok()?), rest))
}

/// Sets are numbered from 1, in six digits, so that their names sort.
pub(crate) fn number(count: u64) -> String {
    format!("{count:06}")
}

/// Whether a text is the number of a set.
pub(crate) fn is_number(text: &str) -> bool {
    (6..=18).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit())
}

/// Splits the URL of a set, `<place>/tenants/<id>/backups/<number>` or `<place>/gateway/backups/<number>`, or of a folder of
/// sets without the number. A place may itself be called `backups`: the word is a part of the layout only behind a scope.
pub(crate) fn split_url(url: &str) -> Result<(String, Option<Scope>, Option<String>)> {
    let url = url.trim_end_matches('/').trim_end_matches("/manifest.json");
    let parts: Vec<&str> = url.split('/').collect();
    let (head, number) = match parts.as_slice() {
        [head @ .., "backups", number] if is_number(number) => (head, Some((*number).to_owned())),
        [head @ .., "backups"] if ends_in_scope(head) => (head, None),
        all => (all, None),
    };
    let (place, scope) = match head {
        [place @ .., "tenants", id] if id.parse::<TenantId>().is_ok() => (place, id.parse().ok().map(Scope::Tenant)),
        [place @ .., "gateway"] => (place, Some(Scope::Gateway)),
        place => (place, None),
    };
    if number.is_some() && scope.is_none() {
        let message = format!("`{url}` names a set but not what it is of: PLACE/tenants/ID/backups/NUMBER");
        return Err(BackupError::Invalid { field: "from", message });
    }
    Ok((place.join("/"), scope, number))
}

fn ends_in_scope(parts: &[&str]) -> bool {
    match parts {
        [.., "tenants", id] => id.parse::<TenantId>().is_ok(),
        [.., last] => *last == "gateway",
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_place_a_scope_and_a_set() {
        let acme = || Some(Scope::Tenant("acme".parse().unwrap()));
        for (url, place, scope, number) in [
            ("s3://b/p/tenants/acme/backups/000012", "s3://b/p", acme(), Some("000012")),
            ("/mnt/b/tenants/acme/backups/000012/manifest.json", "/mnt/b", acme(), Some("000012")),
            ("/mnt/b/tenants/acme/", "/mnt/b", acme(), None),
            ("s3://b/gateway/backups/000001", "s3://b", Some(Scope::Gateway), Some("000001")),
            ("s3://b/gateway/backups/", "s3://b", Some(Scope::Gateway), None),
            ("/mnt/b/tenants/acme/backups", "/mnt/b", acme(), None),
            ("s3://b/p", "s3://b/p", None, None),
            // Places that are called like a part of the layout.
            ("/var/backups", "/var/backups", None, None),
            ("s3://backups", "s3://backups", None, None),
            ("s3://backups/backups/", "s3://backups/backups", None, None),
            ("/var/backups/gateway", "/var/backups", Some(Scope::Gateway), None),
            ("s3://backups/tenants/acme/backups/000012", "s3://backups", acme(), Some("000012")),
        ] {
            let split = split_url(url).unwrap();
            assert_eq!(split, (place.to_owned(), scope, number.map(str::to_owned)), "{url}");
        }
        assert!(split_url("s3://b/backups/000001").is_err());
    }

    #[test]
    fn a_manifest_is_known_by_its_key() {
        assert_eq!(parse_manifest("gateway/backups/000007/manifest.json"), Some((Scope::Gateway, "000007".to_owned())));
        for key in ["gateway/backups/x/manifest.json", "gateway/objects/a", "tenants/Ä/backups/000001/manifest.json"] {
            assert_eq!(parse_manifest(key), None, "{key}");
        }
    }
}
