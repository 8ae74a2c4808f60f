//! Drives the policy with a scripted kernel: work is raised at every point at which the policy calls the kernel, in
//! every subset, and the trace of each run is checked against the invariants.
#![cfg(not(loom))]

use std::cell::RefCell;

use portcullis::host::{InterruptFlag, Registers, Tracking};
use portcullis::trace;
use portcullis::work::{ExitWork, ExitWorkBits, SyscallWork, SyscallWorkBits};
use portcullis::{Arrived, Broken, InKernel, InSyscall, Interrupted, Kernel, Leaving, Nmi, Skip};

/// What the policy did, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    IrqsOn,
    IrqsOff,
    ReadExitWork,
    UserToKernel,
    KernelToUser,
    Hook(&'static str),
    Syscall(i64),
    Seen(&'static str, i64),
    Step(bool),
}

/// The machine and the kernel's script.
#[derive(Default)]
struct World {
    trace: Vec<Event>,
    irqs: bool,
    in_kernel: bool,
    exit: usize,
    syscall: usize,
    preempt: usize,
    /// Raise these bits at this point; points are counted from 0.
    raise: Option<(usize, usize)>,
    /// Whether `raise` has been carried out, and whether the word has been read since.
    raised: bool,
    read_since: bool,
    dispatch: bool,
    on_dispatch: bool,
    tracer_sets: Option<i64>,
    tracer_arms: usize,
    ptrace_skips: bool,
    seccomp_skips: bool,
    /// A 32-bit call is under way, and whether one should be.
    compat: bool,
    expect_compat: bool,
    broken: Vec<Broken>,
    /// What the timeline is told.
    told: Vec<trace::Event>,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::default());
}

fn world<T>(f: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(f)
}

/// Every call of the policy into the kernel is a point.
fn point(event: Event) {
    world(|w| {
        if let Some((at, bits)) = w.raise
            && at == w.trace.len()
        {
            w.exit |= bits;
            w.raised = true;
        }
        w.trace.push(event);
    });
}

struct Regs {
    number: i64,
    interrupts_on: bool,
}

impl Registers for Regs {
    fn from_user(&self) -> bool {
        true
    }
    fn interrupts_on(&self) -> bool {
        self.interrupts_on
    }
    fn syscall_number(&self) -> i64 {
        self.number
    }
}

struct Flag;
impl InterruptFlag for Flag {
    fn on() {
        point(Event::IrqsOn);
        world(|w| {
            assert!(
                !std::mem::replace(&mut w.irqs, true),
                "interrupts were on already"
            )
        });
    }
    fn off() {
        point(Event::IrqsOff);
        world(|w| {
            assert!(
                std::mem::replace(&mut w.irqs, false),
                "interrupts were off already"
            )
        });
    }
    fn is_on() -> bool {
        world(|w| w.irqs)
    }
}

struct Context;
impl Tracking for Context {
    type Saved = bool;
    fn user_to_kernel() -> bool {
        point(Event::UserToKernel);
        world(|w| !std::mem::replace(&mut w.in_kernel, true))
    }
    fn kernel_to_user() -> bool {
        point(Event::KernelToUser);
        world(|w| std::mem::replace(&mut w.in_kernel, false))
    }
    fn kernel_to_idle() -> bool {
        world(|w| std::mem::replace(&mut w.in_kernel, false))
    }
    fn idle_to_kernel() -> bool {
        world(|w| !std::mem::replace(&mut w.in_kernel, true))
    }
    fn kernel_to_guest() -> bool {
        world(|w| std::mem::replace(&mut w.in_kernel, false))
    }
    fn guest_to_kernel() -> bool {
        world(|w| !std::mem::replace(&mut w.in_kernel, true))
    }
    fn interrupt_enter() -> bool {
        world(|w| std::mem::replace(&mut w.in_kernel, true))
    }
    fn hit_kernel(saved: bool) -> bool {
        saved
    }
    fn interrupt_exit(saved: bool, _interrupts_on: bool) {
        world(|w| w.in_kernel = saved)
    }
    fn nmi_enter() -> bool {
        Self::interrupt_enter()
    }
    fn nmi_exit(saved: bool) {
        Self::interrupt_exit(saved, false)
    }
    fn in_kernel() -> bool {
        world(|w| w.in_kernel)
    }
}

