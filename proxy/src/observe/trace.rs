//! One request's trace: its ids, where it comes from (W3C Trace Context), and when its stages began. Only a request that is
//! sampled has one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use openclawmu_store::RequestId;

use crate::catalog::Target;
use crate::upstream::Upstream;

/// The header (W3C Trace Context, section 3.2).
pub(crate) const TRACEPARENT: &str = "traceparent";

/// The stages of a request that reaches an upstream, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Who is asking.
    Authenticate,
    /// What for.
    Read,
    /// Whether it may.
    Admit,
    /// Where to.
    Route,
    /// Until the answer's head.
    Forward,
    /// The answer on its way to the client.
    Relay,
    /// Its bill.
    Settle,
}

impl Stage {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Read => "read",
            Self::Admit => "admit",
            Self::Route => "route",
            Self::Forward => "forward",
            Self::Relay => "relay",
            Self::Settle => "settle",
        }
    }
}

/// Which requests are traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sampling {
    /// One in so many.
    pub(crate) one_in: u64,
    /// Networks whose callers decide themselves.
    pub(crate) trusted: Vec<IpNet>,
}

/// An attempt at an upstream, as it is told.
pub(super) struct Tried {
    pub(super) upstream: Arc<Upstream>,
    pub(super) model: String,
    pub(super) operation: &'static str,
    pub(super) began: Instant,
    /// What went wrong.
    pub(super) error: Option<String>,
    /// The model that the provider says has answered.
    pub(super) answered: Option<String>,
}

