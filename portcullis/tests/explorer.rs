//! Drives the policy with a scripted kernel: work is raised at every point at which the policy calls the kernel, in
//! every subset, and the trace of each run is checked against the invariants and against the list of work
//! (`ExitWork::KINDS`, `SyscallWork::KINDS`).
#![cfg(not(loom))]

use std::cell::RefCell;

use portcullis::die::{Die, Notifier, Verdict, notify_die};
use portcullis::machine::{InterruptFlag, Registers, Tracking};
use portcullis::trace;
use portcullis::work::{Ends, ExitWork, ExitWorkBits, Phase, SyscallWork, SyscallWorkBits};
use portcullis::{
    Again, Arrived, Broken, Diagnostics, Event as Exceptional, ExitHooks, Gate, GuestHooks, InKernel, InSyscall,
    Interrupted, Kernel, Leaving, Machine, NmiContext, Settled, Skip, Syscall, Syscall32, SyscallHooks, Wrong,
};

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
    /// This hook misbehaves, in this way.
    misbehaves: Option<(&'static str, Mischief)>,
    /// How often the kernel raised work by itself.
    raised_here: u32,
    /// How often the hook after the loop asks for another round.
    again: u32,
    /// Whether it does so without other work.
    again_alone: bool,
    /// How often the kernel was asked whether it is at a point where it may be preempted.
    preemption_points: u32,
    /// Who was asked of the die chain.
    asked: Vec<&'static str>,
    /// What the next calls of `schedule` grant in place of another task's turn, the last first: whether it is over at once.
    grants: Vec<bool>,
    granted: Option<bool>,
}

/// What a hook may do wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Mischief {
    /// Leaves its flag up.
    LeavesFlag,
    /// Changes the interrupt flag.
    FlipsInterrupts,
    DisablesPreemption,
    LeavesContext,
    /// Raises work of the loop's.
    Raises,
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
    fn syscall_result(&self) -> i64 {
        0
    }
    fn syscall_number(&self) -> i64 {
        self.number
    }
}

struct Flag;
// SAFETY: a scripted machine has no GS base to protect.
unsafe impl InterruptFlag for Flag {
    unsafe fn on() {
        point(Event::IrqsOn);
        world(|w| assert!(!std::mem::replace(&mut w.irqs, true), "interrupts were on already"));
    }
    fn off() {
        point(Event::IrqsOff);
        world(|w| assert!(std::mem::replace(&mut w.irqs, false), "interrupts were off already"));
    }
    fn is_on() -> bool {
        world(|w| w.irqs)
    }
}

struct Context;
// SAFETY: no grace period trusts it.
unsafe impl Tracking for Context {
    type Saved = bool;
    unsafe fn user_to_kernel() -> bool {
        point(Event::UserToKernel);
        world(|w| !std::mem::replace(&mut w.in_kernel, true))
    }
    unsafe fn kernel_to_user() -> bool {
        point(Event::KernelToUser);
        world(|w| std::mem::replace(&mut w.in_kernel, false))
    }
    unsafe fn kernel_to_idle() -> bool {
        world(|w| std::mem::replace(&mut w.in_kernel, false))
    }
    unsafe fn idle_to_kernel() -> bool {
        world(|w| !std::mem::replace(&mut w.in_kernel, true))
    }
    unsafe fn kernel_to_guest() -> bool {
        world(|w| std::mem::replace(&mut w.in_kernel, false))
    }
    unsafe fn guest_to_kernel() -> bool {
        world(|w| !std::mem::replace(&mut w.in_kernel, true))
    }
    unsafe fn interrupt_enter() -> bool {
        world(|w| std::mem::replace(&mut w.in_kernel, true))
    }
    fn found_kernel(saved: bool) -> bool {
        saved
    }
    unsafe fn interrupt_exit(saved: bool, _interrupts_on: bool) {
        world(|w| w.in_kernel = saved)
    }
    fn in_kernel() -> bool {
        world(|w| w.in_kernel)
    }
}

/// The kinds of exit work that call this hook, by the list.
fn work_of(hook: &str) -> usize {
    let kinds = ExitWork::KINDS.iter().filter(|kind| kind.hook == hook);
    kinds.map(|kind| bits(kind.flag)).sum()
}

fn bits(work: ExitWork) -> usize {
    work.bits() as usize
}

/// Exit work of the script's own.
const OWN_LOOP: usize = 1 << 20;
const OWN_ONCE: usize = 1 << 21;

/// A hook that takes its exit work.
fn exit_hook(name: &'static str, irqs: bool) {
    point(Event::Hook(name));
    let mischief = world(|w| {
        assert_eq!(w.irqs, irqs, "{name}: interrupts");
        assert!(w.in_kernel, "{name}: context");
        assert_eq!(w.compat, w.expect_compat, "{name}: width of the call");
        let own = match name {
            "arch_exit_to_user_mode_work" => OWN_LOOP,
            "arch_exit_to_user_mode_once" => OWN_ONCE,
            _ => 0,
        };
        let mischief = w.misbehaves.and_then(|(hook, mischief)| (hook == name).then_some(mischief));
        if mischief != Some(Mischief::LeavesFlag) {
            w.exit &= !(work_of(name) | own);
        }
        mischief
    });
    misbehave(mischief);
}

