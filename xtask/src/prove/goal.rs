//! What a proof is about, and what a path through a door has to fulfil.

use iced_x86::Register;

use super::image::Image;
use super::solver::Solver;
use super::state::Place;
use super::term::Term;

/// The registers of a frame, in its order.
pub(super) const GENERAL: [Register; 15] = [
    Register::R15,
    Register::R14,
    Register::R13,
    Register::R12,
    Register::RBP,
    Register::RBX,
    Register::R11,
    Register::R10,
    Register::R9,
    Register::R8,
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RSI,
    Register::RDI,
];
/// Where the others are in it.
pub(super) const ORIG_RAX: usize = 15;
pub(super) const RIP: usize = 16;
pub(super) const CS: usize = 17;
pub(super) const RFLAGS: usize = 18;
pub(super) const RSP: usize = 19;
pub(super) const SS: usize = 20;
const WORDS: usize = 21;
/// The names of its words.
pub(super) const NAMES: [&str; WORDS] = [
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax",
    "rip", "cs", "rflags", "rsp", "ss",
];

/// `UserRegs` or `SavedRegs`, as terms.
pub(super) type Frame = [Term; WORDS];

/// Where a general register is in it.
pub(super) fn index(register: Register) -> usize {
    GENERAL.iter().position(|general| *general == register).expect("RSP is not among them")
}

/// The bits that all of the kernel's addresses have.
pub(super) const KERNEL_HALF: u64 = 0xffff_8000_0000_0000;

/// Everything a proof is about.
pub struct Prover<'a> {
    pub image: &'a Image,
    pub solver: &'a mut Solver,
    pub isolation: bool,
    /// Whether there are aliases for 16-bit stacks.
    pub espfix: bool,
}

/// The regions, by number.
#[derive(Clone, Copy)]
pub(super) struct Regions {
    pub cpu: usize,
    pub thread: usize,
    pub entry: usize,
    pub nmi_work: usize,
    /// The stack of #DF, #DB or #MC.
    pub ist: usize,
    pub kernel_stack: usize,
    pub frame: usize,
}

/// What a path has to fulfil.
#[derive(Clone)]
pub(super) struct Goal {
    pub regions: Regions,
    /// The kernel's GS base, and the one that was there when the door was entered from the kernel.
    pub kernel_gs: Term,
    pub found_gs: Term,
    pub user_gs: Term,
    pub found_cr3: Term,
    /// The kernel's page table, which is in CR3 but for the bit.
    pub table: Term,
    pub from_user: bool,
    /// The Rust half that must be called, and the frame that it must find.
    pub half: &'static str,
    pub frame: Frame,
    /// What it gets in RSI and RDX; `None` where it has to be a constant.
    pub vector: Option<u64>,
    pub error: Option<Term>,
    /// Where the frame must be.
    pub at: Place,
    /// What must be restored: set by the Rust half.
    pub out: Option<Frame>,
    /// 32-bit SYSRET was promised to be equivalent.
    pub sysret32: bool,
    /// How often an NMI's handler has run.
    pub runs: u32,
    /// What the word of the NMI's state must be in the end.
    pub state: Option<Term>,
    /// What another word must be in the end.
    pub other: Option<(Place, Term)>,
    /// The NMI's door was hit: it must be left without IRET, which lets NMIs in. If it was not, with IRET.
    pub in_nmi_door: bool,
}
