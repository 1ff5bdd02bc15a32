//! How often one address may present a wrong admin key: a bound on guessing, in bounded memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

/// Wrong keys that one address may present in a window.
pub(super) const MAX_WRONG: u32 = 20;
const WINDOW_MS: i64 = 60_000;
/// Addresses remembered at once. Past it, all new ones share one count.
const MAX_ADDRESSES: usize = 4_096;

/// Wrong keys by address.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<IpAddr, Window>>);

#[derive(Debug, Clone, Copy)]
struct Window {
    started_ms: i64,
    wrong: u32,
}

impl Window {
    fn over(self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.started_ms) >= WINDOW_MS
    }
}

impl Attempts {
    /// For how many seconds `ip` must wait before it may try any key, right or wrong; `None` when it need not.
    pub(super) fn wait_seconds(&self, ip: IpAddr, now_ms: i64) -> Option<i64> {
        let windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = windows.len() >= MAX_ADDRESSES;
        let window = windows.get(&network(ip)).or_else(|| windows.get(&SHARED).filter(|_| full)).copied()?;
        let blocked = window.wrong >= MAX_WRONG && !window.over(now_ms);
        // Rounded up: who waits that long is let in.
        blocked.then(|| (window.started_ms.saturating_add(WINDOW_MS).saturating_sub(now_ms)).saturating_add(999) / 1000)
    }

    /// Counts a wrong key.
    pub(super) fn wrong(&self, ip: IpAddr, now_ms: i64) {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut address = network(ip);
        if windows.len() >= MAX_ADDRESSES && !windows.contains_key(&address) {
            windows.retain(|_, window| !window.over(now_ms));
            if windows.len() >= MAX_ADDRESSES {
                address = SHARED;
            }
        }
        let window = windows.entry(address).or_insert(Window { started_ms: now_ms, wrong: 0 });
        if window.over(now_ms) {
            *window = Window { started_ms: now_ms, wrong: 0 };
        }
        window.wrong = window.wrong.saturating_add(1);
    }
}

/// Stands for all addresses that there is no room for.
const SHARED: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// One customer's IPv6 network has 2^64 addresses: they count as one.
pub(super) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn twenty_wrong_keys_a_minute_are_all() {
        let attempts = Attempts::default();
        for try_ms in 0..20 {
            assert_eq!(attempts.wait_seconds(ip("192.0.2.1"), try_ms), None);
            attempts.wrong(ip("192.0.2.1"), try_ms);
        }
        assert_eq!(attempts.wait_seconds(ip("192.0.2.1"), 20), Some(60));
        assert_eq!(attempts.wait_seconds(ip("::ffff:192.0.2.1"), 58_500), Some(2), "the same address in another form");
        assert_eq!(attempts.wait_seconds(ip("192.0.2.2"), 20), None);
        assert_eq!(attempts.wait_seconds(ip("192.0.2.1"), 60_000), None);
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let attempts = Attempts::default();
        for host in 0..20_u16 {
            attempts.wrong(ip(&format!("2001:db8::{host:x}")), 0);
        }
        assert!(attempts.wait_seconds(ip("2001:db8::ffff"), 1).is_some());
        assert!(attempts.wait_seconds(ip("2001:db8:0:1::1"), 1).is_none());
    }

    #[test]
    fn memory_is_bounded_and_a_flood_of_addresses_is_still_limited() {
        let attempts = Attempts::default();
        let host = |number: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number));
        for number in 0..10_000 {
            attempts.wrong(host(number), 0);
        }
        assert!(attempts.0.lock().unwrap().len() <= MAX_ADDRESSES + 1);
        assert!(
            attempts.wait_seconds(host(20_000), 1).is_some(),
            "new addresses share one count while there is no room"
        );
        attempts.wrong(host(20_000), 60_000);
        assert!(attempts.0.lock().unwrap().len() <= 2, "what is over is forgotten");
        assert!(attempts.wait_seconds(host(20_001), 60_001).is_none());
    }
}
