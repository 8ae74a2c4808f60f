//! What a name in `/proc` stands for.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general as abi;

use crate::errno::{Errno, Result};
use crate::task;
use crate::task::Task;
use crate::task::credentials::access;
use crate::task::pid::Pid;
use crate::task::pid::namespace::Namespace;
use crate::task::pid::numbers;
use crate::task::process::Process;
use crate::vfs::mount::Location;

/// What a file under `/proc/PID` is about: one thread, or the process where no thread lives any more.
pub struct Subject {
    pub process: Arc<Process>,
    pub task: Option<Arc<Task>>,
    /// What this /proc shows.
    namespace: Namespace,
}

impl Subject {
    /// EACCES unless the current task may look into the process.
    pub fn check_access(&self) -> Result<()> {
        access::check_file(&self.process).map_err(|_| Errno::EACCES)
    }

    /// The thread with this id, or the process whose first thread has ended.
    pub fn find(id: Pid, namespace: &Namespace) -> Result<Subject> {
        let namespace = namespace.clone();
        if let Some(task) = task::tree::find_task(id) {
            return Ok(Subject { process: task.process.clone(), task: Some(task), namespace });
        }
        let process = task::tree::find(id).ok_or(Errno::ESRCH)?;
        Ok(Subject { process, task: None, namespace })
    }

    /// The number that this /proc shows for an id.
    pub fn number(&self, id: Pid) -> Pid {
        numbers::seen_in(&self.namespace, id)
    }

    /// Writes a line with the numbers of an id of the process.
    pub fn write_numbers(&self, out: &mut String, name: &str, id: Pid) {
        numbers::write_numbers(out, name, &self.process, id, &self.namespace);
    }

    /// The thread; ESRCH if the process is a zombie.
    pub fn task(&self) -> Result<&Arc<Task>> {
        self.task.as_ref().ok_or(Errno::ESRCH)
    }
}

/// One name in a directory.
pub struct Entry {
    pub name: &'static str,
    pub kind: Kind,
}

/// What a name stands for.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A directory with these names.
    Directory(&'static [Entry]),
    /// A text about the machine.
    Machine(fn() -> Vec<u8>),
    /// A text that can be written, too.
    Setting(fn() -> Vec<u8>, fn(&[u8]) -> Result<()>),
    /// A text about a process.
    Text(fn(&Subject) -> Result<Vec<u8>>),
    /// A text about a process for those alone who may look into it, with its permissions.
    Private(u32, fn(&Subject) -> Result<Vec<u8>>),
    /// As `Text`, and can be written.
    ProcessSetting(fn(&Subject) -> Result<Vec<u8>>, fn(&Subject, &[u8]) -> Result<()>),
    /// A symbolic link to a name; None if who reads it has none in what this /proc shows.
    Link(fn(&Namespace) -> Option<Vec<u8>>),
    /// `/proc/PID/mem`.
    Memory,
    /// A link to an object of a process.
    Object(fn(&Subject) -> Result<Location>),
    /// `/proc` itself.
    Root,
    /// `/proc/PID` or `/proc/PID/task/TID`.
    Process { is_thread: bool },
    /// `/proc/PID/task`.
    Threads,
    /// `/proc/PID/fd`, or `fdinfo`.
    Descriptors { info: bool },
    /// `/proc/PID/fd/N`.
    Descriptor(u64),
    /// `/proc/PID/fdinfo/N`.
    DescriptorInfo(u64),
}

impl Kind {
    pub fn mode(self) -> u32 {
        match self {
            Kind::Directory(_) | Kind::Root | Kind::Process { .. } | Kind::Threads => abi::S_IFDIR | 0o555,
            Kind::Descriptors { .. } => abi::S_IFDIR | 0o500,
            Kind::Machine(_) | Kind::Text(_) | Kind::DescriptorInfo(_) => abi::S_IFREG | 0o444,
            Kind::Setting(..) | Kind::ProcessSetting(..) => abi::S_IFREG | 0o644,
            Kind::Private(permissions, _) => abi::S_IFREG | permissions,
            Kind::Memory => abi::S_IFREG | 0o600,
            Kind::Link(_) | Kind::Object(_) => abi::S_IFLNK | 0o777,
            Kind::Descriptor(_) => abi::S_IFLNK | 0o700,
        }
    }
}

/// A string as the text of a file.
pub fn text(string: String) -> Vec<u8> {
    string.into_bytes()
}
