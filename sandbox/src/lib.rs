//! The walls of one tenant: the only code that opens a tenant's paths, and the runner of untrusted code in isolation.
//!
//! # Map
//!
//! | module | what it is |
//! | --- | --- |
//! | `path` | [`RelPath`]: an untrusted name, checked before any system call sees it |
//! | `root` | [`Root`]: a directory opened once; everything else is reached from its handle |
//! | `error` | [`PathError`], [`SandboxError`]: what can go wrong, and which HTTP class the caller answers |
//! | `job`, `outcome` | [`Job`]: what is run, within which [`Limits`]; [`Outcome`]: how it ended, and the proof of what held it |
//! | `backend` | [`Backend`]: the seam to what runs a job in isolation |
//! | `bubblewrap` | [`Bubblewrap`]: namespaces of its own on Linux |
//! | `docker` | [`Docker`]: containers of an engine, with the same walls, by choice |
//! | `cgroup` | limits of memory, processes and processor time, and every process of a run |
//! | `seccomp` | `conf/seccomp.json`: what code may not ask of the kernel, for both backends |
//! | `helper`, `status` | process 1 of a sandbox (`sandbox/init`), and what it says from inside |
//! | [`egress`] | the only way out of a sandbox: a proxy for one run, with its allow-list |
//! | `ending`, `follow`, `examine` | what backends have in common: why a run ended; its streams; how they prove themselves before the first |
//! | `terminal` | [`Pty`]: a terminal for one run, and how the run's end waits until it was read empty |
//! | `capture`, `disk` | what is kept of the output, and a look at the disk now and then |
//!
//! # Threat model
//!
//! **Who attacks.** Whoever can have code run: a tenant, a user of a tenant, a document that talked a tenant's model into it.
//! The code is hostile, knows this source, runs as often as its quota allows, and may have all night.
//!
//! **What it must not reach.** The gateway's memory, keys, database and descriptors. Other tenants' files, processes, sockets
//! and runs, at the same time or later. The host's files, people and processes. The network, but for what was granted to
//! this run. More memory, processes, time, disk or output than its limits. And it must not outlive its run.
//!
//! **What stands in its way**, each of which has to fail by itself:
//!
//! 1. Namespaces for users, mounts, processes, network, IPC, names and control groups, none of which can be made anew inside.
//!    It sees a read-only `/usr`, a few files of `/etc`, sized memory file systems, and its workspace.
//! 2. A user of the host that is this tenant's alone, where the gateway is root. Where it is not, code runs as the gateway's
//!    own user behind the other walls, and every outcome says so (`user: shared`).
//! 3. No rights, none to be gained (`no_new_privs`), no setuid files to be made.
//! 4. A seccomp filter over what the kernel offers beyond that, which also closes the doors for other numbers and other
//!    processors' calls.
//! 5. Limits by control group on all processes together; a deadline; a kill that no process can dodge, since process 1 of
//!    the namespace dies with its parent.
//! 6. Nothing to inherit: an empty environment, no descriptors but 0, 1 and 2, a process 1 that can't be looked into, no secret
//!    or path of the host in any argument.
//!
//! **What is trusted.** The kernel, bubblewrap (its known hole below 0.12.0, CVE-2026-87766, is worked around: nothing is ever
//! mounted below what a tenant can write to), the container engine where one is used, and the operator's `/usr`, which every
//! tenant can read.
//!
//! **What is not promised.** No defence against a hole in the kernel that the filter leaves open: run the Docker backend with
//! gVisor (`runtime = "runsc"`) where tenants are enemies of each other. None against timing and cache side channels between
//! neighbours on one processor. A disk limit by sampling is soft: one by a project quota of the file system is not.
//!
//! **Fail closed.** Before the first run a backend proves itself by runs of its own; in every run process 1 reads the walls
//! from inside before the command starts, and a run whose walls are not all there is killed and is an error. There is no
//! weaker mode: where isolation can't be set up, nothing runs.
//!
//! # Invariants of absence
//!
//! - Knows nothing of tenants, tokens, HTTP or SQL: it is given a directory and names below it.
//! - Holds no second way to a tenant's file: whoever has no [`Root`] and no [`RelPath`] opens nothing.
//! - Never resolves a path to text and opens the text afterwards: between the check and the use the
//!   tree may change. The kernel checks while it opens (`openat2`).
//! - Never follows a symbolic link below a root, and never opens anything but regular files with
//!   one name and directories.
//! - Never starts a program of a tenant's but through a [`Backend`].

#[cfg(not(unix))]
compile_error!("openclawmu-sandbox needs descriptor-relative paths: build it on Linux or another Unix");

mod backend;
#[cfg(target_os = "linux")]
mod bubblewrap;
mod capture;
#[cfg(target_os = "linux")]
mod cgroup;
mod disk;
#[cfg(target_os = "linux")]
mod docker;
pub mod egress;
#[cfg(target_os = "linux")]
mod ending;
mod error;
#[cfg(target_os = "linux")]
mod examine;
#[cfg(target_os = "linux")]
mod follow;
#[cfg(target_os = "linux")]
mod helper;
mod job;
mod outcome;
mod path;
mod root;
mod seccomp;
mod status;
mod terminal;

pub use backend::Backend;
#[cfg(target_os = "linux")]
pub use bubblewrap::{Bubblewrap, BubblewrapSetup};
#[cfg(target_os = "linux")]
pub use docker::{Docker, DockerSetup};
pub use error::{PathError, SandboxError};
#[cfg(target_os = "linux")]
pub use helper::HELPER;
pub use job::{HostUid, Job, Limits, RunId, Stdio, Workspace};
pub use outcome::{Captured, Chunk, Ended, Enforced, Isolation, Outcome, Stream};
pub use path::RelPath;
pub use root::{DiskUsage, Entry, Kind, Metadata, Page, Root, Staged, TreePath, Walked, set_modified};
pub use seccomp::docker_profile;
pub use terminal::{Held, Line, Pty, Terminal};
