//! How long to wait before something is sent once more to a receiver that did not take it.

/// Pauses after each failed attempt, in seconds, as Standard Webhooks suggests them.
pub(crate) const PAUSES_SECONDS: [i64; 9] =
    [5, 5 * 60, 30 * 60, 2 * 3_600, 5 * 3_600, 10 * 3_600, 14 * 3_600, 20 * 3_600, 24 * 3_600];
/// The most that a receiver may ask us to wait, in seconds.
pub(crate) const MAX_WAIT_SECONDS: i64 = 24 * 3_600;

/// Seconds after so many failed attempts; `None` after the last.
pub(crate) fn planned(failed: u32) -> Option<i64> {
    let failed = usize::try_from(failed).unwrap_or(usize::MAX);
    failed.checked_sub(1).and_then(|at| PAUSES_SECONDS.get(at)).copied()
}

/// Milliseconds, with up to a tenth more so that what failed at one moment spreads out.
pub(crate) fn spread_ms(seconds: i64) -> i64 {
    let mut random = [0_u8; 1];
    if let Err(err) = getrandom::fill(&mut random) {
        tracing::warn!(%err, "no random bytes for a pause");
    }
    let [random] = random;
    seconds.saturating_mul(1_000).saturating_add(seconds.saturating_mul(100).saturating_mul(random.into()) / 256)
}
