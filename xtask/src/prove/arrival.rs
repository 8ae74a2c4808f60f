//! How the CPU arrives at each door: the registers, the stack and the memory that the door finds, and what its Rust half must find.

use std::ops::Range;

use anyhow::{Context, Result};
use iced_x86::{Mnemonic, OpKind, Register};
use portcullis::x86_64::doors::Exception;
use portcullis::x86_64::exception::FIRST_INTERRUPT;
use portcullis::x86_64::syscall64::CLEARED_FLAGS;
use portcullis::x86_64::tables::{KERNEL_CS, KERNEL_DS, USER_CS, USER_DS, USER32_CS};
use portcullis::x86_64::{UserRegs, layout};

use super::goal::{
    CS, Frame, GENERAL, Goal, KERNEL_HALF, NAMES, ORIG_RAX, Prover, RFLAGS, RIP, RSP, Regions, SS, index,
};
use super::image::LIBRARY;
use super::state::{Region, Speculation, State, USER_TABLE, flags};
use super::term::{Condition, Term};

/// How the CPU comes to a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    Syscall64,
    Syscall32,
    Sysenter,
    /// INT 0x80, by its own door.
    Int80,
    /// An exception or interrupt of the ordinary doors.
    FromUser(u8),
    FromKernel(u8),
    /// An NMI while another one is being handled.
    NmiNested,
    /// An NMI at one of the last two instructions of another one.
    NmiAtEnd(u8),
    /// An NMI in the first instructions of the door of #DB or #MC, which has hit one of these two.
    NmiBehind(u8, u8),
    /// #DB or #MC at one of these two.
    IstAtEndOfNmi(u8, u8),
    /// #DB or #MC in the NMI's door, on one of the stacks that it uses.
    IstInNmi(u8, NmiStack),
    /// A fault of the IRET that enters user mode.
    BadIret(u8),
    /// By a stack of the interrupt-stack table.
    IstFromUser(u8),
    IstFromKernel(u8),
    /// A double fault of the IRET on an alias.
    DoubleFaultOfIret,
    /// One of it on another stack, which is reported.
    DoubleFaultOnStack,
    /// A new task.
    FirstWayOut,
    /// A kernel's own jump.
    EnterUserMode,
    /// SYSCALL from compatibility mode where that is closed.
    Closed,
    /// Anything, by FRED.
    FredFromUser,
    FredFromKernel,
    /// A fault of the ERETU that enters user mode: from there the kernel's door goes to the user's.
    FredAgain,
}

/// On which stack an NMI's door is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NmiStack {
    Entry,
    Working,
    /// On its way to the ordinary way out.
    Thread,
}

impl Arrival {
    /// Whether a kernel may be without its door.
    pub fn is_optional(self) -> bool {
        use Arrival::{Closed, EnterUserMode, FirstWayOut, Int80, Syscall32, Sysenter};
        let in_some = matches!(self, Syscall32 | Sysenter | Int80 | Closed | FirstWayOut | EnterUserMode);
        in_some || self.is_by_fred()
    }

    /// Whether FRED delivers it.
    pub(super) fn is_by_fred(self) -> bool {
        matches!(self, Arrival::FredFromUser | Arrival::FredFromKernel | Arrival::FredAgain)
    }
}

/// The end of the NMI's door, by addresses.
#[derive(Clone, Copy)]
pub(super) struct EndOfNmi {
    /// The decrement of its word.
    pub decrement: u64,
    /// The jump to where the handler is called once more.
    again: u64,
    iret: u64,
    /// And that place, where the working stack's part begins.
    pub once_more: u64,
}

impl EndOfNmi {
    /// Where the word may be 0 and the working stack is in use.
    pub fn last_two(&self) -> [u64; 2] {
        [self.again, self.iret]
    }

    /// That an address is neither of these.
    fn is_elsewhere(&self, address: &Term) -> [Condition; 2] {
        self.last_two().map(|end| Condition::Equal(address.clone(), Term::constant(end)).not())
    }
}

