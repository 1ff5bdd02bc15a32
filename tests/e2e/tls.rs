//! Upstreams over TLS, by the HTTP version that they offer.

use http::Version;
use openclawmu_tests::client::chat;
use openclawmu_tests::gateway::Gateway;
use openclawmu_tests::setup::{PROVIDER_KEY, Setup};
use openclawmu_tests::tls::TlsFront;
use openclawmu_tests::upstream::Upstream;
use serde_json::json;

/// One call and one stream through an upstream behind TLS that offers `protocol`.
async fn both_ways(protocol: &str) -> Vec<Version> {
    let upstream = Upstream::start().await;
    let front = TlsFront::start(upstream.address(), protocol).await;
    let table = format!(
        "[[upstream]]\nname = \"secure\"\nkind = \"openai\"\nbase_url = \"{}\"\napi_key = \"env:OPENCLAWMU_TEST_PROVIDER_KEY\"\nmodels = [\"alpha\"]\n",
        front.base_url()
    );
    let mut setup = Setup::bare().line(&table);
    setup.env.push(("SSL_CERT_FILE".to_owned(), front.ca_file().display().to_string()));
    let gateway = Gateway::start(setup).await;
    let token = gateway.admin().tenant("acme", json!({"usd_per_day": "5"})).await.token;
    let client = gateway.client(&token);
    let reply = client.chat(&chat("alpha", "hello", 5)).await.ok();
    assert_eq!(reply["choices"][0]["finish_reason"], "stop");
    let mut stream = client.stream(&chat("alpha", "hello", 5)).await;
    let events = stream.rest().await;
    assert!(!stream.broken && events.len() > 2, "{} events", events.len());
    assert_eq!(upstream.calls(), 2);
    let bearer = format!("Bearer {PROVIDER_KEY}");
    assert_eq!(upstream.last().header("authorization"), Some(bearer.as_str()));
    front.versions()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_offers_http_2_is_spoken_to_in_http_2() {
    assert_eq!(both_ways("h2").await, [Version::HTTP_2; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_offers_only_http_1_is_spoken_to_in_it() {
    assert_eq!(both_ways("http/1.1").await, [Version::HTTP_11; 2]);
}

/// S-03: without a certificate that vouches for its name, an upstream gets neither key nor prompt
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_nobody_vouches_for_gets_nothing() {
    let upstream = Upstream::start().await;
    let front = TlsFront::start(upstream.address(), "h2").await;
    let table = format!(
        "[[upstream]]\nname = \"secure\"\nkind = \"openai\"\nbase_url = \"{}\"\nmodels = [\"alpha\"]\n",
        front.base_url()
    );
    let gateway = Gateway::start(Setup::bare().line(&table)).await;
    let token = gateway.admin().tenant("acme", json!({"usd_per_day": "5"})).await.token;
    let reply = gateway.client(&token).chat(&chat("alpha", "hello", 5)).await;
    reply.refused(502, "upstream_error", "upstream_unreachable");
    assert_eq!((front.versions().len(), upstream.calls()), (0, 0));
}
