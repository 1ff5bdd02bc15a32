//! Every route of the edge, in one list. Each below `/v1` is also served without that prefix.

use http::Method;
use openclawmu_store::Scope;

use crate::agent::Things;
use crate::dialect::Dialect;
use crate::upstream::provider::Api;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// A call that reaches an upstream: it is admitted and settled.
    Ai(AiRoute),
    /// A WebSocket, over which calls reach an upstream: each is admitted and settled.
    Socket(SocketRoute),
    /// What this token may call.
    Models,
    /// One of those.
    Model,
    /// A response that was kept.
    Response,
    /// Files that the caller keeps at a provider.
    Files,
    /// Batches that the caller has at a provider.
    Batches,
    /// The caller's own usage.
    Usage,
    /// The caller's own quota.
    Quota,
    /// A short-lived secret for a page or an app.
    ClientSecrets,
    /// Running code.
    Exec,
    /// The caller's own files.
    Workspace,
    /// A ticket for a terminal.
    TerminalTickets,
    /// The page of a terminal.
    TerminalPage,
    /// The caller's own agents, and what they keep.
    Agents(Things),
    /// What a messenger's provider sends.
    Channel,
    /// The page by which a channel is paired.
    Pairing,
    /// Whether the process lives.
    Health,
    /// Whether it can serve.
    Ready,
}

/// The WebSockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketRoute {
    /// `OpenAI`'s Realtime API.
    Realtime,
    /// Open Responses, one request after the other.
    Responses,
    /// A terminal in the tenant's sandbox.
    Terminal,
}

/// The AI routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AiRoute {
    /// `OpenAI` chat.
    ChatCompletions,
    /// `OpenAI` legacy completions.
    Completions,
    /// `OpenAI` embeddings.
    Embeddings,
    /// Anthropic messages.
    Messages,
    /// The size of a prompt in Anthropic's messages.
    CountTokens,
    /// Google's generateContent, whole and in a stream.
    GenerateContent,
    /// Open Responses.
    Responses,
    /// A conversation of Open Responses made short.
    Compact,
    /// What a text or an image must not show.
    Moderations,
    /// Images made of a prompt.
    ImageGenerations,
    /// Images changed.
    ImageEdits,
    /// Images varied.
    ImageVariations,
    /// Speech made of text.
    Speech,
    /// Speech written down.
    Transcriptions,
    /// Speech written down in English.
    Translations,
}

impl Route {
    /// The dialect of its refusals.
    pub(crate) fn dialect(self) -> Dialect {
        match self {
            Self::Ai(route) => route.dialect(),
            Self::Socket(SocketRoute::Responses) | Self::Response => Dialect::Responses,
            Self::Socket(SocketRoute::Realtime | SocketRoute::Terminal)
            | Self::Models
            | Self::Model
            | Self::Files
            | Self::Batches
            | Self::Usage
            | Self::Quota
            | Self::ClientSecrets
            | Self::Exec
            | Self::Workspace
            | Self::TerminalTickets
            | Self::TerminalPage
            | Self::Agents(_)
            | Self::Channel
            | Self::Pairing
            | Self::Health
            | Self::Ready => Dialect::Openai,
        }
    }

    /// Whether an upstream may be asked for it, and so something billed.
    fn reaches_upstream(self) -> bool {
        match self {
            Self::Ai(_)
            | Self::Socket(SocketRoute::Realtime | SocketRoute::Responses)
            | Self::Files
            | Self::Batches => true,
            Self::Socket(SocketRoute::Terminal)
            | Self::Models
            | Self::Model
            | Self::Response
            | Self::Usage
            | Self::Quota
            | Self::ClientSecrets
            | Self::Exec
            | Self::Workspace
            | Self::TerminalTickets
            | Self::TerminalPage
            | Self::Agents(_)
            | Self::Channel
            | Self::Pairing
            | Self::Health
            | Self::Ready => false,
        }
    }

