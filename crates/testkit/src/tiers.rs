//! The programs: what each checks, and which rows of the catalogue its checks decide.

use crate::hosted::HOSTED;

/// A program that a kernel runs.
pub struct Program {
    /// Its name: of its file, and in its first line.
    pub name: &'static str,
    /// What it is made of.
    pub source: Source,
    /// In their order.
    pub checks: &'static [Check],
    /// Whether a kernel may refuse to load it.
    pub may_be_refused: bool,
}

/// Where a program comes from.
pub enum Source {
    /// A file of `programs/`.
    File(&'static str),
    /// This assembly, in `fatal.c`.
    Instruction(&'static str),
    /// This text in C, which is compiled against the C library.
    Hosted(&'static str),
}

/// What programs ask of a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Tier {
    /// The system calls `write` and `exit`, and nothing else
    #[default]
    A,
    /// A static C library, signals and `fork`
    B,
    /// A Linux-like ABI: threads, `ptrace`, filters, 32-bit programs. The programs of tier (b) are among these
    C,
}

impl Tier {
    /// Its programs.
    #[must_use]
    pub fn programs(self) -> Vec<&'static Program> {
        match self {
            Tier::A => FREESTANDING.iter().collect(),
            Tier::B => HOSTED.iter().filter(|(tier, _)| *tier == Tier::B).map(|(_, program)| program).collect(),
            Tier::C => HOSTED.iter().map(|(_, program)| program).collect(),
        }
    }
}

/// One check of a program.
pub struct Check {
    /// Its name in the program's lines; of [`Kind::Pattern`], what the names look like.
    pub name: &'static str,
    /// How it is seen to be well.
    pub kind: Kind,
    /// The rows that it decides. A check may be in none.
    pub rows: &'static [u32],
}

impl Check {
    /// Whether a program that names its checks itself means this one.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        matches(self.name, name)
    }
}

/// Whether a name looks like a pattern, where `*` is any text.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches(after, &rest[at..]))),
    }
}

/// What is expected of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The program says so.
    Says,
    /// The first use of something that a kernel need not have. Where the program ends here and the kernel lives, the program is
    /// not applicable.
    Opens,
    /// The program ends here, and the kernel lives.
    Dies,
    /// The program ends here or says that it went on; the kernel lives.
    MayDie,
    /// Whoever runs the program sees it (`portcullis-testkit run --kernel`, `portcullis-testkit inject`).
    Watched,
    /// The program names its checks itself. `*` in the pattern stands for any text.
    Pattern,
}

const fn says(name: &'static str, rows: &'static [u32]) -> Check {
    Check { name, kind: Kind::Says, rows }
}

const fn watched(name: &'static str, rows: &'static [u32]) -> Check {
    Check { name, kind: Kind::Watched, rows }
}

const OPEN: Check = Check { name: "open", kind: Kind::Opens, rows: &[] };

const fn file(name: &'static str, source: &'static str, checks: &'static [Check]) -> Program {
    Program { name, source: Source::File(source), checks, may_be_refused: false }
}

/// An instruction by which the program ends.
const fn fatal(name: &'static str, code: &'static str) -> Program {
    const DIES: &[Check] = &[Check { name: "dies", kind: Kind::Dies, rows: &[] }];
    Program { name, source: Source::Instruction(code), checks: DIES, may_be_refused: false }
}

/// One that is forbidden as long as user mode has no rights to ports and interrupts.
const fn privileged(name: &'static str, code: &'static str) -> Program {
    const DIES: &[Check] = &[Check { name: "dies", kind: Kind::Dies, rows: &[20] }];
    Program { checks: DIES, ..fatal(name, code) }
}

/// One that a kernel may allow.
const fn may_die(name: &'static str, code: &'static str) -> Program {
    const MAY_DIE: &[Check] = &[Check { name: "dies", kind: Kind::MayDie, rows: &[] }];
    Program { checks: MAY_DIE, ..fatal(name, code) }
}

/// A vector whose exception has an error code, which INT n does not push.
const fn error_code(name: &'static str, code: &'static str) -> Program {
    const MAY_DIE: &[Check] = &[Check { name: "dies", kind: Kind::MayDie, rows: &[24] }];
    Program { checks: MAY_DIE, ..fatal(name, code) }
}

/// A single step into a door.
const fn trap(name: &'static str, code: &'static str) -> Program {
    const MAY_DIE: &[Check] = &[Check { name: "dies", kind: Kind::MayDie, rows: &[25] }];
    Program { checks: MAY_DIE, ..fatal(name, code) }
}

/// SYSCALL in the last two bytes of user addresses.
pub const LAST_BYTES: &str = "last_bytes";

/// What the watcher of [`LAST_BYTES`] says.
pub const SYSRET: &str = "sysret";

/// The last program: that it runs shows that the kernel is alive.
pub const ALIVE: &str = "alive";

