//! What requests and answers mean, in each format. Pure: bytes in, facts and bytes out.
//!
//! - `scan`: the top level of a JSON object, without parsing what lies below it
//! - `openai`: the `OpenAI` dialect

pub(crate) mod openai;
pub(crate) mod scan;
