//! The page from which the vDSO reads the clock.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};

use spin::Once;

use crate::machine::sync::SpinLock;
use crate::machine::time;
use crate::memory::frames::Frame;

/// What the page begins with. `vdso64.s` and `vdso32.s` know the offsets.
#[repr(C)]
struct ClockPage {
    /// Odd while the rest changes.
    count: AtomicU32,
    reserved: u32,
    /// As in `time.rs`: `nanoseconds = (ticks - base) * scale >> 32`.
    base: AtomicU64,
    scale: AtomicU64,
    /// Real time when the monotonic clock was 0.
    epoch: AtomicU64,
}

static PAGE: Once<&'static ClockPage> = Once::new();
static WRITER: SpinLock<()> = SpinLock::new(());

/// Fills `frame`, which stays the clock's for good.
pub fn init(frame: &Frame) {
    // SAFETY: the frame is zeroed, aligned, and never freed: the caller keeps it in a static. All fields are atomic.
    PAGE.call_once(|| unsafe { &*frame.as_ptr().cast::<ClockPage>() });
    update();
}

/// The clock has been set.
pub fn update() {
    let Some(page) = PAGE.get() else { return };
    let _one_writer = WRITER.lock();
    let (base, scale, epoch) = time::parameters();
    let count = page.count.load(Relaxed);
    page.count.store(count.wrapping_add(1), Relaxed);
    fence(Release);
    page.base.store(base, Relaxed);
    page.scale.store(scale, Relaxed);
    page.epoch.store(epoch, Relaxed);
    page.count.store(count.wrapping_add(2), Release);
}