/// Tier (a): programs that need two system calls, `write` and `exit`.
pub const FREESTANDING: &[Program] = &[
    file(
        "registers",
        "registers.c",
        &[
            says("registers", &[]),
            says("rcx_r11", &[]),
            says("stack", &[42]),
            says("flags", &[28]),
            says("privileged_flags", &[20]),
            says("cs_and_ss", &[21]),
            says("data_segments", &[]),
            says("nested_task_flag", &[41]),
        ],
    ),
    file("numbers", "numbers.c", &[says("unknown", &[10]), says("restart_codes", &[34]), says("unbounded", &[43])]),
    file("pointers", "pointers.c", &[says("bad_pointers", &[]), says("bad_lengths", &[])]),
    file("stack", "stack.c", &[says("syscall", &[42]), says("page_fault", &[42]), says("interrupt", &[42])]),
    file("direction", "direction.c", &[says("syscall", &[28]), says("page_fault", &[28]), says("interrupt", &[28])]),
    file(
        "interrupts",
        "interrupts.c",
        &[
            says("registers", &[]),
            says("rcx_r11", &[35]),
            says("flags", &[]),
            says("stack", &[42]),
            says("cs_and_ss", &[21]),
        ],
    ),
    file(
        "faults",
        "faults.c",
        &[says("registers", &[]), says("flags", &[]), says("stack", &[42]), says("nested_task_flag", &[41])],
    ),
    file(
        "int80",
        "int80.c",
        &[
            OPEN,
            says("registers", &[]),
            says("stack", &[42]),
            says("flags", &[]),
            says("direction_flag", &[28]),
            says("unbounded", &[43]),
        ],
    ),
    file("fpu", "fpu.c", &[OPEN, says("syscall", &[15]), says("page_fault", &[15]), says("interrupt", &[15])]),
    file("bases", "bases.c", &[OPEN, says("syscall", &[33]), says("page_fault", &[33]), says("interrupt", &[33])]),
    file("selectors", "selectors.c", &[says("syscall", &[]), says("page_fault", &[]), says("interrupt", &[])]),
    trap("trap_syscall", TRAP_SYSCALL),
    trap("trap_int80", "pushfq; orl $0x100, (%rsp); movl $511, %eax; popfq; int $0x80"),
    may_die("trap_nop", "pushfq; orl $0x100, (%rsp); popfq; nop; nop"),
    may_die("int3", "int3"),
    may_die("int1", ".byte 0xf1"),
    may_die("int_nmi", "int $2"),
    may_die("int_overflow", "int $4"),
    error_code("int_double_fault", "int $8"),
    error_code("int_invalid_tss", "int $10"),
    error_code("int_not_present", "int $11"),
    error_code("int_stack", "int $12"),
    error_code("int_general_protection", "int $13"),
    error_code("int_page_fault", "int $14"),
    error_code("int_alignment", "int $17"),
    error_code("int_control_protection", "int $21"),
    error_code("int_vmm_communication", "int $29"),
    error_code("int_security", "int $30"),
    may_die("int_machine_check", "int $18"),
    may_die("int_timer", "int $32"),
    may_die("int_last", "int $255"),
    fatal("invalid_opcode", "ud2"),
    fatal("divide_error", "xorl %ecx, %ecx; divl %ecx"),
    fatal("halt", "hlt"),
    privileged("interrupts_off", "cli"),
    privileged("interrupts_on", "sti"),
    privileged("port_in", "inb $0x80, %al"),
    privileged("port_out", "outb %al, $0x80"),
    fatal("read_msr", "movl $0xc0000080, %ecx; rdmsr"),
    fatal("write_msr", "movl $0xc0000082, %ecx; xorl %eax, %eax; xorl %edx, %edx; wrmsr"),
    fatal("read_cr3", "movq %cr3, %rax"),
    fatal("write_cr0", "xorl %eax, %eax; movq %rax, %cr0"),
    fatal("write_dr7", "xorl %eax, %eax; movq %rax, %dr7"),
    fatal("load_gdt", "pushq $0; pushq $0; lgdt (%rsp)"),
    fatal("load_idt", "pushq $0; pushq $0; lidt (%rsp)"),
    fatal("swapgs", "swapgs"),
    fatal("sysret", "leaq 1f(%rip), %rcx; movl $0x202, %r11d; sysretq; 1:"),
    fatal("invlpg", "invlpg (%rsp)"),
    fatal("clts", "clts"),
    fatal("read_kernel", "movabsq $KERNEL_ADDRESS, %rcx; movb (%rcx), %al"),
    fatal("write_kernel", "movabsq $KERNEL_ADDRESS, %rcx; movb %al, (%rcx)"),
    fatal("jump_to_kernel", "movabsq $KERNEL_ADDRESS, %rcx; jmp *%rcx"),
    fatal("jump_beyond", "movabsq $0x800000000000, %rcx; jmp *%rcx"),
    fatal("jump_noncanonical", "movabsq $0xffff7fffffffffff, %rcx; jmp *%rcx"),
    fatal("push_noncanonical", "movabsq $0x8000000000000000, %rsp; pushq %rax"),
    fatal(
        "iret_null_ss",
        "pushq $0; pushq $0; pushq $0x202; movl %cs, %eax; pushq %rax; leaq 1f(%rip), %rax; pushq %rax; iretq; 1:",
    ),
    fatal(
        "iret_kernel_cs",
        "movl %ss, %eax; pushq %rax; pushq %rsp; pushq $0x202; pushq $8; leaq 1f(%rip), %rax; pushq %rax; iretq; 1:",
    ),
    fatal(
        "iret_no_cs",
        "movl %ss, %eax; pushq %rax; pushq %rsp; pushq $0x202; pushq $0xfffb; leaq 1f(%rip), %rax; pushq %rax; iretq; 1:",
    ),
    fatal(
        "iret_noncanonical",
        "movl %ss, %eax; pushq %rax; pushq %rsp; pushq $0x202; movl %cs, %eax; pushq %rax; movabsq $0x800000000000, %rax; pushq %rax; iretq",
    ),
    fatal("bad_ds", "movl $0xfff8, %eax; movl %eax, %ds"),
    fatal("null_ss", "xorl %eax, %eax; movl %eax, %ss"),
    fatal("kernel_ss", "movl $0x10, %eax; movl %eax, %ss"),
    fatal("far_call", "pushq $0; movl $8, 4(%rsp); lcall *(%rsp)"),
    Program {
        name: LAST_BYTES,
        source: Source::File("last_bytes.c"),
        checks: &[watched(SYSRET, &[1]), Check { name: "dies", kind: Kind::Dies, rows: &[] }],
        may_be_refused: true,
    },
    file(ALIVE, "alive.c", &[says("alive", &[])]),
];

