//! What a channel is trusted by: its secrets by their names, sealed as one text.

use std::collections::BTreeMap;
use std::fmt;

use openclawmu_store::TenantId;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::key::{MasterKey, channel_place};

/// A channel's secrets. Its `Debug` shows their names alone.
#[derive(Clone, Default)]
pub(crate) struct Credentials(BTreeMap<String, SecretString>);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Credentials {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(ExposeSecret::expose_secret)
    }

    /// The secret of that name, or one that nothing matches.
    pub(super) fn of(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), SecretString::from(value));
    }

    /// Seals them for their place.
    ///
    /// # Errors
    /// Why it can't be done.
    pub(super) fn seal(&self, master: &MasterKey, tenant: &TenantId, channel: &str) -> Result<Vec<u8>, String> {
        let plain: BTreeMap<&str, &str> =
            self.0.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
        let text = Zeroizing::new(serde_json::to_vec(&plain).map_err(|err| err.to_string())?);
        master.seal(channel_place(tenant, channel).as_bytes(), &text)
    }

    /// Opens what was sealed for this place; `None` for anything else.
    pub(super) fn open(master: &MasterKey, tenant: &TenantId, (channel, sealed): (&str, &[u8])) -> Option<Self> {
        let text = Zeroizing::new(master.open(channel_place(tenant, channel).as_bytes(), sealed).ok()?);
        serde_json::from_slice(&text).ok().map(Self)
    }
}
