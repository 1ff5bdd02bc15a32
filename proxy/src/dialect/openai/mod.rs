//! The `OpenAI` dialect: chat, completions, embeddings and moderations; images and audio.
//!
//! - `chat`: chat completions to and from the form
//! - `media`: images and audio
//! - `owned`: the fields that decide over money, each read once
//! - `request`: what a request asks for, and the fields that the gateway owns
//! - `parts`: what a prompt holds besides text
//! - `reply`: usage and text of an answer, whole or in events
//! - `service`: the service tier that is asked for and served at
//! - `usage`: the form's usage in this dialect's words
//! - `trouble`: errors, both ways

pub(crate) mod chat;
pub(crate) mod media;
pub(crate) mod owned;
pub(crate) mod parts;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod service;
pub(crate) mod trouble;
pub(crate) mod usage;