/// The trap flag takes effect behind the next instruction, which is SYSCALL.
const TRAP_SYSCALL: &str = "\
    pushfq; orl $0x100, (%rsp); movl $WRITE_NUMBER, %eax; movl $1, %edi; leaq fatal_case(%rip), %rsi; xorl %edx, %edx; \
    popfq; syscall";

/// What `inject` lets run while it injects.
pub const CROSSINGS: &[Program] = &[
    file(
        "crossings",
        "crossings.c",
        &[watched("nmi", &[23]), watched("mc", &[23]), watched("db", &[31]), says("registers", &[])],
    ),
    file(
        "crossings_bases",
        "crossings_bases.c",
        &[OPEN, watched("nmi", &[31]), watched("mc", &[31]), watched("db", &[31]), says("registers", &[])],
    ),
];

/// The program of this name, of tier (a).
#[must_use]
pub fn find(name: &str) -> Option<&'static Program> {
    FREESTANDING.iter().chain(CROSSINGS).find(|program| program.name == name)
}

impl Program {
    /// Whether it is compiled against the C library.
    #[must_use]
    pub fn is_hosted(&self) -> bool {
        matches!(self.source, Source::Hosted(_))
    }

    /// What its source asks of the compiler: `// build: FLAGS` in its first lines.
    #[must_use]
    pub fn build_flags(&self) -> Vec<&'static str> {
        const FIRST_LINES: usize = 10;
        let Source::Hosted(text) = self.source else {
            return Vec::new();
        };
        let line = text.lines().take(FIRST_LINES).find_map(|line| line.strip_prefix("// build: "));
        line.map_or(Vec::new(), |flags| flags.split_whitespace().collect())
    }

    /// Whether it is a 32-bit program: a kernel may refuse it, and a compiler may be unable to build it.
    #[must_use]
    pub fn is_32_bit(&self) -> bool {
        self.build_flags().contains(&"-m32")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        for (pattern, name) in [("*", ""), ("*", "a"), ("a*", "ab"), ("*b", "ab"), ("a*b*c", "a-b-b-c"), ("ab", "ab")] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a*", "ba"), ("*b", "abc"), ("ab", "abc"), ("a*b", "a")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn the_readme_has_the_programs_and_rows_of_each_tier() {
        let readme = include_str!("../README.md");
        for (name, tier) in [("a", Tier::A), ("b", Tier::B), ("c", Tier::C)] {
            let more = if tier == Tier::A { CROSSINGS } else { &[] };
            let programs: Vec<&Program> = tier.programs().into_iter().chain(more).collect();
            let checks = programs.iter().flat_map(|program| program.checks);
            let rows: std::collections::BTreeSet<u32> = checks.flat_map(|check| check.rows).copied().collect();
            let rows: Vec<String> = rows.iter().map(u32::to_string).collect();
            let end = format!("| {} | {} |", programs.len(), rows.join(", "));
            let line = readme.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap();
            assert!(line.ends_with(&end), "tier ({name}): {end}");
        }
        let files = FREESTANDING.len() + CROSSINGS.len();
        assert!(readme.contains(&format!("\n{files} programs in /tmp/testkit\n")));
        let hosted = Tier::C.programs().len();
        assert!(readme.contains(&format!("\n{hosted} programs and the runner in /tmp/tier-c\n")));
    }
}