fn misbehave(mischief: Option<Mischief>) {
    world(|w| match mischief {
        None | Some(Mischief::LeavesFlag) => {}
        Some(Mischief::FlipsInterrupts) => w.irqs = !w.irqs,
        Some(Mischief::DisablesPreemption) => w.preempt += 1,
        Some(Mischief::LeavesContext) => w.in_kernel = false,
        Some(Mischief::Raises) => {
            w.exit |= bits(ExitWork::SIGPENDING);
            w.raised_here += 1;
        }
    });
}

fn syscall_hook(event: Event) {
    point(event);
    world(|w| {
        assert!(w.irqs && w.in_kernel, "{event:?}: interrupts on, context KERNEL");
        assert_eq!(w.compat, w.expect_compat, "{event:?}: width of the call");
    });
    let name = match event {
        Event::Hook(name) => name,
        Event::Syscall(_) => "syscall",
        _ => return,
    };
    misbehave(world(|w| w.misbehaves.and_then(|(hook, mischief)| (hook == name).then_some(mischief))));
}

struct Script;
impl Machine for Script {
    type Regs = Regs;
    type SavedRegs = Regs;
    type Irqs = Flag;
    type Context = Context;
    fn invariant_broken(broken: Broken) {
        world(|w| w.broken.push(broken));
        // What the library does not correct must not spoil the rest of the run.
        match broken {
            Broken::Returned { wrong: Wrong::Context, .. } => world(|w| w.in_kernel = true),
            Broken::Returned { wrong: Wrong::PreemptionDisabled, .. } => world(|w| w.preempt = 0),
            Broken::NotTaken { .. } => world(|w| w.misbehaves = None),
            _ => {}
        }
    }
}

impl Kernel for Script {
    const EXIT_WORK: ExitWorkBits = ExitWorkBits { own_loop: OWN_LOOP, own_once: OWN_ONCE, ..ExitWorkBits::DEFAULT };

    fn exit_work() -> usize {
        point(Event::ReadExitWork);
        world(|w| {
            // The look for work that is done once is none for the rest.
            let is_the_loops =
                matches!(w.trace[..w.trace.len() - 1].last(), None | Some(Event::IrqsOff | Event::UserToKernel));
            w.read_since |= w.raised && is_the_loops;
            w.exit
        })
    }
    fn syscall_work() -> usize {
        world(|w| w.syscall)
    }
    fn syscall(at: &mut InSyscall<'_, Self>, number: i64) {
        assert_eq!(number, at.regs().number);
        syscall_hook(Event::Syscall(number));
    }
    fn syscall_32(at: &mut InSyscall<'_, Self>, number: u32) {
        assert_eq!(number, at.regs().number as u32);
        syscall_hook(Event::Syscall(number.into()));
    }
    fn compat_call(on: bool) {
        world(|w| {
            assert!(!w.irqs && w.in_kernel, "interrupts off, context KERNEL");
            assert_ne!(std::mem::replace(&mut w.compat, on), on, "begun, or over, already");
        });
    }
    fn preempt_count() -> usize {
        world(|w| w.preempt)
    }
}

impl Diagnostics for Script {
    const DIE_CHAIN: &'static [Notifier<Regs>] = &[
        |_, _| {
            world(|w| w.asked.push("first"));
            Verdict::Pass
        },
        |regs, die| {
            world(|w| w.asked.push("second"));
            regs.number += 1;
            if die.vector == 3 { Verdict::Handled } else { Verdict::Pass }
        },
        |_, _| {
            world(|w| w.asked.push("third"));
            Verdict::Pass
        },
    ];

    fn check_preemption_point() {
        world(|w| w.preemption_points += 1);
    }
    fn trace(event: trace::Event, _value: u64) {
        world(|w| {
            assert!(w.in_kernel, "{event:?} outside the context KERNEL");
            w.told.push(event);
        });
    }
    fn raised_here() -> u32 {
        world(|w| w.raised_here)
    }
}

