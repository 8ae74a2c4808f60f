//! The catalogue: bugs that kernels have shipped at the boundary between user mode and the kernel.

/// A row: its number and the bug.
pub struct Row {
    /// Its number.
    pub number: u32,
    /// The bug.
    pub bug: &'static str,
}

const fn row(number: u32, bug: &'static str) -> Row {
    Row { number, bug }
}

/// All of them.
pub const ROWS: &[Row] = &[
    row(1, "SYSRET to a non-canonical address faults in the kernel on the user's stack"),
    row(2, "a tracer sets a bad RIP at a system-call stop"),
    row(3, "a fault of IRET taken on the wrong stack"),
    row(4, "a 16-bit stack segment in the GDT, where espfix does not look"),
    row(5, "half of the kernel's RSP is seen on a 16-bit stack"),
    row(6, "an NMI from user mode, and one inside the handler of another"),
    row(7, "a stack pointer of the user's that looks like the NMI's"),
    row(8, "MOV SS puts a debug exception off into the kernel"),
    row(9, "what a 32-bit call leaves behind lets a 64-bit one past a filter"),
    row(10, "a bad system-call number skips the work at the exit"),
    row(11, "speculation past a conditional SWAPGS"),
    row(12, "user page tables map the kernel"),
    row(13, "VERW missing, or not last"),
    row(14, "an XSAVE header out of a signal frame is trusted"),
    row(15, "extended state leaks, or goes stale, across a switch"),
    row(16, "SIGKILL races a tracer that sets registers"),
    row(17, "debug registers watch kernel addresses"),
    row(18, "a filter sees the number that a tracer then changes"),
    row(19, "a kind of work that is in no mask"),
    row(20, "privileged flags through a signal frame or a tracer"),
    row(21, "SYSRET leaves SS unusable on AMD"),
    row(22, "a forged signal frame halts the machine"),
    row(23, "an NMI between SWAPGS and the kernel, or the user"),
    row(24, "vectors 21, 29 and 30 push an error code"),
    row(25, "TF at SYSCALL or SYSENTER stops the kernel"),
    row(26, "a task that makes no system call gets no signal"),
    row(27, "an unusable alternate signal stack stops the kernel"),
    row(28, "the user's DF reaches the kernel, or a handler"),
    row(29, "a signal between the last check and user mode is lost"),
    row(30, "sigreturn outside a handler"),
    row(31, "the halves of the paranoid doors disagree"),
    row(32, "the test for canonical addresses is off by one, or for another width"),
    row(33, "the user's WRGSBASE is lost"),
    row(34, "restart codes loop, or reach the user"),
    row(35, "sigreturn clobbers RCX and R11"),
    row(36, "a tracer's edit of RFLAGS is lost"),
    row(37, "a sleep begins although a signal is pending"),
    row(38, "an invalid rseq area and a signal recurse"),
    row(39, "interrupts are on while the context changes"),
    row(40, "a signal releases a ptrace stop"),
    row(41, "a flag of the user's reaches the kernel because the mask is short"),
    row(42, "registers pushed on the user's stack"),
    row(43, "a number that is not bounded indexes the table"),
    row(44, "the stack pointer of a frame from the kernel is taken to be absent"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The page of bugs and guards, in the repository that this crate comes from.
    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guards.md");

    #[test]
    fn the_rows_are_those_of_the_page_of_guards() {
        let page = std::fs::read_to_string(PAGE).unwrap();
        let of_the_page: Vec<(u32, &str)> = page
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix("| ")?.split(" | ");
                Some((cells.next()?.parse().ok()?, cells.next()?))
            })
            .collect();
        let ours: Vec<(u32, &str)> = ROWS.iter().map(|row| (row.number, row.bug)).collect();
        assert_eq!(ours, of_the_page);
    }
}
