//! Amazon's Bedrock as it is on the wire: signed requests, whole answers of Converse, and frames of ConverseStream.
//!
//! The signature is worked out here from the request's bytes by AWS Signature Version 4 as Amazon documents it, apart from the
//! library that the gateway signs with.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::canned::{Answer, Canned};
use crate::raw::Message;

/// The access key's name.
pub const ACCESS_KEY_ID: &str = "AKIDSCRIPTED";
/// The access key.
pub const SECRET_ACCESS_KEY: &str = "scripted/secret+key";
/// The region that requests are signed for.
pub const REGION: &str = "eu-central-1";

/// A running upstream that answers five words, or what a prompt asks for: `please-throttle`, `please-cut`, `please-except`.
pub async fn start() -> Canned {
    Canned::start(answer).await
}

fn answer(message: &Message) -> Answer {
    if let Err(why) = verify(message) {
        let body = json!({ "message": why }).to_string();
        return Answer::whole(403, &[("x-amzn-errortype", "InvalidSignatureException")], body.as_bytes());
    }
    let (body, text) = (message.json(), message.text());
    if text.contains("please-throttle") {
        let body = json!({ "message": "Too many requests, please wait before trying again." }).to_string();
        return Answer::whole(429, &[("x-amzn-errortype", "ThrottlingException")], body.as_bytes());
    }
    let calls = body["toolConfig"]["tools"][0]["toolSpec"]["name"].as_str().map(str::to_owned);
    if message.target().ends_with("/converse") {
        return Answer::whole(200, &[("content-type", "application/json")], said(calls).to_string().as_bytes());
    }
    let mut frames = frames(calls);
    let headers = [("content-type", "application/vnd.amazon.eventstream")];
    if text.contains("please-cut") {
        return Answer::chunked(&headers, &frames[..3]).cut();
    }
    if text.contains("please-except") {
        let told = json!({ "message": "The model is too busy." });
        frames.truncate(3);
        frames.push(frame("exception", "modelStreamErrorException", &told));
    }
    Answer::chunked(&headers, &frames)
}

const USAGE: [u64; 2] = [3, 5];

fn usage() -> Value {
    json!({ "inputTokens": USAGE[0], "outputTokens": USAGE[1], "totalTokens": USAGE[0] + USAGE[1] })
}

fn words() -> Vec<String> {
    (0..5).map(|at| format!("word{at} ")).collect()
}

fn said(calls: Option<String>) -> Value {
    let (content, reason) = match calls {
        Some(name) => {
            (json!({ "toolUse": { "toolUseId": "tooluse_1", "name": name, "input": { "city": "Paris" } } }), "tool_use")
        }
        None => (json!({ "text": words().concat() }), "end_turn"),
    };
    json!({
        "output": { "message": { "role": "assistant", "content": [content] } },
        "stopReason": reason, "usage": usage(), "metrics": { "latencyMs": 7 }
    })
}

fn frames(calls: Option<String>) -> Vec<Vec<u8>> {
    let event = |kind: &str, payload: Value| frame("event", kind, &payload);
    let mut frames = vec![event("messageStart", json!({ "role": "assistant", "p": "abcd" }))];
    let mut delta = |delta: Value| {
        frames.push(event("contentBlockDelta", json!({ "contentBlockIndex": 0, "delta": delta, "p": "abc" })))
    };
    let reason = match calls {
        Some(name) => {
            let start = json!({ "toolUse": { "toolUseId": "tooluse_1", "name": name } });
            frames.push(event("contentBlockStart", json!({ "contentBlockIndex": 0, "start": start })));
            for piece in ["", "{\"city\":", " \"Paris\"}"] {
                let delta = json!({ "toolUse": { "input": piece } });
                frames.push(event("contentBlockDelta", json!({ "contentBlockIndex": 0, "delta": delta })));
            }
            "tool_use"
        }
        None => {
            words().into_iter().for_each(|word| delta(json!({ "text": word })));
            "end_turn"
        }
    };
    frames.push(event("contentBlockStop", json!({ "contentBlockIndex": 0 })));
    frames.push(event("messageStop", json!({ "stopReason": reason })));
    frames.push(event("metadata", json!({ "usage": usage(), "metrics": { "latencyMs": 7 } })));
    frames
}

/// One message of an event stream: lengths, their checksum, headers, payload, the checksum of all.
fn frame(message_type: &str, kind: &str, payload: &Value) -> Vec<u8> {
    let named = if message_type == "exception" { ":exception-type" } else { ":event-type" };
    let mut headers = Vec::new();
    for (name, value) in [(named, kind), (":content-type", "application/json"), (":message-type", message_type)] {
        headers.push(u8::try_from(name.len()).expect("short"));
        headers.extend_from_slice(name.as_bytes());
        headers.push(7); // a string
        headers.extend(u16::try_from(value.len()).expect("short").to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let payload = payload.to_string();
    let total = u32::try_from(12 + headers.len() + payload.len() + 4).expect("short");
    let mut bytes = total.to_be_bytes().to_vec();
    bytes.extend(u32::try_from(headers.len()).expect("short").to_be_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
    bytes.extend(headers);
    bytes.extend_from_slice(payload.as_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

/// Whether the request is signed by the access key, and all of it.
fn verify(message: &Message) -> Result<(), String> {
    let header = |name: &str| message.header(name).ok_or_else(|| format!("no {name}"));
    let authorization = header("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ").ok_or("another algorithm")?;
    let part = |name: &str| {
        let mut parts = authorization.split(',').map(str::trim);
        parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).ok_or_else(|| format!("no {name}"))
    };
    let (credential, signed, signature) = (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
    let scope = credential.strip_prefix(&format!("{ACCESS_KEY_ID}/")).ok_or("another key")?;
    let date = header("x-amz-date")?;
    let expected = format!("{}/{REGION}/bedrock/aws4_request", &date[..8]);
    if scope != expected {
        return Err(format!("the scope is {scope}, not {expected}"));
    }
    if !signed.split(';').any(|name| name == "host") || !signed.split(';').any(|name| name == "x-amz-date") {
        return Err(format!("only {signed} is signed"));
    }
    let mut headers = String::new();
    for name in signed.split(';') {
        headers.push_str(&format!("{name}:{}\n", header(name)?.trim()));
    }
    let body = hex(&Sha256::digest(&message.body));
    let (path, query) = message.target().split_once('?').unwrap_or((message.target(), ""));
    // Each segment as it is on the wire is encoded once more, for every service but S3.
    let path = path.replace('%', "%25");
    let canonical = format!("{}\n{path}\n{query}\n{headers}\n{signed}\n{body}", message.method());
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let mut key = format!("AWS4{SECRET_ACCESS_KEY}").into_bytes();
    for part in scope.split('/').chain([to_sign.as_str()]) {
        key = keyed(&key, part.as_bytes());
    }
    if hex(&key) == signature { Ok(()) } else { Err(format!("the signature does not match: {canonical:?}")) }
}

fn keyed(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
