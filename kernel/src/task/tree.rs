//! The tree of processes: parents, children, threads, groups, sessions. One lock guards it.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::*};

use linux_raw_sys::general::SIGCHLD;
use portcullis::x86_64::UserRegs;

use crate::errno::{Errno, Result};
use crate::machine::sync::{SpinLock, SpinLockGuard};
use crate::memory::address_space::kernel_mm;
use crate::sched::thread::Start;
use crate::task::exit_signal::ExitSignal;
use crate::task::pid::{PID_MAX, PID_RESTART, Pid, REAPER, namespace};
use crate::task::process::Process;
use crate::task::seccomp::TreeLock;
use crate::task::signals::action::{ActionFlags, SIG_IGN, SigHand};
use crate::task::signals::state::TaskSignals;
use crate::task::wait_status::WaitStatus;
use crate::task::{NewTask, Task};

impl Process {
    /// Its threads that have not ended.
    pub fn threads(&self) -> Vec<Arc<Task>> {
        tree().node(self.pid).map_or_else(Vec::new, |node| node.threads.clone())
    }

    /// Calls `f` for each thread, under the tree's lock and without allocating; `f` must not ask the tree anything.
    pub fn for_each_thread(&self, mut f: impl FnMut(&Arc<Task>)) {
        if let Some(node) = tree().node(self.pid) {
            node.threads.iter().for_each(&mut f);
        }
    }
}

/// A process in the tree.
pub struct Node {
    /// The process.
    pub process: Arc<Process>,
    /// Its parent's PID.
    pub parent: Pid,
    /// The parent's thread that forked it (__WNOTHREAD).
    pub parent_thread: Pid,
    /// Children, in the order in which they came.
    pub children: Vec<Pid>,
    /// Threads that have not ended.
    pub threads: Vec<Arc<Task>>,
    /// The wait status, once it has ended.
    pub zombie: Option<WaitStatus>,
    /// What its parent gets when it ends.
    pub exit_signal: ExitSignal,
    /// Threads that have ended and that a tracer has yet to wait for, without the leader.
    pub lingering: u32,
    /// The leader, if it has ended and a tracer has yet to wait for it.
    pub traced_leader: Option<Arc<Task>>,
}

impl Node {
    /// What its threads asked for when the thread that forked it ends.
    fn death_signals(&self, to_signal: &mut Vec<DeathSignal>) {
        for thread in &self.threads {
            let signo = thread.parent_death_signal.load(Relaxed);
            if signo != 0 {
                to_signal.push((self.process.clone(), signo));
            }
        }
    }

    /// Whether it does not want to be told of children that end.
    pub fn ignores_children(&self) -> bool {
        let hand = self.threads.first().and_then(|thread| thread.sighand.share());
        hand.is_some_and(|hand| {
            let action = hand.get(SIGCHLD as i32);
            action.handler == SIG_IGN || action.flags().contains(ActionFlags::NOCLDWAIT)
        })
    }
}

/// What becomes of the children of a process that has ended.
#[derive(Default)]
pub struct Orphans {
    /// Who looks after them now; some may have ended already.
    pub new_parent: Option<Arc<Process>>,
    /// Those that asked for a signal (PR_SET_PDEATHSIG), and which.
    pub to_signal: Vec<DeathSignal>,
}

/// A process one of whose threads asked for a signal at its parent's end (PR_SET_PDEATHSIG), and which.
pub type DeathSignal = (Arc<Process>, i32);

/// All processes and tasks.
pub struct Tree {
    nodes: BTreeMap<Pid, Node>,
    tasks: BTreeMap<Pid, Arc<Task>>,
    last_pid: Pid,
    /// A number above the last may be taken: after the first wrap, and once a program has chosen one.
    may_be_taken: bool,
    /// Numbers of tasks that are being made.
    reserved: Vec<Pid>,
}

// SAFETY: `TREE` is the one value.
unsafe impl TreeLock for Tree {}

