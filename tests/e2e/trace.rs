//! Traces: a real OTLP receiver gets each request, its seven stages and its attempts under the names of the GenAI conventions, and no
//! content; a collector that is gone holds nothing up.

use std::collections::BTreeMap;

use openclawmu_tests::client::chat;
use openclawmu_tests::gateway::free_address;
use openclawmu_tests::money::nanos;
use openclawmu_tests::receiver::Receiver;
use openclawmu_tests::setup::PROVIDER_KEY;
use openclawmu_tests::wait::until;
use openclawmu_tests::{Behaviour, Reply, Scene, Setup, Upstream, raw};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::json;

const PROMPT: &str = "prompt-canary-51d0";
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const INTERNAL: i32 = 1;
const STAGES: [&str; 7] = ["authenticate", "read", "admit", "route", "forward", "relay", "settle"];

struct Traced {
    scene: Scene,
    collector: Receiver,
}

impl Traced {
    async fn start(more: &str, upstream_keys: &[&str]) -> Self {
        let (upstream, collector) = (Upstream::start().await, Receiver::start().await);
        let endpoint = collector.url().replace("/hook", "");
        let setup = Setup::with_keys(&upstream, upstream_keys)
            .upstream("gone", free_address(), &[], &["connect_timeout_ms = 500"])
            .line("[[model]]\nname = \"safe\"\ntargets = [{ upstream = \"gone\", model = \"alpha\", weight = 1 }]")
            .line("fallbacks = [{ upstream = \"scripted\", model = \"alpha\" }]")
            .line(&format!("[traces]\notlp_endpoint = {endpoint:?}\n{more}"));
        Self { scene: Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await, collector }
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.collector.received();
        assert!(requests.iter().all(|request| request.target() == "/v1/traces"), "{requests:?}");
        let decoded = requests.iter().map(|request| ExportTraceServiceRequest::decode(&*request.body).expect("OTLP"));
        let resources: Vec<_> = decoded.flat_map(|request| request.resource_spans).collect();
        resources.into_iter().flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    /// The spans of a request's trace, its own first, once they are there.
    async fn trace_of(&self, reply: &Reply) -> Vec<Span> {
        let id = reply.header("x-request-id").expect("an id");
        until("the request's spans", || async {
            let spans = self.spans();
            let own =
                spans.iter().find(|span| attributes(span).get("openclawmu.request_id").is_some_and(|is| is == id))?;
            let rest = spans.iter().filter(|span| span.trace_id == own.trace_id && span.span_id != own.span_id);
            Some([own.clone()].into_iter().chain(rest.cloned()).collect())
        })
        .await
    }
}

fn attributes(span: &Span) -> BTreeMap<String, String> {
    let value = |value: &Option<Any>| match value {
        Some(Any::StringValue(text)) => text.clone(),
        Some(Any::IntValue(number)) => number.to_string(),
        Some(Any::BoolValue(is)) => is.to_string(),
        other => panic!("{other:?}"),
    };
    let pairs = span.attributes.iter();
    pairs.map(|pair| (pair.key.clone(), value(&pair.value.clone().and_then(|value| value.value)))).collect()
}

/// Asserts that a span has these attributes.
fn has(span: &Span, expected: &[(&str, &str)]) {
    let found = attributes(span);
    for (name, value) in expected {
        assert_eq!(found.get(*name).map(String::as_str), Some(*value), "{name} in {found:#?}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_its_seven_stages_and_its_attempt_by_the_conventions() {
    let traced = Traced::start("", &[]).await;
    let scene = &traced.scene;
    scene.upstream.always(Behaviour::words(7));
    let reply = scene.client.chat(&chat("alpha", PROMPT, 20)).await;
    reply.ok();
    let spans = traced.trace_of(&reply).await;
    let own = &spans[0];
    assert_eq!((own.kind, own.name.as_str(), own.parent_span_id.len()), (SERVER, "POST /v1/chat/completions", 0));
    has(
        own,
        &[
            ("http.request.method", "POST"),
            ("http.route", "/v1/chat/completions"),
            ("http.response.status_code", "200"),
            ("openclawmu.tenant", "acme"),
            ("openclawmu.token", &scene.tenant.token_id),
            ("openclawmu.outcome", "complete"),
            ("client.address", "127.0.0.1"),
            ("openclawmu.asked_model", "alpha"),
        ],
    );
    let attempt = spans.iter().find(|span| span.kind == CLIENT).expect("the attempt");
    assert_eq!((attempt.name.as_str(), &attempt.parent_span_id), ("chat alpha", &own.span_id));
    let row = scene.rows_once(1).await.remove(0);
    let (input, output) = ((row.input + row.cache_read).to_string(), row.output.to_string());
    let address = scene.upstream.address();
    has(
        attempt,
        &[
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "openai"),
            ("gen_ai.request.model", "alpha"),
            ("gen_ai.response.model", "alpha"),
            ("gen_ai.usage.input_tokens", &input),
            ("gen_ai.usage.output_tokens", &output),
            ("server.address", "127.0.0.1"),
            ("server.port", &address.port().to_string()),
            ("openclawmu.upstream", "scripted"),
        ],
    );
    assert_eq!(nanos(&attributes(attempt)["openclawmu.cost_usd"]), row.cost);
    let mut stages: Vec<&Span> = spans.iter().filter(|span| span.kind == INTERNAL).collect();
    stages.sort_by_key(|span| span.start_time_unix_nano);
    assert_eq!(stages.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), STAGES);
    for (place, stage) in stages.iter().enumerate() {
        let within = if ["forward", "relay"].contains(&stage.name.as_str()) { attempt } else { own };
        assert_eq!(stage.parent_span_id, within.span_id, "{}", stage.name);
        assert!(
            stage.start_time_unix_nano <= stage.end_time_unix_nano
                && stage.end_time_unix_nano <= own.end_time_unix_nano
        );
        if let Some(next) = stages.get(place + 1) {
            assert_eq!(
                stage.end_time_unix_nano, next.start_time_unix_nano,
                "{} ends where {} begins",
                stage.name, next.name
            );
        }
    }
    let mut streamed = scene.client.stream(&chat("alpha", PROMPT, 20)).await;
    streamed.rest().await;
    let refused = scene.client.chat(&chat("nothing", PROMPT, 20)).await;
    has(
        &traced.trace_of(&refused).await[0],
        &[("error.type", "model_not_found"), ("http.response.status_code", "404")],
    );
    let bytes: Vec<u8> = traced.collector.received().into_iter().flat_map(|request| request.body).collect();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    for content in [PROMPT, "word0", PROVIDER_KEY, scene.tenant.token.as_str()] {
        assert!(!text.contains(content), "{content} was traced");
    }
}

/// M-09: each attempt is told, and what went wrong with it
#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_is_an_attempt_of_its_own() {
    let traced = Traced::start("", &[]).await;
    let reply = traced.scene.client.chat(&chat("safe", "hello", 20)).await;
    reply.ok();
    let spans = traced.trace_of(&reply).await;
    let mut attempts: Vec<&Span> = spans.iter().filter(|span| span.kind == CLIENT).collect();
    attempts.sort_by_key(|span| span.start_time_unix_nano);
    assert_eq!(attempts.len(), 2);
    has(attempts[0], &[("openclawmu.upstream", "gone"), ("openclawmu.attempt", "0"), ("error.type", "connect")]);
    has(attempts[1], &[("openclawmu.upstream", "scripted"), ("openclawmu.attempt", "1")]);
    assert!(!attributes(attempts[1]).contains_key("error.type"));
    let forwards: Vec<&Span> = spans.iter().filter(|span| span.name == "forward").collect();
    assert_eq!(forwards.len(), 2);
    for attempt in attempts {
        assert!(forwards.iter().any(|forward| forward.parent_span_id == attempt.span_id));
    }
}

