//! A process of a program, with one task, that the thread of a test runs.

use alloc::sync::Arc;
use core::ptr;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general::{MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE};
use portcullis::x86_64::UserRegs;

use crate::host;
use crate::machine::{cpu, sync};
use crate::memory::address_space::AddressSpace;
use crate::memory::map::Object;
use crate::memory::width::Width;
use crate::task::signals::action::SigHand;
use crate::task::signals::state::TaskSignals;
use crate::task::{NewTask, Process, Task};

/// What it has mapped.
pub const MEMORY: u64 = 0x10_0000;
/// Bytes of that.
pub const MEMORY_SIZE: u64 = 0x1_0000;

/// Makes a process in an address space of its own, which has [`MEMORY`], and runs `test` as its task.
pub fn run<T>(width: Width, test: impl FnOnce(&Task) -> T) -> T {
    host::memory();
    let mm = AddressSpace::new(width, None).expect("memory");
    mm.map(MEMORY, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE, Object::Anonymous).expect("memory");
    let task = Task::new(NewTask {
        tid: 2,
        process: Process::new(2, None, None),
        mm: mm.clone(),
        files: None,
        fs: None,
        sighand: Arc::new(SigHand::new()),
        signals: TaskSignals::new(),
        regs: UserRegs::new(0, 0),
        start: None,
    })
    .expect("memory");
    enter(Arc::as_ptr(&task).cast(), Arc::as_ptr(&mm).cast());
    let result = test(&task);
    enter(ptr::null(), ptr::null());
    result
}

fn enter(task: *const (), mm: *const ()) {
    let _irqs = sync::irqs_off();
    cpu::this().current.store(task.cast_mut(), Relaxed);
    cpu::this().address_space.store(mm.cast_mut(), Relaxed);
}
