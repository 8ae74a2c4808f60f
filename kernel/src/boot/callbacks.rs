//! What the lower layers call of the upper ones.

use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general::RLIMIT_NOFILE;

use crate::life::exit;
use crate::memory::address_space::AddressSpace;
use crate::memory::width::Width;
use crate::sched::thread::{SwitchWork, Thread};
use crate::signal::interval_timers;
use crate::task::pid::numbers::seen;
use crate::task::{current, signals, syscall_info};
use crate::work::{lifecycle, trace_points, uprobe};
use crate::{memory, ptrace, sched, task, work};

struct Upper;

impl memory::callbacks::Callbacks for Upper {
    fn limit(&self, which: u32) -> u64 {
        current().process.rlimit(which).0
    }

    fn width_of_call(&self) -> Width {
        if current().syscall_info.is_compat() { Width::Bits32 } else { Width::Bits64 }
    }

    fn is_being_killed(&self) -> bool {
        signals::fatal_pending(current())
    }

    fn mapped(&self, space: &AddressSpace, start: u64) {
        uprobe::mapped(space, start);
    }

    fn vdso_moved(&self, old_landing_pad: u64) {
        syscall_info::vdso_moved(old_landing_pad);
    }
}

impl sched::callbacks::Callbacks for Upper {
    fn switched_out(&self, prev: &Thread, next: &Thread) {
        lifecycle::switch(task::of(prev), task::of(next));
    }

    fn switch(&self, _work: SwitchWork, prev: &Thread, next: &Thread) {
        ptrace::debug::switch(task::of(prev), task::of(next));
    }

    fn record_switch(&self, next: &Thread) {
        trace_points::switch(task::of(next));
    }

    fn tick(&self, current: &Thread) {
        interval_timers::tick(task::of(current));
    }

    fn is_being_killed(&self, current: &Thread) -> bool {
        signals::fatal_pending(task::of(current))
    }

    fn before_user_mode(&self) {
        let task = current();
        let address = task.set_child_tid.load(Relaxed);
        if address != 0 {
            // Linux ignores a bad address here.
            let _ = memory::user::write(address, &seen(task.tid()));
        }
    }
}

/// Registers all of them. At boot, before anything is mapped in an address space and before the first switch.
pub fn register() {
    memory::callbacks::register(&Upper);
    sched::callbacks::register(&Upper);
    crate::vfs::fd::register_limit(|| current().process.rlimit(RLIMIT_NOFILE).0);
    work::exit::register(exit::do_exit, exit::do_group_exit);
    crate::machine::sync::while_spinning(memory::tlb::service_pending, crate::machine::time::rest);
    crate::machine::panic::on_panic(|| current().tid());
    crate::machine::power::on_shutdown(|log| {
        crate::fs::serial::drain();
        trace_points::tell(log);
    });
}
