//! `/v1/tenants/{id}/pairings` and `/v1/tenants/{id}/channels`: messengers, by which people reach a tenant's agents. The link in a
//! pairing's answer is a secret: whoever opens it within ten minutes pairs an account of theirs.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use openclawmu_store::{Channel, ChannelPolicy, ChannelSender, NewPairing, Senders, UnixMs};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::admin::call::{Call, Caller, ChannelPath, SenderPath, TenantPath};
use crate::admin::idempotency;
use crate::admin::page::Whole;
use crate::admin::refusal::{ErrorBody, Refusal};
use crate::admin::state::AdminState;
use crate::agent::AgentName;
use crate::channel::{KINDS, Kind};

/// What somebody is told who was approved.
const WELCOME: &str = "You are approved: write to me, and I will answer.";

/// What to pair
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPairing)]
pub(super) struct PairingRequest {
    /// The kind of channel: `slack`, `whatsapp`, `telegram` or `webhook`.
    #[serde(default)]
    #[schema(value_type = String, required = true, example = "slack")]
    channel: Option<String>,
    /// The tenant's agent that answers; `default`, where absent.
    #[serde(default)]
    #[schema(pattern = "^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
    agent: Option<String>,
    /// Who may speak: whoever was approved, where absent.
    #[serde(default)]
    policy: Option<ChannelPolicy>,
}

/// A link by which a channel is paired
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PairingShown {
    /// Its name in the audit log.
    id: String,
    /// The link: it works once.
    url: String,
    /// Until when.
    #[schema(value_type = UnixMs)]
    expires_at: String,
}

/// Make a link by which a channel is paired
///
/// Its page explains each step, takes the provider's secrets, and ends in a message that is answered. It works once, for ten
/// minutes, and five failures end it.
#[utoipa::path(post, path = "/v1/tenants/{id}/pairings", tag = "channels", params(TenantPath), request_body = PairingRequest, responses(
    (status = 201, description = "The link", body = PairingShown),
))]
pub(super) async fn pair(
    State(state): State<AdminState>,
    TenantPath(tenant): TenantPath,
    call: Call<PairingRequest>,
) -> Result<Response, Refusal> {
    if let Some(once) = &call.once
        && let Some(answer) = idempotency::replayed(&state, once)?
    {
        return Ok(answer);
    }
    let new = checked(call.body)?;
    let made = state.store.create_pairing(&call.actor, &tenant, new).await?;
    let url = format!("{}/pair/{}", state.public_url, made.expose());
    let shown = json!(PairingShown { id: made.id, url, expires_at: made.expires_at.rfc3339() });
    idempotency::create(&state, call.once, state.store.keep_answer(shown), Clone::clone).await
}

fn checked(asked: PairingRequest) -> Result<NewPairing, Refusal> {
    let known = || KINDS.map(Kind::name).join(", ");
    let name = asked.channel.unwrap_or_default();
    let Some(kind) = Kind::parse(&name) else {
        let name: String = name.chars().take(100).collect();
        let message = if name.is_empty() {
            "channel must be a kind of channel".to_owned()
        } else {
            format!("there are no channels of the kind `{name}`")
        };
        return Err(Refusal::invalid("channel", message).hint(format!("one of {}", known())));
    };
    let agent = asked.agent.map_or_else(|| Ok(AgentName::of_default()), |name| name.parse::<AgentName>());
    let agent = agent.map_err(|_| {
        let rule =
            "agent must be 1 to 32 lower-case letters, digits and hyphens, and begin and end with one of the first two";
        Refusal::invalid("agent", rule)
    })?;
    let policy = asked.policy.unwrap_or_default();
    Ok(NewPairing { kind: kind.name().to_owned(), agent: agent.to_string(), policy })
}

