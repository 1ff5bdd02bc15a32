//! Rate cards: placeholder until the registry lands.

use rusqlite::Connection;

use crate::error::Result;
use crate::price::ModelPrice;

/// The price that `model` had under one rate card version.
pub(crate) fn priced_row(_conn: &Connection, _card: u32, _model: &str) -> Result<Option<ModelPrice>> {
    Ok(None)
}
