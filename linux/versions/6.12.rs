//! What only Linux 6.12 has, or has otherwise than others.

use crate::current::PerCpu;
use crate::offsets;

unsafe extern "C" {
    #[link_name = "pcpu_hot"]
    pub static current_task: PerCpu;
    #[link_name = "pcpu_hot"]
    pub static preempt_count: PerCpu;
    pub static vdso_image_32: u8;
}

/// Where the current task's address is in what [`current_task`] names.
pub const CURRENT_TASK: usize = offsets::PCPU_HOT_CURRENT_TASK;
/// Where the count is in what [`preempt_count`] names.
pub const PREEMPT_COUNT: usize = offsets::PCPU_HOT_PREEMPT_COUNT;

/// Whether the kernel can have page tables of five levels.
#[cfg(CONFIG_X86_64)]
pub const FIVE_LEVELS: bool = cfg!(CONFIG_X86_5LEVEL);

/// The directive for an alternative's feature.
macro_rules! feature_directive {
    () => {
        ".4byte"
    };
}
pub use crate::before_7_2::*;
pub use crate::since_6_12::*;

/// On the way out, with interrupts off, when no more work can come.
#[inline(always)]
pub fn exit_to_user_mode_prepare() {
    update_fred_rsp0();
    #[cfg(CONFIG_RANDOMIZE_KSTACK_OFFSET)]
    choose_offset();
}
