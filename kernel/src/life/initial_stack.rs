//! The stack that a program starts with: its arguments, its environment and the auxiliary vector.

use alloc::vec;
use alloc::vec::Vec;

use linux_raw_sys::auxvec::*;

use crate::errno::Result;
use crate::fs::vdso;
use crate::life::elf_image::Loaded;
use crate::life::exec_strings::Strings;
use crate::machine::segments;
use crate::memory::address_space::current_mm;
use crate::memory::{PAGE_SIZE, Width, address_space, user};
use crate::task::credentials::uid_gid::{GROUP, USER};
use crate::task::credentials::user_namespace;
use crate::task::{current, rseq};

/// CLOCKS_PER_SEC of `times`.
const USER_HZ: u64 = 100;
/// AT_HWCAP2: FSGSBASE may be used.
const HWCAP2_FSGSBASE: u64 = 2;
/// Room for what is on the stack beside strings and the pointers to them.
const VECTOR_ROOM: usize = 1 << 10;

/// The strings on the stack.
pub struct StackStrings {
    /// The name by which the program was started.
    pub name: Vec<u8>,
    /// Its arguments (`argv`).
    pub argv: Strings,
    /// Its environment (`envp`).
    pub envp: Strings,
}

impl StackStrings {
    /// Bytes of all strings, with their NULs.
    pub fn bytes(&self) -> usize {
        self.name.len() + 1 + self.argv.bytes.len() + self.envp.bytes.len()
    }

    /// How large the stack is at most when the program starts.
    pub fn stack_size(&self) -> u64 {
        let pointers = self.argv.count + self.envp.count + 3;
        (self.bytes() + pointers * size_of::<u64>() + VECTOR_ROOM) as u64
    }
}

/// Writes arguments, environment and auxiliary vector to the top of the stack, in words of the program's width.
///
/// ```text
///   top            8 bytes of zero
///                  name of the program (AT_EXECFN)
///                  environment strings
///                  argument strings
///                  "x86_64" or "i686" (AT_PLATFORM), 16 random bytes (AT_RANDOM)
///                  auxiliary vector, ending in AT_NULL
///                  pointers to the environment, NULL
///                  pointers to the arguments, NULL
///   stack pointer  number of arguments                            (16-byte aligned)
/// ```
pub fn build(main: &Loaded, interpreter_base: u64, vdso: u64, strings: &StackStrings, is_secure: bool) -> Result<u64> {
    let StackStrings { name, argv, envp } = strings;
    let mm = current_mm();
    let top = mm.stack_top();
    let word = mm.width().word();
    let platform: &[u8] = match mm.width() {
        Width::Bits64 => b"x86_64\0",
        Width::Bits32 => b"i686\0",
    };
    let mut random = [0u8; 16];
    crate::task::system_info::fill_random(&mut random);

    let name_at = top - 8 - (name.len() as u64 + 1);
    let envp_at = name_at - envp.bytes.len() as u64;
    let argv_at = envp_at - argv.bytes.len() as u64;
    let platform_at = argv_at - platform.len() as u64;
    let random_at = (platform_at - random.len() as u64) & !15;

    let credentials = current().process.credentials.lock().clone();
    let seen = |kind, id| u64::from(user_namespace::seen(&credentials.namespace, kind, id));
    let cpuid = raw_cpuid::cpuid!(1);
    let mut auxiliary = vdso::auxiliary(mm.width(), vdso);
    auxiliary.extend([
        (AT_MINSIGSTKSZ, crate::work::signal_frame64::min_stack_size()),
        (AT_HWCAP, cpuid.edx.into()),
        (AT_PAGESZ, PAGE_SIZE),
        (AT_CLKTCK, USER_HZ),
        (AT_PHDR, main.headers),
        (AT_PHENT, main.header_size),
        (AT_PHNUM, main.header_count),
        (AT_BASE, interpreter_base),
        (AT_FLAGS, 0),
        (AT_ENTRY, main.entry),
        (AT_UID, seen(USER, credentials.user.real)),
        (AT_EUID, seen(USER, credentials.user.effective)),
        (AT_GID, seen(GROUP, credentials.group.real)),
        (AT_EGID, seen(GROUP, credentials.group.effective)),
        (AT_SECURE, is_secure.into()),
        (AT_RANDOM, random_at),
        (AT_HWCAP2, if segments::has_fsgsbase() { HWCAP2_FSGSBASE } else { 0 }),
        (AT_EXECFN, name_at),
        (AT_PLATFORM, platform_at),
        (AT_RSEQ_FEATURE_SIZE, rseq::FEATURE_SIZE.into()),
        (AT_RSEQ_ALIGN, rseq::ALIGN.into()),
        (AT_NULL, 0),
    ]);
    let words = 1 + argv.count + 1 + envp.count + 1 + 2 * auxiliary.len();
    let stack_pointer = (random_at - (word * words) as u64) & !15;

    let mut memory = vec![0u8; (top - stack_pointer) as usize];
    let mut put = |address: u64, bytes: &[u8]| {
        let at = (address - stack_pointer) as usize;
        memory[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(name_at, name);
    put(envp_at, &envp.bytes);
    put(argv_at, &argv.bytes);
    put(platform_at, platform);
    put(random_at, &random);
    let mut at = stack_pointer;
    // All words are below the end of the program's memory, so the upper half of a 32-bit program's is zero.
    let mut put_word = |value: u64| {
        put(at, &value.to_le_bytes()[..word]);
        at += word as u64;
    };
    put_word(argv.count as u64);
    for (strings, first) in [(argv, argv_at), (envp, envp_at)] {
        let mut address = first;
        for string in strings.bytes.split_inclusive(|&byte| byte == 0) {
            put_word(address);
            address += string.len() as u64;
        }
        put_word(0);
    }
    let auxiliary_at = stack_pointer + (word * (words - 2 * auxiliary.len())) as u64;
    let auxiliary_end = stack_pointer + (word * words) as u64;
    for (kind, value) in auxiliary {
        put_word(kind.into());
        put_word(value);
    }
    // SAFETY: `memory` has that many bytes.
    unsafe { user::copy_to_user(stack_pointer, memory.as_ptr(), memory.len()) }?;
    mm.set_program(address_space::Program {
        args: argv_at..envp_at,
        env: envp_at..name_at,
        auxiliary: auxiliary_at..auxiliary_end,
        stack_start: stack_pointer,
    });
    Ok(stack_pointer)
}