static TREE: SpinLock<Tree> = SpinLock::new(Tree {
    nodes: BTreeMap::new(),
    tasks: BTreeMap::new(),
    last_pid: 0,
    may_be_taken: false,
    reserved: Vec::new(),
});

/// The tree, locked.
pub fn tree() -> SpinLockGuard<'static, Tree> {
    TREE.lock()
}

/// The process with this PID; also if it has ended and has not been waited for.
pub fn find(pid: Pid) -> Option<Arc<Process>> {
    Some(tree().node(pid)?.process.clone())
}

/// The signal that a process's end is told by, and its wait status, once it has ended.
pub fn end(pid: Pid) -> Option<(i32, Option<WaitStatus>)> {
    let tree = tree();
    let node = tree.node(pid)?;
    Some((node.exit_signal.signal().unwrap_or(0), node.zombie))
}

/// The task with this TID.
#[inline]
pub fn find_task(tid: Pid) -> Option<Arc<Task>> {
    tree().tasks.get(&tid).cloned()
}

/// All processes, by PID.
pub fn all() -> Vec<Arc<Process>> {
    tree().nodes.values().map(|node| node.process.clone()).collect()
}

/// The processes of a group that have not ended.
pub fn group(pgrp: Pid) -> Vec<Arc<Process>> {
    let tree = tree();
    tree.nodes
        .values()
        .filter(|node| node.zombie.is_none() && node.process.pgrp() == pgrp)
        .map(|node| node.process.clone())
        .collect()
}

/// Counts signals to whole groups; see [`group_signals`].
static GROUP_SIGNALS: AtomicU64 = AtomicU64::new(0);

/// A signal is being sent to several processes. Called with the tree locked.
pub fn note_group_signal() {
    GROUP_SIGNALS.fetch_add(1, Relaxed);
}

/// How many signals to several processes there have been. `clone` compares: a process that is made meanwhile is not to
/// miss one.
pub fn group_signals() -> u64 {
    GROUP_SIGNALS.load(Relaxed)
}

/// Whether a process group is orphaned: no member has a parent in the same session but another group. Nobody would
/// continue its members if they stopped.
pub fn is_orphaned(pgrp: Pid) -> bool {
    tree().is_orphaned(pgrp, None)
}

impl Node {
    /// The leader of the process, if it runs or a tracer has yet to wait for it.
    pub fn leader(&self) -> Option<&Arc<Task>> {
        let running = self.threads.first().filter(|thread| thread.tid() == self.process.pid);
        running.or(self.traced_leader.as_ref())
    }

    /// Who traces the leader.
    pub fn leader_tracer(&self) -> Option<Arc<Task>> {
        let leader = self.leader().filter(|leader| leader.trace.is_traced())?;
        leader.trace.tracer()
    }

    /// The process one of whose threads traces the leader.
    #[inline]
    pub fn leader_traced_by(&self) -> Option<Pid> {
        let leader = self.leader().filter(|leader| leader.trace.is_traced())?;
        leader.trace.ask_tracer(|tracer| tracer.process.pid)
    }
}

impl Tree {
    /// A process.
    pub fn node(&self, pid: Pid) -> Option<&Node> {
        self.nodes.get(&pid)
    }

    /// A process.
    pub fn node_mut(&mut self, pid: Pid) -> Option<&mut Node> {
        self.nodes.get_mut(&pid)
    }

    /// The node of this very process, until it has been waited for.
    pub fn node_of(&self, process: &Process) -> Option<&Node> {
        self.node(process.pid).filter(|node| core::ptr::eq(&*node.process, process))
    }

    /// The task with this TID.
    pub fn task(&self, tid: Pid) -> Option<&Arc<Task>> {
        self.tasks.get(&tid)
    }