impl ExitHooks for Script {
    fn schedule(_: &mut InKernel<'_, Self>, work: usize) {
        assert_ne!(work & bits(ExitWork::NEED_RESCHED | ExitWork::NEED_RESCHED_LAZY), 0);
        exit_hook("schedule", true);
        world(|w| w.granted = w.grants.pop());
    }
    fn uprobe_notify_resume(_: &mut InKernel<'_, Self>) {
        exit_hook("uprobe_notify_resume", true);
    }
    fn klp_update_patch_state(_: &mut InKernel<'_, Self>) {
        exit_hook("klp_update_patch_state", true);
    }
    fn do_signal_or_restart(_: &mut InKernel<'_, Self>) {
        exit_hook("do_signal_or_restart", true);
    }
    fn resume_user_mode_work(_: &mut InKernel<'_, Self>) {
        exit_hook("resume_user_mode_work", true);
    }
    fn arch_exit_to_user_mode_work(_: &mut InKernel<'_, Self>, work: usize) {
        assert_ne!(work & OWN_LOOP, 0);
        exit_hook("arch_exit_to_user_mode_work", true);
    }
    fn rseq_exit_to_user_mode_restart(_: &mut Settled<'_, Self>) -> Result<(), Again> {
        exit_hook("rseq_exit_to_user_mode_restart", false);
        world(|w| {
            if w.again == 0 {
                return Ok(());
            }
            w.again -= 1;
            let more = if w.again_alone { ExitWork::RSEQ } else { ExitWork::NOTIFY_RESUME | ExitWork::RSEQ };
            w.exit |= bits(more);
            Err(Again)
        })
    }
    fn rseq_arm_slice_extension_timer(_: &mut Settled<'_, Self>) -> Result<(), Again> {
        world(|w| {
            assert!(!w.irqs, "interrupts off");
            let Some(over) = w.granted.take() else {
                return Ok(());
            };
            w.trace.push(Event::Hook("rseq_arm_slice_extension_timer"));
            if !over {
                return Ok(());
            }
            w.exit |= bits(ExitWork::NEED_RESCHED);
            Err(Again)
        })
    }
    fn fire_user_return_notifiers(_: &mut Settled<'_, Self>) {
        exit_hook("fire_user_return_notifiers", false);
    }
    fn arch_exit_to_user_mode_once(_: &mut Settled<'_, Self>, work: usize) {
        assert_ne!(work & OWN_ONCE, 0);
        exit_hook("arch_exit_to_user_mode_once", false);
    }
    fn preempt_schedule_irq(_: &mut Interrupted<'_, Self>) {
        point(Event::Hook("preempt"));
    }
}

impl GuestHooks for Script {}

impl SyscallHooks for Script {
    fn syscall_user_dispatch(_: &mut InKernel<'_, Self>) -> bool {
        syscall_hook(Event::Hook("syscall_user_dispatch"));
        world(|w| {
            w.on_dispatch = w.dispatch;
            w.dispatch
        })
    }
    fn rseq_syscall_enter_work(_: &mut InKernel<'_, Self>, number: i64) {
        syscall_hook(Event::Seen("rseq_syscall_enter_work", number));
    }
    fn ptrace_report_syscall_entry(at: &mut InKernel<'_, Self>) -> Result<(), Skip> {
        syscall_hook(Event::Hook("ptrace_report_syscall_entry"));
        let (number, skips) = world(|w| {
            w.syscall |= w.tracer_arms;
            (w.tracer_sets, w.ptrace_skips)
        });
        if let Some(number) = number {
            at.regs().number = number;
        }
        if skips { Err(Skip) } else { Ok(()) }
    }
    fn secure_computing(at: &mut InKernel<'_, Self>) -> Result<(), Skip> {
        syscall_hook(Event::Seen("secure_computing", at.regs().number));
        if world(|w| w.seccomp_skips) { Err(Skip) } else { Ok(()) }
    }
    fn trace_sys_enter(_: &mut InKernel<'_, Self>, number: i64) {
        syscall_hook(Event::Seen("trace_sys_enter", number));
    }
    fn audit_syscall_entry(_: &mut InKernel<'_, Self>, number: i64) {
        syscall_hook(Event::Seen("audit_syscall_entry", number));
    }
    fn rseq_syscall(_: &mut InKernel<'_, Self>) {
        syscall_hook(Event::Hook("rseq_syscall"));
    }
    fn on_user_dispatch(_: &mut InKernel<'_, Self>) -> bool {
        world(|w| std::mem::take(&mut w.on_dispatch))
    }
    fn audit_syscall_exit(_: &mut InKernel<'_, Self>) {
        syscall_hook(Event::Hook("audit_syscall_exit"));
    }
    fn trace_sys_exit(_: &mut InKernel<'_, Self>) {
        syscall_hook(Event::Hook("trace_sys_exit"));
    }
    fn ptrace_report_syscall_exit(_: &mut InKernel<'_, Self>, step: bool) {
        syscall_hook(Event::Step(step));
    }
}

fn start(setup: impl FnOnce(&mut World)) {
    world(|w| {
        *w = World::default();
        setup(w);
    });
}

fn arrive<C: portcullis::state::Crossing>(regs: &mut Regs) -> Arrived<'_, Script, C> {
    // SAFETY: the scripted machine is in user mode; there is no other state.
    unsafe { Arrived::enter_from_user_mode(regs) }
}

fn regs(number: i64) -> Regs {
    Regs { number, interrupts_on: true }
}

/// The ways in: a system call, with one test for all work at its end or in two parts, a 32-bit one, an exception that turns
/// interrupts on, an interrupt.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    Syscall,
    SyscallInTwo,
    Syscall32,
    Exception,
    Interrupt,
}

fn cross(way: Way) {
    let mut regs = regs(39);
    world(|w| w.expect_compat = way == Way::Syscall32);
    match way {
        Way::Syscall => arrive::<Syscall>(&mut regs).syscall_and_exit_work().exit_to_user_mode().suspend(),
        Way::SyscallInTwo => leave(arrive::<Syscall>(&mut regs).syscall()),
        Way::Syscall32 => leave(arrive::<Syscall32>(&mut regs).syscall_32()),
        Way::Exception => leave(arrive::<Exceptional>(&mut regs).irqs_on().irqs_off()),
        Way::Interrupt => leave(arrive::<Exceptional>(&mut regs).handled()),
    }
    world(|w| assert!(!w.compat, "a 32-bit call that is over still counts"));
}