impl Prover<'_> {
    /// The states in which the CPU may arrive.
    pub(super) fn arrive(&mut self, arrival: Arrival) -> Result<Vec<(State, Goal)>> {
        let mut state = State::new(self.entry(arrival)?, self.isolation);
        let kernel = |name: &str, zeros: u64| Term::partly_known(name, zeros, KERNEL_HALF);
        let page = |small: u64| if self.isolation { 0xfff } else { small };
        let cpu = kernel("CpuLocal", page(63));
        // With FRED two more words above it end at a multiple of 64.
        let fred_is_on = self.image.fred_is_on();
        let thread = match fred_is_on {
            Some(_) => Term::partly_known("the top of the thread stack, for FRED", 15, KERNEL_HALF | 0x30),
            None => kernel("the top of the thread stack", 15),
        };
        let tables = kernel("Tables", 0xfff);
        let (frame, alias) = (kernel("the alias's frame", 63), kernel("the alias", 0xffff_0000 | 63));
        let interrupted_stack = match arrival.is_by_fred() {
            true => kernel("the kernel's stack, as FRED aligns it", 63),
            false => kernel("the kernel's stack", 15),
        };
        let at = |offset: usize| offset as i64;
        let mut add = |name, base: &Term, offsets: Range<i64>, writable, for_user_table| {
            let (low, high) = (offsets.start, offsets.end);
            state.add_region(Region { name, base: base.clone(), low, high, writable, for_user_table })
        };
        let ist_top = match arrival {
            Arrival::IstFromUser(Exception::MC)
            | Arrival::IstFromKernel(Exception::MC)
            | Arrival::IstAtEndOfNmi(Exception::MC, _)
            | Arrival::IstInNmi(Exception::MC, _) => layout::MACHINE_CHECK_TOP,
            Arrival::IstFromKernel(Exception::DF) | Arrival::DoubleFaultOfIret | Arrival::DoubleFaultOnStack => {
                layout::DOUBLE_FAULT_TOP
            }
            _ => layout::DEBUG_TOP,
        };
        let ist_low = at(ist_top) - (8192 - 16);
        let entry_stack = at(layout::ENTRY_STACK_TOP) - 512..at(layout::ENTRY_STACK_TOP);
        let regions = Regions {
            cpu: add("CpuLocal", &cpu, 0..64, true, true),
            thread: add("thread stack", &thread, -16384..if fred_is_on.is_some() { 16 } else { 0 }, true, false),
            entry: add("entry stack", &tables, entry_stack, true, true),
            ist: add("IST stack", &tables, ist_low..at(ist_top) + 16, true, true),
            nmi_work: add("NMI stack", &tables, at(layout::NMI_WORK_TOP) - 7648..at(layout::NMI_STATE) + 8, true, true),
            kernel_stack: add("kernel's stack", &interrupted_stack, -16384..0, true, false),
            frame: add("frame", &frame, 0..64, true, false),
        };
        add("NMI entry stack", &tables, at(layout::NMI_ENTRY_TOP) - 512..at(layout::NMI_ENTRY_TOP), true, true);
        // The NMI's door looks at the frames of both.
        let machine_check = match ist_top {
            layout::DEBUG_TOP => {
                let top = at(layout::MACHINE_CHECK_TOP);
                Some(add("#MC stack", &tables, top - (8192 - 16)..top + 16, true, true))
            }
            _ => None,
        };
        add("alias", &alias, 0..64, false, true);
        let espfix = add("Espfix", &tables, at(layout::ESPFIX_FRAME)..at(layout::ESPFIX_ALIAS) + 8, false, true);
        if let Some(address) = fred_is_on {
            let offsets = address as i64..address as i64 + 1;
            state.add_region(Region {
                name: "whether FRED is on",
                base: Term::constant(0),
                low: offsets.start,
                high: offsets.end,
                writable: false,
                for_user_table: false,
            });
            let either = matches!(arrival, Arrival::FirstWayOut | Arrival::EnterUserMode);
            if either || arrival.is_by_fred() {
                state.fred = Some(if either {
                    state.read(&Term::constant(address), 1).map_err(|bad| anyhow::anyhow!(bad.0))?
                } else {
                    Term::constant(1)
                });
            }
        }
        let fsgsbase = state.fresh_with("fsgsbase", !1, 0);
        state.fsgsbase = Some(fsgsbase.clone());
        for (place, word) in [
            ((regions.cpu, 0), cpu.clone()),
            ((regions.cpu, at(layout::THREAD_STACK)), thread.clone()),
            ((regions.cpu, at(layout::TABLES)), tables.clone()),
            ((regions.ist, at(ist_top)), cpu.clone()),
            ((regions.ist, at(ist_top + layout::FSGSBASE)), fsgsbase.clone()),
            ((regions.nmi_work, at(layout::NMI_WORK_TOP)), cpu.clone()),
            ((regions.nmi_work, at(layout::NMI_WORK_TOP + layout::FSGSBASE)), fsgsbase),
            ((regions.nmi_work, at(layout::NMI_STATE)), Term::constant(0)),
            ((espfix, at(layout::ESPFIX_FRAME)), if self.espfix { frame } else { Term::constant(0) }),
            ((espfix, at(layout::ESPFIX_ALIAS)), if self.espfix { alias.clone() } else { Term::constant(0) }),
        ] {
            state.set_word(place, word);
        }

        // What runs.
        let from_user = !matches!(
            arrival,
            Arrival::FromKernel(_)
                | Arrival::IstFromKernel(_)
                | Arrival::NmiNested
                | Arrival::NmiAtEnd(_)
                | Arrival::NmiBehind(..)
                | Arrival::IstAtEndOfNmi(..)
                | Arrival::IstInNmi(..)
                | Arrival::FredFromKernel
        );
        let whose = if from_user { "user" } else { "kernel" };
        let mut hit: Frame = std::array::from_fn(|word| Term::symbol(format!("{whose} {}", NAMES[word])));
        let selector =
            |word: usize, rpl| Term::partly_known(format!("{whose} {}", NAMES[word]), !0xffff | (3 ^ rpl), rpl);
        (hit[CS], hit[SS]) =
            if from_user { (selector(CS, 3), selector(SS, 3)) } else { (selector(CS, 0), selector(SS, 0)) };
        hit[RFLAGS] = Term::partly_known(format!("{whose} rflags"), !flags::ALL, flags::FIXED);
        for register in GENERAL {
            state.set_register(register, &hit[index(register)]);
        }
        state.set_register(Register::RSP, &hit[RSP]);
        state.flags = hit[RFLAGS].clone();
        let user_gs = Term::symbol("the user's gs");
        let table = Term::partly_known("cr3", USER_TABLE, 0);
        let users_table = table.or(&Term::constant(USER_TABLE));
        (state.gs, state.kernel_gs) = (user_gs.clone(), cpu.clone());
        state.cr3 = if self.isolation && from_user { users_table.clone() } else { table.clone() };

        let in_thread = (regions.thread, -(layout::REGS_SIZE as i64));
        let mut goal = Goal {
            regions,
            kernel_gs: cpu.clone(),
            found_gs: cpu.clone(),
            user_gs: user_gs.clone(),
            found_cr3: state.cr3.clone(),
            table: table.clone(),
            from_user,
            half: "exception::arrived",
            frame: hit.clone(),
            vector: None,
            error: None,
            at: in_thread,
            out: None,
            sysret32: false,
            runs: 0,
            state: None,
            other: None,
            in_nmi_door: false,
        };
        goal.frame[ORIG_RAX] = Term::constant(u64::MAX);
        let enosys = Term::constant(38u64.wrapping_neg());
        let number_32 = hit[index(Register::RAX)].masked(0xffff_ffff);

        // RSP0 of the TSS; the last IRET runs on the same stack.
        let arrival_stack = match self.isolation {
            true => tables.plus(layout::ENTRY_STACK_TOP as i64),
            false => thread.clone(),
        };

        // SDM volume 2, SYSCALL and SYSENTER; volume 3, 6.12.1 and 6.14.
        match arrival {
            Arrival::Syscall64 | Arrival::Syscall32 | Arrival::Closed => {
                state.set_register(Register::RCX, &hit[RIP]);
                state.set_register(Register::R11, &hit[RFLAGS]);
                state.flags = hit[RFLAGS].masked(!CLEARED_FLAGS);
                goal.frame[index(Register::RCX)] = hit[RIP].clone();
                goal.frame[index(Register::R11)] = hit[RFLAGS].clone();
                goal.frame[index(Register::RAX)] = enosys;
                goal.frame[SS] = Term::constant(USER_DS.into());
                if arrival == Arrival::Syscall64 {
                    goal.half = "syscall64::syscall";
                    goal.frame[ORIG_RAX] = hit[index(Register::RAX)].clone();
                    goal.frame[CS] = Term::constant(USER_CS.into());
                } else {
                    goal.half = "syscall32::fast";
                    // EIP.
                    let rip = state.fresh_with("user eip", !0xffff_ffff, 0);
                    state.set_register(Register::RCX, &rip);
                    goal.frame[RIP] = rip;
                    goal.frame[index(Register::RCX)] = hit[index(Register::RBP)].clone();
                    goal.frame[ORIG_RAX] = number_32;
                    goal.frame[CS] = Term::constant(USER32_CS.into());
                }
                if arrival == Arrival::Closed {
                    let mut out = hit.clone();
                    out[index(Register::RAX)] = Term::constant(0xffff_ffda);
                    out[index(Register::RCX)] = state.register(Register::RCX);
                    out[RIP] = state.register(Register::RCX);
                    out[CS] = Term::constant(USER32_CS.into());
                    out[SS] = Term::constant(USER_DS.into());
                    let known = hit[RFLAGS].known();
                    // What it was called with; TF would have trapped before, and RF is not set by a program.
                    out[RFLAGS] = state.fresh_with("user eflags", known.0 | flags::RF | flags::TF | flags::VM, known.1);
                    out[index(Register::R11)] = out[RFLAGS].clone();
                    state.set_register(Register::R11, &out[RFLAGS]);
                    (goal.user_gs, goal.kernel_gs) = (user_gs, cpu);
                    goal.out = Some(out);
                }
            }
            Arrival::Sysenter => {
                let msr = state.fresh("sysenter_esp");
                state.set_register(Register::RSP, &msr);
                state.flags = hit[RFLAGS].masked(!(flags::VM | flags::IF | flags::RF));
                goal.half = "syscall32::fast";
                goal.frame[index(Register::RAX)] = enosys;
                goal.frame[ORIG_RAX] = number_32;
                goal.frame[RIP] = Term::constant(0);
                goal.frame[CS] = Term::constant(USER32_CS.into());
                goal.frame[RFLAGS] = state.flags.or(&Term::constant(flags::IF));
                goal.frame[RSP] = hit[index(Register::RBP)].clone();
                goal.frame[SS] = Term::constant(USER_DS.into());
            }
            Arrival::Int80 | Arrival::FromUser(_) => {
                let (vector, error) = match arrival {
                    Arrival::FromUser(vector) => (Some(vector), self.error_code(vector, &mut state)),
                    _ => (None, None),
                };
                deliver(&mut state, &arrival_stack, &hit, error.clone())?;
                match vector {
                    Some(vector) => {
                        goal.vector = Some(vector.into());
                        goal.error = Some(error.unwrap_or(Term::constant(0)));
                    }
                    None => {
                        goal.half = "syscall32::int80";
                        goal.frame[index(Register::RAX)] = enosys;
                        goal.frame[ORIG_RAX] = number_32;
                    }
                }
            }
            Arrival::FromKernel(vector) => {
                (state.gs, state.kernel_gs) = (cpu, user_gs);
                // It hit no IRET to user mode.
                let iret = Term::constant(self.image.iret_to_user()?);
                state.path.push(Condition::Equal(hit[RIP].clone(), iret).not());
                let error = self.error_code(vector, &mut state);
                deliver(&mut state, &interrupted_stack, &hit, error.clone())?;
                goal.half = "exception::interrupted";
                goal.vector = Some(vector.into());
                goal.error = Some(error.unwrap_or(Term::constant(0)));
                goal.at = (regions.kernel_stack, -(layout::REGS_SIZE as i64));
            }
            Arrival::BadIret(vector) => {
                // IRET stood at its frame, with the user's registers, GS and page table.
                let rsp = arrival_stack.plus(-40);
                for (word, offset) in (RIP..=SS).zip(0..) {
                    state.write(&rsp.plus(8 * offset), hit[word].clone()).map_err(|bad| anyhow::anyhow!(bad.0))?;
                }
                let fault = self.fault_of_iret(&mut state, &hit, &rsp)?;
                let error = self.error_code(vector, &mut state);
                // The CPU aligns the stack.
                deliver(&mut state, &rsp.masked(!15), &fault, error.clone())?;
                goal.vector = Some(vector.into());
                goal.error = Some(error.unwrap_or(Term::constant(0)));
            }
            Arrival::IstFromUser(vector) | Arrival::IstFromKernel(vector) => {
                let top = if vector == Exception::NMI { layout::NMI_ENTRY_TOP } else { ist_top };
                if !from_user {
                    // Anything may have been hit: GS and the page table are anyone's.
                    state.gs = Term::symbol("the gs that was found");
                    goal.found_gs = state.gs.clone();
                    state.kernel_gs = user_gs;
                }
                let error = (vector == Exception::DF).then(|| Term::constant(0));
                deliver(&mut state, &tables.plus(top as i64), &hit, error)?;
                if from_user {
                    goal.vector = Some(vector.into());
                    goal.error = Some(Term::constant(0));
                } else {
                    let top = if vector == Exception::NMI { layout::NMI_WORK_TOP } else { ist_top };
                    let region = if vector == Exception::NMI { regions.nmi_work } else { regions.ist };
                    goal.at = (region, (top - layout::REGS_SIZE) as i64);
                    goal.half = match vector {
                        Exception::NMI => "nmi::nmi_hit_kernel",
                        Exception::DF => "paranoid::report",
                        _ => "paranoid::ist_hit_kernel",
                    };
                    if vector == Exception::DF {
                        goal.frame[ORIG_RAX] = Term::constant(0);
                        let iret = Term::constant(self.image.iret_to_user()?);
                        state.path.push(Condition::Equal(hit[RIP].clone(), iret).not());
                    } else if vector == Exception::NMI {
                        // Elsewhere than at the end of another one.
                        state.path.extend(self.end_of_nmi()?.is_elsewhere(&hit[RIP]));
                        goal.state = Some(Term::constant(0));
                        let stacks = [(regions.ist, layout::DEBUG_TOP)]
                            .into_iter()
                            .chain(machine_check.map(|region| (region, layout::MACHINE_CHECK_TOP)));
                        let mut starts = vec![state];
                        for (region, top) in stacks {
                            starts = self.without_a_hit_at_the_end(starts, region, top)?;
                        }
                        let starts = starts.into_iter().map(|state| (state, goal.clone())).collect();
                        return Ok(self.with_either_table(starts, &users_table));
                    } else {
                        goal.vector = Some(vector.into());
                        state.path.push(self.within_nmi_door(&hit[RIP])?.not());
                    }
                    return Ok(self.with_either_table(vec![(state, goal)], &users_table));
                }
            }
            Arrival::IstAtEndOfNmi(vector, _) | Arrival::IstInNmi(vector, _) => {
                state.gs = Term::symbol("the gs that was found");
                goal.found_gs = state.gs.clone();
                state.kernel_gs = user_gs;
                let work_frame = at(layout::NMI_WORK_TOP) - 5 * 8;
                let (on, mut rsp) = match arrival {
                    Arrival::IstInNmi(_, NmiStack::Entry) => (&tables, at(layout::NMI_ENTRY_TOP) - 7 * 8),
                    Arrival::IstInNmi(_, NmiStack::Thread) => (&thread, -7 * 8),
                    _ => (&tables, work_frame),
                };
                hit[RFLAGS] = Term::partly_known(
                    "rflags in the NMI's door",
                    !flags::ALL | flags::IF | flags::TF | flags::NT | flags::RF | flags::VM,
                    flags::FIXED,
                );
                (hit[CS], state.flags) = (Term::constant(KERNEL_CS.into()), hit[RFLAGS].clone());
                let end = self.end_of_nmi()?;
                let found = state.fresh_with("the NMI's state", !3, 0);
                let mut found_in_end = found.clone();
                match arrival {
                    Arrival::IstAtEndOfNmi(_, which) => {
                        hit[RIP] = Term::constant(end.last_two()[usize::from(which)]);
                        // After the decrement it is 0, or 1 if another one came.
                        let found = if which == 0 { found.masked(1) } else { Term::constant(0) };
                        state.set_word((regions.nmi_work, at(layout::NMI_STATE)), found.clone());
                        found_in_end = found.plus(1);
                    }
                    _ => {
                        state.path.push(self.within_nmi_door(&hit[RIP])?);
                        state.path.extend(end.is_elsewhere(&hit[RIP]));
                        state.set_word((regions.nmi_work, at(layout::NMI_STATE)), found);
                        if on == &tables && rsp == work_frame {
                            // With the registers and a return address below the frame.
                            rsp = at(layout::NMI_WORK_TOP) - layout::REGS_SIZE as i64 - 16;
                        }
                    }
                }
                hit[RSP] = on.plus(rsp);
                goal.frame = hit.clone();
                goal.frame[ORIG_RAX] = Term::constant(u64::MAX);
                if let Arrival::IstAtEndOfNmi(..) = arrival {
                    goal.frame[RIP] = Term::constant(end.decrement);
                }
                (goal.state, goal.in_nmi_door) = (Some(found_in_end), true);
                (goal.half, goal.vector) = ("paranoid::ist_hit_kernel", Some(vector.into()));
                goal.at = (regions.ist, (ist_top - layout::REGS_SIZE) as i64);
                deliver(&mut state, &tables.plus(ist_top as i64), &hit, None)?;
                let only_kernels = arrival == Arrival::IstInNmi(vector, NmiStack::Thread);
                let starts = vec![(state, goal)];
                return Ok(if only_kernels { starts } else { self.with_either_table(starts, &users_table) });
            }
            Arrival::NmiNested | Arrival::NmiAtEnd(_) | Arrival::NmiBehind(..) => {
                state.gs = Term::symbol("the gs that was found");
                goal.found_gs = state.gs.clone();
                state.kernel_gs = user_gs;
                let word = (regions.nmi_work, at(layout::NMI_STATE));
                let mut out = hit.clone();
                let end = self.end_of_nmi()?;
                let found = match arrival {
                    Arrival::NmiAtEnd(which) => {
                        hit[RIP] = Term::constant(end.last_two()[usize::from(which)]);
                        out[RIP] = Term::constant(end.once_more);
                        Term::constant(0)
                    }
                    Arrival::NmiBehind(vector, which) => {
                        let other = match (vector, machine_check) {
                            (Exception::MC, Some(stack)) => (stack, at(layout::MACHINE_CHECK_TOP)),
                            _ => (regions.ist, at(layout::DEBUG_TOP)),
                        };
                        let (rip, cs) = ((other.0, other.1 - 5 * 8), (other.0, other.1 - 4 * 8));
                        state.set_word(rip, Term::constant(end.last_two()[usize::from(which)]));
                        state.set_word(cs, Term::constant(KERNEL_CS.into()));
                        goal.other = Some((rip, Term::constant(end.once_more)));
                        state.path.extend(end.is_elsewhere(&hit[RIP]));
                        if let (Exception::DB, Some(stack)) = (vector, machine_check) {
                            // What the other one has left.
                            let starts =
                                self.without_a_hit_at_the_end(vec![state], stack, layout::MACHINE_CHECK_TOP)?;
                            let mut all = Vec::new();
                            for mut state in starts {
                                let mut goal = goal.clone();
                                goal.table = state.cr3.masked(!USER_TABLE);
                                (goal.state, goal.out) = (Some(Term::constant(1)), Some(out.clone()));
                                deliver(&mut state, &tables.plus(at(layout::NMI_ENTRY_TOP)), &hit, None)?;
                                all.push((state, goal));
                            }
                            return Ok(all);
                        }
                        Term::constant(0)
                    }
                    _ => {
                        // 1 or 2.
                        let found = state.fresh_with("the NMI's state", !3, 0);
                        for not in [0, 3] {
                            state.path.push(Condition::Equal(found.clone(), Term::constant(not)).not());
                        }
                        found
                    }
                };
                goal.table = state.cr3.masked(!USER_TABLE);
                state.set_word(word, found);
                goal.state = Some(Term::constant(if arrival == Arrival::NmiNested { 2 } else { 1 }));
                goal.out = Some(out);
                deliver(&mut state, &tables.plus(layout::NMI_ENTRY_TOP as i64), &hit, None)?;
            }
            Arrival::DoubleFaultOfIret | Arrival::DoubleFaultOnStack => {
                for (word, offset) in (RIP..=SS).zip(1..) {
                    state.set_word((regions.frame, 8 * offset), hit[word].clone());
                }
                let bits = Term::symbol("bits 16 to 31 of the user's rsp").masked(0xffff_0000);
                let fault = self.fault_of_iret(&mut state, &hit, &bits.or(&alias).plus(8))?;
                deliver(&mut state, &tables.plus(ist_top as i64), &fault, Some(Term::constant(0)))?;
                goal.vector = Some(Exception::GP.into());
                goal.error = Some(Term::constant(0));
                if arrival == Arrival::DoubleFaultOnStack {
                    goal.half = "paranoid::report";
                    goal.frame = fault;
                    goal.frame[ORIG_RAX] = Term::constant(0);
                    (goal.vector, goal.error) = (None, None);
                    goal.at = (regions.ist, (ist_top - layout::REGS_SIZE) as i64);
                }
            }
            Arrival::FredFromUser | Arrival::FredAgain | Arrival::FredFromKernel => {
                let top = if from_user { thread.plus(16) } else { interrupted_stack };
                goal.frame = deliver_by_fred(&mut state, &top, &hit)?;
                (state.gs, state.kernel_gs) = (cpu, user_gs);
                goal.half = "fred::hit_user";
                if arrival == Arrival::FredFromKernel {
                    goal.half = "fred::hit_kernel";
                    goal.at = (regions.kernel_stack, -16 - layout::REGS_SIZE as i64);
                } else if arrival == Arrival::FredAgain {
                    // By ERETS, with the flags that ERETU had.
                    state.flags = state.fresh_with("rflags at ERETU", !flags::ARITHMETIC, flags::FIXED);
                }
            }
            Arrival::FirstWayOut | Arrival::EnterUserMode => {
                (state.gs, state.kernel_gs) = (cpu, user_gs);
                state.cr3 = table;
                state.flags = Term::constant(flags::FIXED);
                state.set_register(Register::RSP, &thread.plus(in_thread.1));
                for (word, value) in hit.iter().enumerate() {
                    state.set_word((in_thread.0, in_thread.1 + 8 * word as i64), value.clone());
                }
                for register in GENERAL {
                    state.set_register(register, &Term::constant(0));
                }
                state.speculation = Speculation::SETTLED;
                // The switch to the task leaves the stack's, and anything in RBP.
                let rbp = state.fresh("rbp of the switch");
                state.set_register(Register::RBP, &rbp);
                goal.frame = hit.clone();
                goal.half = "syscall64::first";
                if arrival == Arrival::EnterUserMode {
                    let ones = flags::FIXED | flags::IF;
                    goal.frame[RFLAGS] = state.fresh_with("user rflags", !(UserRegs::FLAGS | ones), ones);
                    state.set_word((in_thread.0, in_thread.1 + 8 * RFLAGS as i64), goal.frame[RFLAGS].clone());
                    goal.out = Some(goal.frame.clone());
                }
            }
        }
        Ok(vec![(state, goal)])
    }

    /// What a fault of the IRET that enters user mode finds: the user's general registers, and the kernel's place.
    fn fault_of_iret(&self, state: &mut State, hit: &Frame, rsp: &Term) -> Result<Frame> {
        let mut fault = hit.clone();
        fault[RIP] = Term::constant(self.image.iret_to_user()?);
        fault[CS] = Term::constant(KERNEL_CS.into());
        fault[SS] = Term::constant(KERNEL_DS.into());
        // The flags on the way out: interrupts off.
        fault[RFLAGS] = state.fresh_with("rflags at IRET", flags::IF | flags::TF, flags::FIXED);
        state.flags = fault[RFLAGS].clone();
        fault[RSP] = rsp.clone();
        Ok(fault)
    }

    /// The error code that the CPU pushes for a vector.
    fn error_code(&self, vector: u8, state: &mut State) -> Option<Term> {
        let has_one = vector < FIRST_INTERRUPT && Exception::WITH_ERROR_CODE >> vector & 1 != 0;
        has_one.then(|| state.fresh_with("error code", !0xffff_ffff, 0))
    }

    /// Whether the image has its door.
    pub fn exists(&self, arrival: Arrival) -> bool {
        self.entry(arrival).is_ok()
    }

    /// Where it arrives.
    fn entry(&self, arrival: Arrival) -> Result<u64> {
        let door = |name: &str| self.image.find(&format!("{LIBRARY}{name}"));
        Ok(match arrival {
            Arrival::Syscall64 => door("syscall64::syscall64_entry")?,
            Arrival::Syscall32 => door("syscall32::syscall32_entry")?,
            Arrival::Closed => door("syscall64::syscall32_entry_closed")?,
            Arrival::Sysenter => door("syscall32::sysenter_entry")?,
            Arrival::Int80 => door("syscall32::int80_entry")?,
            Arrival::FromUser(vector) | Arrival::FromKernel(vector) | Arrival::BadIret(vector) => {
                door("exception::stubs")?.next_multiple_of(16) + 16 * u64::from(vector)
            }
            Arrival::IstFromUser(Exception::NMI)
            | Arrival::IstFromKernel(Exception::NMI)
            | Arrival::NmiNested
            | Arrival::NmiAtEnd(_)
            | Arrival::NmiBehind(..) => door("nmi::nmi_entry")?,
            Arrival::IstFromKernel(Exception::DF) | Arrival::DoubleFaultOfIret | Arrival::DoubleFaultOnStack => {
                door("paranoid::double_fault")?
            }
            Arrival::IstFromUser(vector)
            | Arrival::IstFromKernel(vector)
            | Arrival::IstAtEndOfNmi(vector, _)
            | Arrival::IstInNmi(vector, _) => self.ist_door(vector)?,
            Arrival::FirstWayOut => door("syscall64::first_way_out")?,
            Arrival::FredFromUser | Arrival::FredAgain => self.image.fred_entries()?,
            Arrival::FredFromKernel => self.image.fred_entries()? + layout::FRED_KERNEL_ENTRY,
            Arrival::EnterUserMode => door("way_out::enter_user_mode")?,
        })
    }

    /// The end of the NMI's door.
    pub(super) fn end_of_nmi(&self) -> Result<EndOfNmi> {
        let start = self.nmi_door()?.start;
        let (mut address, mut before, mut found) = (start, start, None);
        while address < self.image.end_of(start) {
            let instruction = self.image.instruction(address)?;
            let next = self.image.instruction(instruction.next_ip())?;
            if instruction.mnemonic() == Mnemonic::Jne && next.mnemonic() == Mnemonic::Iretq {
                let once_more = instruction.near_branch_target();
                found = Some(EndOfNmi { decrement: before, again: address, iret: next.ip(), once_more });
            }
            (before, address) = (address, instruction.next_ip());
        }
        found.context("the NMI's door does not end with JNZ and IRETQ")
    }

    /// The NMI's door, without what fills it up.
    pub(super) fn nmi_door(&self) -> Result<Range<u64>> {
        let start = self.image.find(&format!("{LIBRARY}nmi::nmi_entry"))?;
        let (mut address, mut end) = (start, start);
        while address < self.image.end_of(start) {
            let instruction = self.image.instruction(address)?;
            address = instruction.next_ip();
            if instruction.mnemonic() != Mnemonic::Nop {
                end = address;
            }
        }
        Ok(start..end)
    }

    /// That an address is in it.
    pub(super) fn within_nmi_door(&self, address: &Term) -> Result<Condition> {
        let door = self.nmi_door()?;
        let offset = address.sub(&Term::constant(door.start));
        Ok(Condition::Below(offset, Term::constant(door.end - door.start)))
    }

    /// The states in which the last frame on the stack of #DB or #MC is not that of a hit at the end of the NMI's door: it is a user's, or
    /// another address was hit.
    fn without_a_hit_at_the_end(&self, states: Vec<State>, region: usize, top: usize) -> Result<Vec<State>> {
        let (rip, cs) = ((region, top as i64 - 5 * 8), (region, top as i64 - 4 * 8));
        let end = self.end_of_nmi()?;
        Ok(states
            .into_iter()
            .flat_map(|state| {
                let (mut of_user, mut elsewhere) = (state.clone(), state);
                let selector = of_user.fresh_with("a user's cs", !0xffff, 3);
                of_user.set_word(cs, selector);
                let was = elsewhere.word(rip);
                elsewhere.path.extend(end.is_elsewhere(&was));
                [of_user, elsewhere]
            })
            .collect())
    }

    /// With isolation, the states with the user's page table too.
    fn with_either_table(&self, starts: Vec<(State, Goal)>, users_table: &Term) -> Vec<(State, Goal)> {
        let with_users = starts.iter().filter(|_| self.isolation).map(|(state, goal)| {
            let (mut state, mut goal) = (state.clone(), goal.clone());
            state.cr3 = users_table.clone();
            goal.found_cr3 = users_table.clone();
            (state, goal)
        });
        let with_users: Vec<_> = with_users.collect();
        starts.into_iter().chain(with_users).collect()
    }

    /// There is one for each vector: which it is, its code says.
    pub(super) fn ist_door(&self, vector: u8) -> Result<u64> {
        let name = format!("{LIBRARY}paranoid::ist_entry");
        let is_it = |start: &u64| {
            let mut address = *start;
            while address < self.image.end_of(*start) {
                let Ok(instruction) = self.image.instruction(address) else { return false };
                if instruction.mnemonic() == Mnemonic::Mov && instruction.op0_register() == Register::ESI {
                    // The other is of `rdmsr`.
                    if instruction.op1_kind() == OpKind::Immediate32 {
                        return instruction.immediate32() == u32::from(vector);
                    }
                }
                address = instruction.next_ip();
            }
            false
        };
        let doors: Vec<u64> = self.image.find_all(&name).filter(is_it).collect();
        doors.first().copied().with_context(|| format!("there is no {name} for vector {vector}"))
    }
}