    /// All of them.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// All tasks that have not ended.
    pub fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
    }

    /// An id that is neither a process's, a task's, a group's nor a session's.
    pub fn allocate_pid(&mut self) -> Result<Pid> {
        for _ in 0..PID_MAX {
            let next = self.last_pid + 1;
            self.may_be_taken |= next >= PID_MAX;
            self.last_pid = if next >= PID_MAX { PID_RESTART } else { next };
            let pid = self.last_pid;
            if !self.may_be_taken || !self.is_taken(pid) {
                return Ok(pid);
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Nobody else gets the id until it is given back.
    pub fn reserve(&mut self, pid: Pid, chosen: bool) {
        self.may_be_taken |= chosen;
        self.reserved.push(pid);
    }

    /// Gives a reserved id back.
    pub fn release(&mut self, pid: Pid) {
        self.reserved.retain(|&other| other != pid);
    }

    /// Whether it is the id of a process, a task, a group or a session, or about to be.
    pub fn is_taken(&self, pid: Pid) -> bool {
        let group_or_session = |n: &Node| n.process.pgrp() == pid || n.process.session() == pid;
        self.nodes.contains_key(&pid)
            || self.reserved.contains(&pid)
            || self.tasks.contains_key(&pid)
            || self.nodes.values().any(group_or_session)
    }

    /// Adds a new process with its first thread.
    pub fn add_process(&mut self, parent: Pid, parent_thread: Pid, exit_signal: ExitSignal, task: &Arc<Task>) {
        let process = task.process.clone();
        process.parent.store(parent, Relaxed);
        if let Some(parent) = self.nodes.get_mut(&parent) {
            parent.children.push(process.pid);
        }
        self.tasks.insert(task.tid(), task.clone());
        let threads = alloc::vec![task.clone()];
        let node = Node {
            process,
            parent,
            parent_thread,
            children: Vec::new(),
            threads,
            zombie: None,
            exit_signal,
            lingering: 0,
            traced_leader: None,
        };
        self.nodes.insert(node.process.pid, node);
    }

    /// Adds a thread to its process.
    pub fn add_thread(&mut self, task: &Arc<Task>) {
        self.tasks.insert(task.tid(), task.clone());
        self.nodes.get_mut(&task.process.pid).expect("the process of a new thread").threads.push(task.clone());
    }

    /// Takes out a thread that ends. Returns the tree's references, to be dropped without the lock, whether it was the
    /// last, and what is to be sent to its children, who go to another thread.
    pub fn remove_thread(&mut self, task: &Task) -> (impl Sized + use<>, bool, Vec<DeathSignal>) {
        let tid = task.tid();
        let from_tasks = self.tasks.remove(&tid);
        let node = self.nodes.get_mut(&task.process.pid).expect("the process of a thread");
        let index = node.threads.iter().position(|thread| thread.tid() == tid).expect("a thread of its process");
        let from_threads = node.threads.remove(index);
        let last = node.threads.is_empty();
        // Its children now belong to another thread.
        let mut to_signal = Vec::new();
        if let Some(heir) = node.threads.first().map(|thread| thread.tid()) {
            let children = node.children.clone();
            for child in children {
                if let Some(child) = self.nodes.get_mut(&child)
                    && child.parent_thread == tid
                {
                    child.parent_thread = heir;
                    child.death_signals(&mut to_signal);
                }
            }
        }
        namespace::left(&task.process.pid_namespace, tid, self.is_taken(tid));
        ((from_tasks, from_threads), last, to_signal)
    }

    /// The calling thread, alone in its process, takes over the PID as its TID (exec by a thread that is not the first).
    pub fn take_over_pid(&mut self, task: &Task) {
        let (old, pid) = (task.tid(), task.process.pid);
        let Some(arc) = self.tasks.remove(&old) else {
            return;
        };
        task.tid.store(pid, Relaxed);
        self.tasks.insert(pid, arc);
        for child in self.nodes.values_mut().filter(|node| node.parent == pid && node.parent_thread == old) {
            child.parent_thread = pid;
        }
        if old != pid {
            namespace::left(&task.process.pid_namespace, old, self.is_taken(old));
        }
    }

    /// Gives the children of a process that ends to its nearest living subreaper, its namespace's init, or PID 1.
    pub fn reparent_children(&mut self, pid: Pid) -> Orphans {
        let children = core::mem::take(&mut self.nodes.get_mut(&pid).expect("a process that ends").children);
        let mut orphans = Orphans::default();
        if children.is_empty() {
            return orphans;
        }
        let heir = self.heir(pid);
        let heir_thread = self.nodes.get(&heir).and_then(|n| n.threads.first()).map_or(heir, |t| t.tid());
        for &child in &children {
            let node = self.nodes.get_mut(&child).expect("a child");
            node.parent = heir;
            node.parent_thread = heir_thread;
            node.exit_signal = ExitSignal::CHILD;
            node.process.parent.store(heir, Relaxed);
            node.death_signals(&mut orphans.to_signal);
        }
        let heir = self.nodes.get_mut(&heir).expect("the heir");
        heir.children.extend_from_slice(&children);
        orphans.new_parent = Some(heir.process.clone());
        orphans
    }

    fn heir(&self, pid: Pid) -> Pid {
        let Some(node) = self.nodes.get(&pid) else {
            return REAPER;
        };
        let namespace = &node.process.pid_namespace;
        let mut at = node.parent;
        while let Some(node) = self.nodes.get(&at)
            && namespace::is_same(&node.process.pid_namespace, namespace)
        {
            if node.process.subreaper.load(Relaxed) && !node.threads.is_empty() {
                return at;
            }
            at = node.parent;
        }
        let init = namespace.as_ref().and_then(|namespace| namespace.init());
        init.unwrap_or(REAPER)
    }

    /// Takes a zombie out of the tree.
    pub fn remove(&mut self, pid: Pid) -> Option<Node> {
        let node = self.nodes.remove(&pid)?;
        if let Some(parent) = self.nodes.get_mut(&node.parent) {
            parent.children.retain(|&child| child != pid);
        }
        namespace::left(&node.process.pid_namespace, pid, self.is_taken(pid));
        Some(node)
    }

    /// See [`is_orphaned`]; `ignored` is a process that is ending and does not count.
    pub fn is_orphaned(&self, pgrp: Pid, ignored: Option<Pid>) -> bool {
        !self.nodes.values().any(|node| {
            node.process.pgrp() == pgrp
                && Some(node.process.pid) != ignored
                && node.zombie.is_none()
                && node.parent != REAPER
                && self.nodes.get(&node.parent).is_some_and(|parent| {
                    parent.process.pgrp() != pgrp && parent.process.session() == node.process.session()
                })
        })
    }

    /// Moves a process to a group.
    pub fn set_pgrp(&mut self, process: &Process, pgrp: Pid) {
        process.pgrp.store(pgrp, Relaxed);
    }

    /// Makes a process the leader of a new session and group.
    pub fn set_session(&mut self, process: &Process) {
        process.session.store(process.pid, Relaxed);
        process.pgrp.store(process.pid, Relaxed);
        process.terminal.store(0, Relaxed);
    }
}

/// A kernel thread's task, in a process of its own that the tree does not know yet.
pub fn kernel_task(pid: Pid, start: Start) -> Result<Arc<Task>> {
    let task = Task::new(NewTask {
        tid: pid,
        process: Process::new(pid, None, None),
        mm: kernel_mm(),
        files: None,
        fs: None,
        sighand: Arc::new(SigHand::new()),
        signals: TaskSignals::new(),
        regs: UserRegs::new(0, 0),
        start: Some(start),
    })?;
    Ok(task)
}

/// A CPU's idle task: PID 0, in no tree, already running.
pub fn idle_task() -> Result<Arc<Task>> {
    let task = kernel_task(0, |_| unreachable!("the idle task is running already"))?;
    task.set_comm(b"idle");
    Ok(task)
}
