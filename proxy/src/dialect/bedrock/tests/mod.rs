//! This dialect as a whole: golden files of what Bedrock takes and sends, and properties of every stream.

mod requests;
mod streams;
