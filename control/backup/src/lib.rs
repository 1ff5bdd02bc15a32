//! Backup and restore: one tenant or the whole gateway, to a directory or to S3, in one format.
//!
//! A set is a manifest and the objects that it names. The manifest comes last and is never written over, so a set is there
//! whole or not at all. Objects are named by what is in them: what has not changed is not sent again. Everything opens with
//! `tar`, `zstd` and a text editor, unless it was sealed with a passphrase.
//!
//! Map:
//! - `place`: a directory or a bucket, and what may be done there; `directory`, `bucket`: the two kinds
//! - `probe`: whether a place does all that
//! - `layout`: every key in a place, in one file; `manifest`: what a set says of itself; `readme`: the same for people
//! - `seal`: the passphrase; `digest`: hashes
//! - `pack`: a directory into archives; `unpack`: an archive into a directory, trusting nothing
//! - `create`: making a set; `content`: what is in it; `upload`: objects on their way; `fetch`: objects on their way back
//! - `restore`: one tenant; `swap`: its two directories; `whole`: a gateway, into an empty directory
//! - `segment`: what happened since the last set, every few seconds
//! - `retain`: which sets go, and what nobody needs any more; `verify`: whether a set is whole
//! - `progress`: how far it is; `error`: what can go wrong
//!
//! Never: a key of the gateway's own in a place, a write into a tenant's directory but through `sandbox::Root`, a set that
//! was not written down whole.

mod bucket;
mod content;
mod create;
mod digest;
mod directory;
mod error;
mod fetch;
mod layout;
mod manifest;
mod pack;
mod place;
mod probe;
mod progress;
mod readme;
mod restore;
mod retain;
mod seal;
mod segment;
mod swap;
mod unpack;
mod upload;
mod verify;
mod whole;

pub use bucket::{BucketOptions, Encryption};
pub use create::{Made, Maker, Origin};
pub use error::{BackupError, Result};
pub use layout::Scope;
pub use manifest::{Listed, Manifest, Skipped};
pub use place::Place;
pub use progress::{Progress, Shown};
pub use restore::{Prepare, Prepared, Source, TurnKey};
pub use retain::{Retained, Retention, newest_segment};
pub use seal::Passphrase;
pub use segment::Shipper;
pub use swap::{Swap, recover};
pub use upload::clear_spool;
pub use verify::{Verified, verify};
pub use whole::{Rebuild, WholeRestore, restore_whole};