    /// Whether a client secret may ask for it: models may be called and listed. What a tenant keeps is all its users' together,
    /// and so none's.
    pub(crate) fn is_for_client_secrets(self) -> bool {
        match self {
            Self::Ai(_) | Self::Socket(SocketRoute::Realtime | SocketRoute::Responses) | Self::Models | Self::Model => {
                true
            }
            Self::Socket(SocketRoute::Terminal)
            | Self::Response
            | Self::Files
            | Self::Batches
            | Self::Usage
            | Self::Quota
            | Self::ClientSecrets
            | Self::Exec
            | Self::Workspace
            | Self::TerminalTickets
            | Self::TerminalPage
            | Self::Agents(_)
            | Self::Channel
            | Self::Pairing
            | Self::Health
            | Self::Ready => false,
        }
    }
}

impl AiRoute {
    /// The dialect of its bodies.
    pub(crate) fn dialect(self) -> Dialect {
        match self {
            Self::ChatCompletions
            | Self::Completions
            | Self::Embeddings
            | Self::Moderations
            | Self::ImageGenerations
            | Self::ImageEdits
            | Self::ImageVariations
            | Self::Speech
            | Self::Transcriptions
            | Self::Translations => Dialect::Openai,
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
            Self::GenerateContent => Dialect::Gemini,
            Self::Responses | Self::Compact => Dialect::Responses,
        }
    }

    /// The API of a provider that speaks the same dialect.
    pub(crate) fn api(self) -> Api {
        match self {
            Self::ChatCompletions => Api::Chat,
            Self::Completions => Api::Completions,
            Self::Embeddings => Api::Embeddings,
            Self::Messages => Api::Messages,
            Self::CountTokens => Api::CountTokens,
            Self::GenerateContent => Api::Generate,
            Self::Responses | Self::Compact => Api::Responses,
            Self::Moderations => Api::Moderations,
            Self::ImageGenerations => Api::ImageGenerations,
            Self::ImageEdits => Api::ImageEdits,
            Self::ImageVariations => Api::ImageVariations,
            Self::Speech => Api::Speech,
            Self::Transcriptions => Api::Transcriptions,
            Self::Translations => Api::Translations,
        }
    }

    /// Whether the answer is text whose tokens are billed.
    pub(crate) fn has_output(self) -> bool {
        !matches!(self, Self::Embeddings | Self::CountTokens | Self::Moderations) && !self.is_media()
    }

    /// Whether it is about images or audio, which are billed by tariffs of their own.
    pub(crate) fn is_media(self) -> bool {
        match self {
            Self::ImageGenerations
            | Self::ImageEdits
            | Self::ImageVariations
            | Self::Speech
            | Self::Transcriptions
            | Self::Translations => true,
            Self::ChatCompletions
            | Self::Completions
            | Self::Embeddings
            | Self::Messages
            | Self::CountTokens
            | Self::GenerateContent
            | Self::Responses
            | Self::Compact
            | Self::Moderations => false,
        }
    }

    /// Whether it asks a model to answer in a conversation, so that any such model can be asked.
    pub(crate) fn is_chat(self) -> bool {
        match self {
            Self::ChatCompletions | Self::Messages | Self::GenerateContent | Self::Responses | Self::Compact => true,
            Self::Completions
            | Self::Embeddings
            | Self::CountTokens
            | Self::Moderations
            | Self::ImageGenerations
            | Self::ImageEdits
            | Self::ImageVariations
            | Self::Speech
            | Self::Transcriptions
            | Self::Translations => false,
        }
    }
}

/// One entry of the list.
pub(crate) struct Entry {
    /// Its method.
    pub(crate) method: Method,
    /// Its path; a trailing `*` takes the rest.
    pub(crate) path: &'static str,
    /// What it is.
    pub(crate) route: Route,
    /// The scope that it needs; `None`: no token at all.
    pub(crate) access: Access,
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anyone.
    Open,
    /// Any valid token.
    Token,
    /// A token with this scope.
    Scope(Scope),
}

