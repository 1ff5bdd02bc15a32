//! A WebSocket at a provider, over a connection of its own to the same addresses as its other requests.
//!
//! As there: nothing that a client sends in its head goes on but a few named headers, and the key goes to its own host only.

use http::header::{CONNECTION, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, Response};
use pingora::protocols::{ALPN, Stream};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::http::{AGENT, Fault, HttpUpstream};

/// A WebSocket at a provider.
pub(crate) type UpstreamSocket = WebSocketStream<Stream>;

/// What is asked for.
pub(crate) struct Opening<'a> {
    /// The path after the base URL, query included.
    pub(crate) path: &'a str,
    /// The client's headers that go on.
    pub(crate) headers: Vec<(&'static str, HeaderValue)>,
    /// The tenant's own key, in the place of the operator's.
    pub(crate) own_key: Option<&'a Vec<(HeaderName, HeaderValue)>>,
    /// The limits of its messages.
    pub(crate) limits: WebSocketConfig,
}

/// Why there is none.
#[derive(Debug)]
pub(crate) enum Unopened {
    /// The upstream could not be reached, took too long or broke.
    Fault(Fault),
    /// It answered that it does not want to.
    Refused(Box<Response<Option<Vec<u8>>>>),
}

impl HttpUpstream {
    /// Opens a WebSocket.
    pub(crate) async fn open_socket(&self, opening: &Opening<'_>) -> Result<UpstreamSocket, Unopened> {
        let connect = |err: String| Unopened::Fault(Fault::unconnected(err));
        let broken = |err: String| Unopened::Fault(Fault::Broken(err));
        let mut peer = (*self.peers.next().await.map_err(connect)?).clone();
        peer.options.alpn = ALPN::H1;
        let stream = self.pools.single.new_stream(&peer).await.map_err(|err| connect(err.to_string()))?;
        let request = self.opening_request(opening).map_err(|err| broken(err.to_string()))?;
        let opened = client_async_with_config(request, stream, Some(opening.limits));
        match tokio::time::timeout(self.first_byte_timeout, opened).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(Error::Http(answer))) => Err(Unopened::Refused(answer)),
            Ok(Err(err)) => Err(broken(err.to_string())),
            Err(_) => Err(Unopened::Fault(Fault::Timeout(self.first_byte_timeout))),
        }
    }

    fn opening_request(&self, opening: &Opening<'_>) -> Result<Request<()>, http::Error> {
        // The library wants a scheme to tell what it speaks; whether it goes over TLS is the connection's.
        let uri = http::Uri::builder().scheme("ws").authority(self.host.as_bytes());
        let uri = uri.path_and_query([self.base_path.as_str(), opening.path].concat()).build()?;
        let mut request = Request::get(uri)
            .header(HOST, &self.host)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, generate_key())
            .header(USER_AGENT, AGENT);
        for (name, value) in opening.own_key.unwrap_or(&self.key) {
            request = request.header(name, value);
        }
        for (name, value) in &opening.headers {
            request = request.header(*name, value);
        }
        request.body(())
    }
}
