//! Price lists from outside, read into the gateway's own prices. Pure: text in, prices and remarks out; no store, no HTTP.
//!
//! Nothing that a list charges for is dropped in silence: a model whose price can't be held as it is meant is left out with
//! the reason, and what is only charged for an option that the gateway refuses is remarked.
//!
//! - `amount`: a JSON number as an exact price
//! - `field`: what each field of `LiteLLM`'s public price map means
//! - `list`: a price list of either format
//! - `litellm`: one model of that map
//! - `sets`: the prices of one model by service tier and context tier, while they are gathered

mod amount;
mod field;
mod list;
mod litellm;
mod sets;
#[cfg(test)]
mod tests;

pub(crate) use list::{Format, ListError, PriceList, Remark, Rounded, read};