/// A hook that takes its exit work.
fn exit_hook(name: &'static str, work: &[ExitWork], irqs: bool) {
    point(Event::Hook(name));
    world(|w| {
        assert_eq!(w.irqs, irqs, "{name}: interrupts");
        assert!(w.in_kernel, "{name}: context");
        assert_eq!(w.compat, w.expect_compat, "{name}: width of the call");
        for work in work {
            w.exit &= !(work.0 as usize);
        }
    });
}

fn syscall_hook(event: Event) {
    point(event);
    world(|w| {
        assert!(w.irqs && w.in_kernel, "{event:?}: interrupts on, context KERNEL");
        assert_eq!(w.compat, w.expect_compat, "{event:?}: width of the call");
    });
}

struct Script;
impl Kernel for Script {
    type Regs = Regs;
    type Irqs = Flag;
    type Context = Context;

    fn exit_work() -> usize {
        point(Event::ReadExitWork);
        world(|w| {
            w.read_since |= w.raised;
            w.exit
        })
    }
    fn trace(event: trace::Event, _value: u64) {
        world(|w| {
            assert!(w.in_kernel, "{event:?} outside the context KERNEL");
            w.told.push(event);
        });
    }
    fn syscall_work() -> usize {
        world(|w| w.syscall)
    }
    fn syscall(at: &mut InSyscall<'_, Regs>, number: i64) {
        assert_eq!(number, at.regs().number);
        syscall_hook(Event::Syscall(number));
    }
    fn syscall_32(at: &mut InSyscall<'_, Regs>, number: u32) {
        assert_eq!(number, at.regs().number as u32);
        syscall_hook(Event::Syscall(number.into()));
    }
    fn compat_call(on: bool) {
        world(|w| {
            assert!(!w.irqs && w.in_kernel, "interrupts off, context KERNEL");
            assert_ne!(
                std::mem::replace(&mut w.compat, on),
                on,
                "begun, or over, already"
            );
        });
    }
    fn preempt_count() -> usize {
        world(|w| w.preempt)
    }

    fn schedule(_: &mut InKernel<'_, Regs>) {
        exit_hook(
            "schedule",
            &[ExitWork::NEED_RESCHED, ExitWork::NEED_RESCHED_LAZY],
            true,
        );
    }
    fn uprobe_notify_resume(_: &mut InKernel<'_, Regs>) {
        exit_hook("uprobe", &[ExitWork::UPROBE], true);
    }
    fn klp_update_patch_state(_: &mut InKernel<'_, Regs>) {
        exit_hook("patch", &[ExitWork::PATCH_PENDING], true);
    }
    fn do_signal_or_restart(_: &mut InKernel<'_, Regs>) {
        exit_hook("signal", &[ExitWork::SIGPENDING, ExitWork::NOTIFY_SIGNAL], true);
    }
    fn resume_user_mode_work(_: &mut InKernel<'_, Regs>) {
        exit_hook("resume", &[ExitWork::NOTIFY_RESUME], true);
    }
    fn rseq_handle_notify_resume(_: &mut InKernel<'_, Regs>) {
        exit_hook("rseq", &[ExitWork::RSEQ], true);
    }
    const EXTRA_EXIT_WORK: usize = 1 << 20;
    fn arch_exit_to_user_mode_work(_: &mut InKernel<'_, Regs>, work: usize) {
        assert_ne!(work & Self::EXTRA_EXIT_WORK, 0);
        exit_hook("extra", &[ExitWork(1 << 20)], true);
    }
    fn fire_user_return_notifiers(_: &mut Leaving<'_, Regs>) {
        exit_hook("user-return", &[ExitWork::USER_RETURN_NOTIFY], false);
    }