/// The list.
pub(crate) const ROUTES: &[Entry] = &[
    entry(Method::POST, "/v1/chat/completions", Route::Ai(AiRoute::ChatCompletions), Access::Scope(Scope::Inference)),
    entry(Method::POST, "/v1/completions", Route::Ai(AiRoute::Completions), Access::Scope(Scope::Inference)),
    entry(Method::POST, "/v1/embeddings", Route::Ai(AiRoute::Embeddings), Access::Scope(Scope::Inference)),
    entry(Method::POST, "/v1/moderations", Route::Ai(AiRoute::Moderations), Access::Scope(Scope::Inference)),
    entry(
        Method::POST,
        "/v1/images/generations",
        Route::Ai(AiRoute::ImageGenerations),
        Access::Scope(Scope::Inference),
    ),
    entry(Method::POST, "/v1/images/edits", Route::Ai(AiRoute::ImageEdits), Access::Scope(Scope::Inference)),
    entry(Method::POST, "/v1/images/variations", Route::Ai(AiRoute::ImageVariations), Access::Scope(Scope::Inference)),
    entry(Method::POST, "/v1/audio/speech", Route::Ai(AiRoute::Speech), Access::Scope(Scope::Inference)),
    entry(
        Method::POST,
        "/v1/audio/transcriptions",
        Route::Ai(AiRoute::Transcriptions),
        Access::Scope(Scope::Inference),
    ),
    entry(Method::POST, "/v1/audio/translations", Route::Ai(AiRoute::Translations), Access::Scope(Scope::Inference)),
    entry(Method::POST, "/v1/messages", Route::Ai(AiRoute::Messages), Access::Scope(Scope::Inference)),
    entry(Method::POST, "/v1/messages/count_tokens", Route::Ai(AiRoute::CountTokens), Access::Scope(Scope::Inference)),
    entry(Method::POST, "/v1/responses", Route::Ai(AiRoute::Responses), Access::Scope(Scope::Inference)),
    // Before the responses by their ids.
    entry(Method::POST, "/v1/responses/compact", Route::Ai(AiRoute::Compact), Access::Scope(Scope::Inference)),
    entry(Method::GET, "/v1/responses", Route::Socket(SocketRoute::Responses), Access::Scope(Scope::Inference)),
    entry(Method::GET, "/v1/responses/*", Route::Response, Access::Scope(Scope::Inference)),
    entry(Method::DELETE, "/v1/responses/*", Route::Response, Access::Scope(Scope::Inference)),
    entry(Method::POST, "/v1/responses/*", Route::Response, Access::Scope(Scope::Inference)),
    // Google's clients ask for one version or the other.
    entry(Method::POST, "/v1/models/*", Route::Ai(AiRoute::GenerateContent), Access::Scope(Scope::Inference)),
    entry(Method::POST, "/v1beta/models/*", Route::Ai(AiRoute::GenerateContent), Access::Scope(Scope::Inference)),
    entry(Method::GET, "/v1/realtime", Route::Socket(SocketRoute::Realtime), Access::Scope(Scope::Inference)),
    entry(Method::POST, "/v1/files", Route::Files, Access::Scope(Scope::Inference)),
    entry(Method::GET, "/v1/files", Route::Files, Access::Scope(Scope::Inference)),
    entry(Method::GET, "/v1/files/*", Route::Files, Access::Scope(Scope::Inference)),
    entry(Method::DELETE, "/v1/files/*", Route::Files, Access::Scope(Scope::Inference)),
    entry(Method::POST, "/v1/batches", Route::Batches, Access::Scope(Scope::Inference)),
    entry(Method::GET, "/v1/batches", Route::Batches, Access::Scope(Scope::Inference)),
    entry(Method::GET, "/v1/batches/*", Route::Batches, Access::Scope(Scope::Inference)),
    entry(Method::POST, "/v1/batches/*", Route::Batches, Access::Scope(Scope::Inference)),
    entry(Method::GET, "/v1/models", Route::Models, Access::Token),
    entry(Method::GET, "/v1/models/*", Route::Model, Access::Token),
    entry(Method::GET, "/v1/usage", Route::Usage, Access::Scope(Scope::Usage)),
    entry(Method::GET, "/v1/quota", Route::Quota, Access::Scope(Scope::Usage)),
    entry(Method::POST, "/v1/client_secrets", Route::ClientSecrets, Access::Scope(Scope::ClientSecrets)),
    entry(Method::POST, "/v1/sandbox/exec", Route::Exec, Access::Scope(Scope::Sandbox)),
    entry(Method::GET, "/v1/workspace/files", Route::Workspace, Access::Scope(Scope::Workspace)),
    entry(Method::GET, "/v1/workspace/files/*", Route::Workspace, Access::Scope(Scope::Workspace)),
    entry(Method::PUT, "/v1/workspace/files/*", Route::Workspace, Access::Scope(Scope::Workspace)),
    entry(Method::POST, "/v1/workspace/files/*", Route::Workspace, Access::Scope(Scope::Workspace)),
    entry(Method::DELETE, "/v1/workspace/files/*", Route::Workspace, Access::Scope(Scope::Workspace)),
    entry(Method::POST, "/v1/terminal/tickets", Route::TerminalTickets, Access::Scope(Scope::Terminal)),
    entry(Method::GET, "/v1/terminal", Route::Socket(SocketRoute::Terminal), Access::Scope(Scope::Terminal)),
    entry(Method::GET, "/v1/terminal/ui", Route::TerminalPage, Access::Open),
    entry(Method::GET, "/v1/terminal/ui/*", Route::TerminalPage, Access::Open),
    entry(Method::GET, "/v1/agents", Route::Agents(Things::Agents), Access::Scope(Scope::Agents)),
    entry(Method::POST, "/v1/agents", Route::Agents(Things::Agents), Access::Scope(Scope::Agents)),
    entry(Method::GET, "/v1/agents/*", Route::Agents(Things::Agents), Access::Scope(Scope::Agents)),
    entry(Method::PATCH, "/v1/agents/*", Route::Agents(Things::Agents), Access::Scope(Scope::Agents)),
    entry(Method::DELETE, "/v1/agents/*", Route::Agents(Things::Agents), Access::Scope(Scope::Agents)),
    entry(Method::GET, "/v1/sessions", Route::Agents(Things::Sessions), Access::Scope(Scope::Agents)),
    entry(Method::GET, "/v1/sessions/*", Route::Agents(Things::Sessions), Access::Scope(Scope::Agents)),
    entry(Method::DELETE, "/v1/sessions/*", Route::Agents(Things::Sessions), Access::Scope(Scope::Agents)),
    entry(Method::GET, "/v1/memory", Route::Agents(Things::Memory), Access::Scope(Scope::Agents)),
    entry(Method::GET, "/v1/memory/*", Route::Agents(Things::Memory), Access::Scope(Scope::Agents)),
    entry(Method::PUT, "/v1/memory/*", Route::Agents(Things::Memory), Access::Scope(Scope::Agents)),
    entry(Method::DELETE, "/v1/memory/*", Route::Agents(Things::Memory), Access::Scope(Scope::Agents)),
    entry(Method::POST, "/channels/*", Route::Channel, Access::Open),
    entry(Method::GET, "/channels/*", Route::Channel, Access::Open),
    entry(Method::GET, "/pair/*", Route::Pairing, Access::Open),
    entry(Method::POST, "/pair/*", Route::Pairing, Access::Open),
    entry(Method::GET, "/healthz", Route::Health, Access::Open),
    entry(Method::GET, "/readyz", Route::Ready, Access::Open),
];

