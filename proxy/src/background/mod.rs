//! Responses in the background: asked for, answered at once with what they will be, and worked on after their request.
//!
//! - `running`: what is being worked on, and its events, for those who follow
//! - `work`: one response, from its admission to what is kept of it
//! - `follow`: reading, following, cancelling and removing responses, whether they are being worked on or not
//!
//! A response goes through the same stages as any other, over a pipe: there is no second way to an upstream. It is admitted
//! before its client hears of it, and kept before anything is sent upstream. What a process did not live to end is told as failed.

mod follow;
mod running;
mod work;

pub(crate) use running::Running;
