//! Read-only connections, one per thread and database. They never write and never wait for the writer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use rusqlite::Connection;

use crate::error::Result;
use crate::sqlite::open;

/// Where this database's readers connect to.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    path: Arc<PathBuf>,
}

thread_local! {
    static CONNECTIONS: RefCell<HashMap<Arc<PathBuf>, Rc<Connection>>> = RefCell::new(HashMap::new());
}

impl Reader {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path: Arc::new(path) }
    }

    /// Runs `read` on this thread's connection; opens it on first use.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let conn = CONNECTIONS.with(|map| -> Result<Rc<Connection>> {
            let mut map = map.borrow_mut();
            if let Some(conn) = map.get(&self.path) {
                return Ok(Rc::clone(conn));
            }
            let conn = Rc::new(open::read_only(&self.path)?);
            map.insert(Arc::clone(&self.path), Rc::clone(&conn));
            Ok(conn)
        })?;
        read(&conn)
    }
}