/// The CPU delivers an event by FRED: eight words go to the stack, the flags are cleared, and GS is the kernel's. What the door has
/// to save: the selectors have words about the event above them, and there is always an error code.
fn deliver_by_fred(state: &mut State, top: &Term, hit: &Frame) -> Result<Frame> {
    let mut frame = hit.clone();
    for word in [CS, SS] {
        frame[word] = hit[word].or(&state.fresh_with("about the event", 0xffff, 0));
    }
    frame[ORIG_RAX] = state.fresh("error code");
    let data = state.fresh("event data");
    state.set_register(Register::RSP, top);
    let words = [SS, RSP, RFLAGS, CS, RIP, ORIG_RAX].map(|word| frame[word].clone());
    for word in [Term::constant(0), data].into_iter().chain(words) {
        state.push(word).map_err(|bad| anyhow::anyhow!("the CPU cannot push: {}", bad.0))?;
    }
    state.flags = Term::constant(flags::FIXED);
    state.clean = true;
    state.speculation = Speculation::SETTLED;
    state.cr3 = state.cr3.masked(!USER_TABLE);
    Ok(frame)
}

/// The CPU delivers an event by a gate for interrupts: the frame goes to the stack, IF, TF, NT, RF and VM are cleared (SDM volume
/// 3, 6.12.1).
fn deliver(state: &mut State, top: &Term, hit: &Frame, error: Option<Term>) -> Result<()> {
    state.set_register(Register::RSP, top);
    let words = [SS, RSP, RFLAGS, CS, RIP].map(|word| hit[word].clone());
    // The CPU's own writes: with isolation they are to what both tables map.
    for word in words.into_iter().chain(error) {
        state.push(word).map_err(|bad| anyhow::anyhow!("the CPU cannot push: {}", bad.0))?;
    }
    state.flags = state.flags.masked(!(flags::IF | flags::TF | flags::NT | flags::RF | flags::VM));
    state.clean = true;
    Ok(())
}
