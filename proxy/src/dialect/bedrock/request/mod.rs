//! What is asked, in Amazon's words.
//!
//! - `write`: the form as a body
//! - `messages`: its messages and their content
//! - `model`: what can be asked of which maker's models

mod messages;
mod model;
mod write;

pub(crate) use write::write;