fn leave<C: portcullis::state::Crossing>(leaving: Leaving<'_, Script, C>) {
    leaving.exit_to_user_mode_prepare().exit_to_user_mode().suspend();
}

/// The bits that have a hook, and the hook: the list, and the script's own.
fn hooks() -> Vec<(usize, &'static str)> {
    let listed = ExitWork::KINDS.iter().map(|kind| (bits(kind.flag), kind.hook));
    let own = [(OWN_LOOP, "arch_exit_to_user_mode_work"), (OWN_ONCE, "arch_exit_to_user_mode_once")];
    listed.chain(own).collect()
}

fn subset(mask: usize) -> usize {
    hooks().iter().enumerate().filter(|(n, _)| mask >> n & 1 != 0).map(|(_, (bit, _))| bit).sum()
}

/// What must hold of every run.
fn check(what: &dyn Fn() -> String) {
    world(|w| {
        assert!(!w.irqs && !w.in_kernel, "{}: user mode with interrupts off and context USER", what());
        assert!(w.broken.is_empty(), "{}: {:?}", what(), w.broken);
        assert_eq!(w.trace.last(), Some(&Event::KernelToUser), "{}: context last", what());
        // Work that was raised before the last read is done; only what came later may be left, and finds its interrupt.
        let late = if w.raised && !w.read_since { w.raise.unwrap().1 } else { 0 };
        assert_eq!(w.exit & !late, 0, "{}: lost work in {:?}", what(), w.trace);
        // Interrupts were off from the last read to the end.
        let last_read = w.trace.iter().rposition(|e| *e == Event::ReadExitWork).expect("the word is read");
        assert!(!w.trace[last_read..].contains(&Event::IrqsOn), "{}: {:?}", what(), w.trace);
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
    let kinds = hooks().len();
    let singles = (0..kinds).map(|n| 1 << n);
    let initials: Vec<usize> = [0, (1 << kinds) - 1].into_iter().chain(singles).collect();
    let mut runs = 0;
    for way in [Way::Syscall, Way::SyscallInTwo, Way::Syscall32, Way::Exception, Way::Interrupt] {
        for &initial in &initials {
            for raised in 0..1 << kinds {
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
    for (bit, hook) in hooks() {
        start(|w| w.exit = bit);
        cross(Way::Interrupt);
        let called: Vec<_> = world(|w| w.trace.iter().filter(|e| matches!(e, Event::Hook(_))).copied().collect());
        assert_eq!(called, [Event::Hook(hook)], "{bit:#x}");
    }
}

/// The list says when a kind of work is done; the loop is written by hand.
#[test]
fn each_kind_is_done_in_the_phase_and_in_the_order_that_the_list_says() {
    for way in [Way::Syscall, Way::SyscallInTwo, Way::Interrupt] {
        start(|w| w.exit = subset(usize::MAX));
        cross(way);
        let (calls, irqs): (Vec<&str>, Vec<bool>) = world(|w| {
            let mut on = false;
            let mut calls = Vec::new();
            for event in &w.trace {
                match event {
                    Event::IrqsOn => on = true,
                    Event::IrqsOff => on = false,
                    Event::Hook(name) if !name.starts_with("rseq_syscall") => calls.push((*name, on)),
                    _ => {}
                }
            }
            calls.into_iter().unzip()
        });
        let due = |phase| {
            ExitWork::KINDS.iter().filter(move |kind| {
                kind.phase == phase
                    && (kind.ends == Ends::Both || (kind.ends == Ends::Syscalls) == (way != Way::Interrupt))
            })
        };
        let mut expected: Vec<&str> = due(Phase::Loop).map(|kind| kind.hook).collect();
        expected.push("arch_exit_to_user_mode_work");
        let in_loop = {
            expected.dedup();
            expected.len()
        };
        expected.extend(due(Phase::Repeat).map(|kind| kind.hook));
        expected.extend(due(Phase::Once).map(|kind| kind.hook));
        expected.push("arch_exit_to_user_mode_once");
        assert_eq!(calls, expected, "{way:?}");
        for (n, on) in irqs.into_iter().enumerate() {
            assert_eq!(on, n < in_loop, "{way:?}: {}", calls[n]);
        }
    }
}

#[test]
fn the_hook_after_the_loop_may_send_the_task_back() {
    for again in 1..4 {
        start(|w| {
            w.exit = bits(ExitWork::RSEQ);
            w.again = again;
        });
        cross(Way::Syscall);
        check(&|| format!("{again} times"));
        let count = |hook| world(|w| w.trace.iter().filter(|e| **e == Event::Hook(hook)).count());
        assert_eq!(count("rseq_exit_to_user_mode_restart"), again as usize + 1);
        assert_eq!(count("resume_user_mode_work"), again as usize);
    }
}

#[test]
fn an_extension_that_schedule_grants_is_timed_after_the_loop() {
    for over in [false, true] {
        start(|w| {
            w.exit = bits(ExitWork::NEED_RESCHED);
            w.grants = vec![over];
        });
        cross(Way::Interrupt);
        check(&|| format!("over already: {over}"));
        let hooks: Vec<_> = world(|w| w.trace.iter().filter(|e| matches!(e, Event::Hook(_))).copied().collect());
        let mut expected = vec![Event::Hook("schedule"), Event::Hook("rseq_arm_slice_extension_timer")];
        // Then another task is due after all.
        expected.extend(over.then_some(Event::Hook("schedule")));
        assert_eq!(hooks, expected);
    }
}

#[test]
fn every_kind_is_in_a_mask() {
    let exit = ExitWorkBits::DEFAULT;
    for kind in ExitWork::KINDS {
        let flag = bits(kind.flag);
        let ends = (exit.due(true) & flag != 0, exit.due(false) & flag != 0);
        let expected = match kind.ends {
            Ends::Both => (true, true),
            Ends::Syscalls => (true, false),
            Ends::Events => (false, true),
        };
        assert_eq!(ends, expected, "{}", kind.name);
        assert_eq!(exit.before_guest() & flag != 0, kind.guest, "{}", kind.name);
        let phases = [Phase::Loop, Phase::Repeat, Phase::Once].map(|phase| exit.of(phase) & flag != 0);
        assert_eq!(phases.iter().filter(|&&phase| phase).count(), 1, "{}", kind.name);
    }
    for kind in SyscallWork::KINDS {
        let flag = kind.flag.bits() as usize;
        let bits = SyscallWorkBits::DEFAULT;
        let masks = (bits.at_entry() & flag != 0, bits.at_exit() & flag != 0);
        assert_eq!(masks, (kind.entry.is_some(), kind.exit.is_some()), "{}", kind.name);
        assert!(masks.0 || masks.1, "{}", kind.name);
    }
}

#[test]
fn masks_may_differ_between_system_calls_and_events() {
    let bits = ExitWorkBits {
        own_loop: OWN_LOOP | OWN_ONCE,
        not_after_syscalls: OWN_LOOP,
        not_after_events: OWN_ONCE,
        ..ExitWorkBits::DEFAULT
    };
    assert_eq!(bits.due(true) & bits.own_loop, OWN_ONCE);
    assert_eq!(bits.due(false) & bits.own_loop, OWN_LOOP);
    assert!(bits.is_disjoint());
    assert!(!ExitWorkBits { own_once: OWN_LOOP, ..bits }.is_disjoint());
    assert!(!ExitWorkBits { own_once: bits.sigpending, ..bits }.is_disjoint());
}

#[test]
fn an_interrupt_runs_no_syscall_work() {
    for way in [Way::Exception, Way::Interrupt] {
        start(|w| w.syscall = usize::MAX);
        cross(way);
        world(|w| assert!(!w.trace.iter().any(|e| matches!(e, Event::Hook(_) | Event::Seen(..) | Event::Step(_)))));
    }
}

/// What a system call with this work armed has to do, written down independently of the policy.
fn expected(armed: usize, dispatched: bool, ptrace_skips: bool, seccomp_skips: bool, number: i64) -> Vec<Event> {
    let has = |work: SyscallWork| armed & work.bits() as usize != 0;
    let mut events = Vec::new();
    let mut skip = false;
    if has(SyscallWork::USER_DISPATCH) {
        events.push(Event::Hook("syscall_user_dispatch"));
        skip = dispatched;
    }
    if !skip && has(SyscallWork::RSEQ_SLICE) {
        events.push(Event::Seen("rseq_syscall_enter_work", 39));
    }
    if !skip && (has(SyscallWork::TRACE) || has(SyscallWork::EMU)) {
        events.push(Event::Hook("ptrace_report_syscall_entry"));
        skip = ptrace_skips || has(SyscallWork::EMU);
    }
    if !skip && has(SyscallWork::SECCOMP) {
        events.push(Event::Seen("secure_computing", number));
        skip = seccomp_skips;
    }
    if !skip && has(SyscallWork::TRACEPOINT) {
        events.push(Event::Seen("trace_sys_enter", number));
    }
    if !skip && has(SyscallWork::AUDIT) {
        events.push(Event::Seen("audit_syscall_entry", number));
    }
    if !skip {
        events.push(Event::Syscall(number));
    }
    events.extend(expected_at_exit(armed, dispatched));
    events
}

/// What the end of a call does.
fn expected_at_exit(armed: usize, dispatched: bool) -> Vec<Event> {
    let has = |work: SyscallWork| armed & work.bits() as usize != 0;
    let mut events = vec![Event::Hook("rseq_syscall")];
    if has(SyscallWork::USER_DISPATCH) && dispatched {
        return events;
    }
    if has(SyscallWork::AUDIT) {
        events.push(Event::Hook("audit_syscall_exit"));
    }
    if has(SyscallWork::TRACEPOINT) {
        events.push(Event::Hook("trace_sys_exit"));
    }
    let step = has(SyscallWork::EXIT_TRAP) && !has(SyscallWork::EMU);
    if has(SyscallWork::TRACE) || step {
        events.push(Event::Step(step));
    }
    events
}

#[test]
fn syscall_hooks_run_exactly_once_in_order() {
    for armed in 0..1 << SyscallWork::KINDS.len() {
        for choice in 0..48 {
            let way = [Way::Syscall, Way::SyscallInTwo, Way::Syscall32][choice >> 4];
            let [dispatched, ptrace_skips, seccomp_skips, tracer_sets] = [1, 2, 4, 8].map(|bit| choice & bit != 0);
            start(|w| {
                w.syscall = armed;
                w.dispatch = dispatched;
                w.ptrace_skips = ptrace_skips;
                w.seccomp_skips = seccomp_skips;
                w.tracer_sets = tracer_sets.then_some(57);
            });
            cross(way);
            let stopped = armed & (SyscallWork::TRACE | SyscallWork::EMU).bits() as usize != 0
                && !(dispatched && armed & SyscallWork::USER_DISPATCH.bits() as usize != 0);
            let number = if tracer_sets && stopped { 57 } else { 39 };
            let expected = expected(armed, dispatched, ptrace_skips, seccomp_skips, number);
            assert_eq!(syscall_work_seen(), expected, "armed {armed:#x}, choice {choice}");
            check(&|| format!("armed {armed:#x}, choice {choice}"));
        }
    }
}

/// The call and its work, as they ran.
fn syscall_work_seen() -> Vec<Event> {
    let is_work = |e: &&Event| matches!(e, Event::Hook(_) | Event::Seen(..) | Event::Syscall(_) | Event::Step(_));
    world(|w| w.trace.iter().filter(is_work).copied().collect())
}

/// A new task comes out of the call that made it, without having gone in.
#[test]
fn the_first_way_out_is_the_end_of_a_call() {
    for armed in 0..1 << SyscallWork::KINDS.len() {
        start(|w| {
            w.syscall = armed;
            (w.in_kernel, w.irqs) = (true, true);
            // The way in that it did not have.
            w.told = vec![trace::Event::FromUser];
        });
        let mut regs = regs(39);
        // SAFETY: the script's registers; its world is in the kernel, with interrupts on.
        let made: InSyscall<'_, Script, Syscall> = unsafe { InSyscall::assume(&mut regs) };
        leave(made.finish());
        assert_eq!(syscall_work_seen(), expected_at_exit(armed, false), "armed {armed:#x}");
        check(&|| format!("armed {armed:#x}"));
    }
}

/// A kernel without hooks of its own but to see, and with work that is not looked at after exceptions and interrupts.
struct Plain;
impl Machine for Plain {
    type Regs = Regs;
    type SavedRegs = Regs;
    type Irqs = Flag;
    type Context = Context;
    fn invariant_broken(broken: Broken) {
        panic!("{broken}");
    }
}
impl Kernel for Plain {
    const EXIT_WORK: ExitWorkBits =
        ExitWorkBits { not_after_events: ExitWork::UPROBE.bits() as usize, ..ExitWorkBits::DEFAULT };
    fn exit_work() -> usize {
        world(|w| w.exit)
    }
    fn syscall_work() -> usize {
        world(|w| w.syscall)
    }
    fn preempt_count() -> usize {
        0
    }
    fn syscall(_: &mut InSyscall<'_, Self>, number: i64) {
        point(Event::Syscall(number));
    }
}
impl Diagnostics for Plain {}
impl ExitHooks for Plain {
    fn uprobe_notify_resume(_: &mut InKernel<'_, Self>) {
        exit_hook("uprobe_notify_resume", true);
    }
    fn resume_user_mode_work(_: &mut InKernel<'_, Self>) {
        exit_hook("resume_user_mode_work", true);
    }
}
impl SyscallHooks for Plain {
    fn audit_syscall_exit(_: &mut InKernel<'_, Self>) {
        point(Event::Hook("audit_syscall_exit"));
    }
}

/// The loop, too, knows what it was entered by.
#[test]
fn work_that_is_not_due_after_events_waits_for_a_call() {
    let (uprobe, resume) = ("uprobe_notify_resume", "resume_user_mode_work");
    for (by_call, called, left) in [(true, vec![uprobe, resume], 0), (false, vec![resume], bits(ExitWork::UPROBE))] {
        start(|w| w.exit = bits(ExitWork::UPROBE | ExitWork::NOTIFY_RESUME));
        let mut regs = regs(39);
        // SAFETY: the scripted machine is in user mode; there is no other state.
        unsafe {
            if by_call {
                let arrived: Arrived<'_, Plain, Syscall> = Arrived::enter_from_user_mode(&mut regs);
                arrived.syscall_and_exit_work().exit_to_user_mode().suspend();
            } else {
                let arrived: Arrived<'_, Plain, Exceptional> = Arrived::enter_from_user_mode(&mut regs);
                arrived.handled().exit_to_user_mode_prepare().exit_to_user_mode().suspend();
            }
        }
        world(|w| {
            let hooks = w.trace.iter().filter_map(|e| if let Event::Hook(name) = e { Some(*name) } else { None });
            assert_eq!(hooks.collect::<Vec<_>>(), called);
            assert_eq!(w.exit, left);
        });
    }
}

/// Whatever is armed: a hook that a kernel does not have stands in nobody's way.
#[test]
fn the_hooks_defaults_do_nothing() {
    // EMU says itself that the call is not made.
    for armed in (0..1 << SyscallWork::KINDS.len()).filter(|armed| armed & SyscallWork::EMU.bits() as usize == 0) {
        start(|w| w.syscall = armed);
        let mut regs = regs(39);
        // SAFETY: the scripted machine is in user mode; there is no other state.
        let arrived: Arrived<'_, Plain, Syscall> = unsafe { Arrived::enter_from_user_mode(&mut regs) };
        arrived.syscall_and_exit_work().exit_to_user_mode().suspend();
        let mut expected = vec![Event::Syscall(39)];
        if armed & SyscallWork::AUDIT.bits() as usize != 0 {
            expected.push(Event::Hook("audit_syscall_exit"));
        }
        assert_eq!(syscall_work_seen(), expected, "armed {armed:#x}");
    }
}

#[test]
fn a_filter_that_the_tracer_arms_sees_this_call() {
    start(|w| {
        w.syscall = SyscallWork::TRACE.bits() as usize;
        w.tracer_arms = SyscallWork::SECCOMP.bits() as usize;
        w.tracer_sets = Some(57);
    });
    cross(Way::Syscall);
    world(|w| assert!(w.trace.contains(&Event::Seen("secure_computing", 57)), "{:?}", w.trace));
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
                        w.exit = if resched { bits(ExitWork::NEED_RESCHED) } else { 0 };
                    });
                    let mut regs = Regs { number: -1, interrupts_on };
                    // SAFETY: the scripted machine is in the kernel; there is no other state.
                    let (interrupted, saved) = unsafe { Interrupted::<Script>::enter_from_kernel(&mut regs) };
                    assert!(world(|w| w.in_kernel));
                    interrupted.exit_to_kernel(saved);
                    let may = interrupts_on && preempt == 0 && resched && !idle;
                    world(|w| {
                        assert_eq!(w.trace.contains(&Event::Hook("preempt")), may);
                        assert_eq!(w.in_kernel, !idle, "the context is put back");
                        assert_eq!(w.preemption_points, u32::from(interrupts_on && !idle));
                    });
                }
            }
        }
    }
}

