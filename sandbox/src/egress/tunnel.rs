//! One client: its request is read, judged, connected and, once its TLS hello names the same host, relayed.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::address::is_public;
use super::event::{Decision, Event, Reason};
use super::gate::Run;
use super::head::{self, Target};
use super::hello::{Hello, MAX_HELLO_BYTES, server_name};
use super::relay::relay;

/// How long a name may take to resolve.
const RESOLVE: Duration = Duration::from_secs(10);
/// How long each address may take to answer.
const CONNECT: Duration = Duration::from_secs(10);
/// How many addresses of a host are tried.
const MAX_ADDRESSES: usize = 4;

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// Serves one client to its end.
pub(super) async fn serve(run: &Run, mut client: UnixStream) {
    let target = match asked(run, &mut client).await {
        Ok(target) => target,
        Err(reason) => {
            run.tell("", 0, Decision::Denied(reason));
            return refuse(&mut client, reason).await;
        }
    };
    let told = |decision| run.seams.observer.observe(&Event { host: &target.host, port: target.port, decision });
    let mut host = match reach(run, &target).await {
        Ok(host) => host,
        Err(reason) => {
            told(Decision::Denied(reason));
            return refuse(&mut client, reason).await;
        }
    };
    if client.write_all(ESTABLISHED).await.is_err() {
        return;
    }
    let hello = match named(run, &mut client, &target).await {
        Ok(hello) => hello,
        // The client speaks TLS by now, or something that isn't HTTP: it sees the connection closed.
        Err(reason) => return told(Decision::Denied(reason)),
    };
    let Ok(peer) = host.peer_addr() else { return told(Decision::Denied(Reason::Unreachable)) };
    told(Decision::Allowed { address: peer.ip() });
    // The hello counts as well: it is sent as the beginning of what the client says.
    let mut client = Replayed { hello, client };
    let relayed = client.relay(&mut host, run).await;
    told(relayed);
}

/// The request, whole and alone.
async fn asked(run: &Run, client: &mut UnixStream) -> Result<Target, Reason> {
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") {
            // What follows the head before it is answered is not the client's to send: a second request would hide there.
            let ended = head.windows(4).any(|window| window == b"\r\n\r\n");
            if ended || head.len() >= run.caps.head_bytes {
                return Err(Reason::BadRequest);
            }
            let room = run.caps.head_bytes - head.len();
            match (&mut *client).take(u64::try_from(room).unwrap_or(u64::MAX)).read_buf(&mut head).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Reason::BadRequest),
            }
        }
        Ok(())
    };
    timeout(run.caps.first_bytes, read).await.unwrap_or(Err(Reason::Idle))?;
    head::parse(&head)
}

/// A connection to what was asked for, if that is allowed.
async fn reach(run: &Run, target: &Target) -> Result<TcpStream, Reason> {
    if !target.is_name || !run.policy.allows(&target.host, target.port) {
        return Err(Reason::NotListed);
    }
    if run.budget.is_spent() {
        return Err(Reason::Bytes);
    }
    let resolving = timeout(RESOLVE, run.seams.resolver.resolve(&target.host));
    let addresses: Vec<IpAddr> = resolving.await.ok().and_then(Result::ok).ok_or(Reason::Unreachable)?;
    // One inside and one outside is an attack or a mistake.
    if !run.policy.is_internal(&target.host, target.port) && !addresses.iter().all(|address| is_public(*address)) {
        return Err(Reason::NotPublic);
    }
    for address in addresses.into_iter().take(MAX_ADDRESSES) {
        let connecting = timeout(CONNECT, TcpStream::connect(SocketAddr::new(address, target.port)));
        if let Ok(Ok(host)) = connecting.await {
            // Only a matter of speed.
            let _unsupported = host.set_nodelay(true);
            return Ok(host);
        }
    }
    Err(Reason::Unreachable)
}

/// The client's hello, which names the host that was asked for.
async fn named(run: &Run, client: &mut UnixStream, target: &Target) -> Result<Vec<u8>, Reason> {
    let mut hello = Vec::new();
    let read = async {
        loop {
            match server_name(&hello) {
                Hello::Names(name) if name == target.host => return Ok(()),
                Hello::Names(_) | Hello::Nameless => return Err(Reason::OtherName),
                Hello::Malformed => return Err(Reason::NotTls),
                Hello::Incomplete => {}
            }
            let room = MAX_HELLO_BYTES.saturating_sub(hello.len());
            match (&mut *client).take(u64::try_from(room).unwrap_or(u64::MAX)).read_buf(&mut hello).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Reason::NotTls),
            }
        }
    };
    timeout(run.caps.first_bytes, read).await.unwrap_or(Err(Reason::Idle))?;
    Ok(hello)
}

/// A client whose first bytes have been read already.
struct Replayed {
    hello: Vec<u8>,
    client: UnixStream,
}

impl Replayed {
    async fn relay(&mut self, host: &mut TcpStream, run: &Run) -> Decision {
        let hello_bytes = u64::try_from(self.hello.len()).unwrap_or(u64::MAX);
        if host.write_all(&self.hello).await.is_err() {
            return Decision::Closed { sent_bytes: 0, received_bytes: 0, cut: None };
        }
        let relayed = relay(&mut self.client, host, &run.budget, run.caps.idle).await;
        Decision::Closed {
            sent_bytes: relayed.sent_bytes + hello_bytes,
            received_bytes: relayed.received_bytes,
            cut: relayed.cut,
        }
    }
}

/// Says no, in words that a person reads in the output of `pip` or `curl`. It tells nothing of the host's network.
async fn refuse(client: &mut UnixStream, reason: Reason) {
    let (status, why) = match reason {
        Reason::BadRequest => ("400 Bad Request", "this is not one plain CONNECT request"),
        Reason::NotConnect => {
            ("405 Method Not Allowed", "only https:// is let out of the sandbox: this proxy speaks CONNECT alone")
        }
        Reason::NotListed => ("403 Forbidden", "this run's allow-list does not name that host at that port"),
        Reason::NotPublic => ("403 Forbidden", "that host is not on the public internet"),
        Reason::Unreachable => ("502 Bad Gateway", "that host could not be reached"),
        Reason::OtherName | Reason::NotTls => ("403 Forbidden", "the TLS hello does not name that host"),
        Reason::Idle => ("408 Request Timeout", "no request was sent in time"),
        Reason::Bytes => ("403 Forbidden", "this run has sent and received all that it may"),
        Reason::Connections => ("403 Forbidden", "this run has made all the connections that it may"),
    };
    let allow = if reason == Reason::NotConnect { "Allow: CONNECT\r\n" } else { "" };
    let answer = format!(
        "HTTP/1.1 {status}\r\n{allow}Content-Type: text/plain\r\nContent-Length: {}\r\nX-OpenClawMU-Egress: {}\r\nConnection: close\r\n\r\n{why}\n",
        why.len() + 1,
        reason.as_str(),
    );
    // Whoever has gone needs no answer.
    let _gone = client.write_all(answer.as_bytes()).await;
    let _gone = client.shutdown().await;
}
