//! A scripted Stripe: `POST /v1/billing/meter_events` with Stripe's own rules and error bodies, and faults on demand.
//!
//! Rules from docs.stripe.com (meter event creation, recording usage, idempotent requests, error codes): form fields; a whole
//! number above zero; a timestamp of the past 35 days and at most five minutes ahead; an identifier of at most 100 characters
//! that counts once; one call at a time for each customer and meter; an answer that is kept under its idempotency key.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use reqwest::Url;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::dice::Dice;
use crate::listening::Listening;
use crate::raw::{self, Message};
use crate::upstream::Gate;

/// The only key that it takes; distinctive, so that a leak can be searched for.
pub const STRIPE_KEY: &str = "sk_test_stripe-canary-0d9f8e7c6b5a4f3e";

const OLDEST_SECONDS: i64 = 35 * 86_400;
const NEWEST_SECONDS: i64 = 300;

/// What goes wrong with one call.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// 429, with `retry-after` where one is given.
    TooMany(Option<u64>),
    /// An error of its own, before the event was looked at.
    Error(u16),
    /// The connection ends before the event was looked at.
    DropBefore,
    /// The event is taken and the connection ends without an answer.
    DropAfter,
    /// The event is taken and the answer waits at the gate.
    Hold(Gate),
}

/// An event that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its identifier.
    pub identifier: String,
    /// The customer.
    pub customer: String,
    /// The meter.
    pub event_name: String,
    /// How much.
    pub value: i128,
    /// When, in UNIX seconds.
    pub timestamp: i64,
}

#[derive(Default)]
struct State {
    taken: Mutex<Vec<Taken>>,
    troubles: Mutex<VecDeque<Trouble>>,
    random: Mutex<Option<(Dice, usize)>>,
    answers: Mutex<HashMap<String, (u16, Value)>>,
    running: Mutex<HashSet<(String, String)>>,
    refused: Mutex<HashSet<String>>,
    calls: AtomicUsize,
    duplicates: AtomicUsize,
    crowded: AtomicUsize,
    shift_seconds: AtomicI64,
}

/// A running Stripe; it ends with its handle.
pub struct Stripe {
    listening: Listening,
    state: Arc<State>,
}

impl Stripe {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let listening = Listening::start(move |stream| {
            let state = Arc::clone(&shared);
            async move { serve(stream, &state).await }
        })
        .await;
        Self { listening, state }
    }

    /// The `base_url` for the gateway's config.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.listening.address())
    }

    /// The next calls go wrong in this way.
    pub fn trouble(&self, troubles: &[Trouble]) {
        self.state.troubles.lock().expect("unpoisoned").extend(troubles.iter().cloned());
    }

    /// From now on one call in `one_in` goes wrong, in a way that the dice choose; `None`: none does.
    pub fn random_trouble(&self, dice: Option<(Dice, usize)>) {
        *self.state.random.lock().expect("unpoisoned") = dice;
    }

    /// Events of this customer are refused, or taken again.
    pub fn refuse(&self, customer: &str, is_refused: bool) {
        let mut refused = self.state.refused.lock().expect("unpoisoned");
        if is_refused {
            refused.insert(customer.to_owned())
        } else {
            refused.remove(customer)
        };
    }

    /// Forgets what it answered under which idempotency key, as Stripe does after a day. Identifiers it keeps.
    pub fn forget_keys(&self) {
        self.state.answers.lock().expect("unpoisoned").clear();
    }

    /// Its clock shows this many seconds more than the machine's.
    pub fn shift(&self, seconds: i64) {
        self.state.shift_seconds.store(seconds, Ordering::SeqCst);
    }

    /// Every event that was taken, in order.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        self.state.taken.lock().expect("unpoisoned").clone()
    }

    /// What a customer is billed for on a meter.
    #[must_use]
    pub fn sum(&self, customer: &str, event_name: &str) -> i128 {
        let taken = self.taken();
        taken.iter().filter(|event| event.customer == customer && event.event_name == event_name).map(|e| e.value).sum()
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.state.calls.load(Ordering::SeqCst)
    }

    /// Calls that were refused because their identifier had been taken.
    #[must_use]
    pub fn duplicates(&self) -> usize {
        self.state.duplicates.load(Ordering::SeqCst)
    }

    /// Calls that came while another of the same customer and meter was in progress.
    #[must_use]
    pub fn crowded(&self) -> usize {
        self.state.crowded.load(Ordering::SeqCst)
    }
}

impl State {
    fn next_trouble(&self) -> Option<Trouble> {
        if let Some(trouble) = self.troubles.lock().expect("unpoisoned").pop_front() {
            return Some(trouble);
        }
        let mut random = self.random.lock().expect("unpoisoned");
        let (dice, one_in) = random.as_mut()?;
        (dice.below(*one_in) == 0).then(|| match dice.below(4) {
            0 => Trouble::TooMany(None),
            1 => Trouble::Error(500),
            2 => Trouble::DropBefore,
            _ => Trouble::DropAfter,
        })
    }

    fn now(&self) -> i64 {
        let real = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        i64::try_from(real).expect("small") + self.shift_seconds.load(Ordering::SeqCst)
    }