/// In order, until one has handled it; outside the kernel's context nobody.
#[test]
fn the_die_chain_is_asked_in_order() {
    for (in_kernel, vector, verdict, asked) in [
        (true, 1, Verdict::Pass, &["first", "second", "third"][..]),
        (true, 3, Verdict::Handled, &["first", "second"]),
        (false, 3, Verdict::Pass, &[]),
    ] {
        start(|w| w.in_kernel = in_kernel);
        let mut regs = regs(0);
        assert_eq!(notify_die::<Script>(&mut regs, Die { vector, error: 0 }), verdict);
        assert_eq!(world(|w| w.asked.clone()), asked);
        assert_eq!(regs.number, i64::from(in_kernel), "they may change the registers");
        let reported: &[Broken] = if in_kernel { &[] } else { &[Broken::NotifierOutsideKernel] };
        assert_eq!(world(|w| w.broken.clone()), reported);
    }
}

#[test]
fn an_nmi_puts_back_what_it_found() {
    for in_kernel in [false, true] {
        start(|w| w.in_kernel = in_kernel);
        let mut regs = regs(-1);
        // SAFETY: the scripted machine is in the kernel; there is no other state.
        let (nmi, saved) = unsafe { NmiContext::<Script>::enter_from_kernel(&mut regs) };
        assert!(world(|w| w.in_kernel));
        nmi.exit_to_kernel(saved);
        assert_eq!(world(|w| w.in_kernel), in_kernel);
    }
}