/// W3C Trace Context, and who may decide
#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_callers_trace_goes_on_and_an_upstream_is_told_where_that_is_wanted() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let ask = async |scene: &Scene| {
        let request = scene.client.build(http::Method::POST, "/v1/chat/completions").header("traceparent", PARENT);
        Reply::of(request.json(&chat("alpha", "hello", 5)).send().await.expect("an answer")).await
    };
    let trusting = Traced::start("trusted_peers = [\"127.0.0.0/8\"]", &["traceparent = true"]).await;
    let reply = ask(&trusting.scene).await;
    reply.ok();
    let spans = trusting.trace_of(&reply).await;
    assert_eq!(hex(&spans[0].trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex(&spans[0].parent_span_id), "b7ad6b7169203331");
    let attempt = spans.iter().find(|span| span.kind == CLIENT).expect("the attempt");
    let told = format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", hex(&attempt.span_id));
    assert_eq!(trusting.scene.upstream.last().header("traceparent"), Some(told.as_str()));

    let wary = Traced::start("", &[]).await;
    let reply = ask(&wary.scene).await;
    reply.ok();
    let spans = wary.trace_of(&reply).await;
    assert_ne!(hex(&spans[0].trace_id), "0af7651916cd43dd8448eb211c80319c", "a stranger's trace is not joined");
    assert!(spans[0].parent_span_id.is_empty());
    assert_eq!(wary.scene.upstream.last().header("traceparent"), None, "nor is an upstream told unasked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_gone_holds_nothing_up_and_what_is_lost_is_counted() {
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).line(&format!("[traces]\notlp_endpoint = \"http://{}\"", free_address()));
    let mut scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    for _ in 0..5 {
        scene.client.chat(&chat("alpha", "hello", 5)).await.ok();
    }
    until("lost spans are counted", || async {
        (scene.admin().metric("openclawmu_trace_spans_lost_total", &[]).await >= 45).then_some(())
    })
    .await;
    assert_eq!(raw::blocking_get(scene.gateway.edge(), "/readyz", "").map(|(status, _)| status), Some(200));
    assert!(scene.gateway.terminate().await.success(), "nor is the end held up");
}
