//! Agents on the disk: `<data>/tenants/<tenant>/agents/<agent>/`, with `agent.json` and `AGENTS.md`. A tenant's agents take a
//! bounded part of the disk together. Everything here waits for the disk.

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use openclawmu_sandbox::{DiskUsage, Kind, PathError, RelPath, Root};
use openclawmu_store::TenantId;

use super::error::AgentError;
use super::spec::{AgentName, MAX_AGENTS, Spec};
use crate::removal;

/// What is said of an agent.
const SPEC: &str = "agent.json";
/// What it is told to be and do.
const INSTRUCTIONS: &str = "AGENTS.md";
/// The longest file that is read whole, in bytes; none that is written here is longer.
const MAX_READ: u64 = 16 << 20;
/// Files of a tenant's agents, at most.
const MAX_ENTRIES: u64 = 100_000;

/// Whether a tenant is deleted.
type IsDeleted = dyn Fn(&TenantId) -> bool + Send + Sync;

/// The files of all tenants' agents. A copy is the same.
#[derive(Clone)]
pub struct AgentFiles {
    tenants: Arc<Root>,
    is_deleted: Arc<IsDeleted>,
    /// What a tenant's agents may take of the disk together.
    max_bytes: u64,
}

/// One agent of one tenant.
#[derive(Clone, Copy, Debug)]
pub struct Of<'a>(pub &'a TenantId, pub &'a AgentName);

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its name.
    pub name: AgentName,
    /// What is said of it.
    pub spec: Spec,
    /// What it is told to be and do.
    pub instructions: String,
    /// Nobody has said anything of it: it is the one that is there without set-up.
    pub is_builtin: bool,
}

impl AgentFiles {
    /// The files in a data directory.
    ///
    /// # Errors
    /// When the directory can't be made or opened.
    pub fn open(data: &Path, max_bytes: u64, is_deleted: Arc<IsDeleted>) -> Result<Self, PathError> {
        let dir = data.join("tenants");
        let tenants = match Root::open(&dir) {
            Err(PathError::NotFound) => Root::create(&dir)?,
            opened => opened?,
        };
        Ok(Self { tenants: Arc::new(tenants), is_deleted, max_bytes })
    }

