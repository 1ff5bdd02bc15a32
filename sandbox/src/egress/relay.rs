//! Bytes both ways, until both sides have ended, nothing was sent for too long, or the run has used up what it may send.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

use super::event::Reason;

const BUFFER_BYTES: usize = 16 * 1024;

/// How many bytes a run may still send and receive, over all its connections.
#[derive(Debug)]
pub(super) struct Budget(AtomicU64);

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        Self(AtomicU64::new(bytes))
    }

    /// Takes some of it, or all that is left and fails.
    fn take(&self, bytes: u64) -> bool {
        let less = |left: u64| Some(left.saturating_sub(bytes));
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok_and(|left| left >= bytes)
    }

    /// Whether nothing is left.
    pub(super) fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// What was relayed, and why it was cut, if neither side ended it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Relayed {
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
    pub(super) cut: Option<Reason>,
}

/// Why one direction is over before its end.
enum Cut {
    Bytes,
    Broken,
}

impl From<io::Error> for Cut {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

/// Relays. Each side is told when the other one has ended.
pub(super) async fn relay<C, H>(client: &mut C, host: &mut H, budget: &Budget, idle: Duration) -> Relayed
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    H: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut client_in, mut client_out) = tokio::io::split(client);
    let (mut host_in, mut host_out) = tokio::io::split(host);
    let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
    let (moved, mut moves) = watch::channel(());
    let both = async {
        let out = pump(&mut client_in, &mut host_out, Meter { count: &sent, budget, moved: &moved });
        let back = pump(&mut host_in, &mut client_out, Meter { count: &received, budget, moved: &moved });
        match tokio::try_join!(out, back) {
            Ok(_) | Err(Cut::Broken) => None,
            Err(Cut::Bytes) => Some(Reason::Bytes),
        }
    };
    let stall = async { while matches!(timeout(idle, moves.changed()).await, Ok(Ok(()))) {} };
    let cut = tokio::select! {
        cut = both => cut,
        () = stall => Some(Reason::Idle),
    };
    Relayed { sent_bytes: sent.into_inner(), received_bytes: received.into_inner(), cut }
}

/// Counts what one direction moves.
struct Meter<'a> {
    count: &'a AtomicU64,
    budget: &'a Budget,
    moved: &'a watch::Sender<()>,
}

async fn pump<R, W>(from: &mut R, to: &mut W, meter: Meter<'_>) -> Result<(), Cut>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            to.shutdown().await?;
            return Ok(());
        };
        let long = u64::try_from(count).unwrap_or(u64::MAX);
        if !meter.budget.take(long) {
            return Err(Cut::Bytes);
        }
        to.write_all(bytes).await?;
        meter.count.fetch_add(long, Ordering::Relaxed);
        meter.moved.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn every_byte_and_both_ends_pass() {
        let (mut inside, mut client) = tokio::io::duplex(7);
        let (mut host, mut outside) = tokio::io::duplex(5);
        let budget = Budget::new(u64::MAX);
        let said: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let ask = async {
            inside.write_all(&said).await.unwrap();
            inside.shutdown().await.unwrap();
            let mut answer = Vec::new();
            inside.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let answer = async {
            let mut asked = Vec::new();
            outside.read_to_end(&mut asked).await.unwrap();
            outside.write_all(b"after the end").await.unwrap();
            outside.shutdown().await.unwrap();
            asked
        };
        let (relayed, answer, asked) = tokio::join!(relay(&mut client, &mut host, &budget, LONG), ask, answer);
        assert_eq!((asked, answer.as_slice()), (said, &b"after the end"[..]));
        assert_eq!(relayed, Relayed { sent_bytes: 100_000, received_bytes: 13, cut: None });
    }

    #[tokio::test]
    async fn what_the_run_may_send_is_shared_by_its_connections() {
        let budget = Budget::new(10);
        for (bytes, sent, cut) in [(6, 6, None), (5, 0, Some(Reason::Bytes)), (1, 0, Some(Reason::Bytes))] {
            let (mut inside, mut client) = tokio::io::duplex(64);
            let (mut host, outside) = tokio::io::duplex(64);
            inside.write_all(&vec![0; bytes]).await.unwrap();
            drop(inside);
            let ended = async {
                let (mut read, mut write) = tokio::io::split(outside);
                tokio::io::copy(&mut read, &mut tokio::io::sink()).await.unwrap();
                let _gone = write.shutdown().await;
            };
            let (relayed, ()) = tokio::join!(
                async {
                    let relayed = relay(&mut client, &mut host, &budget, LONG).await;
                    drop(host);
                    relayed
                },
                ended
            );
            assert_eq!((relayed.sent_bytes, relayed.cut), (sent, cut), "{bytes}");
        }
        assert!(budget.is_spent());
    }

    /// Twenty pieces, each well within the limit and all of them together far beyond it.
    #[tokio::test]
    async fn silence_is_cut_and_a_slow_talker_is_not() {
        let budget = Budget::new(u64::MAX);
        let (mut inside, mut client) = tokio::io::duplex(64);
        let (mut host, _outside) = tokio::io::duplex(64);
        let talk = async {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                inside.write_all(b".").await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let relayed = tokio::select! {
            relayed = relay(&mut client, &mut host, &budget, Duration::from_millis(700)) => relayed,
            () = talk => unreachable!(),
        };
        assert_eq!((relayed.sent_bytes, relayed.cut), (20, Some(Reason::Idle)));
    }
}
