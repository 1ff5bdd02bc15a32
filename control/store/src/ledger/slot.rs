//! A reservation's bytes while it is in flight: a head written once at admission, a tail written as it goes on.
//!
//! Each half carries its own checksum, so that a torn tail never costs the head. A head that is torn was being written when
//! the process died, before anything was sent upstream. Little-endian, 256 bytes, never across a page.
//!
//! Checksums are for what a power loss tears, of which any part may be missing. A process that is killed leaves a prefix of
//! [`stores`], and no prefix but the whole has an id: nothing there is left to a checksum.

use zerocopy::little_endian::{I32, I64, U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::clock::UnixMs;
use crate::id::{LabelKey, RequestId, ReservationId, SecretKey, TenantKey, TokenKey};
use crate::ledger::row::{Outcome, Reservation, Settlement};
use crate::money::{Markup, NanoUsd};
use crate::usage::{ServiceTier, Usage};

/// Bytes of one slot.
pub(crate) const SLOT_BYTES: usize = 256;
/// Where the tail begins.
pub(crate) const TAIL_AT: usize = 128;
/// How many of [`Usage::counts`] stand together.
const FIRST_COUNTS: usize = 15;
/// How many stand behind everything else.
const MORE_COUNTS: usize = Usage::COUNTS - FIRST_COUNTS;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Head {
    crc: U32,
    attempt: U16,
    stream: u8,
    service_tier: u8,
    id: I64,
    request_id: U128,
    tenant: I64,
    token: I64,
    model: U32,
    upstream: U32,
    rate_card: U32,
    input_bound: U32,
    day: I32,
    month: I32,
    admitted_at: I64,
    reserved: I64,
    reserved_tokens: U64,
    label: I64,
    markup: U32,
    /// 0: none.
    secret: I64,
    /// 0 in what an earlier program wrote.
    sandbox_seconds: U32,
    rest: [u8; 8],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Tail {
    crc: U32,
    /// 0 while in flight, else the outcome's code.
    outcome: u8,
    estimated: u8,
    http_status: U16,
    id: I64,
    usage: [U32; FIRST_COUNTS],
    first_byte_ms: U32,
    duration_ms: U32,
    cost: I64,
    service_tier: u8,
    /// The counts that came later: what an earlier program wrote is read as it was.
    more_usage: [U32; MORE_COUNTS],
    rest: [u8; 27],
}

const _: () = assert!(size_of::<Head>() == TAIL_AT && size_of::<Tail>() == SLOT_BYTES - TAIL_AT);

/// Bytes that are stored at once.
const WORD_BYTES: usize = 8;
/// Which word of a head, and of a tail, is the reservation's id.
const ID_WORD: usize = 1;

const _: () = {
    assert!(std::mem::offset_of!(Head, id) == ID_WORD * WORD_BYTES);
    assert!(std::mem::offset_of!(Tail, id) == ID_WORD * WORD_BYTES);
};

/// What is known of a reservation's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Still in flight when it was last written; the usage is an estimate of what had been sent and relayed.
    Open(Usage),
    /// Settled with this bill.
    Settled(Settlement, NanoUsd),
    /// The tail is torn.
    Unknown,
}

/// The whole slot of a new reservation, its usage so far an estimate of the prompt.
pub(crate) fn encode(reservation: &Reservation, usage: &Usage) -> [u8; SLOT_BYTES] {
    let mut head = Head {
        crc: U32::ZERO,
        attempt: reservation.attempt.into(),
        stream: u8::from(reservation.stream),
        service_tier: reservation.service_tier.code(),
        id: reservation.id.0.into(),
        request_id: reservation.request_id.0.into(),
        tenant: reservation.tenant.0.into(),
        token: reservation.token.0.into(),
        model: reservation.model.into(),
        upstream: reservation.upstream.into(),
        rate_card: reservation.rate_card.into(),
        input_bound: reservation.input_bound.into(),
        day: reservation.day.into(),
        month: reservation.month.into(),
        admitted_at: reservation.admitted_at.0.into(),
        reserved: reservation.reserved.0.into(),
        reserved_tokens: reservation.reserved_tokens.into(),
        label: reservation.label.0.into(),
        markup: reservation.markup.ppm().into(),
        secret: reservation.secret.map_or(0, |key| key.0).into(),
        sandbox_seconds: reservation.sandbox_seconds.into(),
        rest: [0; 8],
    };
    head.crc = checksum(head.as_bytes()).into();
    let tail = encode_open(reservation.id, usage);
    let mut slot = [0; SLOT_BYTES];
    for (to, from) in slot.iter_mut().zip(head.as_bytes().iter().chain(&tail)) {
        *to = *from;
    }
    slot
}

/// The tail of a reservation that is still in flight.
pub(crate) fn encode_open(id: ReservationId, usage: &Usage) -> [u8; SLOT_BYTES - TAIL_AT] {
    tail(id, None, usage)
}

/// The tail of a reservation that has been settled.
pub(crate) fn encode_settled(id: ReservationId, settlement: &Settlement, cost: NanoUsd) -> [u8; SLOT_BYTES - TAIL_AT] {
    tail(id, Some((settlement, cost)), &settlement.usage)
}

fn tail(id: ReservationId, end: Option<(&Settlement, NanoUsd)>, usage: &Usage) -> [u8; SLOT_BYTES - TAIL_AT] {
    let (first, more) = split(usage);
    let mut tail = Tail {
        crc: U32::ZERO,
        outcome: end.map_or(0, |(settlement, _)| settlement.outcome.code()),
        estimated: u8::from(end.is_none_or(|(settlement, _)| settlement.estimated)),
        http_status: end.map_or(0, |(settlement, _)| settlement.http_status).into(),
        id: id.0.into(),
        usage: first,
        first_byte_ms: end.map_or(0, |(settlement, _)| settlement.first_byte_ms).into(),
        duration_ms: end.map_or(0, |(settlement, _)| settlement.duration_ms).into(),
        cost: end.map_or(0, |(_, cost)| cost.0).into(),
        service_tier: end.map_or(0, |(settlement, _)| settlement.service_tier.code()),
        more_usage: more,
        rest: [0; 27],
    };
    tail.crc = checksum(tail.as_bytes()).into();
    zerocopy::transmute!(tail)
}

/// Which word becomes what, in order, when a slot or a tail is replaced by `bytes` while others may look: it has no id before
/// anything else changes, and gets the new one after everything else has.
///
/// Of a whole slot that is the head's id. A head without one is no reservation, and a tail without one is torn.
pub(crate) fn stores(bytes: &[u8]) -> impl Iterator<Item = (usize, u64)> {
    let (words, _) = bytes.as_chunks::<WORD_BYTES>();
    let words = words.iter().map(|word| u64::from_ne_bytes(*word)).enumerate();
    let (id, rest) = (words.clone().filter(|(nth, _)| *nth == ID_WORD), words.filter(|(nth, _)| *nth != ID_WORD));
    std::iter::once((ID_WORD, 0)).chain(rest).chain(id)
}

/// Reads a slot; `None` when it is free or its head is torn.
pub(crate) fn decode(slot: &[u8; SLOT_BYTES]) -> Option<(Reservation, Progress)> {
    let (head, tail) = slot.split_at(TAIL_AT);
    let head = Head::read_from_bytes(head).ok()?;
    if head.id.get() == 0 || head.crc.get() != checksum(head.as_bytes()) {
        return None;
    }
    let reservation = Reservation {
        id: ReservationId(head.id.get()),
        request_id: RequestId(head.request_id.get()),
        attempt: head.attempt.get(),
        stream: head.stream != 0,
        tenant: TenantKey(head.tenant.get()),
        token: TokenKey(head.token.get()),
        model: head.model.get(),
        upstream: head.upstream.get(),
        rate_card: head.rate_card.get(),
        admitted_at: UnixMs(head.admitted_at.get()),
        day: head.day.get(),
        month: head.month.get(),
        reserved: NanoUsd(head.reserved.get()),
        reserved_tokens: head.reserved_tokens.get(),
        input_bound: head.input_bound.get(),
        sandbox_seconds: head.sandbox_seconds.get(),
        service_tier: ServiceTier::from_code(head.service_tier)?,
        label: LabelKey(head.label.get()),
        markup: Markup::from_ppm(head.markup.get()),
        secret: Some(SecretKey(head.secret.get())).filter(|key| key.0 != 0),
    };
    let progress = Tail::read_from_bytes(tail).ok().and_then(|tail| decode_tail(&tail, reservation.id));
    Some((reservation, progress.unwrap_or(Progress::Unknown)))
}

fn decode_tail(tail: &Tail, id: ReservationId) -> Option<Progress> {
    if tail.id.get() != id.0 || tail.crc.get() != checksum(tail.as_bytes()) {
        return None;
    }
    let usage = joined(tail);
    if tail.outcome == 0 {
        return Some(Progress::Open(usage));
    }
    let settlement = Settlement {
        outcome: Outcome::from_code(tail.outcome)?,
        http_status: tail.http_status.get(),
        estimated: tail.estimated != 0,
        usage,
        service_tier: ServiceTier::from_code(tail.service_tier)?,
        first_byte_ms: tail.first_byte_ms.get(),
        duration_ms: tail.duration_ms.get(),
    };
    Some(Progress::Settled(settlement, NanoUsd(tail.cost.get())))
}

/// The counts as a tail holds them.
fn split(usage: &Usage) -> ([U32; FIRST_COUNTS], [U32; MORE_COUNTS]) {
    let mut counts = usage.counts().into_iter().map(U32::new);
    let mut next = || counts.next().unwrap_or_default();
    (std::array::from_fn(|_| next()), std::array::from_fn(|_| next()))
}

fn joined(tail: &Tail) -> Usage {
    let mut counts = tail.usage.iter().chain(&tail.more_usage).map(|count| count.get());
    Usage::from_counts(std::array::from_fn(|_| counts.next().unwrap_or_default()))
}

/// CRC-32 of a half, its own checksum field taken as absent.
fn checksum(half: &[u8]) -> u32 {
    crc32fast::hash(half.get(4..).unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn reservation(id: i64) -> Reservation {
        Reservation {
            id: ReservationId(id),
            request_id: RequestId(0x0123_4567_89ab_cdef),
            attempt: 1,
            stream: true,
            tenant: TenantKey(7),
            token: TokenKey(8),
            model: 9,
            upstream: 10,
            rate_card: 11,
            admitted_at: UnixMs(1_700_000_000_000),
            day: 20_000,
            month: 658,
            reserved: NanoUsd(123_456),
            reserved_tokens: 4_000,
            input_bound: 1_000,
            sandbox_seconds: 60,
            service_tier: ServiceTier::Flex,
            label: LabelKey(-5),
            markup: Markup::from_ppm(175_000),
            secret: Some(SecretKey(12)),
        }
    }

    pub(crate) fn settlement(outcome: Outcome) -> Settlement {
        let usage = Usage {
            input: 5,
            output: 6,
            reasoning: 7,
            tool_calls: 1,
            output_ms: 8,
            input_image_tokens: 9,
            output_image_tokens: 10,
            ..Usage::default()
        };
        Settlement {
            outcome,
            http_status: 200,
            estimated: false,
            usage,
            service_tier: ServiceTier::Priority,
            first_byte_ms: 3,
            duration_ms: 4,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let reservation = reservation(42);
        let usage = Usage { input: 250, ..Usage::default() };
        let mut slot = encode(&reservation, &usage);
        assert_eq!(decode(&slot), Some((reservation, Progress::Open(usage))));
        slot[TAIL_AT..].copy_from_slice(&encode_settled(reservation.id, &settlement(Outcome::Partial), NanoUsd(99)));
        assert_eq!(decode(&slot), Some((reservation, Progress::Settled(settlement(Outcome::Partial), NanoUsd(99)))));
        assert_eq!(decode(&[0; SLOT_BYTES]), None);
    }

    #[test]
    fn a_tail_of_the_slots_former_tenant_is_not_taken() {
        let mut slot = encode(&reservation(42), &Usage::default());
        slot[TAIL_AT..].copy_from_slice(&encode_settled(ReservationId(41), &settlement(Outcome::Complete), NanoUsd(1)));
        assert_eq!(decode(&slot), Some((reservation(42), Progress::Unknown)));
    }

    /// `slot` after the first `count` stores of `bytes` at `at`.
    pub(crate) fn after_stores(mut slot: [u8; SLOT_BYTES], at: usize, bytes: &[u8], count: usize) -> [u8; SLOT_BYTES] {
        for (nth, value) in stores(bytes).take(count) {
            slot[at + nth * WORD_BYTES..][..WORD_BYTES].copy_from_slice(&value.to_ne_bytes());
        }
        slot
    }

    /// With checksums that agree by accident: the id alone tells.
    #[test]
    fn of_the_stores_of_a_half_none_but_all_of_them_leave_an_id() {
        let old = encode(&reservation(42), &Usage::default());
        let settled = encode_settled(reservation(42).id, &settlement(Outcome::Complete), NanoUsd(9));
        let count = stores(&settled).count();
        assert_eq!(count, settled.len() / WORD_BYTES + 1);
        for stored in 0..=count {
            let torn = after_stores(old, TAIL_AT, &settled, stored);
            let id = &torn[TAIL_AT + 8..][..8];
            assert_eq!(id == [0; 8], stored > 0 && stored < count, "{stored}");
        }
        assert_eq!(after_stores(old, TAIL_AT, &settled, count)[TAIL_AT..], settled);
        let new = encode(&reservation(43), &Usage { input: 7, ..Usage::default() });
        let count = stores(&new).count();
        for stored in 0..=count {
            let torn = after_stores([0; SLOT_BYTES], 0, &new, stored);
            assert_eq!(torn[8..16] == [0; 8], stored < count, "{stored}");
        }
        assert_eq!(after_stores([0; SLOT_BYTES], 0, &new, count), new);
    }

    proptest! {
        #[test]
        fn a_flipped_byte_is_never_believed(at in 0..SLOT_BYTES, flip in 1..=255_u8) {
            let whole = encode(&reservation(42), &Usage { input: 3, ..Usage::default() });
            let mut torn = whole;
            torn[at] ^= flip;
            match decode(&torn) {
                None => prop_assert!(at < TAIL_AT),
                Some((found, Progress::Unknown)) => {
                    prop_assert!(at >= TAIL_AT);
                    prop_assert_eq!(found, reservation(42));
                }
                Some(other) => prop_assert!(false, "believed {:?}", other),
            }
        }
    }
}
