//! What user mode's own tables map of the kernel with page-table isolation, and a look at them as the CPU would look. What must be
//! mapped is the library's to say (`portcullis::x86_64::isolation`).

use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;

use portcullis::x86_64::init::interrupt_table;
use x86_64::structures::paging::PageTableFlags as Flags;

use crate::machine::cpu;
use crate::machine::direct_map::{ESPFIX, PAGE_SIZE};
use crate::memory::table::{Table, address, span};

/// What of the image is mapped in the user's tables, with its rights. And the frames of the way out to 16-bit stacks, which
/// are a top-level entry of their own.
pub fn shared() -> impl Iterator<Item = (Range<u64>, Flags)> {
    let data = Flags::WRITABLE.union(Flags::NO_EXECUTE);
    let idt = interrupt_table();
    [
        (crate::machine::image::doors(), Flags::empty()),
        (idt..idt + PAGE_SIZE, Flags::NO_EXECUTE),
        (crate::memory::ldt::areas(), data),
    ]
    .into_iter()
    .chain(cpu::shared().map(move |range| (range, data)))
}

/// The flags that make up a page's rights.
const RIGHTS: Flags = Flags::WRITABLE.union(Flags::NO_EXECUTE).union(Flags::USER_ACCESSIBLE).union(Flags::GLOBAL);

/// Whether a page of the kernel's half may be in the user's tables with these rights.
fn is_listed(page: u64, rights: Flags) -> bool {
    const ALIASES: Range<u64> = ESPFIX..ESPFIX + (4 << 30);
    if ALIASES.contains(&page) {
        return rights == Flags::NO_EXECUTE;
    }
    shared().any(|(range, allowed)| range.contains(&page) && rights == allowed)
}

/// What is found in the kernel's half of a table.
#[derive(Default)]
pub struct Found {
    /// Pages that are mapped, and are no aliases of the way out to 16-bit stacks.
    pub pages: u64,
    /// Pages that are mapped and should not be, or with other rights than they should.
    pub strangers: u64,
}

impl Found {
    /// Goes through what `table`, of `level`, maps from address `base` on. `rights` are those that the levels above leave.
    pub fn walk(&mut self, table: Table, level: u32, base: u64, indices: Range<u64>, rights: Flags) {
        for index in indices {
            let at = base + index * span(level);
            let entry = Flags::from_bits_retain(table.entry(level, at).load(Relaxed));
            if !entry.contains(Flags::PRESENT) {
                continue;
            }
            // A right is there if every level gives it; NX if any level has it.
            let both = Flags::WRITABLE | Flags::USER_ACCESSIBLE;
            let here = rights & entry & both | (rights | entry) & Flags::NO_EXECUTE;
            if level > 0 && !entry.contains(Flags::HUGE_PAGE) {
                self.walk(Table::at(address(entry.bits())), level - 1, at, 0..512, here);
                continue;
            }
            let listed = level == 0 && is_listed(at, (here | entry & Flags::GLOBAL) & RIGHTS);
            self.pages += u64::from(at >> 39 != ESPFIX >> 39);
            self.strangers += u64::from(!listed);
        }
    }
}

/// Whether the table at `pgd` maps `virt`.
pub fn maps(pgd: u64, virt: u64) -> bool {
    let mut table = Table::at(pgd);
    for level in [3, 2, 1, 0] {
        let entry = Flags::from_bits_retain(table.entry(level, virt).load(Relaxed));
        if !entry.contains(Flags::PRESENT) {
            return false;
        }
        if entry.contains(Flags::HUGE_PAGE) {
            break;
        }
        table = Table::at(address(entry.bits()));
    }
    true
}

/// How many top-level entries of the user half differ between the kernel's table and the user's.
pub fn differences(kernel: u64, user: u64) -> u64 {
    let entry = |pgd, index| Table::at(pgd).entry(3, index * span(3)).load(Relaxed);
    (0..256).map(|index| u64::from(entry(kernel, index) != entry(user, index))).sum()
}
