//! Stage 3. From a call to a ticket: what it can cost at most, and whether every bucket has that much left.

mod prompt;

use std::sync::Arc;

use openclawmu_store::{
    Bound, Demand, LabelKey, ModelPrice, NanoUsd, OnTightBudget, PinnedPrice, Quota, Refused, SecretLimit, Seldom,
    ServiceTier, Store, Ticket, Tokenizer,
};

pub(crate) use self::prompt::{count_tokens, estimate_tokens, input_bound, overhead};
use crate::authenticate::Caller;
use crate::catalog::Target;
use crate::dialect::openai::media::tariff::{self, Tariff};
use crate::dialect::openai::service::AskedTier;
use crate::read::Call;
use crate::refusal::Refusal;
use crate::routes::AiRoute;

/// What an answer is assumed to reach where nothing limits it and nothing is capped.
const UNCAPPED_OUTPUT: u32 = 65_536;
/// The answer's cap of a legacy completion that names none, by that API's definition.
const COMPLETIONS_DEFAULT: u32 = 16;

/// An admitted attempt.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// The right to make it.
    pub(crate) ticket: Ticket,
    /// What must be sent upstream, for the reservation to hold.
    pub(crate) promise: Promise,
    /// The model's encoding, where it is public.
    pub(crate) tokenizer: Option<Tokenizer>,
    /// What counts where the answer is silent.
    pub(crate) unstated: Unstated,
    /// How images and audio are billed, where that is what is asked for.
    pub(crate) tariff: Option<Tariff>,
}

/// What the reservation relies on and the request must therefore say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Promise {
    /// The cap on each answer.
    pub(crate) cap: Option<Cap>,
    /// The ordinary service tier is named, since a provider's project may be set to a dearer one.
    pub(crate) ordinary_tier: bool,
}

/// What an answer may leave unsaid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unstated {
    /// The service tier: the dearer of the ordinary one and the one that was asked for.
    pub(crate) service_tier: ServiceTier,
    /// Images of the prompt that are billed by the piece.
    pub(crate) input_images: u32,
}

/// A cap on each answer's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cap {
    /// The field that holds it, where the client named none.
    pub(crate) field: &'static str,
    /// Tokens.
    pub(crate) tokens: u32,
    /// The tenant's budget made it lower than what was asked for.
    pub(crate) clamped: bool,
}

/// One attempt at a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// 0 for the first.
    pub(crate) number: u16,
    /// The request is written anew for the target, which must be told a cap.
    pub(crate) must_cap: bool,
}

/// Reserves what the attempt can cost at most.
pub(crate) async fn admit(
    store: &Store,
    caller: &Caller,
    call: &Call,
    target: &Target,
    attempt: Attempt,
) -> Result<Admitted, Refusal> {
    let (price, tariff) = price(store, call, target)?;
    let unavailable = |err: openclawmu_store::StoreError| {
        static FAILED: Seldom = Seldom::new();
        if let Some(unheard) = FAILED.tell() {
            tracing::error!(%err, unheard, "a name can't be stored");
        }
        Refusal::Store
    };
    let model = store.name_key(&target.model).await.map_err(unavailable)?;
    let upstream = target.upstream.key(store).await.map_err(unavailable)?;
    let label = store.label_key(caller.policy.tenant_key, &caller.policy.labelled(&call.label));
    let service_tier = service_tier(call, &price.price)?;
    let wish = Wish {
        store,
        caller,
        call,
        price: &price,
        keys: (model, upstream),
        label,
        attempt,
        service_tier,
        target,
        tariff,
    };
    wish.grant()
}

/// Everything that an admission depends on.
struct Wish<'a> {
    store: &'a Store,
    caller: &'a Caller,
    call: &'a Call,
    price: &'a PinnedPrice,
    keys: (u32, u32),
    label: LabelKey,
    attempt: Attempt,
    service_tier: ServiceTier,
    target: &'a Target,
    tariff: Option<Tariff>,
}