    /// A tenant's agents by name, `default` among them.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn list(&self, tenant: &TenantId) -> Result<Vec<Agent>, AgentError> {
        let mut names: Vec<AgentName> = match self.tenants.descend(&agents(tenant)?) {
            Err(PathError::NotFound) => Vec::new(),
            opened => {
                // Whoever has more than this made them beside the gateway.
                let page = opened?.list(None, None, 1_000)?;
                let named = |name: &OsStr| name.to_str().and_then(|name| name.parse().ok());
                page.entries.iter().filter_map(|entry| named(&entry.name)).collect()
            }
        };
        names.retain(|name: &AgentName| !name.is_default());
        let default = std::iter::once(AgentName::of_default());
        let all = default.chain(names).map(|name| self.get(Of(tenant, &name)));
        let mut agents = all.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
        agents.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(agents)
    }

    /// An agent; `default` is always there.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn get(&self, of: Of<'_>) -> Result<Option<Agent>, AgentError> {
        let spec = match self.root(of)? {
            Some(root) => read_json(&root)?.map(|spec| (spec, root)),
            None => None,
        };
        let name = of.1.clone();
        match spec {
            Some((spec, root)) => {
                let instructions = read_text(&root, INSTRUCTIONS)?.unwrap_or_default();
                Ok(Some(Agent { name, spec, instructions, is_builtin: false }))
            }
            None if name.is_default() => {
                Ok(Some(Agent { name, spec: Spec::default(), instructions: String::new(), is_builtin: true }))
            }
            None => Ok(None),
        }
    }

    /// Makes an agent.
    ///
    /// # Errors
    /// [`AgentError::Exists`]; [`AgentError::Full`] where there are too many; what the disk refuses.
    pub fn create(&self, of: Of<'_>, spec: &Spec, instructions: &str) -> Result<(), AgentError> {
        if self.get(of)?.is_some_and(|agent| !agent.is_builtin) {
            return Err(AgentError::Exists("agent"));
        }
        if !of.1.is_default() && self.list(of.0)?.len() >= MAX_AGENTS {
            return Err(AgentError::Full("A tenant has at most 50 agents: remove one first."));
        }
        self.write(of, |root| {
            root.replace(&plain(INSTRUCTIONS)?, instructions.as_bytes())?;
            match root.create_new(&plain(SPEC)?, &spec_json(spec)?) {
                Err(PathError::Conflict) => Err(AgentError::Exists("agent")),
                made => Ok(made?),
            }
        })
    }

    /// Changes an agent; without `instructions` those stay.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn update(&self, of: Of<'_>, spec: &Spec, instructions: Option<&str>) -> Result<(), AgentError> {
        self.write(of, |root| {
            if let Some(instructions) = instructions {
                root.replace(&plain(INSTRUCTIONS)?, instructions.as_bytes())?;
            }
            Ok(root.replace(&plain(SPEC)?, &spec_json(spec)?)?)
        })
    }

    /// Removes an agent with its sessions and all that it remembers. `default` is then as it was in the beginning.
    ///
    /// # Errors
    /// [`AgentError::NotFound`]; what the disk refuses.
    pub fn remove(&self, of: Of<'_>) -> Result<(), AgentError> {
        loop {
            match self.tenants.remove_tree(&directory(of)?) {
                Ok(()) => return Ok(()),
                Err(PathError::NotFound) => return Err(AgentError::NotFound("agent")),
                // There is more than one call takes away.
                Err(PathError::TooMany) => {}
                Err(err) => return Err(err.into()),
            }
        }
    }

    /// An agent's directory, where there is one.
    pub(super) fn root(&self, of: Of<'_>) -> Result<Option<Root>, AgentError> {
        match self.tenants.descend(&directory(of)?) {
            Err(PathError::NotFound) => Ok(None),
            opened => Ok(Some(opened?)),
        }
    }

    /// Writes something of an agent, its directory made where there is none. Of a tenant that was deleted meanwhile nothing is
    /// kept.
    pub(super) fn write<T>(
        &self,
        of: Of<'_>,
        work: impl FnOnce(&Root) -> Result<T, AgentError>,
    ) -> Result<T, AgentError> {
        let path = directory(of)?;
        self.tenants.create_dir_all(&path)?;
        self.check_room(of.0)?;
        let done = work(&self.tenants.descend(&path)?);
        // A deletion is on record before the directory goes: whoever wrote after that finds it here.
        if (self.is_deleted)(of.0) {
            removal::remove_from(&self.tenants, of.0)?;
            return Err(AgentError::NotFound("tenant"));
        }
        done
    }

    /// Whether a tenant's agents may take more of the disk.
    fn check_room(&self, tenant: &TenantId) -> Result<(), AgentError> {
        let most = DiskUsage { bytes: self.max_bytes, entries: MAX_ENTRIES };
        match self.tenants.descend(&agents(tenant)?)?.disk_usage(most) {
            Err(PathError::NoSpace) => {
                Err(AgentError::Full("The agents' sessions and memory are too large: remove some of them."))
            }
            looked => Ok(looked.map(drop)?),
        }
    }
}

fn agents(tenant: &TenantId) -> Result<RelPath, PathError> {
    RelPath::parse(format!("{tenant}/agents").as_bytes())
}

fn directory(Of(tenant, agent): Of<'_>) -> Result<RelPath, PathError> {
    RelPath::parse(format!("{tenant}/agents/{agent}").as_bytes())
}

/// A name that is no part of a request.
pub(super) fn plain(name: &str) -> Result<RelPath, PathError> {
    RelPath::parse(name.as_bytes())
}

fn spec_json(spec: &Spec) -> Result<Vec<u8>, AgentError> {
    let mut json = serde_json::to_vec_pretty(spec).map_err(|err| PathError::Io(err.into()))?;
    json.push(b'\n');
    Ok(json)
}

fn read_json(root: &Root) -> Result<Option<Spec>, AgentError> {
    let Some(text) = read_text(root, SPEC)? else { return Ok(None) };
    let spec: Spec = serde_json::from_str(&text).map_err(|err| PathError::Io(err.into()))?;
    Ok(Some(spec.bounded()))
}