    fn syscall_user_dispatch(_: &mut InKernel<'_, Regs>) -> bool {
        syscall_hook(Event::Hook("dispatch"));
        world(|w| {
            w.on_dispatch = w.dispatch;
            w.dispatch
        })
    }
    fn ptrace_report_syscall_entry(at: &mut InKernel<'_, Regs>) -> Result<(), Skip> {
        syscall_hook(Event::Hook("ptrace-entry"));
        let (number, skips) = world(|w| {
            w.syscall |= w.tracer_arms;
            (w.tracer_sets, w.ptrace_skips)
        });
        if let Some(number) = number {
            at.regs().number = number;
        }
        if skips { Err(Skip) } else { Ok(()) }
    }
    fn secure_computing(at: &mut InKernel<'_, Regs>) -> Result<(), Skip> {
        syscall_hook(Event::Seen("seccomp", at.regs().number));
        if world(|w| w.seccomp_skips) {
            Err(Skip)
        } else {
            Ok(())
        }
    }
    fn trace_sys_enter(_: &mut InKernel<'_, Regs>, number: i64) {
        syscall_hook(Event::Seen("trace-enter", number));
    }
    fn audit_syscall_entry(_: &mut InKernel<'_, Regs>, number: i64) {
        syscall_hook(Event::Seen("audit-entry", number));
    }
    fn rseq_syscall(_: &mut InKernel<'_, Regs>) {
        syscall_hook(Event::Hook("rseq-syscall"));
    }
    fn on_user_dispatch(_: &mut InKernel<'_, Regs>) -> bool {
        world(|w| std::mem::take(&mut w.on_dispatch))
    }
    fn audit_syscall_exit(_: &mut InKernel<'_, Regs>) {
        syscall_hook(Event::Hook("audit-exit"));
    }
    fn trace_sys_exit(_: &mut InKernel<'_, Regs>) {
        syscall_hook(Event::Hook("trace-exit"));
    }
    fn ptrace_report_syscall_exit(_: &mut InKernel<'_, Regs>, step: bool) {
        syscall_hook(Event::Step(step));
    }
    fn preempt_schedule_irq(_: &mut Interrupted<'_, Regs>) {
        point(Event::Hook("preempt"));
    }
    fn invariant_broken(broken: Broken) {
        world(|w| w.broken.push(broken));
    }
}

fn start(setup: impl FnOnce(&mut World)) {
    world(|w| {
        *w = World::default();
        setup(w);
    });
}

fn arrive(regs: &mut Regs) -> Arrived<'_, Regs> {
    // SAFETY: the scripted machine is in user mode; there is no other state.
    unsafe { Arrived::enter_from_user_mode::<Script>(regs) }
}

fn regs(number: i64) -> Regs {
    Regs {
        number,
        interrupts_on: true,
    }
}

/// The ways in: a system call, an exception that turns interrupts on, an interrupt.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    Syscall,
    Syscall32,
    Exception,
    Interrupt,
}

fn cross(way: Way) {
    let mut regs = regs(39);
    world(|w| w.expect_compat = way == Way::Syscall32);
    let arrived = arrive(&mut regs);
    let leaving = match way {
        Way::Syscall => arrived.syscall::<Script>(),
        Way::Exception => arrived.irqs_on::<Script>().irqs_off::<Script>(),
        Way::Syscall32 => arrived.syscall_32::<Script>(),
        Way::Interrupt => arrived.handled(),
    };
    let _cleared = match way {
        Way::Syscall32 => leaving.exit_to_user_mode_32::<Script>(),
        _ => leaving.exit_to_user_mode::<Script>(),
    };
    world(|w| assert!(!w.compat, "a 32-bit call that is over still counts"));
}

/// The bits that have a hook, and the hook.
const HOOKS: [(usize, &str); 10] = [
    (ExitWork::NEED_RESCHED.0 as usize, "schedule"),
    (ExitWork::NEED_RESCHED_LAZY.0 as usize, "schedule"),
    (ExitWork::UPROBE.0 as usize, "uprobe"),
    (ExitWork::PATCH_PENDING.0 as usize, "patch"),
    (ExitWork::SIGPENDING.0 as usize, "signal"),
    (ExitWork::NOTIFY_SIGNAL.0 as usize, "signal"),
    (ExitWork::NOTIFY_RESUME.0 as usize, "resume"),
    (ExitWork::RSEQ.0 as usize, "rseq"),
    (1 << 20, "extra"),
    (ExitWork::USER_RETURN_NOTIFY.0 as usize, "user-return"),
];

