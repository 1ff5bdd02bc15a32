//! What came of a run, in the contract's words: one JSON object, or events while it runs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openclawmu_sandbox::{Captured, Chunk, Outcome, Stream};
use serde_json::{Map, Value, json};

use super::artifact::Artifact;

/// The whole answer.
pub(super) fn outcome(id: &str, outcome: &Outcome, artifacts: &[Artifact]) -> Value {
    let isolation = &outcome.isolation;
    let mut answer = json!({
        "id": id,
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "outcome": outcome.ended.as_str(),
        "stdout": text(&outcome.stdout),
        "stderr": text(&outcome.stderr),
        "stdout_bytes": outcome.stdout.total_bytes,
        "stderr_bytes": outcome.stderr.total_bytes,
        "truncated": outcome.stdout.dropped_bytes() > 0 || outcome.stderr.dropped_bytes() > 0,
        "artifacts": artifacts.iter().map(artifact).collect::<Map<String, Value>>(),
        "duration_ms": milliseconds(outcome.duration),
        "cpu_ms": outcome.cpu.map(milliseconds),
        "memory_peak_bytes": outcome.memory_peak_bytes,
        "processes_limit_hit": outcome.processes_limit_hit,
        "backend": outcome.backend,
        "isolation": {
            "uid_map": isolation.uid_map,
            "seccomp": isolation.seccomp,
            "no_new_privs": isolation.no_new_privs,
            "limits": {
                "memory": isolation.limits.memory,
                "processes": isolation.limits.processes,
                "cpu": isolation.limits.cpu,
                "disk": isolation.limits.disk,
                "user": isolation.limits.user,
            },
        },
    });
    for (name, captured) in [("stdout_base64", &outcome.stdout), ("stderr_base64", &outcome.stderr)] {
        let bytes = captured.bytes();
        if std::str::from_utf8(&bytes).is_err()
            && let Some(answer) = answer.as_object_mut()
        {
            answer.insert(name.to_owned(), STANDARD.encode(&bytes).into());
        }
    }
    answer
}

/// A piece of output as an event.
pub(super) fn chunk(chunk: &Chunk) -> Vec<u8> {
    let name = match chunk.stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    event(name, &content(&chunk.bytes))
}

/// An event.
pub(super) fn event(name: &str, data: &Value) -> Vec<u8> {
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}

/// A text, or any bytes.
fn content(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!({"text": text}),
        Err(_) => json!({"base64": STANDARD.encode(bytes)}),
    }
}

fn artifact(artifact: &Artifact) -> (String, Value) {
    let value = match &artifact.content {
        Some(content) => match std::str::from_utf8(content) {
            Ok(text) => text.into(),
            Err(_) => json!({"base64": STANDARD.encode(content)}),
        },
        None => json!({"size_bytes": artifact.size_bytes, "omitted": "too_large"}),
    };
    (artifact.path.clone(), value)
}

fn text(captured: &Captured) -> String {
    String::from_utf8_lossy(&captured.bytes()).into_owned()
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