/// List a tenant's channels, oldest first
#[utoipa::path(get, path = "/v1/tenants/{id}/channels", tag = "channels", params(TenantPath), responses(
    (status = 200, description = "All of them", body = Whole<Channel>),
))]
pub(super) async fn list(
    State(state): State<AdminState>,
    TenantPath(tenant): TenantPath,
) -> Result<Json<Whole<Channel>>, Refusal> {
    Ok(Json(Whole { data: state.store.channels(&tenant)? }))
}

/// Look at a channel
#[utoipa::path(get, path = "/v1/tenants/{id}/channels/{binding}", tag = "channels", params(ChannelPath), responses(
    (status = 200, description = "The channel, without its secrets", body = Channel),
))]
pub(super) async fn get(
    State(state): State<AdminState>,
    ChannelPath(tenant, channel): ChannelPath,
) -> Result<Json<Channel>, Refusal> {
    Ok(Json(state.store.channel(&tenant, &channel)?))
}

/// Remove a channel
///
/// Its secrets, and whatever waits there, are gone with the answer.
#[utoipa::path(delete, path = "/v1/tenants/{id}/channels/{binding}", tag = "channels", params(ChannelPath), responses(
    (status = 200, description = "The channel as it was", body = Channel),
))]
pub(super) async fn remove(
    State(state): State<AdminState>,
    ChannelPath(tenant, channel): ChannelPath,
    Caller(actor): Caller,
) -> Result<Json<Channel>, Refusal> {
    Ok(Json(state.store.remove_channel(&actor, &tenant, &channel).await?))
}

/// List who may speak on a channel, and who asks to
#[utoipa::path(get, path = "/v1/tenants/{id}/channels/{binding}/senders", tag = "channels", params(ChannelPath), responses(
    (status = 200, description = "Both, oldest first", body = Senders),
))]
pub(super) async fn senders(
    State(state): State<AdminState>,
    ChannelPath(tenant, channel): ChannelPath,
) -> Result<Json<Senders>, Refusal> {
    Ok(Json(state.store.channel_senders(&tenant, &channel)?))
}

/// Whom to approve
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSender)]
pub(super) struct Approval {
    /// The code that they were told when they wrote.
    #[serde(default)]
    #[schema(value_type = String, required = true, min_length = 1, example = "7KQ2MXPA")]
    code: Option<String>,
}

/// Let somebody speak on a channel
///
/// By the code that they were told when they first wrote, within an hour.
#[utoipa::path(post, path = "/v1/tenants/{id}/channels/{binding}/senders", tag = "channels", params(ChannelPath), request_body = Approval, responses(
    (status = 201, description = "Who may speak from now on", body = ChannelSender),
    (status = 409, description = "The channel has as many as it may have", body = ErrorBody),
))]
pub(super) async fn approve(
    State(state): State<AdminState>,
    ChannelPath(tenant, channel): ChannelPath,
    call: Call<Approval>,
) -> Result<Response, Refusal> {
    let code = call.body.code.filter(|code| !code.trim().is_empty());
    let code = code.ok_or_else(|| Refusal::invalid("code", "code must be the code that somebody was told"))?;
    let approved = state.store.approve_sender(&call.actor, &tenant, (&channel, code.trim()), WELCOME);
    idempotency::create(&state, call.once, approved, |sender| json!(sender)).await
}

/// Somebody who may not speak any more
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Blocked {
    sender: String,
    deleted: bool,
}

/// Let somebody speak on a channel no more
#[utoipa::path(delete, path = "/v1/tenants/{id}/channels/{binding}/senders/{sender}", tag = "channels", params(SenderPath), responses(
    (status = 200, description = "They may not", body = Blocked),
))]
pub(super) async fn block(
    State(state): State<AdminState>,
    SenderPath(tenant, channel, sender): SenderPath,
    Caller(actor): Caller,
) -> Result<Json<Blocked>, Refusal> {
    state.store.remove_sender(&actor, &tenant, (&channel, &sender)).await?;
    Ok(Json(Blocked { sender, deleted: true }))
}