fn subset(mask: usize) -> usize {
    HOOKS
        .iter()
        .enumerate()
        .filter(|(n, _)| mask >> n & 1 != 0)
        .map(|(_, (bit, _))| bit)
        .sum()
}

/// What must hold of every run.
fn check(what: &dyn Fn() -> String) {
    world(|w| {
        assert!(
            !w.irqs && !w.in_kernel,
            "{}: user mode with interrupts off and context USER",
            what()
        );
        assert!(w.broken.is_empty(), "{}: {:?}", what(), w.broken);
        assert_eq!(
            w.trace.last(),
            Some(&Event::KernelToUser),
            "{}: context last",
            what()
        );
        // Work that was raised before the last read is done; only what came later may be left, and finds its interrupt.
        let late = if w.raised && !w.read_since {
            w.raise.unwrap().1
        } else {
            0
        };
        assert_eq!(w.exit & !late, 0, "{}: lost work in {:?}", what(), w.trace);
        // Interrupts were off from the last read to the end.
        let last_read = w
            .trace
            .iter()
            .rposition(|e| *e == Event::ReadExitWork)
            .expect("the word is read");
        assert!(
            !w.trace[last_read..].contains(&Event::IrqsOn),
            "{}: {:?}",
            what(),
            w.trace
        );
        assert!(is_whole(&w.told), "{}: the timeline has {:?}", what(), w.told);
    });
}

/// Whether a timeline has a crossing from end to end: maybe a system call in it, then rounds of exit work.
fn is_whole(told: &[trace::Event]) -> bool {
    use trace::Event::*;
    let [FromUser, inside @ .., ToUser] = told else {
        return false;
    };
    let rounds = match inside {
        [SyscallEnter | Syscall32Enter, SyscallExit, rounds @ ..] => rounds,
        rounds => rounds,
    };
    rounds.chunks(2).all(|round| round == [ExitWork, ExitWorkDone])
}

#[test]
fn work_raised_anywhere_in_any_subset_is_done() {
    let singles = (0..HOOKS.len()).map(|n| 1 << n);
    let initials: Vec<usize> = [0, (1 << HOOKS.len()) - 1].into_iter().chain(singles).collect();
    let mut runs = 0;
    for way in [Way::Syscall, Way::Syscall32, Way::Exception, Way::Interrupt] {
        for &initial in &initials {
            for raised in 0..1 << HOOKS.len() {
                for at in 0.. {
                    start(|w| {
                        w.exit = subset(initial);
                        w.raise = Some((at, subset(raised)));
                    });
                    cross(way);
                    check(&|| format!("{way:?}, {initial:#x} at first, {raised:#x} raised at point {at}"));
                    runs += 1;
                    if !world(|w| w.raised) {
                        break;
                    }
                }
            }
        }
    }
    assert!(runs > 300_000, "{runs} runs");
}

#[test]
fn each_bit_alone_reaches_its_hook_and_no_other() {
    for (bit, hook) in HOOKS {
        start(|w| w.exit = bit);
        cross(Way::Interrupt);
        let hooks: Vec<_> = world(|w| {
            w.trace
                .iter()
                .filter(|e| matches!(e, Event::Hook(_)))
                .copied()
                .collect()
        });
        assert_eq!(hooks, [Event::Hook(hook)], "{bit:#x}");
    }
}

#[test]
fn every_named_flag_is_in_a_mask() {
    for (name, flag) in ExitWork::NAMED {
        assert_ne!(ExitWorkBits::DEFAULT.all() & flag.0 as usize, 0, "{name}");
    }
    for (name, flag) in SyscallWork::NAMED {
        let bits = SyscallWorkBits::DEFAULT;
        assert_ne!((bits.at_entry() | bits.at_exit()) & flag.0 as usize, 0, "{name}");
    }
}

