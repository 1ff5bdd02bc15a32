//! The web terminal: a shell in a tenant's own sandbox, which outlives the connection that looks at it, is recorded, and can be
//! watched and ended by others.
//!
//! # Map
//!
//! | module | what it is |
//! | --- | --- |
//! | [`frame`] | what goes over the connection, byte by byte |
//! | `message` | what goes over it as JSON: the greeting, and why something is refused |
//! | `terminals` | [`Terminals`]: all sessions of one gateway, and how many a tenant may have |
//! | `settings`, `order` | [`Settings`] of all sessions; [`Order`]: what one is opened with |
//! | `session` | [`Session`]: what is shared between the shell's side and those who look at it |
//! | `shell` | the shell's side: a task that reads the terminal, types into it, and ends it |
//! | `attachment` | [`Attachment`]: one viewer's side, which a connection drives |
//! | `seat` | what is known of a viewer, and what it is sent next |
//! | `ring` | the last of the output |
//! | `recording` | the recording, in the format of asciicast v2 |
//! | `event`, `error` | [`Event`]: what is to be audited; [`TerminalError`] |
//!
//! # How a session is used
//!
//! 1. The edge has decided who may have one, and calls [`Terminals::open`] with an [`Order`]. When that returns the shell runs.
//! 2. For each connection it calls [`Session::attach`], feeds what the client sends to [`Attachment::feed`], and sends what
//!    [`Attachment::next`] gives, both at the same time. [`next`](Attachment::next) gives `None` after the last message. Dropping the
//!    [`Attachment`] detaches; the session goes on for [`Settings::detached_life`].
//! 3. A client that comes back sends [`frame::ClientFrame::Resume`] as its first message; the edge finds the session with
//!    [`Terminals::session`], checks that it is the caller's, and attaches with that sequence number.
//!
//! # Invariants of absence
//!
//! - Must never start a shell outside a sandbox: where isolation cannot be set up it answers with
//!   the reason, and nothing runs.
//! - Must never decide who may connect: it is handed a caller that the edge has authenticated, and
//!   ends within a second of being told that this is no longer so.
//! - Must never run unrecorded: what is shown has been written to the recording before, and if that
//!   cannot be written, the terminal ends.
//! - Must never put what a terminal shows into a log, raw or otherwise.
//! - Knows nothing of AI routes, prices or SQL, and opens a tenant's paths only through
//!   `openclawmu_sandbox::Root`.

mod attachment;
mod error;
mod event;
pub mod frame;
mod message;
mod order;
mod recording;
mod ring;
mod seat;
mod session;
mod settings;
mod shell;
mod terminals;

pub use attachment::Attachment;
pub use error::TerminalError;
pub use event::{Closed, Event, Reason, Violation, What};
pub use frame::{FrameError, Size, Viewers};
pub use message::{Hello, Message, Start, Text};
pub use order::Order;
pub use seat::{Role, Viewer};
pub use session::{Session, Summary};
pub use settings::Settings;
pub use terminals::Terminals;
