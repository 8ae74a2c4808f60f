//! What the CPU and the memory that doors touch hold, as terms.

use std::collections::BTreeMap;

use iced_x86::Register;

use super::term::{Condition, Node, Term};

/// RFLAGS.
pub mod flags {
    pub const FIXED: u64 = 1 << 1;
    pub const TF: u64 = 1 << 8;
    pub const IF: u64 = 1 << 9;
    pub const DF: u64 = 1 << 10;
    pub const NT: u64 = 1 << 14;
    pub const RF: u64 = 1 << 16;
    pub const VM: u64 = 1 << 17;
    pub const AC: u64 = 1 << 18;
    /// CF, PF, AF, ZF, SF, OF: what arithmetic sets.
    pub const ARITHMETIC: u64 = 0x8d5;
    /// All that exist (SDM volume 1, figure 3-8).
    pub const ALL: u64 = 0x3f_7fd5 | FIXED;
}

pub use portcullis::x86_64::isolation::USER_TABLE;

/// What the last arithmetic was, for the conditional jump after it.
#[derive(Clone, Debug)]
pub enum Arithmetic {
    /// A comparison or subtraction, of the bits of a mask.
    Compared(Term, Term),
    /// A result of AND, OR, XOR or TEST.
    Result(Term),
    /// Whatever it was.
    Unknown,
}

/// A piece of memory that doors may touch: an unknown base, and the offsets from it.
#[derive(Clone, Debug)]
pub struct Region {
    pub name: &'static str,
    pub base: Term,
    pub low: i64,
    pub high: i64,
    pub writable: bool,
    /// Whether the user's page table maps it, too.
    pub for_user_table: bool,
}

/// A place in memory: the region's number, and the offset from its base.
pub type Place = (usize, i64);

/// Where execution is, and all it has come by.
#[derive(Clone)]
pub struct State {
    pub rip: u64,
    pub registers: [Term; 16],
    /// RFLAGS but for the arithmetic flags, unless these are `clean`.
    pub flags: Term,
    pub arithmetic: Arithmetic,
    /// Whether `flags` has the arithmetic flags, too.
    pub clean: bool,
    pub gs: Term,
    pub kernel_gs: Term,
    pub cr3: Term,
    /// With page-table isolation.
    pub isolation: bool,
    pub regions: Vec<Region>,
    cells: BTreeMap<Place, Term>,
    /// What must be true for execution to come here.
    pub path: Vec<Condition>,
    /// The last instructions, the newest last.
    pub trail: Vec<u64>,
    pub speculation: Speculation,
    /// Whether the CPU has RDGSBASE: a word of which the lowest bit says so.
    pub fsgsbase: Option<Term>,
    /// Whether FRED delivers events: not zero if it does. None if not.
    pub fred: Option<Term>,
    /// The least offset that was written below the top of each region.
    pub deepest: BTreeMap<usize, i64>,
    pub counter: u32,
}

/// Whether the CPU may go on with the GS of the other side, where it guesses a conditional jump.
#[derive(Clone, Copy, Debug, Default)]
pub struct Speculation {
    /// A conditional jump has come since the last fence.
    jumped: bool,
    /// GS was chosen after it.
    chosen: bool,
    /// GS was used, or a fence has come.
    settled: bool,
}

impl Speculation {
    /// After a Rust half: GS is the kernel's for sure.
    pub const SETTLED: Speculation = Speculation { jumped: false, chosen: false, settled: true };

    /// A conditional jump.
    pub fn jump(&mut self) {
        self.jumped = true;
    }

    /// SWAPGS, WRGSBASE.
    pub fn choose(&mut self) {
        self.chosen |= self.jumped;
    }

    /// LFENCE, or an instruction that serializes.
    pub fn fence(&mut self) {
        *self = Speculation::SETTLED;
    }

    /// GS is used, by the door or by its Rust half: whether that is safe.
    pub fn using(&mut self) -> bool {
        let safe = !self.chosen && (self.settled || !self.jumped);
        self.settled = true;
        safe
    }
}

fn is_second_byte(register: Register) -> bool {
    matches!(register, Register::AH | Register::BH | Register::CH | Register::DH)
}

/// Why an access is not allowed.
#[derive(Debug)]
pub struct BadAccess(pub String);