#[test]
fn an_interrupt_runs_no_syscall_work() {
    for way in [Way::Exception, Way::Interrupt] {
        start(|w| w.syscall = usize::MAX);
        cross(way);
        world(|w| {
            assert!(
                !w.trace
                    .iter()
                    .any(|e| matches!(e, Event::Hook(_) | Event::Seen(..) | Event::Step(_)))
            )
        });
    }
}

/// What a system call with this work armed has to do, written down independently of the policy.
fn expected(
    armed: usize,
    dispatched: bool,
    ptrace_skips: bool,
    seccomp_skips: bool,
    number: i64,
) -> Vec<Event> {
    let has = |work: SyscallWork| armed & work.0 as usize != 0;
    let mut events = Vec::new();
    let mut skip = false;
    if has(SyscallWork::USER_DISPATCH) {
        events.push(Event::Hook("dispatch"));
        skip = dispatched;
    }
    if !skip && (has(SyscallWork::TRACE) || has(SyscallWork::EMU)) {
        events.push(Event::Hook("ptrace-entry"));
        skip = ptrace_skips || has(SyscallWork::EMU);
    }
    if !skip && has(SyscallWork::SECCOMP) {
        events.push(Event::Seen("seccomp", number));
        skip = seccomp_skips;
    }
    if !skip && has(SyscallWork::TRACEPOINT) {
        events.push(Event::Seen("trace-enter", number));
    }
    if !skip && has(SyscallWork::AUDIT) {
        events.push(Event::Seen("audit-entry", number));
    }
    if !skip {
        events.push(Event::Syscall(number));
    }
    events.push(Event::Hook("rseq-syscall"));
    if has(SyscallWork::USER_DISPATCH) && dispatched {
        return events;
    }
    if has(SyscallWork::AUDIT) {
        events.push(Event::Hook("audit-exit"));
    }
    if has(SyscallWork::TRACEPOINT) {
        events.push(Event::Hook("trace-exit"));
    }
    let step = has(SyscallWork::EXIT_TRAP) && !has(SyscallWork::EMU);
    if has(SyscallWork::TRACE) || step {
        events.push(Event::Step(step));
    }
    events
}

#[test]
fn syscall_hooks_run_exactly_once_in_order() {
    for armed in 0..1 << SyscallWork::NAMED.len() {
        for choice in 0..32 {
            let way = if choice & 16 == 0 {
                Way::Syscall
            } else {
                Way::Syscall32
            };
            let [dispatched, ptrace_skips, seccomp_skips, tracer_sets] =
                [1, 2, 4, 8].map(|bit| choice & bit != 0);
            start(|w| {
                w.syscall = armed;
                w.dispatch = dispatched;
                w.ptrace_skips = ptrace_skips;
                w.seccomp_skips = seccomp_skips;
                w.tracer_sets = tracer_sets.then_some(57);
            });
            cross(way);
            let stopped = armed & (SyscallWork::TRACE.0 | SyscallWork::EMU.0) as usize != 0
                && !(dispatched && armed & SyscallWork::USER_DISPATCH.0 as usize != 0);
            let number = if tracer_sets && stopped { 57 } else { 39 };
            let seen: Vec<_> = world(|w| {
                let is_hook = |e: &&Event| {
                    matches!(
                        e,
                        Event::Hook(_) | Event::Seen(..) | Event::Syscall(_) | Event::Step(_)
                    )
                };
                w.trace.iter().filter(is_hook).copied().collect()
            });
            let expected = expected(armed, dispatched, ptrace_skips, seccomp_skips, number);
            assert_eq!(seen, expected, "armed {armed:#x}, choice {choice}");
            check(&|| format!("armed {armed:#x}, choice {choice}"));
        }
    }
}

