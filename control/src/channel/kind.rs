//! Which channels there are.

/// A kind of channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Slack, through its Events API.
    Slack,
    /// WhatsApp, through Meta's Cloud API.
    Whatsapp,
    /// A bot at Telegram.
    Telegram,
    /// Any program, through signed webhooks.
    Webhook,
}

/// All of them.
pub const KINDS: [Kind; 4] = [Kind::Slack, Kind::Whatsapp, Kind::Telegram, Kind::Webhook];

impl Kind {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Whatsapp => "whatsapp",
            Self::Telegram => "telegram",
            Self::Webhook => "webhook",
        }
    }

    /// What people call it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Slack => "Slack",
            Self::Whatsapp => "WhatsApp",
            Self::Telegram => "Telegram",
            Self::Webhook => "webhook",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        KINDS.into_iter().find(|kind| kind.name() == name)
    }
}