impl State {
    /// With unknown registers and no memory.
    pub fn new(rip: u64, isolation: bool) -> State {
        let unknown = Term::constant(0);
        State {
            rip,
            registers: std::array::from_fn(|_| unknown.clone()),
            flags: Term::constant(flags::FIXED),
            arithmetic: Arithmetic::Unknown,
            clean: true,
            gs: unknown.clone(),
            kernel_gs: unknown.clone(),
            cr3: unknown,
            isolation,
            regions: Vec::new(),
            cells: BTreeMap::new(),
            path: Vec::new(),
            trail: Vec::new(),
            speculation: Speculation::default(),
            fsgsbase: None,
            fred: None,
            deepest: BTreeMap::new(),
            counter: 0,
        }
    }

    /// A new unknown word.
    pub fn fresh(&mut self, name: &str) -> Term {
        self.fresh_with(name, 0, 0)
    }

    /// A new unknown word of which some bits are known.
    pub fn fresh_with(&mut self, name: &str, zeros: u64, ones: u64) -> Term {
        self.counter += 1;
        Term::partly_known(format!("{name}#{}", self.counter), zeros, ones)
    }

    /// A register, or the part of it.
    pub fn register(&self, register: Register) -> Term {
        let whole = &self.registers[register.full_register().number()];
        match register.size() {
            8 => whole.clone(),
            4 => whole.masked(0xffff_ffff),
            2 => whole.masked(0xffff),
            _ if is_second_byte(register) => whole.shr(8).masked(0xff),
            _ => whole.masked(0xff),
        }
    }

    /// Sets a register. 32 bits clear the upper half (SDM volume 1, 3.4.1.1).
    pub fn set_register(&mut self, register: Register, value: &Term) {
        let number = register.full_register().number();
        self.registers[number] = match register.size() {
            8 => value.clone(),
            4 => value.masked(0xffff_ffff),
            2 => self.registers[number].masked(!0xffff).or(&value.masked(0xffff)),
            _ if is_second_byte(register) => self.registers[number].masked(!0xff00).or(&value.masked(0xff).shl(8)),
            _ => self.registers[number].masked(!0xff).or(&value.masked(0xff)),
        };
    }

    /// RSP.
    pub fn rsp(&self) -> Term {
        self.register(Register::RSP)
    }

    /// RFLAGS as PUSHF has them.
    pub fn all_flags(&mut self) -> Term {
        if !self.clean {
            let arithmetic = self.fresh_with("arithmetic flags", !flags::ARITHMETIC, 0);
            self.flags = self.flags.masked(!flags::ARITHMETIC).or(&arithmetic);
            self.clean = true;
        }
        self.flags.clone()
    }

    /// After an instruction that sets the arithmetic flags.
    pub fn computed(&mut self, arithmetic: Arithmetic) {
        self.arithmetic = arithmetic;
        self.clean = false;
    }

    /// Whether the user's page table is loaded.
    pub fn on_user_table(&self) -> bool {
        self.isolation && self.cr3.masked(USER_TABLE).value() != Some(0)
    }

    /// Adds a region; its number.
    pub fn add_region(&mut self, region: Region) -> usize {
        self.regions.push(region);
        self.regions.len() - 1
    }

    /// Which region it is, and where in it.
    fn place(&self, address: &Term, size: u32) -> Result<Place, BadAccess> {
        let (base, offset) = address.split();
        let offset = offset as i64;
        // On the aliases the bits 16 to 31 are any.
        let without_alias = match base.node() {
            Node::Or(a, b) if a.known().0 | 0xffff_0000 == u64::MAX => b.clone(),
            Node::Or(a, b) if b.known().0 | 0xffff_0000 == u64::MAX => a.clone(),
            _ => base.clone(),
        };
        let is_alias = without_alias != base;
        let found = self.regions.iter().position(|region| {
            region.base == without_alias
                && (region.name == "alias") == is_alias
                && region.low <= offset
                && offset + i64::from(size) <= region.high
        });
        let number = found.ok_or_else(|| BadAccess(format!("{size} bytes at {address}, which is not the kernel's")))?;
        let region = &self.regions[number];
        if self.on_user_table() && !region.for_user_table {
            return Err(BadAccess(format!("{size} bytes of the {} on the user's page table", region.name)));
        }
        Ok((number, offset))
    }

