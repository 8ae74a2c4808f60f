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
    /// RET to what was interrupted.
    Ret,
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
        M::Je | M::Jne | M::Ja | M::Jb => {
            let condition = match (instruction.mnemonic(), &state.arithmetic) {
                (M::Je, arithmetic) => zero(arithmetic),
                (M::Jne, arithmetic) => zero(arithmetic).map(Condition::not),
                (M::Ja, Arithmetic::Compared(a, b)) => Some(Condition::Below(b.clone(), a.clone())),
                (M::Jb, Arithmetic::Compared(a, b)) => Some(Condition::Below(a.clone(), b.clone())),
                _ => None,
            };
            return Ok(Next::Branch(condition.ok_or_else(|| unknown(instruction))?, target()));
        }
        M::Call if instruction.op0_kind() == OpKind::NearBranch64 => return Ok(Next::Call(target())),
        M::Sysretq => return Ok(Next::Leave(Leave::Sysret64)),
        M::Sysret => return Ok(Next::Leave(Leave::Sysret32)),
        M::Ret if instruction.code() == Code::Retnq => return Ok(Next::Leave(Leave::Ret)),
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

    /// What each leaves in RAX, with RAX 0xfedc_ba98_7654_3210, RCX 0x0f0f_0f0f_0f0f_0f0f and a word of 0x1122_3344_5566_7788 at RSP.
    #[test]
    fn instructions_compute_what_the_manual_says() {
        let results: [(&str, &[u8], u64); 20] = [
            ("nop; endbr64", &[0x90, 0xf3, 0x0f, 0x1e, 0xfa], 0xfedc_ba98_7654_3210),
            ("add rax, rcx", &[0x48, 0x01, 0xc8], 0x0deb_c9a7_8563_411f),
            ("add eax, ecx", &[0x01, 0xc8], 0x8563_411f),
            ("sub rax, rcx", &[0x48, 0x29, 0xc8], 0xefcd_ab89_6745_2301),
            ("and rax, rcx", &[0x48, 0x21, 0xc8], 0x0e0c_0a08_0604_0200),
            ("and eax, -16", &[0x83, 0xe0, 0xf0], 0x7654_3210),
            ("and rax, -256", &[0x48, 0x25, 0, 0xff, 0xff, 0xff], 0xfedc_ba98_7654_3200),
            ("or rax, rcx", &[0x48, 0x09, 0xc8], 0xffdf_bf9f_7f5f_3f1f),
            ("xor rax, rcx", &[0x48, 0x31, 0xc8], 0xf1d3_b597_795b_3d1f),
            ("cmp rax, rcx; test rax, rcx", &[0x48, 0x39, 0xc8, 0x48, 0x85, 0xc8], 0xfedc_ba98_7654_3210),
            ("shl rax, 4", &[0x48, 0xc1, 0xe0, 4], 0xedcb_a987_6543_2100),
            ("shr rax, 4", &[0x48, 0xc1, 0xe8, 4], 0x0fed_cba9_8765_4321),
            ("mov rax, rcx", &[0x48, 0x89, 0xc8], 0x0f0f_0f0f_0f0f_0f0f),
            ("mov rax, -1", &[0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff], u64::MAX),
            ("mov al, cl", &[0x88, 0xc8], 0xfedc_ba98_7654_320f),
            ("mov rax, [rsp]", &[0x48, 0x8b, 0x04, 0x24], 0x1122_3344_5566_7788),
            ("mov eax, [rsp + 4]", &[0x8b, 0x44, 0x24, 4], 0x1122_3344),
            ("push [rsp]; pop rax", &[0xff, 0x34, 0x24, 0x58], 0x1122_3344_5566_7788),
            ("lea rax, [rcx + 0x10]", &[0x48, 0x8d, 0x41, 0x10], 0x0f0f_0f0f_0f0f_0f1f),
            ("lea rax, [0x40]", &[0x48, 0x8d, 0x04, 0x25, 0x40, 0, 0, 0], 0x40),
        ];
        for (text, code, result) in results {
            let mut state = state();
            state.set_register(Register::RAX, &Term::constant(0xfedc_ba98_7654_3210));
            state.set_register(Register::RCX, &Term::constant(0x0f0f_0f0f_0f0f_0f0f));
            state.push(Term::constant(0x1122_3344_5566_7788)).unwrap();
            assert!(matches!(run(&mut state, code), Ok(Next::Goes)), "{text}");
            assert_eq!(state.register(Register::RAX).value(), Some(result), "{text}");
        }
        let mut state = state();
        // lea rax, [rip + 0x10]
        run(&mut state, &[0x48, 0x8d, 0x05, 0x10, 0, 0, 0]).unwrap();
        assert_eq!(state.register(Register::RAX).value(), Some(0x1017));
        // mov rdx, 5; push rdx; add [rsp], rdx; pop rax
        run(&mut state, &[0x48, 0xc7, 0xc2, 5, 0, 0, 0, 0x52, 0x48, 0x01, 0x14, 0x24, 0x58]).unwrap();
        assert_eq!(state.register(Register::RAX).value(), Some(10));
    }

    #[test]
    fn what_no_door_has_is_not_known() {
        let strange: [(&str, &[u8]); 17] = [
            ("verw ax", &[0x0f, 0x00, 0xe8]),
            ("lea rax, [rax + rcx]", &[0x48, 0x8d, 0x04, 0x08]),
            ("shl rax, cl", &[0x48, 0xd3, 0xe0]),
            ("jmp rax", &[0xff, 0xe0]),
            ("call rax", &[0xff, 0xd0]),
            ("iretd", &[0xcf]),
            ("ret 8", &[0xc2, 8, 0]),
            ("eretu", &[0xf3, 0x0f, 0x01, 0xca]),
            ("erets", &[0xf2, 0x0f, 0x01, 0xca]),
            ("mov ds, eax", &[0x8e, 0xd8]),
            ("mov eax, ds", &[0x8c, 0xd8]),
            ("mov byte ptr [rsp - 8], 0", &[0xc6, 0x44, 0x24, 0xf8, 0]),
            ("mov cr4, rax", &[0x0f, 0x22, 0xe0]),
            ("mov rax, fs:[0]", &[0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0]),
            ("jc +0 after nothing", &[0x72, 0]),
            ("test al, al; ja +0", &[0x84, 0xc0, 0x77, 0]),
            ("cpuid", &[0x0f, 0xa2]),
        ];
        for (text, code) in strange {
            let mut state = state();
            state.set_register(Register::RCX, &Term::symbol("rcx"));
            let next = run(&mut state, code);
            assert!(matches!(next, Err(Stuck::Unknown(_))), "{text}: {next:?}");
        }
    }

    #[test]
    fn ways_out_of_a_door() {
        let leaves: [(&[u8], Leave); 5] = [
            (&[0x48, 0x0f, 0x07], Leave::Sysret64),
            (&[0x0f, 0x07], Leave::Sysret32),
            (&[0x48, 0xcf], Leave::Iret),
            (&[0xc3], Leave::Ret),
            (&[0x0f, 0x0b], Leave::Never),
        ];
        for (code, leave) in leaves {
            let next = run(&mut state(), code);
            assert!(matches!(next, Ok(Next::Leave(found)) if found == leave), "{next:?}");
        }
        assert!(matches!(run(&mut state(), &[0xeb, 0x10]), Ok(Next::Jump(0x1012))));
        assert!(matches!(run(&mut state(), &[0xe8, 0x10, 0, 0, 0]), Ok(Next::Call(0x1015))));
    }

    #[test]
    fn fred_has_instructions_of_its_own() {
        let (eretu, erets, swapgs) = ([0xf3, 0x0f, 0x01, 0xca], [0xf2, 0x0f, 0x01, 0xca], [0x0f, 0x01, 0xf8]);
        let mut on = state();
        on.fred = Some(Term::constant(1));
        assert!(matches!(run(&mut on, &swapgs), Err(Stuck::Unknown(_))));
        assert!(matches!(run(&mut on, &erets), Ok(Next::Leave(Leave::Erets))));
        assert_eq!(on.gs.to_string(), "gs");
        assert!(matches!(run(&mut on, &eretu), Ok(Next::Leave(Leave::Eretu))));
        assert_eq!((on.gs.to_string(), on.kernel_gs.to_string()), ("kernel gs".to_owned(), "gs".to_owned()));
        // Where the path says which it is.
        let fred = Term::symbol("fred");
        let off = Condition::Equal(fred.clone(), Term::constant(0));
        for (path, code, known) in [
            (vec![off.clone()], &swapgs[..], true),
            (vec![off.clone().not()], &swapgs, false),
            (vec![off.clone().not()], &eretu, true),
            (vec![off], &erets, false),
            (vec![], &swapgs, false),
        ] {
            let mut state = state();
            (state.fred, state.path) = (Some(fred.clone()), path);
            assert_eq!(run(&mut state, code).is_ok(), known, "{code:x?} with {:?}", state.path);
        }
    }

    #[test]
    fn gs_in_the_way_that_the_cpu_has() {
        let (rdgsbase, wrgsbase) = ([0xf3, 0x48, 0x0f, 0xae, 0xc8], [0xf3, 0x48, 0x0f, 0xae, 0xd8]);
        let mut state = state();
        run(&mut state, &rdgsbase).unwrap();
        assert_eq!(state.register(Register::RAX), state.gs);
        state.set_register(Register::RAX, &Term::symbol("another gs"));
        run(&mut state, &wrgsbase).unwrap();
        assert_eq!(state.gs.to_string(), "another gs");
        let has = Term::symbol("has");
        state.fsgsbase = Some(has.clone());
        let not = Condition::Equal(has, Term::constant(0));
        // mov ecx, 0xc0000101; rdmsr
        let rdmsr = [0xb9, 1, 1, 0, 0xc0, 0x0f, 0x32];
        for (path, code, known) in [
            (not.clone(), &rdmsr[..], true),
            (not.clone().not(), &rdmsr, false),
            (not.clone().not(), &rdgsbase, true),
            (not, &rdgsbase, false),
        ] {
            state.path = vec![path];
            assert_eq!(run(&mut state, code).is_ok(), known, "{code:x?} with {:?}", state.path);
        }
    }

    /// WRGSBASE and WRMSR choose GS as SWAPGS does; and MOV to CR3 is a fence.
    #[test]
    fn each_choice_of_gs_needs_a_fence() {
        let uses = [0x65, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0];
        let run_after_jump = |code: &[u8]| {
            let mut state = state();
            let place = state.regions[0].base.plus(-64);
            state.set_register(Register::RAX, &place);
            (state.gs, state.kernel_gs) = (place.clone(), place);
            state.speculation.jump();
            run(&mut state, &[code, &uses].concat())
        };
        let wrgsbase = [0xf3, 0x48, 0x0f, 0xae, 0xd8];
        // mov ecx, 0xc0000101; mov rdx, rax; shr rdx, 32; wrmsr
        let wrmsr = [0xb9, 1, 1, 0, 0xc0, 0x48, 0x89, 0xc2, 0x48, 0xc1, 0xea, 32, 0x0f, 0x30];
        // mov rdx, cr3; mov cr3, rdx
        let cr3 = [0x0f, 0x20, 0xda, 0x0f, 0x22, 0xda];
        for choice in [&wrgsbase[..], &wrmsr, &[0x0f, 0x01, 0xf8]] {
            assert!(matches!(run_after_jump(choice), Err(Stuck::Speculation(_))), "{choice:x?}");
            let next = run_after_jump(&[choice, &cr3].concat());
            assert!(next.is_ok(), "{choice:x?}: {next:?}");
        }
    }

    /// POPF at CPL 0 loads all but VM, and clears RF (SDM volume 2, POPF).
    #[test]
    fn popf_loads_what_it_may() {
        let mut state = state();
        run(&mut state, &[0x68, 0xff, 0xff, 0xff, 0x7f, 0x9d]).unwrap(); // push 0x7fffffff; popfq
        assert_eq!(state.all_flags().value(), Some(flags::ALL & !(flags::VM | flags::RF)));
        run(&mut state, &[0x6a, 0, 0x9d]).unwrap(); // push 0; popfq
        assert_eq!(state.all_flags().value(), Some(flags::FIXED));
    }

    #[test]
    fn flags_of_a_jump_are_those_of_the_last_arithmetic() {
        let (rax, rcx) = (Term::symbol("rax"), Term::symbol("rcx"));
        let condition = |code: &[u8]| {
            let mut state = state();
            state.set_register(Register::RAX, &rax);
            state.set_register(Register::RCX, &rcx);
            match run(&mut state, code) {
                Ok(Next::Branch(condition, _)) => condition,
                other => panic!("{code:x?}: {other:?}"),
            }
        };
        let zero = || Term::constant(0);
        // sub rax, rcx; je: whether they were equal.
        assert_eq!(condition(&[0x48, 0x29, 0xc8, 0x74, 0]), Condition::Equal(rax.clone(), rcx.clone()));
        // or rax, rcx; je
        assert_eq!(condition(&[0x48, 0x09, 0xc8, 0x74, 0]), Condition::Equal(rax.or(&rcx), zero()));
        // xor rax, rcx; jne
        assert_eq!(condition(&[0x48, 0x31, 0xc8, 0x75, 0]), Condition::Equal(rax.xor(&rcx), zero()).not());
        // and rax, rcx; jne
        assert_eq!(condition(&[0x48, 0x21, 0xc8, 0x75, 0]), Condition::Equal(rax.and(&rcx), zero()).not());
        // cmp rax, rcx; jb, ja
        assert_eq!(condition(&[0x48, 0x39, 0xc8, 0x72, 0]), Condition::Below(rax.clone(), rcx.clone()));
        assert_eq!(condition(&[0x48, 0x39, 0xc8, 0x77, 0]), Condition::Below(rcx.clone(), rax.clone()));
        // cmp ax, -1; je: 16 bits of the constant.
        assert_eq!(
            condition(&[0x66, 0x83, 0xf8, 0xff, 0x74, 0]),
            Condition::Equal(rax.masked(0xffff), Term::constant(0xffff))
        );
        // add and shl leave what no door asks for.
        for code in [&[0x48, 0x01, 0xc8, 0x74, 0][..], &[0x48, 0xc1, 0xe0, 4, 0x74, 0]] {
            let mut state = state();
            state.set_register(Register::RAX, &rax);
            assert!(matches!(run(&mut state, code), Err(Stuck::Unknown(_))), "{code:x?}");
        }
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