/// An entry for people and programs to read.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Listed {
    /// Its method.
    pub(crate) method: &'static str,
    /// Its path; a trailing `*` takes the rest.
    pub(crate) path: &'static str,
    /// `open`, `token`, or the scope that the token needs.
    pub(crate) access: String,
    /// The dialect of its refusals.
    pub(crate) dialect: Dialect,
    /// Whether an upstream may be asked for it.
    pub(crate) upstream: bool,
}

/// The list, for people and programs to read.
pub(crate) fn listed() -> Vec<Listed> {
    let listed = |entry: &'static Entry| Listed {
        method: entry.method.as_str(),
        path: entry.path,
        access: match entry.access {
            Access::Open => "open".to_owned(),
            Access::Token => "token".to_owned(),
            Access::Scope(scope) => scope.name().to_owned(),
        },
        dialect: entry.route.dialect(),
        upstream: entry.route.reaches_upstream(),
    };
    ROUTES.iter().map(listed).collect()
}

const fn entry(method: Method, path: &'static str, route: Route, access: Access) -> Entry {
    Entry { method, path, route, access }
}

/// What a method and path lead to.
pub(crate) enum Found<'p> {
    /// This entry, and the part of the path that its `*` stands for.
    Entry(&'static Entry, &'p str),
    /// The path exists, with this method instead.
    OtherMethod(&'static Method),
    /// No such path.
    Nothing,
}

