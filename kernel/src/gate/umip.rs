//! SGDT, SIDT, SLDT, STR and SMSW in user mode. With CR4.UMIP they fault; programs that use them get values that tell nothing
//! of the kernel, the same in every program, as Linux (6.1, `arch/x86/kernel/umip.c`) gives them.

use portcullis::x86_64::UserRegs;
use portcullis::x86_64::tables::{USER_CS, USER_DS, USER32_CS};
use x86_64::registers::control::{Cr4, Cr4Flags};

use crate::machine::descriptor;
use crate::machine::instruction::{Address, Mode, Operand, SegmentRegister};
use crate::machine::segments;
use crate::machine::segments::Segments;
use crate::memory::user;
use crate::sched::segments::code::{Code, CodeSegment};
use crate::sched::segments::descriptor_of;
use crate::signal;
use crate::signal::{SIGSEGV, SigInfo};
use crate::task::{Task, current};

/// What SGDT and SIDT say: the bases, of which 32-bit code sees the low half. The limits are 0.
const GDT_BASE: u64 = 0xffff_ffff_fffe_0000;
const IDT_BASE: u64 = 0xffff_ffff_ffff_0000;
/// What SMSW says: PG, AM, WP, NE, ET, MP and PE of CR0.
const MACHINE_STATUS: u64 = 0x8005_0033;
/// The selectors that SLDT, in a program that has a local descriptor table, and STR say.
const LDT_SELECTOR: u64 = 10 << 3;
const TASK_SELECTOR: u64 = 8 << 3;

const SEGV_MAPERR: i32 = 1;
/// #PF error code: a write from user mode.
const USER_WRITE: u64 = 6;

/// What is stored.
enum Value {
    /// A base, after a limit of 0.
    Table(u64),
    /// A word; more of it where it goes to a register.
    Word(u64),
}

/// Does what an instruction would do that has faulted because of UMIP, and passes over it; where it would write to memory that
/// is not there, that is SIGSEGV. False for any other instruction.
pub fn emulate(regs: &mut UserRegs) -> bool {
    Cr4::read().contains(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION) && try_emulate(regs).is_some()
}

fn try_emulate(regs: &mut UserRegs) -> Option<()> {
    let task = current();
    let code = Code::at(task, regs)?;
    let instruction = code.instruction()?;
    // As in Linux, where it does not say which segment it means.
    if !matches!(instruction.opcode, 0x0f00 | 0x0f01) || instruction.names_segments {
        return None;
    }
    let modrm = instruction.modrm()?;
    let value = match (instruction.opcode, modrm.extension) {
        (0x0f01, 0) => Value::Table(GDT_BASE),
        (0x0f01, 1) => Value::Table(IDT_BASE),
        (0x0f01, 4) => Value::Word(MACHINE_STATUS),
        (0x0f00, 0) if task.mm().ldt().is_used() => Value::Word(LDT_SELECTOR),
        (0x0f00, 0) => Value::Word(0),
        (0x0f00, 1) => Value::Word(TASK_SELECTOR),
        _ => return None,
    };
    let next = code.segment.offset(regs.rip.wrapping_add(modrm.end as u64));
    match (modrm.operand, value) {
        (Operand::Register(_), Value::Table(_)) => return None,
        (Operand::Register(number), Value::Word(value)) => {
            // Linux leaves the rest of the register, also where the CPU would clear the upper half.
            let mask = u64::MAX >> (64 - 8 * instruction.operand_bytes());
            let register = register_mut(regs, number);
            *register = *register & !mask | value & mask;
        }
        (Operand::Memory(address), value) => {
            let linear = linear(task, regs, code.segment, &address, next)?;
            let mut bytes = [0; 10];
            let len = match value {
                Value::Table(base) => {
                    bytes[2..].copy_from_slice(&base.to_le_bytes());
                    if code.segment.mode == Mode::Bits64 { 10 } else { 6 }
                }
                Value::Word(value) => {
                    bytes[..8].copy_from_slice(&value.to_le_bytes());
                    2
                }
            };
            if user::write(linear, &bytes[..len]).is_err() {
                let info = SigInfo::fault(SIGSEGV, SEGV_MAPERR, linear);
                signal::force_page_fault(info, linear, USER_WRITE);
                return Some(());
            }
        }
    }
    regs.rip = next;
    Some(())
}

/// Where an operand is. None if it is in no segment, or beyond its limit.
fn linear(task: &Task, regs: &UserRegs, code: CodeSegment, address: &Address, next: u64) -> Option<u64> {
    let offset = address.offset(next, |number| *register_mut(&mut { *regs }, number));
    if code.mode == Mode::Bits64 {
        return Some(match address.segment {
            SegmentRegister::Fs => segments::fs_base().wrapping_add(offset),
            SegmentRegister::Gs => segments::gs_base().wrapping_add(offset),
            _ => offset,
        });
    }
    let segments = {
        let _irqs = crate::machine::sync::irqs_off();
        Segments::current()
    };
    let selector = match address.segment {
        SegmentRegister::Es => segments.es,
        SegmentRegister::Cs => regs.cs() as u16,
        SegmentRegister::Ss => regs.ss() as u16,
        SegmentRegister::Ds => segments.ds,
        SegmentRegister::Fs => segments.fs,
        SegmentRegister::Gs => segments.gs,
    };
    let (base, limit) = match selector {
        0..=3 => return None,
        USER_DS | USER_CS | USER32_CS => (0, u64::from(u32::MAX)),
        selector => match descriptor_of(task, selector) {
            0 => return None,
            entry => (descriptor::base(entry), descriptor::limit(entry)),
        },
    };
    let offset = u64::from(offset as u32);
    (offset <= limit).then(|| u64::from(base.wrapping_add(offset) as u32))
}

/// A general register by its number in instructions.
fn register_mut(regs: &mut UserRegs, number: u8) -> &mut u64 {
    match number {
        0 => &mut regs.rax,
        1 => &mut regs.rcx,
        2 => &mut regs.rdx,
        3 => &mut regs.rbx,
        4 => &mut regs.rsp,
        5 => &mut regs.rbp,
        6 => &mut regs.rsi,
        7 => &mut regs.rdi,
        8 => &mut regs.r8,
        9 => &mut regs.r9,
        10 => &mut regs.r10,
        11 => &mut regs.r11,
        12 => &mut regs.r12,
        13 => &mut regs.r13,
        14 => &mut regs.r14,
        _ => &mut regs.r15,
    }
}
