//! The instructions that the doors are made of (SDM volume 2, by their names).

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use super::state::{Arithmetic, BadAccess, State, flags};
use super::term::{Condition, Term};

/// IA32_GS_BASE.
const GS_BASE: u64 = 0xc000_0101;

/// What comes after an instruction.
#[derive(Debug)]
pub enum Next {
    /// The next one.
    Goes,
    /// Another one.
    Jump(u64),
    /// Another one if this is true, otherwise the next one.
    Branch(Condition, u64),
    /// A function.
    Call(u64),
    /// User mode, or what was interrupted.
    Leave(Leave),
}

/// The instructions that leave a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    Sysret64,
    Sysret32,
    Iret,
    Eretu,
    Erets,
    /// UD2: here nothing comes.
    Never,
}

/// Why there is no next state.
#[derive(Debug)]
pub enum Stuck {
    /// Memory is touched that must not be.
    Access(String),
    /// The CPU may be on the other way, by speculation.
    Speculation(String),
    /// An instruction, or a use of it, that no door has.
    Unknown(String),
}

impl From<BadAccess> for Stuck {
    fn from(BadAccess(what): BadAccess) -> Stuck {
        Stuck::Access(what)
    }
}

fn unknown(instruction: &Instruction) -> Stuck {
    Stuck::Unknown(format!("{instruction:?}"))
}

/// Executes it.
pub fn step(state: &mut State, instruction: &Instruction) -> Result<Next, Stuck> {
    use Mnemonic as M;
    let target = || instruction.near_branch_target();
    match instruction.mnemonic() {
        M::Nop | M::Endbr64 => {}
        M::Cld => state.flags = state.flags.masked(!flags::DF),
        M::Clac => state.flags = state.flags.masked(!flags::AC),
        M::Lfence => state.speculation.fence(),
        M::Verw => {
            // It reads a selector, and sets ZF.
            if !instruction.is_ip_rel_memory_operand() {
                return Err(unknown(instruction));
            }
            state.computed(Arithmetic::Unknown);
        }
        M::Swapgs => {
            with_fred(state, false)?;
            std::mem::swap(&mut state.gs, &mut state.kernel_gs);
            state.speculation.choose();
        }
        M::Rdgsbase => {
            by_instruction(state, true)?;
            let gs = state.gs.clone();
            state.set_register(instruction.op0_register(), &gs);
        }
        M::Wrgsbase => {
            by_instruction(state, true)?;
            state.gs = state.register(instruction.op0_register());
            state.speculation.choose();
        }
        M::Rdmsr => {
            expect_gs_base(state, instruction)?;
            let gs = state.gs.clone();
            state.set_register(Register::EAX, &gs);
            state.set_register(Register::RDX, &gs.shr(32));
        }
        M::Wrmsr => {
            expect_gs_base(state, instruction)?;
            state.gs = state.register(Register::EAX).or(&state.register(Register::EDX).shl(32));
            // WRMSR of this register need not serialize (SDM volume 4, 2.1 on IA32_GS_BASE and WRMSR's page).
            state.speculation.choose();
        }
        M::Mov => mov(state, instruction)?,
        M::Lea => {
            let address = address(state, instruction)?;
            state.set_register(instruction.op0_register(), &address);
        }
        M::Push => {
            let value = operand(state, instruction, 0)?;
            state.push(value)?;
        }
        M::Pop => {
            let value = state.pop()?;
            state.set_register(instruction.op0_register(), &value);
        }
        M::Pushfq => {
            let value = state.all_flags();
            state.push(value)?;
        }
        M::Popfq => {
            let value = state.pop()?;
            // At CPL 0 all but VM, and RF is cleared.
            state.flags = value.masked(flags::ALL & !(flags::VM | flags::RF)).or(&Term::constant(flags::FIXED));
            state.arithmetic = Arithmetic::Unknown;
            state.clean = true;
        }
        M::Add | M::Sub | M::And | M::Or | M::Xor | M::Cmp | M::Test => compute(state, instruction)?,
        M::Shl | M::Shr => {
            let (a, by) = (operand(state, instruction, 0)?, operand(state, instruction, 1)?);
            let by = by.value().ok_or_else(|| unknown(instruction))? as u32 & 63;
            let result = if instruction.mnemonic() == M::Shl { a.shl(by) } else { a.shr(by) };
            state.set_register(instruction.op0_register(), &result);
            state.computed(Arithmetic::Unknown);
        }
        M::Jmp if instruction.op0_kind() == OpKind::NearBranch64 => return Ok(Next::Jump(target())),
        M::Je | M::Jne | M::Ja => {
            let condition = match (instruction.mnemonic(), &state.arithmetic) {
                (M::Je, arithmetic) => zero(arithmetic),
                (M::Jne, arithmetic) => zero(arithmetic).map(Condition::not),
                (_, Arithmetic::Compared(a, b)) => Some(Condition::Below(b.clone(), a.clone())),
                _ => None,
            };
            return Ok(Next::Branch(condition.ok_or_else(|| unknown(instruction))?, target()));
        }
        M::Call if instruction.op0_kind() == OpKind::NearBranch64 => return Ok(Next::Call(target())),
        M::Sysretq => return Ok(Next::Leave(Leave::Sysret64)),
        M::Sysret if instruction.code() == Code::Sysretd => return Ok(Next::Leave(Leave::Sysret32)),
        M::Iretq => return Ok(Next::Leave(Leave::Iret)),
        // ERETU chooses the user's GS by itself (FRED specification, ERETU).
        M::Eretu => {
            with_fred(state, true)?;
            std::mem::swap(&mut state.gs, &mut state.kernel_gs);
            return Ok(Next::Leave(Leave::Eretu));
        }
        M::Erets => {
            with_fred(state, true)?;
            return Ok(Next::Leave(Leave::Erets));
        }
        M::Ud2 => return Ok(Next::Leave(Leave::Never)),
        _ => return Err(unknown(instruction)),
    }
    Ok(Next::Goes)
}