/// What is reported of a crossing with this work, if `hook` does something wrong.
fn reported(way: Way, work: ExitWork, hook: &'static str, mischief: Mischief) -> Vec<Broken> {
    start(|w| {
        w.exit = bits(work);
        w.misbehaves = Some((hook, mischief));
    });
    cross(way);
    world(|w| {
        assert!(!w.irqs, "interrupts are off in the end");
        w.broken.clone()
    })
}

#[test]
fn broken_invariants_are_reported() {
    // Arrival in the context KERNEL.
    start(|w| w.in_kernel = true);
    cross(Way::Interrupt);
    world(|w| assert_eq!(w.broken, [Broken::ArrivedNotFromUser]));

    // Interrupts on where the way out begins.
    start(|w| w.irqs = true);
    cross(Way::Interrupt);
    world(|w| assert_eq!(w.broken, [Broken::InterruptsOn]));
}

/// With checks on. Each hook of the list, each way in which it may leave the wrong state.
#[test]
fn a_hook_that_returns_in_the_wrong_state_is_reported_by_its_name() {
    for kind in ExitWork::KINDS {
        for (mischief, wrong) in [
            (
                Mischief::FlipsInterrupts,
                if kind.phase == Phase::Loop { Wrong::InterruptsOff } else { Wrong::InterruptsOn },
            ),
            (Mischief::DisablesPreemption, Wrong::PreemptionDisabled),
            (Mischief::LeavesContext, Wrong::Context),
        ] {
            let expected = Broken::Returned { hook: kind.hook, wrong };
            assert_eq!(
                reported(Way::Interrupt, kind.flag, kind.hook, mischief),
                [expected],
                "{}: {mischief:?}",
                kind.name
            );
        }
    }
    let expected = Broken::Returned { hook: "syscall", wrong: Wrong::InterruptsOff };
    let empty = ExitWork::empty();
    assert_eq!(reported(Way::Syscall, empty, "syscall", Mischief::FlipsInterrupts), [expected]);
}