    /// The word at a place, unknown if nobody has looked or written yet.
    pub fn word(&mut self, (region, offset): Place) -> Term {
        // An alias shows what was written to the frame.
        let region = match self.regions[region].name {
            "alias" => self.regions.iter().position(|other| other.name == "frame").unwrap_or(region),
            _ => region,
        };
        if let Some(word) = self.cells.get(&(region, offset)) {
            return word.clone();
        }
        let word = self.fresh(&format!("{}[{offset}]", self.regions[region].name));
        self.cells.insert((region, offset), word.clone());
        word
    }

    /// Sets it.
    pub fn set_word(&mut self, (region, offset): Place, value: Term) {
        self.cells.insert((region, offset), value);
    }

    /// Forgets all words of a region in a range of offsets.
    pub fn forget(&mut self, region: usize, offsets: std::ops::Range<i64>) {
        self.cells.retain(|(of, offset), _| *of != region || !offsets.contains(offset));
    }

    /// Reads memory.
    pub fn read(&mut self, address: &Term, size: u32) -> Result<Term, BadAccess> {
        let (region, offset) = self.place(address, size)?;
        let inside = offset.rem_euclid(8);
        if inside + i64::from(size) > 8 {
            return Err(BadAccess(format!("{size} bytes at {address}, not aligned")));
        }
        let word = self.word((region, offset - inside));
        let part = word.shr(inside as u32 * 8);
        Ok(if size == 8 { part } else { part.masked((1 << (size * 8)) - 1) })
    }

    /// Writes a word.
    pub fn write(&mut self, address: &Term, value: Term) -> Result<(), BadAccess> {
        let (region, offset) = self.place(address, 8)?;
        if !self.regions[region].writable || offset.rem_euclid(8) != 0 {
            return Err(BadAccess(format!("a write of 8 bytes at {address}")));
        }
        let deepest = self.deepest.entry(region).or_insert(offset);
        *deepest = offset.min(*deepest);
        self.set_word((region, offset), value);
        Ok(())
    }

    /// Pushes a word.
    pub fn push(&mut self, value: Term) -> Result<(), BadAccess> {
        let top = self.rsp().plus(-8);
        self.write(&top, value)?;
        self.set_register(Register::RSP, &top);
        Ok(())
    }