/// RDGSBASE and WRGSBASE are there, or RDMSR and WRMSR have to be used.
fn by_instruction(state: &State, instruction: bool) -> Result<(), Stuck> {
    let Some(has) = &state.fsgsbase else { return Ok(()) };
    let known = Condition::Equal(has.clone(), Term::constant(0));
    let needed = if instruction { known.not() } else { known };
    match state.path.contains(&needed) {
        true => Ok(()),
        false => Err(Stuck::Unknown("GS is not switched in the way that this CPU has".to_owned())),
    }
}

/// SWAPGS is #UD with FRED; ERETU and ERETS are without it.
fn with_fred(state: &State, wanted: bool) -> Result<(), Stuck> {
    let zero = Term::constant(0);
    let off = Condition::Equal(state.fred.clone().unwrap_or(zero.clone()), zero);
    let needed = if wanted { off.not() } else { off };
    match needed.decided() == Some(true) || state.path.contains(&needed) {
        true => Ok(()),
        false => Err(Stuck::Unknown(format!(
            "{}, FRED may be {}",
            if wanted { "ERETU or ERETS" } else { "SWAPGS" },
            if wanted { "off" } else { "on" }
        ))),
    }
}

fn expect_gs_base(state: &State, instruction: &Instruction) -> Result<(), Stuck> {
    by_instruction(state, false)?;
    match state.register(Register::ECX).value() {
        Some(GS_BASE) => Ok(()),
        _ => Err(unknown(instruction)),
    }
}

fn zero(arithmetic: &Arithmetic) -> Option<Condition> {
    match arithmetic {
        Arithmetic::Compared(a, b) => Some(Condition::Equal(a.clone(), b.clone())),
        Arithmetic::Result(result) => Some(Condition::Equal(result.clone(), Term::constant(0))),
        Arithmetic::Unknown => None,
    }
}

fn mov(state: &mut State, instruction: &Instruction) -> Result<(), Stuck> {
    if instruction.op1_register() == Register::CR3 {
        let cr3 = state.cr3.clone();
        state.set_register(instruction.op0_register(), &cr3);
        return Ok(());
    }
    let value = operand(state, instruction, 1)?;
    if instruction.op0_register() == Register::CR3 {
        state.cr3 = value;
        // MOV to a control register serializes (SDM volume 3, 9.3).
        state.speculation.fence();
        return Ok(());
    }
    store(state, instruction, value)
}