/// What the call is priced by. What a rate card prices only by other things, such as seconds, would be free where they are not
/// counted.
fn price(store: &Store, call: &Call, target: &Target) -> Result<(PinnedPrice, Option<Tariff>), Refusal> {
    let unpriced = |why: &str| Refusal::Forbidden {
        code: "model_not_priced",
        message: format!(
            "The model `{}` has no price{why}, so it cannot be billed. Ask the operator to add it to the rate card.",
            call.ask.model
        ),
    };
    let mut price = target.price(&store.rates()).ok_or_else(|| unpriced(""))?;
    let Some(media) = &call.ask.media else {
        let by_token = price.price.base.input.is_some() || price.price.per_request.is_some();
        return if by_token { Ok((price, None)) } else { Err(unpriced(" for text")) };
    };
    let tariff = tariff::of(media, &price.price, &call.ask.model)?;
    if let Some(each) = tariff.image_price {
        price.price = Arc::new(price.price.with_image_price(each));
    }
    Ok((price, Some(tariff)))
}

/// The tier that a request is to be served at, which must have a price of its own.
fn service_tier(call: &Call, price: &ModelPrice) -> Result<ServiceTier, Refusal> {
    match call.ask.service_tier {
        AskedTier::Auto | AskedTier::Named(ServiceTier::Standard) => Ok(ServiceTier::Standard),
        AskedTier::Named(tier) if price.lists(tier) => Ok(tier),
        AskedTier::Named(tier) => Err(Refusal::bad(
            "service_tier",
            format!(
                "The rate card has no `{}` price for `{}`; use `default` or leave `service_tier` out.",
                tier.name(),
                call.ask.model
            ),
        )),
    }
}

