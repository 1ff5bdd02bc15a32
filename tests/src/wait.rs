//! Waiting for a condition with a deadline. Never a bare sleep in place of one.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long a condition may take that should hold "soon": generous, since two cores run everything at once.
pub const SOON: Duration = Duration::from_secs(20);

const STEP: Duration = Duration::from_millis(10);

/// Polls `probe` until it gives a value; panics with `what` when `deadline` has passed.
pub async fn until_within<T, F, Fut>(what: &str, deadline: Duration, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        tokio::time::sleep(STEP).await;
    }
}

/// [`until_within`] with the deadline [`SOON`].
pub async fn until<T, F, Fut>(what: &str, probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    until_within(what, SOON, probe).await
}

/// Polls a plain predicate until it is true; panics with `what` after [`SOON`].
pub async fn until_true(what: &str, mut probe: impl FnMut() -> bool) {
    until(what, || {
        let held = probe();
        async move { held.then_some(()) }
    })
    .await;
}
