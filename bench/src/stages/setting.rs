//! What a count needs to be running: the gateway under Callgrind, with one thread for the edge, and the scripted upstream, which
//! takes turns.

use std::fs::File;
use std::io::BufReader;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::child::free_addresses;
use crate::client::{Connection, get};
use crate::gateway::{Gateway, Setup};
use crate::pace::{Pace, Turns};
use crate::stage::UPSTREAM_KEY;
use crate::stages::count::{self, Request};
use crate::stages::dump::{self, Mark};
use crate::stages::parked::Thread;
use crate::stages::scenario::{Client, Scenario};
use crate::upstream;

/// The name of the edge's worker, whose work is counted.
const SERVER: &str = "edge";

/// What was dumped.
#[derive(Debug)]
pub(crate) struct Dumped {
    /// The requests, in order.
    pub(crate) requests: Vec<Request>,
    file: PathBuf,
    _directory: TempDir,
}

impl Dumped {
    /// The dumps of some requests, or of one part of each, behind each other.
    pub(crate) fn merged(&self, requests: &[&Request], part: Option<usize>) -> Result<Vec<u8>> {
        let wanted = |request: &&Request| match part {
            None => request.ranges.clone(),
            Some(part) => request.ranges.get(part).cloned().into_iter().collect(),
        };
        dump::merged(File::open(&self.file)?, &requests.iter().flat_map(wanted).collect::<Vec<_>>())
    }
}

/// Sends every request of the scenarios to `gateway` and reads what Callgrind made of it.
pub(crate) fn dump(binary: &Path, parent: &Path, scenarios: &[Scenario]) -> Result<Dumped> {
    let directory = tempfile::Builder::new()
        .prefix("openclawmu-stages-")
        .tempdir_in(parent)
        .with_context(|| format!("no directory in {}", parent.display()))?;
    let file = directory.path().join("callgrind.out");
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("listening as the upstream")?;
    let (upstream, turns) = (listener.local_addr()?, Arc::new(Turns::new()));
    let (options, pace) = (said_by(upstream), Pace::Turns(Arc::clone(&turns)));
    thread::Builder::new().name("upstream".to_owned()).spawn(move || {
        if let Err(fault) = upstream::serve_paced(listener, &options, pace) {
            eprintln!("upstream: {fault:#}");
        }
    })?;
    let [edge, admin] = free_addresses()?;
    let mut gateway = Gateway::start(&Setup {
        binary,
        directory: directory.path(),
        edge,
        admin,
        upstream,
        upstream_key: UPSTREAM_KEY,
        threads: 1,
        under: &callgrind(&file),
    })?;
    let server = Thread::named(gateway.process.id(), SERVER)?;
    turns.reader(Thread::named(gateway.process.id(), SERVER)?);
    let mut client = Client {
        connection: Connection::to(edge),
        address: edge,
        token: &gateway.token,
        spent_token: &gateway.spent_token,
        server: &server,
        turns: &turns,
    };
    for scenario in scenarios {
        eprint!(" {}", scenario.name);
        client.send(scenario).map_err(|fault| gateway.process.fault(&format!("{fault:#}")))?;
    }
    eprintln!();
    // The head of one more question ends the last request's last part.
    server.wait()?;
    let mut said = Vec::new();
    let answer = client.connection.call_whole(&get(edge, "/readyz", "none"), &mut said)?;
    ensure!(answer.status == 200, "/readyz: {}", String::from_utf8_lossy(&said));
    let billed = scenarios.iter().filter(|scenario| scenario.is_billed()).map(Scenario::requests).sum::<usize>();
    gateway.wait_for_ledger(u64::try_from(billed)?)?;
    drop(gateway);
    let parts = dump::read(BufReader::new(File::open(&file).context("Callgrind left no file")?))?;
    let requests = count::requests(&parts)?;
    let sent: usize = scenarios.iter().map(Scenario::requests).sum();
    ensure!(requests.len() == sent, "Callgrind saw {} requests of {sent}", requests.len());
    Ok(Dumped { requests, file, _directory: directory })
}

fn said_by(listen: std::net::SocketAddr) -> upstream::Options {
    upstream::Options { listen, pace_ms: 0, chunks: 1, key: Some(UPSTREAM_KEY.to_owned()) }
}

fn callgrind(file: &Path) -> Vec<String> {
    let mut words = vec![
        "valgrind".to_owned(),
        "--tool=callgrind".to_owned(),
        "--vgdb=no".to_owned(),
        "--fair-sched=try".to_owned(),
        "--separate-threads=yes".to_owned(),
        "--combine-dumps=yes".to_owned(),
        format!("--callgrind-out-file={}", file.display()),
    ];
    words.extend(Mark::PATTERNS.map(|(_, pattern)| format!("--dump-before={pattern}")));
    words
}