impl Wish<'_> {
    fn grant(&self) -> Result<Admitted, Refusal> {
        if let Some(tariff) = &self.tariff {
            let ticket = self.try_for(tariff.bound).map_err(|refused| self.refuse(refused))?;
            return Ok(self.admitted(ticket, None));
        }
        let input = input_bound(self.call, &self.price.price)?;
        let output = self.output_each()?;
        let mut refused = match self.try_for(self.bound(input, output.tokens)) {
            Ok(ticket) => return Ok(self.admitted(ticket, output.cap(false))),
            Err(refused) => refused,
        };
        let mut input = input;
        let counted = if self.is_hopeless(&refused, output) { None } else { self.exact_input(&refused) };
        if let Some(exact) = counted.filter(|exact| *exact < input) {
            input = exact;
            refused = match self.try_for(self.bound(input, output.tokens)) {
                Ok(ticket) => return Ok(self.admitted(ticket, output.cap(false))),
                Err(refused) => refused,
            };
        }
        if let Some(tokens) = self.affordable(&refused, input).filter(|tokens| *tokens > 0 && *tokens < output.tokens) {
            return match self.try_for(self.bound(input, tokens)) {
                Ok(ticket) => Ok(self.admitted(ticket, Output { tokens, ..output }.cap(true))),
                Err(refused) => Err(self.refuse(refused)),
            };
        }
        Err(self.refuse(refused))
    }

    fn admitted(&self, ticket: Ticket, cap: Option<Cap>) -> Admitted {
        let price = &self.price.price;
        let input_images = if price.bills_input_images() { self.call.ask.parts.images } else { 0 };
        let service_tier = match self.service_tier {
            ServiceTier::Priority => ServiceTier::Priority,
            ServiceTier::Standard | ServiceTier::Batch | ServiceTier::Flex => ServiceTier::Standard,
        };
        Admitted {
            ticket,
            promise: Promise { cap, ordinary_tier: self.must_name_tier() },
            tokenizer: price.tokenizer,
            unstated: Unstated { service_tier, input_images },
            tariff: self.tariff,
        }
    }

    /// Whether the provider could choose a tier that costs more than was reserved of a budget in dollars.
    fn must_name_tier(&self) -> bool {
        let (quota, price) = (&self.caller.policy.quota, &self.price.price);
        let capped = quota.usd_per_day.is_some() || quota.usd_per_month.is_some() || costs_at_most(self.caller);
        let dearer = self.target.upstream.may_choose_tier && price.lists(ServiceTier::Priority);
        let can_be_told = self.tariff.is_none() && self.call.route != AiRoute::Moderations;
        self.call.ask.service_tier == AskedTier::Auto && capped && dearer && can_be_told
    }

    /// What a call can use at most whose answers have at most so many tokens each.
    fn bound(&self, input_tokens: u32, output_each: u32) -> Bound {
        let output_tokens = self.output_all(output_each);
        Bound { input_tokens, output_tokens, input_images: self.call.ask.parts.images, ..Bound::default() }
    }

    fn refuse(&self, refused: Refused) -> Refusal {
        if let Refused::Unavailable(reason) = &refused {
            static FAILED: Seldom = Seldom::new();
            if let Some(unheard) = FAILED.tell() {
                tracing::error!(reason, unheard, "admissions could not be proved");
            }
        }
        Refusal::quota(refused, self.store.clock().now())
    }

    fn try_for(&self, bound: Bound) -> Result<Ticket, Refused> {
        let policy = &self.caller.policy;
        self.store.admit(&Demand {
            request_id: self.call.request_id,
            attempt: self.attempt.number,
            stream: self.call.ask.stream,
            tenant: policy.tenant_key,
            token: policy.token_key,
            quota: &policy.quota,
            zone: &policy.zone,
            model: self.keys.0,
            upstream: self.keys.1,
            price: &self.price.price,
            rate_card: self.price.card,
            bound,
            prompt_estimate: self
                .tariff
                .map_or_else(|| estimate_tokens(self.call.body.len()), |tariff| tariff.request.input),
            service_tier: self.service_tier,
            label: self.label,
            markup: policy.markup,
            cap: policy.cap(),
        })
    }

    /// The answers' tokens together, a predicted output included.
    fn output_all(&self, each: u32) -> u32 {
        let ask = &self.call.ask;
        each.saturating_mul(ask.choices)
            .saturating_mul(ask.inputs)
            .saturating_add(ask.prediction_bytes.saturating_mul(ask.choices))
    }

    /// What each answer can have at most.
    fn output_each(&self) -> Result<Output, Refusal> {
        let (ask, price) = (&self.call.ask, &self.price.price);
        let route = self.call.route;
        if !route.has_output() {
            return Ok(Output { tokens: 0, field: "max_tokens", inject: false });
        }
        // OpenAI's newer models know only the new name; other servers may know only the old one.
        let new_name = route.is_chat() && price.tokenizer.is_some();
        let field = if new_name { "max_completion_tokens" } else { "max_tokens" };
        let capped = is_capped(&self.caller.policy.quota) || costs_at_most(self.caller) || self.attempt.must_cap;
        if let Some(tokens) = ask.max_output {
            return Ok(Output { tokens, field, inject: false });
        }
        if route == AiRoute::Completions {
            return Ok(Output { tokens: COMPLETIONS_DEFAULT, field, inject: capped });
        }
        match price.max_output_tokens.or(price.context_tokens) {
            Some(tokens) => Ok(Output { tokens, field, inject: capped }),
            None if !capped => Ok(Output { tokens: UNCAPPED_OUTPUT, field, inject: false }),
            None => Err(Refusal::bad(
                "max_tokens",
                format!(
                    "`max_tokens` is needed: the rate card states no output limit for `{}`, and this account has a budget.",
                    ask.model
                ),
            )),
        }
    }

    /// Whether what is left would not even cover a prompt of one token: then its tokens need not be counted, which costs more
    /// than all else of a refusal.
    fn is_hopeless(&self, refused: &Refused, output: Output) -> bool {
        let (usd_left, tokens_left) = left(refused);
        let clamps = self.caller.policy.quota.on_tight_budget == OnTightBudget::Clamp;
        let least = self.bound(overhead(self.call).saturating_add(1), if clamps { 1 } else { output.tokens });
        let tokens = u64::from(least.input_tokens).saturating_add(least.output_tokens.into());
        usd_left.is_some_and(|left| self.price.price.upper_bound(least, self.service_tier) > left)
            || tokens_left.is_some_and(|left| tokens > left)
    }

    /// The prompt's exact size, where it is worth counting and the encoding is public.
    fn exact_input(&self, refused: &Refused) -> Option<u32> {
        let tight = match refused {
            Refused::Budget { .. } | Refused::ClientSecret { limit: SecretLimit::Cost, .. } => true,
            Refused::Rate { retry_after_ms, .. } => retry_after_ms.is_none(),
            Refused::ClientSecret { limit: SecretLimit::Requests, .. }
            | Refused::Concurrency { .. }
            | Refused::Unavailable(_) => false,
        };
        let parts = self.call.ask.parts;
        let plain = parts.images == 0 && parts.unbounded == 0;
        if !tight || !plain {
            None
        } else {
            count_tokens(&self.call.body, self.price.price.tokenizer)
                .map(|tokens| tokens.saturating_add(overhead(self.call)))
        }
    }

    /// The cap on each answer that still fits, for a tenant that wants to be clamped.
    fn affordable(&self, refused: &Refused, input: u32) -> Option<u32> {
        let (usd_left, tokens_left) = left(refused);
        if usd_left.is_none() && tokens_left.is_none() {
            return None;
        }
        if self.caller.policy.quota.on_tight_budget != OnTightBudget::Clamp || !self.call.route.has_output() {
            return None;
        }
        let affordable = |left| self.price.price.affordable_output(left, self.bound(input, 0), self.service_tier);
        let by_usd = usd_left.map_or(u32::MAX, affordable);
        let by_tokens = tokens_left
            .map_or(u32::MAX, |left| u32::try_from(left.saturating_sub(u64::from(input))).unwrap_or(u32::MAX));
        let ask = &self.call.ask;
        let predicted = ask.prediction_bytes.saturating_mul(ask.choices);
        by_usd.min(by_tokens).saturating_sub(predicted).checked_div(ask.choices.saturating_mul(ask.inputs))
    }
}

