//! What came of a run, in the contract's words: one JSON object, or events while it runs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openclawmu_control::run::{self, Content, Encoded, EnforcedLimits, RunAnswer, RunIsolation};
use openclawmu_sandbox::{Captured, Chunk, Outcome, Stream};
use serde_json::{Value, json};

use super::artifact::Artifact;

/// The whole answer.
pub(super) fn outcome(id: String, outcome: &Outcome, artifacts: Vec<Artifact>) -> RunAnswer {
    let isolation = &outcome.isolation;
    let limits = &isolation.limits;
    RunAnswer {
        id,
        exit_code: outcome.exit_code,
        signal: outcome.signal,
        outcome: outcome.ended.as_str(),
        stdout: text(&outcome.stdout),
        stderr: text(&outcome.stderr),
        stdout_base64: raw(&outcome.stdout),
        stderr_base64: raw(&outcome.stderr),
        stdout_bytes: outcome.stdout.total_bytes,
        stderr_bytes: outcome.stderr.total_bytes,
        truncated: outcome.stdout.dropped_bytes() > 0 || outcome.stderr.dropped_bytes() > 0,
        artifacts: artifacts.into_iter().map(artifact).collect(),
        duration_ms: milliseconds(outcome.duration),
        cpu_ms: outcome.cpu.map(milliseconds),
        memory_peak_bytes: outcome.memory_peak_bytes,
        processes_limit_hit: outcome.processes_limit_hit,
        backend: outcome.backend,
        isolation: RunIsolation {
            uid_map: isolation.uid_map.clone(),
            seccomp: isolation.seccomp,
            no_new_privs: isolation.no_new_privs,
            limits: EnforcedLimits {
                memory: limits.memory.clone(),
                processes: limits.processes.clone(),
                cpu: limits.cpu.clone(),
                disk: limits.disk.clone(),
                user: limits.user.clone(),
            },
        },
    }
}

/// A piece of output as an event.
pub(super) fn chunk(chunk: &Chunk) -> Vec<u8> {
    let name = match chunk.stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    let data = match std::str::from_utf8(&chunk.bytes) {
        Ok(text) => json!({"text": text}),
        Err(_) => json!({"base64": STANDARD.encode(&chunk.bytes)}),
    };
    event(name, &data)
}

/// An event.
pub(super) fn event(name: &str, data: &Value) -> Vec<u8> {
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}

fn artifact(artifact: Artifact) -> (String, run::Artifact) {
    let value = match artifact.content {
        Some(bytes) => run::Artifact::Content(content(bytes)),
        None => run::Artifact::Omitted { size_bytes: artifact.size_bytes, omitted: "too_large" },
    };
    (artifact.path, value)
}

/// A text, or any bytes.
fn content(bytes: Vec<u8>) -> Content {
    match String::from_utf8(bytes) {
        Ok(text) => Content::Text(text),
        Err(err) => Content::Bytes(Encoded { base64: STANDARD.encode(err.as_bytes()) }),
    }
}

/// What can't be told as a text.
fn raw(captured: &Captured) -> Option<String> {
    let bytes = captured.bytes();
    std::str::from_utf8(&bytes).is_err().then(|| STANDARD.encode(&bytes))
}

fn text(captured: &Captured) -> String {
    String::from_utf8_lossy(&captured.bytes()).into_owned()
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