/// Looks a request up in the list.
pub(crate) fn find<'p>(method: &Method, path: &'p str) -> Found<'p> {
    let bare = path.strip_prefix("/v1").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    let mut other = None;
    for entry in ROUTES {
        let Some(rest) = match_path(entry.path, bare) else {
            continue;
        };
        // These routes have no version prefix.
        if !entry.path.starts_with("/v1/") && bare.len() != path.len() {
            continue;
        }
        // HEAD is GET without the body, which the writer leaves out.
        if entry.method == *method || (*method == Method::HEAD && entry.method == Method::GET) {
            return Found::Entry(entry, rest);
        }
        other = Some(&entry.method);
    }
    other.map_or(Found::Nothing, Found::OtherMethod)
}

/// Whether it leads to a WebSocket.
pub(crate) fn is_socket(method: &Method, path: &str) -> bool {
    match find(method, path) {
        Found::Entry(entry, _) => *method == entry.method && matches!(entry.route, Route::Socket(_)),
        Found::OtherMethod(_) | Found::Nothing => false,
    }
}

fn match_path<'p>(pattern: &str, bare: &'p str) -> Option<&'p str> {
    let pattern = pattern.strip_prefix("/v1").filter(|rest| rest.starts_with('/')).unwrap_or(pattern);
    match pattern.strip_suffix('*') {
        Some(prefix) => bare.strip_prefix(prefix).filter(|rest| !rest.is_empty()),
        None => (bare == pattern).then_some(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &Method, path: &str) -> Option<(Route, String)> {
        match find(method, path) {
            Found::Entry(entry, rest) => Some((entry.route, rest.to_owned())),
            Found::OtherMethod(_) | Found::Nothing => None,
        }
    }

    #[test]
    fn every_route_is_found_with_and_without_its_prefix() {
        for entry in ROUTES {
            let path = entry.path.replace('*', "some/model");
            assert_eq!(found(&entry.method, &path).unwrap().0, entry.route);
            if let Some(bare) = path.strip_prefix("/v1").filter(|bare| bare.starts_with('/')) {
                assert_eq!(found(&entry.method, bare).unwrap().0, entry.route);
            }
        }
        assert_eq!(found(&Method::GET, "/v1/models/openai/gpt-4o").unwrap().1, "openai/gpt-4o");
    }

    #[test]
    fn nothing_else_is_found() {
        for path in [
            "/",
            "/v1",
            "/v1/",
            "/v1/v1/models",
            "/v1/healthz",
            "/v1/models/",
            "/v1/chat",
            "//v1/models",
            "/V1/models",
            "/v1models",
            "/v1/chat/completions/",
        ] {
            assert!(found(&Method::GET, path).is_none() && found(&Method::POST, path).is_none(), "{path}");
        }
        assert!(matches!(find(&Method::GET, "/v1/chat/completions"), Found::OtherMethod(&Method::POST)));
    }
}
