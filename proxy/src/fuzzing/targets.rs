//! The list of targets.

use super::{ask, connection, frames, reply, request, scan, sse, stream, trouble, usage};

/// Takes any bytes; panics where a property does not hold.
pub type Target = fn(&[u8]);

/// Each target with its name.
pub const TARGETS: [(&str, Target); 10] = [
    ("connection", connection::target),
    ("sse", sse::target),
    ("frames", frames::target),
    ("scan", scan::target),
    ("ask", ask::target),
    ("request", request::target),
    ("reply", reply::target),
    ("stream", stream::target),
    ("usage", usage::target),
    ("trouble", trouble::target),
];
