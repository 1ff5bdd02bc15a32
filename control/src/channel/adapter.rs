//! What each kind of channel must do, and the words for it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http::{HeaderMap, Method};
use openclawmu_store::{NewMessage, UnixMs};

use super::credential::Credentials;
use crate::outbound::{CallError, OutboundUrl};

/// Work of an adapter that asks its provider.
pub(super) type Doing<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How far a signed time may be from now, in seconds: Slack's and Standard Webhooks' own figure.
pub(super) const WINDOW_SECONDS: i64 = 300;
/// The longest message that is taken, in bytes.
pub(super) const MAX_TEXT_BYTES: usize = 64 << 10;

/// A request at a channel's path. Its `Debug` shows no body: that is what somebody said.
#[derive(Clone)]
pub struct Incoming {
    /// Its method.
    pub method: Method,
    /// Its query, without the question mark.
    pub query: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, byte for byte.
    pub body: Vec<u8>,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("method", &self.method).finish_non_exhaustive()
    }
}

impl Incoming {
    /// A header that is there once.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok())
    }

    /// A parameter of the query.
    pub(super) fn param(&self, name: &str) -> Option<String> {
        let mut pairs = url::form_urlencoded::parse(self.query.as_bytes());
        pairs.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }
}

/// Which channel a request came in at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// The channel's id.
    pub(super) channel: &'a str,
    /// The account that it is paired with, as [`Account::identity`] said.
    pub(super) identity: &'a str,
}

/// What did not come from the provider, or not now. It says no more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotGenuine;

/// What a genuine request says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// To be answered with this text, as the provider's proof that somebody is here.
    Echo(String),
    /// These messages; there may be none.
    Messages(Vec<NewMessage>),
    /// Something about an account that is not this channel's.
    Foreign,
}

/// A genuine request that is not of the provider's own form: the sentence to answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) &'static str);

/// Whose account the credentials open.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// The provider's word for it: none is paired twice. `None` where the channel is its own account.
    pub(super) identity: Option<String>,
    /// What people call it.
    pub(super) label: String,
}

/// Why credentials were refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotPaired {
    /// The field at fault, and the sentence to show.
    Field(&'static str, String),
    /// The provider's word, or that it can't be reached.
    Provider(String),
}

/// One part of an answer, to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'a> {
    /// The answer's id, the same in every attempt.
    pub(super) id: &'a str,
    /// Where it goes, as the adapter wrote it.
    pub(super) reply_to: &'a str,
    /// What it says.
    pub(super) text: &'a str,
    /// When the message came that it answers.
    pub(super) received_at: UnixMs,
    /// When the answer was made.
    pub(super) made_at: UnixMs,
    /// Now.
    pub(super) now: UnixMs,
}

/// Why a part was not sent, in words for the operator.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotSent {
    pub(super) why: String,
    pub(super) then: Then,
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It may go better later, and not before this where there is something.
    Again(Option<Duration>),
    /// It never will.
    Never,
    /// Nothing on this channel ever will.
    Disable,
}

impl NotSent {
    pub(super) fn again(why: impl Into<String>) -> Self {
        Self { why: why.into(), then: Then::Again(None) }
    }

    pub(super) fn never(why: impl Into<String>) -> Self {
        Self { why: why.into(), then: Then::Never }
    }
}

impl From<CallError> for NotSent {
    fn from(err: CallError) -> Self {
        Self::again(err.why)
    }
}

/// A field of the pairing form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// Its name, and that of the credential.
    pub(super) name: &'static str,
    /// What people call it.
    pub(super) label: &'static str,
    /// What it looks like.
    pub(super) example: &'static str,
    /// Whether it is not to be shown while it is typed.
    pub(super) secret: bool,
}

/// What the pairing page says. `{url}` stands for the channel's own URL, and `{name}` for a credential that the adapter made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guide {
    /// What to do before the form.
    pub(super) before: &'static [&'static str],
    /// The form.
    pub(super) fields: &'static [Field],
    /// What to do after it; ends in a message that is seen.
    pub(super) after: &'static [&'static str],
}

/// A kind of channel.
pub(super) trait Adapter: Send + Sync {
    /// What the pairing page says.
    fn guide(&self) -> Guide;

    /// Checks the credentials with their provider, finds out whose account they open, and adds what the channel needs beside
    /// them. `url` is where the provider will send to.
    fn pair<'a>(&'a self, given: &'a mut Credentials, url: &'a str) -> Doing<'a, Result<Account, NotPaired>>;

    /// Whether a request comes from the provider, and was made now. Reads raw bytes alone.
    fn verify(&self, incoming: &Incoming, with: &Credentials, now: UnixMs) -> Result<(), NotGenuine>;

    /// What a genuine request says.
    fn parse(&self, incoming: &Incoming, place: Place<'_>) -> Result<Parsed, Unreadable>;

    /// The longest part of an answer, in UTF-16 units.
    fn part_units(&self) -> usize;

    /// Sends one part of an answer.
    fn reply<'a>(&'a self, part: Outgoing<'a>, with: &'a Credentials) -> Doing<'a, Result<(), NotSent>>;
}

/// The provider's address, where it may be called.
pub(super) fn reachable(url: Option<&OutboundUrl>) -> Result<&OutboundUrl, NotSent> {
    url.ok_or_else(|| NotSent::never("outbound.allowed_hosts does not list this provider's host"))
}

/// The value of a field, or the sentence to show.
pub(super) fn required(given: &Credentials, field: &'static str, min_bytes: usize) -> Result<String, NotPaired> {
    let value = given.get(field).unwrap_or_default();
    let visible = value.len() <= 4096 && value.bytes().all(|byte| byte.is_ascii_graphic());
    if value.len() >= min_bytes.max(1) && visible {
        return Ok(value.to_owned());
    }
    let sentence = if value.is_empty() {
        "is needed: without it anybody could speak for your users".to_owned()
    } else if visible {
        format!("is too short: it has at least {min_bytes} characters")
    } else {
        "has spaces or other characters that do not belong in it".to_owned()
    };
    Err(NotPaired::Field(field, sentence))
}