    /// Pops one.
    pub fn pop(&mut self) -> Result<Term, BadAccess> {
        let top = self.rsp();
        let value = self.read(&top, 8)?;
        self.set_register(Register::RSP, &top.plus(8));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_where_the_manual_has_them() {
        use flags::{AC, ALL, ARITHMETIC, DF, FIXED, IF, NT, RF, TF, VM};
        assert_eq!([FIXED, TF, IF, DF, NT, RF, VM, AC], [1, 8, 9, 10, 14, 16, 17, 18].map(|bit| 1 << bit));
        assert_eq!(ARITHMETIC, [0, 2, 4, 6, 7, 11].iter().map(|bit| 1u64 << bit).sum::<u64>());
        // With IOPL at 12 and 13, VIF, VIP and ID above AC.
        let others = [12, 13, 19, 20, 21].iter().map(|bit| 1u64 << bit).sum::<u64>();
        assert_eq!(ALL, ARITHMETIC | FIXED | TF | IF | DF | NT | RF | VM | AC | others);
    }

    /// All sequences of four: GS may be used if no choice has come after a jump since the last fence, and if its first use comes before
    /// any jump or after a fence.
    #[test]
    fn when_gs_may_be_used() {
        const OPERATIONS: [&str; 4] = ["jump", "choose", "fence", "use"];
        for number in 0..4usize.pow(4) {
            let sequence: Vec<&str> = (0..4).map(|at| OPERATIONS[number / 4usize.pow(at) % 4]).collect();
            let mut speculation = Speculation::default();
            for (at, operation) in sequence.iter().enumerate() {
                match *operation {
                    "jump" => speculation.jump(),
                    "choose" => speculation.choose(),
                    "fence" => speculation.fence(),
                    _ => {}
                }
                let before = &sequence[..=at];
                let fence = before.iter().rposition(|one| *one == "fence");
                let since = &before[fence.map_or(0, |fence| fence + 1)..];
                let jump = since.iter().position(|one| *one == "jump");
                let chosen = jump.is_some_and(|jump| since[jump..].contains(&"choose"));
                let settled = fence.is_some() || since[..since.len().max(1) - 1].contains(&"use");
                if *operation == "use" {
                    assert_eq!(speculation.using(), !chosen && (settled || jump.is_none()), "{before:?}");
                }
            }
        }
    }

    #[test]
    fn parts_of_a_register() {
        let mut state = State::new(0, false);
        let mut check = |register, value: u64, whole: u64| {
            state.set_register(Register::RAX, &Term::constant(0x1122_3344_5566_7788));
            assert_eq!(state.register(register).value(), Some(value), "{register:?}");
            state.set_register(register, &Term::constant(0xffff_ffff_ffff_ff99));
            assert_eq!(state.register(Register::RAX).value(), Some(whole), "{register:?}");
        };
        check(Register::RAX, 0x1122_3344_5566_7788, 0xffff_ffff_ffff_ff99);
        check(Register::EAX, 0x5566_7788, 0xffff_ff99);
        check(Register::AX, 0x7788, 0x1122_3344_5566_ff99);
        check(Register::AL, 0x88, 0x1122_3344_5566_7799);
        check(Register::AH, 0x77, 0x1122_3344_5566_9988);
    }

    /// A stack of 64 bytes that only the kernel's table maps, and a word that both map and nobody may write.
    fn state() -> (State, Term, Term) {
        let (stack, constant) = (Term::partly_known("stack", 15, 1 << 63), Term::partly_known("word", 7, 1 << 63));
        let mut state = State::new(0, true);
        state.cr3 = Term::partly_known("cr3", USER_TABLE, 0);
        let mut add = |name, base: &Term, low, high, writable| {
            let base = base.clone();
            state.add_region(Region { name, base, low, high, writable, for_user_table: !writable })
        };
        assert_eq!(add("stack", &stack, -64, 0, true), 0);
        assert_eq!(add("word", &constant, 0, 8, false), 1);
        (state, stack, constant)
    }

    #[test]
    fn a_region_has_two_ends() {
        let (mut state, stack, constant) = state();
        for (offset, size, allowed) in [
            (-64, 8, true),
            (-65, 1, false),
            (-72, 8, false),
            (-8, 8, true),
            (-1, 1, true),
            (0, 1, false),
            (-4, 8, false),
        ] {
            assert_eq!(state.read(&stack.plus(offset), size).is_ok(), allowed, "{size} at {offset}");
        }
        assert!(state.read(&constant, 8).is_ok());
        assert!(state.read(&constant.plus(8), 1).is_err());
        assert!(state.read(&Term::symbol("another base"), 8).is_err());
        assert!(state.write(&stack.plus(-64), Term::constant(1)).is_ok());
        assert!(state.write(&stack.plus(-60), Term::constant(1)).is_err(), "not aligned");
        assert!(state.write(&constant, Term::constant(1)).is_err(), "nobody may write it");
        state.cr3 = state.cr3.or(&Term::constant(USER_TABLE));
        assert!(state.on_user_table());
        assert!(state.read(&stack.plus(-8), 8).is_err(), "not mapped");
        assert!(state.read(&constant, 8).is_ok());
        // Where nobody knows which table it is, it may be the user's.
        state.cr3 = Term::symbol("any cr3");
        assert!(state.on_user_table());
        state.isolation = false;
        assert!(!state.on_user_table());
    }

    #[test]
    fn memory_holds_what_was_written() {
        let (mut state, stack, _) = state();
        let word = Term::constant(0x1122_3344_5566_7788);
        state.write(&stack.plus(-16), word.clone()).unwrap();
        assert_eq!(state.read(&stack.plus(-16), 8).unwrap(), word);
        for (offset, size, part) in
            [(-16, 4, 0x5566_7788), (-12, 4, 0x1122_3344), (-14, 2, 0x5566), (-9, 1, 0x11), (-15, 1, 0x77)]
        {
            assert_eq!(state.read(&stack.plus(offset), size).unwrap().value(), Some(part), "{size} at {offset}");
        }
        assert!(state.read(&stack.plus(-12), 8).is_err(), "over the end of a word");
        assert!(state.read(&stack.plus(-11), 4).is_err(), "over the end of a word");
        // What nobody has written is unknown, and the same each time.
        let unknown = state.read(&stack.plus(-32), 8).unwrap();
        assert_eq!(unknown.value(), None);
        assert_eq!(state.read(&stack.plus(-32), 8).unwrap(), unknown);
        assert_ne!(state.read(&stack.plus(-40), 8).unwrap(), unknown);
        assert_eq!(state.deepest, BTreeMap::from([(0, -16)]));
        state.write(&stack.plus(-8), word.clone()).unwrap();
        assert_eq!(state.deepest[&0], -16);
        // Forgotten in one region, from a place to another.
        state.set_word((1, 0), word.clone());
        state.forget(0, -16..-8);
        assert_ne!(state.word((0, -16)), word);
        assert_eq!((state.word((0, -8)), state.word((1, 0))), (word.clone(), word.clone()));
        state.set_register(Register::RSP, &stack.plus(-16));
        state.push(word.clone()).unwrap();
        assert_eq!(state.rsp(), stack.plus(-24));
        assert_eq!((state.pop().unwrap(), state.rsp()), (word, stack.plus(-16)));
        state.set_register(Register::RSP, &stack.plus(-64));
        assert!(state.push(Term::constant(0)).is_err());
        assert_eq!(state.rsp(), stack.plus(-64), "a PUSH that faults moves nothing");
    }

    /// The frame that IRET reads on an alias is what was written to the frame, whatever bits 16 to 31 are.
    #[test]
    fn an_alias_shows_the_frame() {
        let mut state = State::new(0, false);
        let (frame, alias) =
            (Term::partly_known("frame", 63, 1 << 63), Term::partly_known("alias", 0xffff_003f, 1 << 63));
        for (name, base, writable) in [
            ("another", &Term::partly_known("another", 63, 1 << 63), true),
            ("frame", &frame, true),
            ("alias", &alias, false),
        ] {
            state.add_region(Region { name, base: base.clone(), low: 0, high: 64, writable, for_user_table: true });
        }
        let word = Term::symbol("word");
        state.write(&frame.plus(8), word.clone()).unwrap();
        let bits = Term::symbol("rsp").masked(0xffff_0000);
        assert_eq!(state.read(&bits.or(&alias).plus(8), 8).unwrap(), word);
        assert_eq!(state.read(&alias.or(&bits).plus(8), 8).unwrap(), word);
        let fewer = Term::symbol("rsp").masked(0xfff0_0000);
        assert_eq!(state.read(&fewer.or(&alias).plus(8), 8).unwrap(), word);
        assert_eq!(state.read(&alias.or(&fewer).plus(8), 8).unwrap(), word);
        assert!(state.write(&bits.or(&alias).plus(8), word.clone()).is_err());
        // Other bits, or another region.
        assert!(state.read(&Term::symbol("rsp").masked(0x1_ffff_0000).or(&alias).plus(8), 8).is_err());
        assert!(state.read(&alias.or(&Term::symbol("rsp").masked(0x1_ffff_0000)).plus(8), 8).is_err());
        assert!(state.read(&bits.or(&frame).plus(8), 8).is_err());
        assert!(state.read(&alias.plus(8), 8).is_err());
    }

    #[test]
    fn what_is_new_is_another_one() {
        let mut state = State::new(0, false);
        let (one, other) = (state.fresh("a"), state.fresh("a"));
        assert_ne!(one, other);
        assert_eq!(state.fresh_with("b", 1, 2).known(), (1, 2));
    }

    #[test]
    fn arithmetic_flags_are_unknown_after_arithmetic() {
        let mut state = State::new(0, false);
        state.flags = Term::constant(flags::ALL);
        assert_eq!(state.all_flags().value(), Some(flags::ALL));
        state.computed(Arithmetic::Unknown);
        let flags = state.all_flags();
        assert_eq!(flags.known(), (!flags::ALL, flags::ALL & !flags::ARITHMETIC));
        assert_eq!(state.all_flags(), flags, "the same once more");
    }
}
