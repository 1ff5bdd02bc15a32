//! What comes in at a channel's path: proved, read, held against the channel's own account, and queued.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use openclawmu_store::{Queued, SealedChannel, Store, StoreError};
use tokio::sync::Notify;

use super::ChannelConfig;
use super::adapter::{Adapter, Incoming, Parsed, Place};
use super::count::Counts;
use super::credential::Credentials;
use super::kind::Kind;
use super::slack::Slack;
use super::telegram::Telegram;
use super::webhook::Webhook;
use super::whatsapp::Whatsapp;
use crate::key::MasterKey;
use crate::outbound::{Limits, OperatorCalls, TenantCalls};

/// A call's limits: an answer is a line of JSON.
const LIMITS: Limits = Limits { timeout: Duration::from_secs(15), max_answer_bytes: 64 << 10 };

/// All channels of this process.
pub struct Channels {
    pub(super) store: Store,
    pub(super) master: Arc<MasterKey>,
    pub(super) config: ChannelConfig,
    pub(super) counts: Counts,
    /// Told when something waits.
    pub(super) waiting: Notify,
    slack: Slack,
    whatsapp: Whatsapp,
    telegram: Telegram,
    webhook: Webhook,
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channels").finish_non_exhaustive()
    }
}

/// What a provider is answered: 200 and this text.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken(pub String);

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// There is no such channel. 404.
    Unknown,
    /// It did not come from the provider, or not now. 401.
    NotGenuine,
    /// It is about an account that is not this channel's. 403.
    Foreign,
    /// It is not of the provider's form: the sentence to answer. 400.
    Unreadable(&'static str),
    /// Too much waits on the channel; later. 429.
    Full,
    /// It can't be kept now; later. 503.
    Unavailable,
}

impl From<StoreError> for NotTaken {
    fn from(err: StoreError) -> Self {
        match err {
            StoreError::NotFound(_) => Self::Unknown,
            StoreError::Conflict(_) => Self::Full,
            StoreError::Unavailable(_)
            | StoreError::AuditUnavailable(_)
            | StoreError::Invalid { .. }
            | StoreError::KeyReused
            | StoreError::Locked(_)
            | StoreError::NewerSchema { .. }
            | StoreError::SqliteTooOld(_)
            | StoreError::KeyFile { .. }
            | StoreError::DataDir { .. }
            | StoreError::Corrupt(_) => {
                tracing::error!(%err, "what came in by a channel can't be kept; its provider will send it again");
                Self::Unavailable
            }
        }
    }
}

impl Channels {
    /// The channels of a store. The process has installed rustls' default provider.
    ///
    /// # Errors
    /// The sentence to show when there can be no HTTP client.
    pub fn new(store: Store, master: Arc<MasterKey>, config: ChannelConfig) -> Result<Self, String> {
        let operator = || OperatorCalls::new(LIMITS).map_err(|err| format!("channels can't be served: {err}"));
        let calls = TenantCalls::new(LIMITS).map_err(|err| format!("channels can't be served: {err}"))?;
        Ok(Self {
            slack: Slack { calls: operator()?, url: config.slack_url.clone() },
            whatsapp: Whatsapp { calls: operator()?, url: config.whatsapp_url.clone() },
            telegram: Telegram { calls: operator()?, url: config.telegram_url.clone() },
            webhook: Webhook { calls, reach: config.reach.clone() },
            counts: Counts::default(),
            waiting: Notify::new(),
            store,
            master,
            config,
        })
    }

    pub(super) fn adapter(&self, kind: Kind) -> &dyn Adapter {
        match kind {
            Kind::Slack => &self.slack,
            Kind::Whatsapp => &self.whatsapp,
            Kind::Telegram => &self.telegram,
            Kind::Webhook => &self.webhook,
        }
    }

    /// A channel's URL at the edge.
    pub(super) fn url(&self, kind: Kind, channel: &str) -> String {
        format!("{}/channels/{}/{channel}", self.config.public_url, kind.name())
    }

    /// Whether there is such a channel that takes something: asked before a body is read.
    ///
    /// # Errors
    /// [`NotTaken::Unknown`], [`NotTaken::Unavailable`].
    pub fn check(&self, path: &str) -> Result<(), NotTaken> {
        self.find(path).map(drop)
    }

    /// Takes what came in at `path`, which is `{kind}/{channel}`. What it says is on the disk when this returns.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub async fn receive(&self, path: &str, incoming: &Incoming) -> Result<Taken, NotTaken> {
        let (kind, channel) = self.find(path)?;
        let adapter = self.adapter(kind);
        let Some(with) = self.open(&channel) else {
            tracing::error!(channel = channel.id, "a channel's credentials were sealed with another master key");
            return Err(NotTaken::Unavailable);
        };
        if adapter.verify(incoming, &with, self.store.clock().now()).is_err() {
            Counts::add(&self.counts.not_genuine);
            return Err(NotTaken::NotGenuine);
        }
        let place = Place { channel: &channel.id, identity: &channel.identity };
        let messages = match adapter.parse(incoming, place).map_err(|err| NotTaken::Unreadable(err.0))? {
            Parsed::Echo(text) => return Ok(Taken(text)),
            Parsed::Messages(messages) => messages,
            Parsed::Foreign => {
                Counts::add(&self.counts.foreign);
                tracing::warn!(channel = channel.id, "what came in names another account than the channel's");
                return Err(NotTaken::Foreign);
            }
        };
        if !messages.is_empty() {
            for queued in self.store.queue_messages(&channel, messages, greeting).await? {
                Counts::add(match queued {
                    Queued::Waiting => &self.counts.queued,
                    Queued::Known => &self.counts.known,
                    Queued::Asked | Queued::Ignored => &self.counts.strangers,
                });
            }
            self.waiting.notify_one();
        }
        Ok(Taken(String::new()))
    }

    /// What is counted, in Prometheus' text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.counts.render()
    }

    fn find(&self, path: &str) -> Result<(Kind, SealedChannel), NotTaken> {
        let (kind, id) = path.split_once('/').ok_or(NotTaken::Unknown)?;
        let kind = Kind::parse(kind).ok_or(NotTaken::Unknown)?;
        let channel = self.store.sealed_channel(id)?;
        if channel.kind == kind.name() && channel.disabled.is_none() {
            Ok((kind, channel))
        } else {
            Err(NotTaken::Unknown)
        }
    }

    pub(super) fn open(&self, channel: &SealedChannel) -> Option<Credentials> {
        Credentials::open(&self.master, &channel.tenant, (&channel.id, &channel.sealed))
    }
}

/// What a stranger is told.
fn greeting(code: &str) -> String {
    format!(
        "I don't know you yet. Give this code to whoever runs me, so that I may answer you: {code}. It is good for an hour."
    )
}
