//! A place for backups: a directory or a bucket. Both do the same few things; a manifest is written where there is none.

use std::path::Path;

use openclawmu_store::UnixMs;

use crate::bucket::{Bucket, BucketOptions};
use crate::directory::Directory;
use crate::error::{BackupError, Result};
use crate::progress::Progress;

/// Where backups lie. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Place {
    kind: Kind,
    name: String,
}

#[derive(Clone, Debug)]
enum Kind {
    Directory(Directory),
    Bucket(Bucket),
}

/// Something that lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) key: String,
    pub(crate) bytes: u64,
    pub(crate) modified_at: UnixMs,
}

/// What came of a write that must not replace anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is there now.
    New,
    /// Something else was there, and still is.
    Taken,
}

impl Place {
    /// The place that `url` names: `s3://bucket/prefix`, or an absolute directory. `bucket` says how buckets are reached.
    ///
    /// # Errors
    /// [`BackupError::Invalid`] for `field`.
    pub fn parse(field: &'static str, url: &str, bucket: &BucketOptions) -> Result<Self> {
        let url = url.trim_end_matches('/');
        let kind = match url.strip_prefix("s3://") {
            Some(rest) => Kind::Bucket(Bucket::new(field, rest, bucket)?),
            None => {
                let path = url.strip_prefix("file://").unwrap_or(url);
                if path.contains("://") || !Path::new(path).is_absolute() {
                    let message = format!("`{url}` must be s3://BUCKET/PREFIX, or a directory from the root on");
                    return Err(BackupError::Invalid { field, message });
                }
                Kind::Directory(Directory::new(Path::new(path)))
            }
        };
        Ok(Self { kind, name: url.to_owned() })
    }

    /// What it is called, as [`Place::parse`] reads it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory, where it is one.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Directory(directory) => Some(directory.path()),
            Kind::Bucket(_) => None,
        }
    }

    /// Writes a file of this machine under `key`, over what is there.
    pub(crate) async fn put_file(&self, key: &str, file: &Path) -> Result<()> {
        match &self.kind {
            Kind::Directory(directory) => directory.put_file(key, file).await,
            Kind::Bucket(bucket) => bucket.put_file(key, file).await,
        }
    }

    /// Writes bytes under `key`, over what is there.
    pub(crate) async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<()> {
        match &self.kind {
            Kind::Directory(directory) => directory.put(key, bytes).await,
            Kind::Bucket(bucket) => bucket.put(key, bytes).await,
        }
    }

    /// Writes bytes under `key` if nothing is there.
    pub(crate) async fn put_new(&self, key: &str, bytes: Vec<u8>) -> Result<Written> {
        match &self.kind {
            Kind::Directory(directory) => directory.put_new(key, bytes).await,
            Kind::Bucket(bucket) => bucket.put_new(key, bytes).await,
        }
    }

    /// What lies under `key`; `None` where nothing does. An error past `limit` bytes.
    pub(crate) async fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        match &self.kind {
            Kind::Directory(directory) => directory.get(key, limit).await,
            Kind::Bucket(bucket) => bucket.get(key, limit).await,
        }
    }

    /// Fetches what lies under `key` into a new file, `limit` bytes at most; false where nothing does. `progress` counts the bytes
    /// as they come.
    pub(crate) async fn get_file(&self, key: &str, file: &Path, limit: u64, progress: &Progress) -> Result<bool> {
        match &self.kind {
            Kind::Directory(directory) => directory.get_file(key, file, limit, progress).await,
            Kind::Bucket(bucket) => bucket.get_file(key, file, limit, progress).await,
        }
    }

    /// Everything whose key begins with `prefix`, which ends in `/`, by key.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<Item>> {
        let mut items = match &self.kind {
            Kind::Directory(directory) => directory.list(prefix).await?,
            Kind::Bucket(bucket) => bucket.list(prefix).await?,
        };
        items.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(items)
    }

    /// Removes what lies under `key`; nothing there is fine.
    pub(crate) async fn remove(&self, key: &str) -> Result<()> {
        match &self.kind {
            Kind::Directory(directory) => directory.remove(key).await,
            Kind::Bucket(bucket) => bucket.remove(key).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_bucket_or_an_absolute_directory() {
        // Another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let parse = |url: &str| Place::parse("to", url, &BucketOptions::default());
        assert!(parse("/mnt/backups").unwrap().directory().is_some());
        assert!(parse("s3://bucket/prefix/").unwrap().directory().is_none());
        for url in ["", "backups", "./backups", "gs://bucket", "s3://", "s3:///x", "http://x/y"] {
            assert!(matches!(parse(url), Err(BackupError::Invalid { field: "to", .. })), "{url}");
        }
    }
}
