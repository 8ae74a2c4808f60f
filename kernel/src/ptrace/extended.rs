//! The x87, SSE and AVX registers of a stopped tracee, in the layouts that tracers know.
//!
//! What is in the task's area is what XSAVE left: components in their initial state are not written there. Tracers get them
//! written out.

use alloc::vec;
use alloc::vec::Vec;

use crate::errno::{Errno, Result};
use crate::ptrace::registers::Stopped;
use crate::sched::{fpu, fsave};

/// Bytes of `struct user_i387_ia32_struct`: FSAVE's image.
pub const FSAVE_SIZE: usize = fsave::SIZE;
/// In the FXSAVE image: the first byte after what belongs to x87 and before MXCSR.
const X87_END: usize = fpu::MXCSR;
/// Where the x87 registers are, 16 bytes each.
const ST: usize = 32;
/// Where the SSE registers are.
const XMM: usize = 160;
/// The first byte after them.
const XMM_END: usize = 416;
/// Where XMM8 is, which 32-bit programs do not have.
const XMM8: usize = XMM + 8 * 16;
/// Where XCR0 is told, in what FXSAVE leaves to software.
const SOFTWARE: usize = 464;
/// The x87 control word of a new program.
const INITIAL_CONTROL: u16 = 0x37f;
const X87: u64 = 1;
const SSE: u64 = 2;
const AVX: u64 = 4;

/// The task's area.
fn area<'a>(stopped: &'a mut Stopped<'_>) -> &'a mut [u8] {
    // SAFETY: the task is asleep until the current one wakes it, so its state is saved and nobody else touches the area.
    unsafe { core::slice::from_raw_parts_mut(stopped.task().fpu.as_ptr(), fpu::size()) }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].try_into().map_or(0, u64::from_ne_bytes)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Which components the area holds.
fn present(area: &[u8]) -> u64 {
    if fpu::has_xsave() { word(area, fpu::XSTATE_BV) } else { X87 | SSE }
}

/// FXSAVE's image.
pub fn fxsave(stopped: &mut Stopped<'_>) -> [u8; fpu::LEGACY_SIZE] {
    let area = area(stopped);
    let present = present(area);
    let mut image = [0; fpu::LEGACY_SIZE];
    let mut copy = |range: core::ops::Range<usize>| image[range.clone()].copy_from_slice(&area[range]);
    // MXCSR is always written.
    copy(fpu::MXCSR..ST);
    if present & X87 != 0 {
        copy(0..X87_END);
        copy(ST..XMM);
    }
    if present & SSE != 0 {
        copy(XMM..XMM_END);
    }
    if present & X87 == 0 {
        put(&mut image, 0, &INITIAL_CONTROL.to_ne_bytes());
    }
    image
}

/// XSAVE's image, all components written out.
pub fn xsave(stopped: &mut Stopped<'_>) -> Vec<u8> {
    let legacy = fxsave(stopped);
    let area = area(stopped);
    let present = present(area) & fpu::features();
    let mut image = vec![0; fpu::size()];
    put(&mut image, 0, &legacy);
    put(&mut image, SOFTWARE, &fpu::features().to_ne_bytes());
    put(&mut image, fpu::XSTATE_BV, &present.to_ne_bytes());
    for range in components(present) {
        image[range.clone()].copy_from_slice(&area[range]);
    }
    image
}

/// Where those of `features` are that FXSAVE does not have (SDM volume 1, 13.4.3).
fn components(features: u64) -> impl Iterator<Item = core::ops::Range<usize>> {
    (2..63).filter(move |n| features & 1 << n != 0).filter_map(|n| {
        let leaf = raw_cpuid::cpuid!(0xd, n);
        let range = leaf.ebx as usize..leaf.ebx as usize + leaf.eax as usize;
        (range.end <= fpu::size()).then_some(range)
    })
}

fn check_mxcsr(image: &[u8]) -> Result<()> {
    if fpu::takes_mxcsr(image) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Replaces the x87 and SSE registers; of a 32-bit tracee (`wide` is false) those that it has.
pub fn set_fxsave(stopped: &mut Stopped<'_>, bytes: &[u8], wide: bool) -> Result<()> {
    if bytes.len() != fpu::LEGACY_SIZE {
        return Err(Errno::EINVAL);
    }
    check_mxcsr(bytes)?;
    let area = area(stopped);
    put(area, 0, bytes);
    if !wide {
        area[XMM8..XMM_END].fill(0);
    }
    mark(area, X87 | SSE);
    Ok(())
}

/// Components are in the area from now on.
fn mark(area: &mut [u8], components: u64) {
    if fpu::has_xsave() {
        let present = present(area) | components;
        put(area, fpu::XSTATE_BV, &present.to_ne_bytes());
    }
}

/// Replaces all of it. The header is checked as XRSTOR would.
pub fn set_xsave(stopped: &mut Stopped<'_>, bytes: &[u8]) -> Result<()> {
    if bytes.len() != fpu::size() {
        return Err(Errno::EFAULT);
    }
    let header = &bytes[fpu::XSTATE_BV..fpu::XSTATE_BV + fpu::HEADER_SIZE];
    let present = word(header, 0);
    let reserved = header[8..].iter().any(|&byte| byte != 0);
    if present & !fpu::features() != 0 || reserved {
        return Err(Errno::EINVAL);
    }
    if present & (X87 | SSE | AVX) != 0 {
        check_mxcsr(bytes)?;
    }
    let area = area(stopped);
    if present & (X87 | SSE | AVX) != 0 {
        put(area, fpu::MXCSR, &bytes[fpu::MXCSR..ST]);
    }
    if present & X87 != 0 {
        put(area, 0, &bytes[..X87_END]);
        put(area, ST, &bytes[ST..XMM]);
    }
    if present & SSE != 0 {
        put(area, XMM, &bytes[XMM..XMM_END]);
    }
    for range in components(present) {
        put(area, range.start, &bytes[range.clone()]);
    }
    put(area, fpu::XSTATE_BV, &present.to_ne_bytes());
    Ok(())
}

/// FSAVE's image.
pub fn fsave(stopped: &mut Stopped<'_>) -> [u8; FSAVE_SIZE] {
    let cs = stopped.regs().cs() as u32;
    fsave::of(&fxsave(stopped), cs, stopped.segments().ds)
}

/// Replaces the x87 registers by FSAVE's image.
pub fn set_fsave(stopped: &mut Stopped<'_>, bytes: &[u8]) -> Result<()> {
    let mut image = fsave(stopped);
    let len = bytes.len().min(FSAVE_SIZE);
    put(&mut image, 0, &bytes[..len]);
    let area = area(stopped);
    fsave::fold(area, &image);
    mark(area, X87);
    Ok(())
}
