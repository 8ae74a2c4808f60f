//! The extended state of a signal frame, as `rt_sigreturn` loads it: the bytes are the area.

use crate::fuzz::input::Input;
use crate::host::process;
use crate::memory::{Width, user};
use crate::sched::fpu;
use crate::signal::fpstate;
use crate::task::{Task, current};

const AREA: u64 = process::MEMORY;
/// For a 32-bit frame: the state that follows FSAVE's image is aligned.
const AREA_32: u64 = AREA + 64 - fpstate::FSAVE_HEADER % 64;
/// Where it is stored again.
const SECOND: u64 = process::MEMORY + process::MEMORY_SIZE / 2;

pub fn run(bytes: &[u8]) {
    process::run(Width::Bits64, |task| {
        let mut input = Input::new(bytes);
        let how = input.u8();
        let tampered = input.rest();
        let tampered = &tampered[..tampered.len().min(fpu::size() + 512)];
        let narrow = how & 1 != 0;
        let at = if narrow { AREA_32 } else { AREA };
        fpstate::reset();
        if how & 2 != 0 {
            // On top of what the kernel stores, of which the input changes a part.
            store(at, narrow);
        }
        let offset = if how & 4 != 0 { u64::from(how >> 3) * 16 } else { 0 };
        // SAFETY: the slice's own bytes.
        unsafe { user::copy_to_user(at + offset, tampered.as_ptr(), tampered.len()) }.expect("mapped");
        let result = if narrow { fpstate::load_32(at) } else { fpstate::load(at) };
        let found = image(task);
        if result.is_err() {
            assert_eq!(found, initial(task), "a state that is refused becomes the initial one");
        }
        // What was loaded can be stored and loaded: it is what a program can have.
        let at = if narrow { SECOND + AREA_32 - AREA } else { SECOND };
        store(at, narrow);
        fpstate::reset();
        let again = if narrow { fpstate::load_32(at) } else { fpstate::load(at) };
        assert_eq!(again, Ok(()), "what the kernel stored");
        if !narrow {
            assert_eq!(image(task), found, "the same again");
        }
        fpstate::reset();
    });
}

fn store(at: u64, narrow: bool) {
    if narrow { fpstate::store_32(at, 0x23) } else { fpstate::store(at) }.expect("mapped");
}

/// The x87 registers, without the pointers that some CPUs save only with an exception, and MXCSR. SSE and AVX registers are the
/// process's own between two instructions of the kernel.
fn image(task: &Task) -> Vec<u8> {
    assert!(std::ptr::eq(task, current()));
    // SAFETY: the area is the task's; it is this long, and the state is the task's.
    let area = unsafe {
        std::ptr::write_bytes(task.fpu.as_ptr(), 0, fpu::size());
        task.fpu.save();
        std::slice::from_raw_parts(task.fpu.as_ptr(), fpu::size())
    };
    let mut image = area[fpu::MXCSR..fpu::MXCSR + 4].to_vec();
    if fpu::has_xsave() && area[fpu::XSTATE_BV] & 1 == 0 {
        image.extend([0x7f, 3, 0, 0, 0, 0]);
        image.extend([0; 80]);
    } else {
        image.extend(&area[..6]);
        image.extend((32..160).step_by(16).flat_map(|at| &area[at..at + 10]));
    }
    image
}

fn initial(task: &Task) -> Vec<u8> {
    fpstate::reset();
    image(task)
}