/// The dollars and the tokens that are left, as far as a refusal is about them.
fn left(refused: &Refused) -> (Option<NanoUsd>, Option<u64>) {
    match refused {
        Refused::Budget { usd_left, tokens_left, .. } => (*usd_left, *tokens_left),
        Refused::ClientSecret { limit: SecretLimit::Cost, usd_left, .. } => (*usd_left, None),
        Refused::ClientSecret { limit: SecretLimit::Requests, .. }
        | Refused::Rate { .. }
        | Refused::Concurrency { .. }
        | Refused::Unavailable(_) => (None, None),
    }
}

/// What each answer can have at most, and how that is made sure.
#[derive(Clone, Copy)]
struct Output {
    tokens: u32,
    field: &'static str,
    inject: bool,
}

impl Output {
    fn cap(self, clamped: bool) -> Option<Cap> {
        (self.inject || clamped).then_some(Cap { field: self.field, tokens: self.tokens, clamped })
    }
}

/// Whether a client secret with a cap in dollars asks.
fn costs_at_most(caller: &Caller) -> bool {
    caller.policy.cap().is_some_and(|cap| cap.max_cost.is_some())
}

fn is_capped(quota: &Quota) -> bool {
    quota.usd_per_day.is_some()
        || quota.usd_per_month.is_some()
        || quota.tokens_per_day.is_some()
        || quota.tokens_per_minute.is_some()
}