/// With checks on: a hook that forgets to take its flag, or a flag whose hook is the default.
#[test]
fn work_that_nobody_takes_is_reported_by_its_name() {
    for kind in ExitWork::KINDS.iter().filter(|kind| kind.phase == Phase::Loop) {
        assert_eq!(
            reported(Way::Syscall, kind.flag, kind.hook, Mischief::LeavesFlag),
            [Broken::NotTaken { work: kind.name }]
        );
    }
}

/// With checks on: after the loop a hook that leaves its flag up is called once at each return, and nothing is reported.
/// The hook after the loop may ask for another round often, but not for ever.
#[test]
fn a_restart_that_never_ends_is_reported_by_its_name() {
    for (again, reported) in [(900, vec![]), (1100, vec![Broken::NotTaken { work: "RSEQ" }])] {
        start(|w| {
            w.exit = bits(ExitWork::RSEQ);
            (w.again, w.again_alone) = (again, true);
        });
        cross(Way::Interrupt);
        assert_eq!(world(|w| w.broken.clone()), reported, "{again} times");
    }
}

#[test]
fn work_after_the_loop_may_stay_raised() {
    const RETURNS: usize = 20;
    let work = Script::EXIT_WORK;
    let after_the_loop = work.of(Phase::Repeat) | work.of(Phase::Once);
    for (bit, hook) in hooks().into_iter().filter(|(bit, _)| bit & after_the_loop != 0) {
        start(|w| {
            w.exit = bit;
            w.misbehaves = Some((hook, Mischief::LeavesFlag));
        });
        for _ in 0..RETURNS {
            cross(Way::Interrupt);
        }
        world(|w| {
            let calls = w.trace.iter().filter(|event| **event == Event::Hook(hook));
            assert_eq!((calls.count(), w.exit), (RETURNS, bit), "{hook}");
            assert!(w.broken.is_empty(), "{hook}: {:?}", w.broken);
        });
    }
}

