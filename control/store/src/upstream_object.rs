//! Files and batches in providers' accounts. Tenants share an account, so whose a thing is, is known here and nowhere else:
//! for everybody but its owner it does not exist.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::id::TenantKey;
use crate::store::Store;

/// The most files that a tenant has.
const MAX_FILES: i64 = 10_000;
/// The most batches of a tenant that run at once.
const MAX_RUNNING: i64 = 1_000;

/// What a thing in a provider's account is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A file.
    File,
    /// A batch of requests.
    Batch,
}

impl ObjectKind {
    /// The name in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Batch => "batch",
        }
    }
}

/// A thing that has come to be at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewObject {
    /// The provider's id.
    pub id: String,
    /// What it is.
    pub kind: ObjectKind,
    /// What it is for, where it is a file.
    pub purpose: String,
    /// The upstream's name.
    pub upstream: String,
    /// Whether it is in the account of the tenant's own key there.
    pub own_key: bool,
    /// What the provider says of it, as JSON.
    pub body: String,
}

/// A thing that a tenant has at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamObject {
    /// The provider's id.
    pub id: String,
    /// What it is for, where it is a file.
    pub purpose: String,
    /// The upstream's name.
    pub upstream: String,
    /// Whether it is in the account of the tenant's own key there.
    pub own_key: bool,
    /// When it was first known here.
    pub created_at: UnixMs,
    /// What the provider last said of it, as JSON.
    pub body: String,
}

/// A thing whose tenant is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrphanedObject {
    /// The tenant's key.
    pub tenant: TenantKey,
    /// What it is.
    pub kind: ObjectKind,
    /// The thing.
    pub object: UpstreamObject,
}

/// Which of a tenant's things to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectQuery {
    /// Of which kind.
    pub kind: ObjectKind,
    /// Of which purpose; `None` is any.
    pub purpose: Option<String>,
    /// Behind this one.
    pub after: Option<String>,
    /// Oldest first; else newest first.
    pub ascending: bool,
    /// At most so many.
    pub limit: u32,
}

/// The columns of [`read`].
const COLUMNS: &str = "id, purpose, upstream, own_key, created_at_ms, body";

impl Store {
    /// Remembers a tenant's new thing; it is on the disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the id is known already, and so perhaps another tenant's; [`StoreError::Unavailable`].
    pub async fn keep_object(&self, tenant: TenantKey, new: NewObject) -> Result<()> {
        let clock = std::sync::Arc::clone(self.clock());
        self.inner.writer().run_aside(move |tx| insert(tx, tenant, &new, clock.now())).await
    }

    /// Whether a tenant may have another file, or another batch that runs.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it has too many; [`StoreError::Unavailable`].
    pub fn check_object_room(&self, tenant: TenantKey, kind: ObjectKind) -> Result<()> {
        let (sql, most, what) = match kind {
            ObjectKind::File => (
                "SELECT count(*) FROM upstream_objects WHERE tenant = ?1 AND kind = 'file'",
                MAX_FILES,
                "files; delete some first",
            ),
            ObjectKind::Batch => (
                "SELECT count(*) FROM batches WHERE tenant = ?1 AND ended_at_ms IS NULL",
                MAX_RUNNING,
                "batches at once",
            ),
        };
        self.inner.reader.with(|conn| {
            let count: i64 = conn.prepare_cached(sql)?.query_row([tenant.0], |row| row.get(0))?;
            if count < most {
                return Ok(());
            }
            Err(StoreError::Conflict(format!("an account has at most {most} {what}")))
        })
    }

