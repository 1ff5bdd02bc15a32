//! Stage 4. From an admitted call to what goes out: the body as it came, but for the fields that the gateway owns.

use bytes::Bytes;

use crate::admit::Promise;
use crate::catalog::Target;
use crate::dialect::openai::request::{self, Edits};
use crate::own_key::KeyHeaders;
use crate::read::Call;
use crate::routes::AiRoute;

/// A request as its upstream gets it.
#[derive(Clone, Debug)]
pub(crate) struct Outbound {
    /// The path after the upstream's base URL.
    pub(crate) path: &'static str,
    /// The body.
    pub(crate) body: Bytes,
    /// Whether it asks for a stream.
    pub(crate) stream: bool,
    /// The tenant's own key there.
    pub(crate) own_key: Option<KeyHeaders>,
}

/// Builds it; nothing is copied when nothing must change.
pub(crate) fn route(call: &Call, target: &Target, promise: Promise, own_key: Option<KeyHeaders>) -> Outbound {
    let edits = Edits {
        model: (call.ask.model != target.model).then_some(target.model.as_str()),
        cap: promise.cap.map(|cap| (cap.field, cap.tokens)),
        ordinary_tier: promise.ordinary_tier,
        force_usage: call.ask.stream && !call.ask.wants_usage && call.route != AiRoute::Embeddings,
    };
    let body = if edits == Edits::default() {
        call.body.clone()
    } else {
        request::edit(&call.body, &call.ask.fields, &edits).into()
    };
    Outbound { path: call.route.upstream_path(), body, stream: call.ask.stream, own_key }
}