#[test]
fn a_filter_that_the_tracer_arms_sees_this_call() {
    start(|w| {
        w.syscall = SyscallWork::TRACE.0 as usize;
        w.tracer_arms = SyscallWork::SECCOMP.0 as usize;
        w.tracer_sets = Some(57);
    });
    cross(Way::Syscall);
    world(|w| assert!(w.trace.contains(&Event::Seen("seccomp", 57)), "{:?}", w.trace));
}

#[test]
fn the_kernel_is_preempted_only_where_it_may_be() {
    for interrupts_on in [false, true] {
        for preempt in [0, 1] {
            for resched in [false, true] {
                for idle in [false, true] {
                    start(|w| {
                        w.in_kernel = !idle;
                        w.preempt = preempt;
                        w.exit = if resched {
                            ExitWork::NEED_RESCHED.0 as usize
                        } else {
                            0
                        };
                    });
                    let mut regs = Regs {
                        number: -1,
                        interrupts_on,
                    };
                    // SAFETY: the scripted machine is in the kernel; there is no other state.
                    let (interrupted, saved) = unsafe { Interrupted::enter_from_kernel::<Script>(&mut regs) };
                    assert!(world(|w| w.in_kernel));
                    interrupted.exit_to_kernel::<Script>(saved);
                    let may = interrupts_on && preempt == 0 && resched && !idle;
                    world(|w| {
                        assert_eq!(w.trace.contains(&Event::Hook("preempt")), may);
                        assert_eq!(w.in_kernel, !idle, "the context is put back");
                    });
                }
            }
        }
    }
}

#[test]
fn an_nmi_puts_back_what_it_found() {
    for in_kernel in [false, true] {
        start(|w| w.in_kernel = in_kernel);
        let mut regs = regs(-1);
        // SAFETY: the scripted machine is in the kernel; there is no other state.
        let (nmi, saved) = unsafe { Nmi::enter_from_kernel::<Script>(&mut regs) };
        assert!(world(|w| w.in_kernel));
        nmi.exit_to_kernel::<Script>(saved);
        assert_eq!(world(|w| w.in_kernel), in_kernel);
    }
}

#[test]
fn broken_invariants_are_reported() {
    // Arrival in the context KERNEL.
    start(|w| w.in_kernel = true);
    cross(Way::Interrupt);
    world(|w| assert_eq!(w.broken, [Broken::ArrivedNotFromUser]));

    // Preemption disabled on the way out (checked with debug assertions).
    start(|w| w.preempt = 1);
    cross(Way::Interrupt);
    let expected: &[Broken] = if cfg!(debug_assertions) {
        &[Broken::PreemptionDisabled]
    } else {
        &[]
    };
    world(|w| assert_eq!(w.broken, expected));
}

#[test]
fn a_guest_is_entered_with_nothing_pending() {
    for at in 0.. {
        start(|w| {
            w.in_kernel = true;
            w.irqs = true;
            w.raise = Some((
                at,
                (ExitWork::NEED_RESCHED.0 | ExitWork::NOTIFY_RESUME.0) as usize,
            ));
        });
        let mut regs = regs(-1);
        // SAFETY: the scripted machine is in the kernel with interrupts on; there is no other state.
        let kernel = unsafe { InKernel::assume(&mut regs) };
        let entering = kernel
            .xfer_to_guest_mode::<Script>()
            .ok()
            .expect("no signal is pending");
        let (_kernel, pending) = entering.run::<Script, _>(|| {
            world(|w| {
                assert!(!w.irqs && !w.in_kernel);
                if w.raised && w.read_since { w.exit } else { 0 }
            })
        });
        assert_eq!(pending, 0);
        world(|w| assert!(w.irqs && w.in_kernel));
        if !world(|w| w.raised) {
            break;
        }
    }
    // A signal is not delivered here.
    start(|w| {
        w.in_kernel = true;
        w.irqs = true;
        w.exit = ExitWork::SIGPENDING.0 as usize;
    });
    let mut regs = regs(-1);
    // SAFETY: as above.
    let kernel = unsafe { InKernel::assume(&mut regs) };
    assert!(kernel.xfer_to_guest_mode::<Script>().is_err());
    world(|w| assert!(w.irqs && w.in_kernel && w.exit != 0));
}