fn compute(state: &mut State, instruction: &Instruction) -> Result<(), Stuck> {
    use Mnemonic as M;
    let (a, b) = (operand(state, instruction, 0)?, operand(state, instruction, 1)?);
    let mask = match size(instruction) {
        8 => u64::MAX,
        size => (1 << (size * 8)) - 1,
    };
    // A constant is sign-extended to 64 bits.
    let b = b.masked(mask);
    let (result, arithmetic) = match instruction.mnemonic() {
        M::Add => (Some(a.add(&b)), Arithmetic::Unknown),
        M::Sub => (Some(a.sub(&b)), Arithmetic::Compared(a, b)),
        M::Cmp => (None, Arithmetic::Compared(a, b)),
        M::And | M::Test => {
            let result = a.and(&b);
            let kept = (instruction.mnemonic() == M::And).then(|| result.clone());
            (kept, Arithmetic::Result(result))
        }
        M::Or => (Some(a.or(&b)), Arithmetic::Result(a.or(&b))),
        _ => (Some(a.xor(&b)), Arithmetic::Result(a.xor(&b))),
    };
    if let Some(result) = result {
        store(state, instruction, result.masked(mask))?;
    }
    state.computed(arithmetic);
    Ok(())
}

/// The size of operand 0, in bytes.
fn size(instruction: &Instruction) -> u32 {
    match instruction.op0_kind() {
        OpKind::Register => instruction.op0_register().size() as u32,
        _ => instruction.memory_size().size() as u32,
    }
}

/// Writes operand 0.
fn store(state: &mut State, instruction: &Instruction, value: Term) -> Result<(), Stuck> {
    match instruction.op0_kind() {
        OpKind::Register if instruction.op0_register().is_gpr() => {
            state.set_register(instruction.op0_register(), &value);
            Ok(())
        }
        OpKind::Memory if instruction.memory_size().size() == 8 => {
            let place = effective(state, instruction)?;
            Ok(state.write(&place, value)?)
        }
        _ => Err(unknown(instruction)),
    }
}

/// Reads an operand.
fn operand(state: &mut State, instruction: &Instruction, number: u32) -> Result<Term, Stuck> {
    match instruction.op_kind(number) {
        OpKind::Register if instruction.op_register(number).is_gpr() => {
            Ok(state.register(instruction.op_register(number)))
        }
        OpKind::Memory => {
            let place = effective(state, instruction)?;
            Ok(state.read(&place, instruction.memory_size().size() as u32)?)
        }
        OpKind::Immediate8
        | OpKind::Immediate16
        | OpKind::Immediate32
        | OpKind::Immediate64
        | OpKind::Immediate8to16
        | OpKind::Immediate8to32
        | OpKind::Immediate8to64
        | OpKind::Immediate32to64 => Ok(Term::constant(instruction.immediate(number))),
        _ => Err(unknown(instruction)),
    }
}

/// The offset that LEA gives.
fn address(state: &State, instruction: &Instruction) -> Result<Term, Stuck> {
    if instruction.is_ip_rel_memory_operand() {
        return Ok(Term::constant(instruction.ip_rel_memory_address()));
    }
    if instruction.memory_index() != Register::None {
        return Err(unknown(instruction));
    }
    let base = match instruction.memory_base() {
        Register::None => Term::constant(0),
        base => state.register(base),
    };
    Ok(base.plus(instruction.memory_displacement64() as i64))
}