/// With checks on.
#[test]
fn work_that_is_raised_after_the_last_read_is_reported() {
    for kind in ExitWork::KINDS.iter().filter(|kind| kind.phase == Phase::Once) {
        assert_eq!(
            reported(Way::Syscall, kind.flag, kind.hook, Mischief::Raises),
            [Broken::RaisedTooLate { hook: kind.hook }],
            "{}",
            kind.name
        );
    }
}

/// With checks on.
#[test]
fn a_state_that_is_dropped_is_reported() {
    start(|_| ());
    drop(arrive::<Exceptional>(&mut regs(-1)).handled());
    world(|w| assert_eq!(w.broken, [Broken::StateDropped { state: "Leaving" }]));
}

/// A kernel takes its parts one by one.
#[test]
fn the_script_is_a_whole_gate() {
    fn is_gate<K: Gate>() {}
    is_gate::<Script>();
}

#[test]
fn a_guest_is_entered_with_nothing_pending() {
    for at in 0.. {
        start(|w| {
            w.in_kernel = true;
            w.irqs = true;
            w.raise = Some((at, bits(ExitWork::NEED_RESCHED | ExitWork::NOTIFY_RESUME)));
        });
        let mut regs = regs(-1);
        // SAFETY: the scripted machine is in the kernel with interrupts on; there is no other state.
        let mut kernel: InKernel<'_, Script, Syscall> = unsafe { InKernel::assume(&mut regs) };
        let entering = kernel.xfer_to_guest_mode().expect("no signal is pending");
        let enter = || {
            world(|w| {
                assert!(!w.irqs && !w.in_kernel);
                if w.raised && w.read_since { w.exit } else { 0 }
            })
        };
        // SAFETY: there is no guest.
        let pending = unsafe { entering.run(enter) };
        kernel.suspend();
        assert_eq!(pending, 0);
        world(|w| assert!(w.irqs && w.in_kernel && w.broken.is_empty()));
        if !world(|w| w.raised) {
            break;
        }
    }
    // A signal is not delivered here.
    start(|w| {
        w.in_kernel = true;
        w.irqs = true;
        w.exit = bits(ExitWork::SIGPENDING);
    });
    let mut regs = regs(-1);
    // SAFETY: as above.
    let mut kernel: InKernel<'_, Script, Syscall> = unsafe { InKernel::assume(&mut regs) };
    assert!(kernel.xfer_to_guest_mode().is_err());
    kernel.suspend();
    world(|w| assert!(w.irqs && w.in_kernel && w.exit != 0));
}