    /// A tenant's thing; `None` where it has no such one, whoever else has.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn object(&self, tenant: TenantKey, kind: ObjectKind, id: &str) -> Result<Option<UpstreamObject>> {
        self.inner.reader.with(|conn| {
            let sql = format!("SELECT {COLUMNS} FROM upstream_objects WHERE id = ?1 AND tenant = ?2 AND kind = ?3");
            Ok(conn.prepare_cached(&sql)?.query_row(params![id, tenant.0, kind.name()], read).optional()?)
        })
    }

    /// A page of a tenant's things; `None` where the one that it is to follow is not the tenant's.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn objects(&self, tenant: TenantKey, query: &ObjectQuery) -> Result<Option<Vec<UpstreamObject>>> {
        self.inner.reader.with(|conn| {
            let kind = query.kind.name();
            let after = match &query.after {
                Some(id) => match row_id(conn, tenant, kind, id)? {
                    Some(row_id) => row_id,
                    None => return Ok(None),
                },
                None if query.ascending => 0,
                None => i64::MAX,
            };
            let (sign, order) = if query.ascending { (">", "ASC") } else { ("<", "DESC") };
            let sql = format!(
                "SELECT {COLUMNS} FROM upstream_objects WHERE tenant = ?1 AND kind = ?2 AND row_id {sign} ?3
                     AND (?4 IS NULL OR purpose = ?4) ORDER BY row_id {order} LIMIT ?5"
            );
            let mut statement = conn.prepare_cached(&sql)?;
            let rows = statement.query_map(params![tenant.0, kind, after, query.purpose, query.limit], read)?;
            Ok(Some(rows.collect::<rusqlite::Result<_>>()?))
        })
    }

    /// At most `limit` things of deleted tenants.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn orphaned_objects(&self, limit: u32) -> Result<Vec<OrphanedObject>> {
        self.inner.reader.with(|conn| {
            let sql = "SELECT o.id, o.purpose, o.upstream, o.own_key, o.created_at_ms, o.body, o.kind, o.tenant FROM tenants t
                 JOIN upstream_objects o ON o.tenant = t.row_id WHERE t.status = 'deleted' ORDER BY o.row_id LIMIT ?1";
            let mut statement = conn.prepare_cached(sql)?;
            let rows = statement.query_map([limit], |row| {
                let is_batch = row.get_ref(6)?.as_str()? == ObjectKind::Batch.name();
                let kind = if is_batch { ObjectKind::Batch } else { ObjectKind::File };
                Ok(OrphanedObject { tenant: TenantKey(row.get(7)?), kind, object: read(row)? })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Notes what a provider now says of a thing; nothing where it is gone meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn note_object(&self, tenant: TenantKey, id: &str, body: String) -> Result<()> {
        let id = id.to_owned();
        let task = move |tx: &Transaction<'_>| note(tx, tenant, &id, &body);
        self.inner.writer().run_aside(task).await
    }

    /// Forgets a thing that is gone at its provider.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn forget_object(&self, tenant: TenantKey, id: &str) -> Result<()> {
        let id = id.to_owned();
        let task = move |tx: &Transaction<'_>| {
            let sql = "DELETE FROM upstream_objects WHERE id = ?1 AND tenant = ?2";
            tx.prepare_cached(sql)?.execute(params![id, tenant.0])?;
            Ok(())
        };
        self.inner.writer().run_aside(task).await
    }
}

/// Remembers a new thing. An id that is known stays with whom it is.
pub(crate) fn insert(tx: &Transaction<'_>, tenant: TenantKey, new: &NewObject, now: UnixMs) -> Result<()> {
    let sql = "INSERT INTO upstream_objects (id, tenant, kind, purpose, upstream, own_key, created_at_ms, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO NOTHING";
    let NewObject { id, kind, purpose, upstream, own_key, body } = new;
    let values = params![id, tenant.0, kind.name(), purpose, upstream, own_key, now.0, body];
    if tx.prepare_cached(sql)?.execute(values)? == 0 {
        return Err(StoreError::Conflict("this id is known already".to_owned()));
    }
    Ok(())
}

/// Notes what a provider now says of a thing.
pub(crate) fn note(tx: &Transaction<'_>, tenant: TenantKey, id: &str, body: &str) -> Result<()> {
    let sql = "UPDATE upstream_objects SET body = ?3 WHERE id = ?1 AND tenant = ?2";
    tx.prepare_cached(sql)?.execute(params![id, tenant.0, body])?;
    Ok(())
}

fn row_id(conn: &Connection, tenant: TenantKey, kind: &str, id: &str) -> Result<Option<i64>> {
    let sql = "SELECT row_id FROM upstream_objects WHERE id = ?1 AND tenant = ?2 AND kind = ?3";
    Ok(conn.prepare_cached(sql)?.query_row(params![id, tenant.0, kind], |row| row.get(0)).optional()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<UpstreamObject> {
    Ok(UpstreamObject {
        id: row.get(0)?,
        purpose: row.get(1)?,
        upstream: row.get(2)?,
        own_key: row.get(3)?,
        created_at: UnixMs(row.get(4)?),
        body: row.get(5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{HERE, Scene};

    fn file(id: &str, purpose: &str) -> NewObject {
        let (id, purpose, upstream) = (id.to_owned(), purpose.to_owned(), "openai".to_owned());
        NewObject { id, kind: ObjectKind::File, purpose, upstream, own_key: false, body: "{}".to_owned() }
    }

    fn query(after: Option<&str>, ascending: bool) -> ObjectQuery {
        let after = after.map(str::to_owned);
        ObjectQuery { kind: ObjectKind::File, purpose: None, after, ascending, limit: 2 }
    }

    fn ids(page: Option<Vec<UpstreamObject>>) -> Vec<String> {
        page.unwrap().into_iter().map(|object| object.id).collect()
    }

    /// I-01, I-04
    #[tokio::test]
    async fn a_thing_is_its_owners_alone_whatever_is_asked() {
        let scene = Scene::new();
        let ((.., a), (.., b)) = (scene.tenant("a"), scene.tenant("b"));
        let key = |plain: &crate::PlainToken| scene.store.authenticate(plain.expose(), HERE).unwrap().tenant_key;
        let (a, b) = (key(&a), key(&b));
        scene.store.keep_object(a, file("f1", "batch")).await.unwrap();
        let taken = scene.store.keep_object(b, file("f1", "batch")).await;
        assert!(matches!(taken, Err(StoreError::Conflict(_))), "an id that is known stays with whom it is");
        assert!(scene.store.object(a, ObjectKind::File, "f1").unwrap().is_some());
        assert_eq!(scene.store.object(b, ObjectKind::File, "f1").unwrap(), None);
        assert_eq!(scene.store.object(a, ObjectKind::Batch, "f1").unwrap(), None);
        assert_eq!(ids(scene.store.objects(b, &query(None, false)).unwrap()), [""; 0]);
        assert_eq!(scene.store.objects(b, &query(Some("f1"), false)).unwrap(), None);
        scene.store.note_object(b, "f1", "stolen".to_owned()).await.unwrap();
        scene.store.forget_object(b, "f1").await.unwrap();
        assert_eq!(scene.store.object(a, ObjectKind::File, "f1").unwrap().unwrap().body, "{}");
        scene.store.note_object(a, "f1", "noted".to_owned()).await.unwrap();
        assert_eq!(scene.store.object(a, ObjectKind::File, "f1").unwrap().unwrap().body, "noted");
        scene.store.forget_object(a, "f1").await.unwrap();
        assert_eq!(scene.store.object(a, ObjectKind::File, "f1").unwrap(), None);
    }

    #[tokio::test]
    async fn lists_go_page_by_page_either_way() {
        let scene = Scene::new();
        let (.., plain) = scene.tenant("a");
        let tenant = scene.store.authenticate(plain.expose(), HERE).unwrap().tenant_key;
        for (id, purpose) in [("f1", "batch"), ("f2", "vision"), ("f3", "batch")] {
            scene.store.keep_object(tenant, file(id, purpose)).await.unwrap();
        }
        let page = |query: &ObjectQuery| ids(scene.store.objects(tenant, query).unwrap());
        assert_eq!(page(&query(None, false)), ["f3", "f2"]);
        assert_eq!(page(&query(Some("f2"), false)), ["f1"]);
        assert_eq!(page(&query(None, true)), ["f1", "f2"]);
        assert_eq!(page(&query(Some("f2"), true)), ["f3"]);
        let purpose = Some("batch".to_owned());
        assert_eq!(page(&ObjectQuery { purpose, ..query(None, false) }), ["f3", "f1"]);
        assert!(scene.store.check_object_room(tenant, ObjectKind::File).is_ok());
    }
}
