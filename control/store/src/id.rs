//! Ids as newtypes: what they look like, how they are parsed, how they are made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The base-62 alphabet of token ids and secrets.
pub(crate) const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A tenant's public id: `^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`. Never reused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$", max_length = 32, example = "acme")]
pub struct TenantId(String);

/// Text that is not an id of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a tenant id.
    #[error("a tenant id is 1 to 32 characters of a-z, 0-9 and `-`, and starts and ends with a letter or digit")]
    Tenant,
    /// Not a token id.
    #[error("a token id is 12 characters of 0-9, A-Z and a-z")]
    Token,
    /// Not a request id.
    #[error("a request id is `req_` and 32 hexadecimal digits")]
    Request,
    /// Not an event id.
    #[error("an event id is `evt_` and 16 hexadecimal digits")]
    Event,
}

impl TenantId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TenantId {
    /// Whether `text` has the form of a tenant's id.
    pub(crate) fn is_valid(text: &str) -> bool {
        let bytes = text.as_bytes();
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = bytes.first().is_some_and(plain) && bytes.last().is_some_and(plain);
        ends && bytes.len() <= 32 && bytes.iter().all(|byte| plain(byte) || *byte == b'-')
    }
}

impl FromStr for TenantId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if Self::is_valid(text) { Ok(Self(text.to_owned())) } else { Err(IdError::Tenant) }
    }
}

/// A token's public id: 12 base-62 characters. It names a token in logs; it opens nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[0-9A-Za-z]{12}$", example = "0123456789AB")]
pub struct TokenId(String);

impl TokenId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::Token)
        }
    }
}

macro_rules! text_id {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
text_id!(TenantId, TokenId);

/// The store's own key of a tenant: stable, small, never shown outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantKey(pub(crate) i64);

impl TenantKey {
    /// The number: at least 1, and never given to another tenant, so that what else a tenant is to have alone can be counted by it.
    #[must_use]
    pub fn number(self) -> i64 {
        self.0
    }
}

/// The store's own key of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenKey(pub(crate) i64);

impl TokenKey {
    /// What rows have that no token made.
    pub const NONE: Self = Self(0);
}

/// The store's own key of a client secret whose use is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretKey(pub(crate) i64);

/// The store's own key of a label; 0 is no label. Made of what the label says, so that nobody has to wait for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelKey(pub(crate) i64);

/// One client request; shown as `req_` and 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, utoipa::ToSchema)]
#[schema(value_type = String, pattern = "^req_[0-9a-f]{32}$")]
pub struct RequestId(pub u128);

impl RequestId {
    /// As it is shown. Written with every answer, so without what formatting a number may be asked for.
    #[must_use]
    pub fn text(self) -> [u8; 36] {
        let mut text = *b"req_00000000000000000000000000000000";
        for (place, byte) in text.iter_mut().skip(4).zip(self.0.to_be_bytes().iter().flat_map(|b| [b >> 4, b & 15])) {
            *place = b"0123456789abcdef".get(usize::from(byte)).copied().unwrap_or(b'0');
        }
        text
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl FromStr for RequestId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.strip_prefix("req_").filter(|digits| is_hex(digits, 32)).ok_or(IdError::Request)?;
        u128::from_str_radix(digits, 16).map(Self).map_err(|_| IdError::Request)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One reservation, and the key of the ledger row that it becomes: the owner's epoch in the upper 23 bits, a counter below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = String, pattern = "^evt_[0-9a-f]{16}$", example = "evt_0000030000000007")]
pub struct ReservationId(pub i64);

impl ReservationId {
    /// Bits of the counter within one owner's epoch.
    const COUNTER_BITS: u32 = 40;

    /// The `count`th reservation of owner `epoch`; `None` when either is out of its range.
    #[must_use]
    pub fn new(epoch: u32, count: u64) -> Option<Self> {
        let fits = epoch < (1 << 23) && count < (1 << Self::COUNTER_BITS);
        let id = (u64::from(epoch) << Self::COUNTER_BITS) | count;
        fits.then(|| i64::try_from(id).ok().map(Self)).flatten()
    }
}

/// The id of a row's event, the same in every export.
impl fmt::Display for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "evt_{:016x}", self.0)
    }
}

impl FromStr for ReservationId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.strip_prefix("evt_").filter(|digits| is_hex(digits, 16)).ok_or(IdError::Event)?;
        i64::from_str_radix(digits, 16).map(Self).map_err(|_| IdError::Event)
    }
}

macro_rules! shown_id {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
shown_id!(RequestId, ReservationId);

/// Whether `text` is `count` lower-case hexadecimal digits.
fn is_hex(text: &str, count: usize) -> bool {
    text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_ids_follow_the_contract() {
        for good in ["a", "0", "acme", "a-b", "a--b", "x".repeat(32).as_str()] {
            assert!(good.parse::<TenantId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "é", "x".repeat(33).as_str(), "a/b", "a\0"] {
            assert!(bad.parse::<TenantId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn event_and_request_ids_are_read_back_and_nothing_else_is() {
        let event = ReservationId::new(3, 7).unwrap();
        assert_eq!((event.to_string().as_str(), event.to_string().parse()), ("evt_0000030000000007", Ok(event)));
        let request = RequestId(0xabc);
        assert_eq!(request.to_string().parse(), Ok(request));
        for bad in [
            "",
            "evt_",
            "evt_000003000000000g",
            "evt_0000030000000007 ",
            "evt_ffffffffffffffff",
            "evt_+000030000000007",
        ] {
            assert_eq!(bad.parse::<ReservationId>(), Err(IdError::Event), "{bad}");
        }
        assert_eq!("req_1".parse::<RequestId>(), Err(IdError::Request));
    }

    #[test]
    fn reservation_ids_never_collide_over_owners() {
        assert!(ReservationId::new(2, 0).unwrap() > ReservationId::new(1, (1 << 40) - 1).unwrap());
        assert!(ReservationId::new(1 << 23, 0).is_none());
        assert!(ReservationId::new(0, 1 << 40).is_none());
        assert!(ReservationId::new((1 << 23) - 1, (1 << 40) - 1).unwrap().0 > 0);
    }
}