/// A trace.
pub(crate) struct Trace {
    /// The trace's id, by which spans of several programs belong together.
    pub(super) id: u128,
    /// The id of the span that a caller outside has begun.
    pub(super) parent: Option<u64>,
    pub(super) stages: Vec<(Stage, Instant)>,
    pub(super) tried: Vec<Tried>,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Trace {
    /// The trace of a request, where it is sampled: as the caller has decided, where it may, else by chance.
    pub(crate) fn begin(
        sampling: &Sampling,
        request: RequestId,
        from: Option<(IpAddr, &HeaderMap)>,
    ) -> Option<Box<Self>> {
        let begun = |id, parent| Some(Box::new(Self { id, parent, stages: Vec::new(), tried: Vec::new() }));
        let is_trusted = |peer: &IpAddr| sampling.trusted.iter().any(|net| net.contains(&peer.to_canonical()));
        match from.filter(|(peer, _)| is_trusted(peer)).and_then(|(_, headers)| parent(headers)) {
            Some(Parent { sampled: false, .. }) => None,
            Some(Parent { trace, span, .. }) => begun(trace, Some(span)),
            None => {
                let id = scrambled(request.0);
                let dice = u64::try_from(id & u128::from(u64::MAX)).unwrap_or(0);
                if dice % sampling.one_in.max(1) == 0 { begun(id, None) } else { None }
            }
        }
    }

    /// Notes that a stage begins.
    pub(super) fn stage(&mut self, stage: Stage) {
        self.stages.push((stage, Instant::now()));
    }

    /// Notes an attempt.
    pub(super) fn attempt(&mut self, target: &Target, operation: &'static str) {
        let (upstream, model) = (Arc::clone(&target.upstream), target.model.clone());
        self.tried.push(Tried { upstream, model, operation, began: Instant::now(), error: None, answered: None });
    }

    /// The id of the `number`th span of this request: 0 is the request's own.
    pub(super) fn span(&self, number: usize) -> u64 {
        let number = u128::try_from(number).unwrap_or(0);
        let low = scrambled(self.id ^ (number << 64) ^ number) & u128::from(u64::MAX);
        u64::try_from(low).unwrap_or(1).max(1)
    }

    /// The number of the span of the latest attempt.
    pub(super) fn attempt_span(&self, attempt: usize) -> u64 {
        self.span(attempt.saturating_add(1))
    }

    /// What an upstream is told, so that its spans belong to the latest attempt.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let span = self.attempt_span(self.tried.len().saturating_sub(1));
        HeaderValue::try_from(format!("00-{:032x}-{span:016x}-01", self.id)).ok()
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parent {
    trace: u128,
    span: u64,
    sampled: bool,
}

/// Reads the header; whatever is not exactly as the specification wants it is not there (section 3.2.2).
fn parent(headers: &HeaderMap) -> Option<Parent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let mut parts = value.splitn(5, '-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lower =
        |text: &str, length| text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let well = lower(version, 2) && lower(trace, 32) && lower(span, 16) && lower(flags, 2);
    // A later version may have more parts; this one has none.
    if !well || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
    let span = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
    Some(Parent { trace, span, sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1 })
}

/// Spreads a number over all bits, each half by itself (the finalizer of `SplitMix64`): request ids count up, and trace ids must
/// look random (W3C Trace Context level 2, section 2.2.3).
fn scrambled(number: u128) -> u128 {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let half = |shift: u32| u64::try_from((number >> shift) & u128::from(u64::MAX)).unwrap_or(0);
    let (high, low) = (half(64), half(0));
    // The two halves are a secret start and a count: both go into both.
    let low = mix(low.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ high);
    let high = mix(high ^ low.rotate_left(29));
    (u128::from(high) << 64) | u128::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn read(values: &[&str]) -> Option<Parent> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, value.parse().unwrap());
        }
        parent(&headers)
    }

    #[test]
    fn a_parent_is_read_by_the_letter_of_the_specification() {
        let parent = read(&[GOOD]).unwrap();
        assert_eq!(
            format!("{:032x} {:016x}", parent.trace, parent.span),
            "0af7651916cd43dd8448eb211c80319c b7ad6b7169203331"
        );
        assert!(parent.sampled && !read(&[&GOOD.replace("-01", "-00")]).unwrap().sampled);
        assert_eq!(read(&[&GOOD.replace("00-0", "cc-0")]), Some(parent), "a later version is read as this one");
        for bad in [
            "",
            "00",
            &GOOD.to_uppercase(),
            &GOOD.replace("00-0", "ff-0"),
            &format!("{GOOD}-00"),
            &GOOD.replace("b7ad6b7169203331", "0000000000000000"),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            &GOOD.replace("-01", "-1"),
        ] {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
        assert_eq!(read(&[GOOD, GOOD]), None, "twice is never");
    }

    #[test]
    fn chance_decides_unless_a_trusted_caller_has() {
        let net: IpNet = "10.0.0.0/8".parse().unwrap();
        let some = |one_in, headers: Option<&HeaderMap>| {
            let sampling = Sampling { one_in, trusted: vec![net] };
            let from = headers.map(|headers| (IpAddr::from([10, 1, 2, 3]), headers));
            let begin = |count: u128| Trace::begin(&sampling, RequestId((7 << 64) | count), from);
            (0..4_000_u128).filter(|count| begin(*count).is_some()).count()
        };
        assert_eq!(some(1, None), 4_000);
        assert!((250..550).contains(&some(10, None)), "{}", some(10, None));
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, GOOD.parse().unwrap());
        assert_eq!(some(u64::MAX, Some(&headers)), 4_000);
        headers.insert(TRACEPARENT, GOOD.replace("-01", "-00").parse().unwrap());
        assert_eq!(some(1, Some(&headers)), 0);
        let sampling = Sampling { one_in: 1, trusted: vec![net] };
        let stranger = Trace::begin(&sampling, RequestId(1), Some((IpAddr::from([11, 1, 2, 3]), &headers))).unwrap();
        assert_eq!(stranger.parent, None, "nobody else is believed");
    }

    #[test]
    fn ids_are_never_the_same_twice() {
        let mut seen = std::collections::HashSet::new();
        for count in 0..1_000_u128 {
            let trace =
                Trace::begin(&Sampling { one_in: 1, trusted: Vec::new() }, RequestId((7 << 64) | count), None).unwrap();
            assert!(seen.insert(trace.id));
            for number in 0..12 {
                assert!(seen.insert(trace.span(number).into()));
            }
        }
    }
}