/// A file as text, what is not UTF-8 in it replaced; `None` where there is none.
pub(super) fn read_text(root: &Root, name: &str) -> Result<Option<String>, AgentError> {
    let bytes = read_bytes(root, &plain(name)?)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// A file; `None` where there is none.
pub(super) fn read_bytes(root: &Root, path: &RelPath) -> Result<Option<Vec<u8>>, AgentError> {
    let file = match root.read(path) {
        Err(PathError::NotFound | PathError::Refused) => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_READ).read_to_end(&mut bytes).map_err(PathError::Io)?;
    Ok(Some(bytes))
}

/// The files in a directory, by name: at most `most`.
pub(super) fn files(root: &Root, dir: &str, (after, most): (Option<&OsStr>, usize)) -> Result<Listed, AgentError> {
    let page = match root.list(Some(&plain(dir)?), after, most) {
        Err(PathError::NotFound) => return Ok((Vec::new(), None)),
        listed => listed?,
    };
    let is_file = |entry: &openclawmu_sandbox::Entry| entry.metadata.kind == Kind::File;
    Ok((page.entries.into_iter().filter(is_file).collect(), page.next))
}

/// Files, and after which name to go on.
pub(super) type Listed = (Vec<openclawmu_sandbox::Entry>, Option<std::ffi::OsString>);

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::agent) fn open(dir: &Path) -> AgentFiles {
        let is_deleted = |tenant: &TenantId| tenant.as_str() == "deleted";
        AgentFiles::open(dir, 1 << 20, Arc::new(is_deleted)).unwrap()
    }

    pub(in crate::agent) fn named(tenant: &str, agent: &str) -> (TenantId, AgentName) {
        (tenant.parse().unwrap(), agent.parse().unwrap())
    }

    /// I-01
    #[test]
    fn an_agent_is_its_tenants_alone_and_default_is_always_there() {
        let dir = tempfile::tempdir().unwrap();
        let files = open(dir.path());
        let ((acme, helper), (other, default)) = (named("acme", "helper"), named("other", "default"));
        files.create(Of(&acme, &helper), &Spec::default(), "Be kind.").unwrap();
        assert_eq!(files.get(Of(&acme, &helper)).unwrap().unwrap().instructions, "Be kind.");
        assert!(files.get(Of(&other, &helper)).unwrap().is_none());
        assert!(matches!(files.remove(Of(&other, &helper)), Err(AgentError::NotFound(_))));
        let names = |tenant| -> Vec<String> {
            files.list(tenant).unwrap().iter().map(|agent| agent.name.to_string()).collect()
        };
        assert_eq!((names(&acme), names(&other)), (vec!["default".into(), "helper".into()], vec!["default".into()]));
        assert!(files.get(Of(&other, &default)).unwrap().unwrap().is_builtin);
        let again = files.create(Of(&acme, &helper), &Spec::default(), "Be rude.");
        assert!(matches!(again, Err(AgentError::Exists(_))));
        assert_eq!(files.get(Of(&acme, &helper)).unwrap().unwrap().instructions, "Be kind.");
        files.update(Of(&other, &default), &Spec { max_steps: 3, ..Spec::default() }, Some("Short.")).unwrap();
        let changed = files.get(Of(&other, &default)).unwrap().unwrap();
        assert_eq!((changed.is_builtin, changed.spec.max_steps), (false, 3));
        files.remove(Of(&other, &default)).unwrap();
        assert!(files.get(Of(&other, &default)).unwrap().unwrap().is_builtin);
    }

    #[test]
    fn there_are_at_most_so_many_agents_of_so_many_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let files = open(dir.path());
        let acme: TenantId = "acme".parse().unwrap();
        let make = |name: String| files.create(Of(&acme, &name.parse().unwrap()), &Spec::default(), "");
        for count in 1..MAX_AGENTS {
            make(format!("a{count}")).unwrap();
        }
        assert!(matches!(make("more".to_owned()), Err(AgentError::Full(_))));
        let big = "x".repeat(1 << 20);
        let of = ("acme".parse().unwrap(), "a1".parse().unwrap());
        files.update(Of(&of.0, &of.1), &Spec::default(), Some(&big)).unwrap();
        assert!(matches!(files.update(Of(&of.0, &of.1), &Spec::default(), Some("")), Err(AgentError::Full(_))));
    }

    /// I-06
    #[test]
    fn nothing_is_kept_of_a_tenant_that_was_deleted_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let files = open(dir.path());
        let (gone, helper) = named("deleted", "helper");
        assert!(files.create(Of(&gone, &helper), &Spec::default(), "").is_err());
        assert!(!dir.path().join("tenants/deleted").exists());
    }
}