/// The linear address of a memory operand.
fn effective(state: &mut State, instruction: &Instruction) -> Result<Term, Stuck> {
    let address = address(state, instruction)?;
    match instruction.memory_segment() {
        Register::GS => {
            if !state.speculation.using() {
                return Err(Stuck::Speculation("GS is used, and no fence stands after its choice".to_owned()));
            }
            Ok(state.gs.add(&address))
        }
        Register::FS => Err(unknown(instruction)),
        _ => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;
    use crate::prove::state::{Region, USER_TABLE};

    /// A state with a stack, RSP at its top.
    fn state() -> State {
        let mut state = State::new(0, true);
        let top = Term::partly_known("top", 15, 1 << 63);
        let region =
            Region { name: "stack", base: top.clone(), low: -64, high: 0, writable: true, for_user_table: false };
        state.add_region(region);
        state.set_register(Register::RSP, &top);
        state.cr3 = Term::partly_known("cr3", USER_TABLE, 0);
        (state.gs, state.kernel_gs) = (Term::symbol("gs"), Term::symbol("kernel gs"));
        state
    }

    fn run(state: &mut State, code: &[u8]) -> Result<Next, Stuck> {
        let mut decoder = Decoder::with_ip(64, code, 0x1000, DecoderOptions::NONE);
        let mut next = Ok(Next::Goes);
        while decoder.can_decode() {
            next = step(state, &decoder.decode());
            assert!(next.is_ok() || !decoder.can_decode(), "{next:?}");
        }
        next
    }

    #[test]
    fn what_is_pushed_is_popped() {
        let mut state = state();
        let rcx = Term::symbol("rcx");
        state.set_register(Register::RCX, &rcx);
        // push rcx; push -38; pop rax; pop rdx
        run(&mut state, &[0x51, 0x6a, 0xda, 0x58, 0x5a]).unwrap();
        assert_eq!(state.register(Register::RAX).value(), Some(38u64.wrapping_neg()));
        assert_eq!(state.register(Register::RDX), rcx);
    }

    #[test]
    fn half_a_register_clears_the_other() {
        let mut state = state();
        state.set_register(Register::RAX, &Term::symbol("rax"));
        // mov eax, eax; xor ecx, ecx
        run(&mut state, &[0x89, 0xc0, 0x31, 0xc9]).unwrap();
        assert_eq!(state.register(Register::RAX).shr(32).value(), Some(0));
        assert_eq!(state.register(Register::RCX).value(), Some(0));
    }

    #[test]
    fn memory_that_is_not_the_kernels_is_not_touched() {
        let mut state = state();
        state.set_register(Register::RDI, &Term::symbol("user rdi"));
        // mov rax, [rdi]
        assert!(matches!(run(&mut state, &[0x48, 0x8b, 0x07]), Err(Stuck::Access(_))));
        // mov rax, gs:[0x10]: the base is anyone's.
        let gs = [0x65, 0x48, 0x8b, 0x04, 0x25, 0x10, 0, 0, 0];
        assert!(matches!(run(&mut state, &gs), Err(Stuck::Access(_))));
        // push rax, below the stack's end
        let end = state.regions[0].base.plus(-64);
        state.set_register(Register::RSP, &end);
        assert!(matches!(run(&mut state, &[0x50]), Err(Stuck::Access(_))));
        // mov rsp, cr3; or rsp, 0x1000; mov cr3, rsp: the user's page table does not map the stack.
        let top = state.regions[0].base.clone();
        run(&mut state, &[0x0f, 0x20, 0xdc, 0x48, 0x81, 0xcc, 0, 0x10, 0, 0, 0x0f, 0x22, 0xdc]).unwrap();
        state.set_register(Register::RSP, &top);
        assert!(matches!(run(&mut state, &[0x50]), Err(Stuck::Access(_))));
    }

    #[test]
    fn gs_by_each_way() {
        let mut one = state();
        run(&mut one, &[0x0f, 0x01, 0xf8]).unwrap(); // swapgs
        assert_eq!((one.gs.to_string(), one.kernel_gs.to_string()), ("kernel gs".to_owned(), "gs".to_owned()));

        let mut two = state();
        // mov ecx, 0xc0000101; rdmsr; shl rdx, 32; or rax, rdx
        run(&mut two, &[0xb9, 1, 1, 0, 0xc0, 0x0f, 0x32, 0x48, 0xc1, 0xe2, 32, 0x48, 0x09, 0xd0]).unwrap();
        assert_eq!(two.register(Register::RAX), two.gs);
        // mov rdx, rax; shr rdx, 32; wrmsr
        run(&mut two, &[0x48, 0x89, 0xc2, 0x48, 0xc1, 0xea, 32, 0x0f, 0x30]).unwrap();
        assert_eq!(two.gs.to_string(), "gs");
        // Another register of the model.
        assert!(matches!(run(&mut two, &[0x31, 0xc9, 0x0f, 0x30]), Err(Stuck::Unknown(_))));
        // wrgsbase rax, where the CPU has none.
        two.fsgsbase = Some(Term::symbol("has"));
        assert!(matches!(run(&mut two, &[0xf3, 0x48, 0x0f, 0xae, 0xd8]), Err(Stuck::Unknown(_))));
    }

    #[test]
    fn flags_that_affect_the_kernel_are_cleared_one_by_one() {
        let mut state = state();
        state.flags = Term::partly_known("rflags", !flags::ALL, flags::FIXED);
        run(&mut state, &[0xfc, 0x0f, 0x01, 0xca]).unwrap(); // cld; clac
        assert_eq!(state.flags.masked(flags::DF | flags::AC).value(), Some(0));
        assert_eq!(state.flags.masked(flags::TF).value(), None);
        run(&mut state, &[0x6a, 0x02, 0x9d]).unwrap(); // push 2; popfq
        assert_eq!(state.flags.value(), Some(flags::FIXED));
        // pushfq after arithmetic: its flags are not what they were.
        run(&mut state, &[0x48, 0x83, 0xec, 0x08, 0x9c, 0x58]).unwrap(); // sub rsp, 8; pushfq; pop rax
        assert_eq!(state.register(Register::RAX).masked(!flags::ARITHMETIC).value(), Some(flags::FIXED));
        assert_eq!(state.register(Register::RAX).value(), None);
    }

    #[test]
    fn jumps_ask_for_the_last_comparison() {
        let mut state = state();
        let (rcx, rax) = (Term::symbol("rcx"), Term::symbol("rax"));
        state.set_register(Register::RCX, &rcx);
        state.set_register(Register::RAX, &rax);
        // cmp rcx, rax; jne
        let Ok(Next::Branch(condition, 0x1010)) = run(&mut state, &[0x48, 0x39, 0xc1, 0x75, 0x0b]) else { panic!() };
        assert_eq!(condition, Condition::Equal(rcx.clone(), rax).not());
        // test cl, 3; je
        let Ok(Next::Branch(condition, _)) = run(&mut state, &[0xf6, 0xc1, 0x03, 0x74, 0x00]) else { panic!() };
        assert_eq!(condition, Condition::Equal(rcx.masked(3), Term::constant(0)));
        // cmp ecx, 0x7fff; ja
        let code = [0x81, 0xf9, 0xff, 0x7f, 0, 0, 0x77, 0x00];
        let Ok(Next::Branch(condition, _)) = run(&mut state, &code) else { panic!() };
        assert_eq!(condition, Condition::Below(Term::constant(0x7fff), rcx.masked(0xffff_ffff)));
        // After VERW nobody knows.
        assert!(matches!(run(&mut state, &[0x0f, 0, 0x2d, 0, 0, 0, 0, 0x74, 0x00]), Err(Stuck::Unknown(_))));
    }

    #[test]
    fn a_guessed_jump_needs_a_fence_before_gs() {
        let gs_is_used = |code: &[u8]| {
            let mut state = state();
            let (user, kernel) = (Term::symbol("user gs"), state.regions[0].base.plus(-64));
            (state.gs, state.kernel_gs) = (user, kernel);
            state.set_register(Register::RCX, &Term::symbol("rcx"));
            state.computed(Arithmetic::Result(Term::symbol("origin")));
            state.speculation.jump();
            run(&mut state, &[code, &[0x65, 0x48, 0x8b, 0x04, 0x25, 0x10, 0, 0, 0]].concat())
        };
        let swapgs = [0x0f, 0x01, 0xf8];
        assert!(matches!(gs_is_used(&swapgs), Err(Stuck::Speculation(_))));
        let lfence = [0x0f, 0xae, 0xe8];
        assert!(gs_is_used(&[swapgs, lfence].concat()).is_ok());
        assert!(gs_is_used(&[lfence, swapgs].concat()).is_ok(), "the jump is decided by then");
    }
}