    /// What Stripe says to an event, by its rules.
    fn judge(&self, message: &Message) -> (u16, Value) {
        if message.header("authorization") != Some(&format!("Bearer {STRIPE_KEY}")) {
            return (401, error("", "Invalid API Key provided: sk_********."));
        }
        if message.method() != "POST" || message.target() != "/v1/billing/meter_events" {
            return (404, error("", "Unrecognized request URL."));
        }
        let form = form(&message.text());
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        for name in ["event_name", "payload[stripe_customer_id]", "payload[value]", "identifier", "timestamp"] {
            if field(name).is_empty() {
                return (400, error("parameter_missing", &format!("Missing required param: {name}.")));
            }
        }
        let (identifier, customer) = (field("identifier"), field("payload[stripe_customer_id]"));
        if identifier.len() > 100 {
            return (400, error("parameter_invalid_string_length", "Invalid string: at most 100 characters."));
        }
        let Some(value) = field("payload[value]").parse::<i128>().ok().filter(|value| *value > 0) else {
            return (400, error("meter_event_invalid_value", "The value must be a positive whole number."));
        };
        let timestamp: i64 = field("timestamp").parse().expect("seconds");
        if !(self.now() - OLDEST_SECONDS..=self.now() + NEWEST_SECONDS).contains(&timestamp) {
            return (
                400,
                error("timestamp_too_far_in_past", "The timestamp must be within the past 35 calendar days."),
            );
        }
        if self.refused.lock().expect("unpoisoned").contains(customer) {
            return (400, error("resource_missing", &format!("No such customer: '{customer}'")));
        }
        let mut taken = self.taken.lock().expect("unpoisoned");
        if taken.iter().any(|event| event.identifier == identifier) {
            self.duplicates.fetch_add(1, Ordering::SeqCst);
            return (400, error("", &format!("An event already exists with identifier {identifier}.")));
        }
        let event_name = field("event_name").to_owned();
        taken.push(Taken {
            identifier: identifier.to_owned(),
            customer: customer.to_owned(),
            event_name,
            value,
            timestamp,
        });
        (200, json!({ "object": "billing.meter_event", "identifier": identifier, "livemode": false }))
    }
}

fn error(code: &str, message: &str) -> Value {
    let mut error = json!({ "message": message, "type": "invalid_request_error" });
    if !code.is_empty() {
        error["code"] = json!(code);
    }
    json!({ "error": error })
}

fn form(body: &str) -> BTreeMap<String, String> {
    let url = Url::parse(&format!("http://form/?{body}")).expect("a form");
    url.query_pairs().into_owned().collect()
}

async fn serve(stream: TcpStream, state: &State) {
    let (mut reader, mut writer) = stream.into_split();
    let mut buffer = Vec::new();
    while let Some(message) = raw::read_request(&mut reader, &mut buffer).await {
        state.calls.fetch_add(1, Ordering::SeqCst);
        let Some((status, body, extra)) = answer(state, &message).await else { return };
        let text = body.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{extra}content-length: {}\r\n\r\n",
            text.len()
        );
        if writer.write_all((head + &text).as_bytes()).await.is_err() {
            return;
        }
    }
}

/// One call's answer; `None` when the connection ends instead.
async fn answer(state: &State, message: &Message) -> Option<(u16, Value, String)> {
    let form = form(&message.text());
    let lock = ["payload[stripe_customer_id]", "event_name"].map(|name| form.get(name).cloned().unwrap_or_default());
    let lock = (lock[0].clone(), lock[1].clone());
    let trouble = state.next_trouble();
    match trouble {
        Some(Trouble::TooMany(wait)) => {
            let extra = wait.map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
            return Some((429, error("rate_limit", "Request rate limit exceeded."), extra));
        }
        Some(Trouble::DropBefore) => return None,
        Some(Trouble::Error(_) | Trouble::DropAfter | Trouble::Hold(_)) | None => {}
    }
    if !state.running.lock().expect("unpoisoned").insert(lock.clone()) {
        state.crowded.fetch_add(1, Ordering::SeqCst);
        return Some((429, error("lock_timeout", "This object cannot be accessed right now."), String::new()));
    }
    let key = message.header("idempotency-key").expect("an idempotency key").to_owned();
    let kept = state.answers.lock().expect("unpoisoned").get(&key).cloned();
    let (status, body) = match (kept, &trouble) {
        (Some(kept), _) => kept,
        (None, Some(Trouble::Error(status))) => (*status, error("", "An unknown error occurred.")),
        (None, _) => state.judge(message),
    };
    // Stripe keeps what it answered once the call was carried out, a failure too; what it refused by its parameters it forgets.
    if !(400..500).contains(&status) {
        state.answers.lock().expect("unpoisoned").insert(key, (status, body.clone()));
    }
    if let Some(Trouble::Hold(gate)) = &trouble {
        gate.passed().await;
    }
    state.running.lock().expect("unpoisoned").remove(&lock);
    if matches!(trouble, Some(Trouble::DropAfter)) {
        None
    } else {
        Some((status, body, "stripe-should-retry: false\r\n".to_owned()))
    }
}
