//! uname, sysinfo, host and domain name, random numbers, reboot, syslog.

use core::sync::atomic::Ordering::*;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, Result};
use crate::machine::direct_map::PAGE_SIZE;
use crate::machine::time;
use crate::memory::width::Width;
use crate::memory::{frames, user};
use crate::sched::scheduler;
use crate::task::system_info::{FIELD, NAMES, RELEASE, VERSION, field, fill_random};
use crate::task::tree;

/// What it prints for a task that runs the patched code; see `patch`.
const PATCHED_VERSION: &str = concat!("#1 SMP PREEMPT Portcullis ", env!("CARGO_PKG_VERSION"), " patched");

/// uname(2).
pub fn sys_uname(address: u64) -> Result<usize> {
    let (host, domain) = {
        let names = NAMES.lock();
        (names.host, names.domain)
    };
    let fields = [
        field("Linux"),
        host,
        field(RELEASE),
        field(if crate::work::live_patch::is_patched() { PATCHED_VERSION } else { VERSION }),
        field(machine()),
        domain,
    ];
    user::write(address, &fields)?;
    Ok(0)
}

/// What `uname -m` prints: a program may have asked for a 32-bit machine (`setarch i686`).
fn machine() -> &'static str {
    const KIND: u32 = 0xff;
    const PER_LINUX32: u32 = 8;
    if crate::task::current().process.personality.load(Relaxed) & KIND == PER_LINUX32 { "i686" } else { "x86_64" }
}

fn read_name(address: u64, len: u64) -> Result<[u8; FIELD]> {
    let len = len as usize;
    if len >= FIELD {
        return Err(Errno::EINVAL);
    }
    let mut name = [0; FIELD];
    // SAFETY: shorter than the field.
    unsafe { user::copy_from_user(name.as_mut_ptr(), address, len) }?;
    Ok(name)
}

/// sethostname(2).
pub fn sys_sethostname(address: u64, len: u64) -> Result<usize> {
    NAMES.lock().host = read_name(address, len)?;
    Ok(0)
}

/// setdomainname(2).
pub fn sys_setdomainname(address: u64, len: u64) -> Result<usize> {
    NAMES.lock().domain = read_name(address, len)?;
    Ok(0)
}

/// `struct sysinfo`.
#[derive(Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Sysinfo {
    uptime: i64,
    loads: [u64; 3],
    total_ram: u64,
    free_ram: u64,
    shared_ram: u64,
    buffer_ram: u64,
    total_swap: u64,
    free_swap: u64,
    processes: u16,
    pad: u16,
    pad2: u32,
    total_high: u64,
    free_high: u64,
    unit: u32,
    pad3: u32,
}

/// sysinfo(2).
pub fn sys_sysinfo(address: u64) -> Result<usize> {
    // Loads are fixed-point numbers with 16 bits after the point.
    let load = (scheduler::runnable() as u64) << 16;
    let info = Sysinfo {
        uptime: (time::now() / crate::task::clock::SECOND) as i64,
        loads: [load; 3],
        total_ram: frames::total_bytes(),
        free_ram: frames::free_bytes(),
        processes: tree::all().len() as u16,
        unit: 1,
        ..Default::default()
    };
    match Width::of_call() {
        Width::Bits64 => user::write(address, &info)?,
        Width::Bits32 => user::write(address, &info.narrow())?,
    }
    Ok(0)
}

impl Sysinfo {
    /// The structure of 32-bit calls: 16 words. Memory is counted in pages where bytes do not fit.
    fn narrow(&self) -> [u32; 16] {
        let unit = if self.total_ram >> 32 == 0 { 1 } else { PAGE_SIZE };
        let units = |bytes: u64| (bytes / unit) as u32;
        let load = |n: usize| self.loads[n] as u32;
        [
            self.uptime as u32,
            load(0),
            load(1),
            load(2),
            units(self.total_ram),
            units(self.free_ram),
            units(self.shared_ram),
            units(self.buffer_ram),
            0,
            0,
            self.processes.into(),
            // High memory: none.
            0,
            0,
            unit as u32,
            0,
            0,
        ]
    }
}

/// getrandom(2).
pub fn sys_getrandom(address: u64, len: u64, flags: u64) -> Result<usize> {
    // GRND_NONBLOCK, GRND_RANDOM, GRND_INSECURE
    if flags & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    let len = len.min(i32::MAX as u64) as usize;
    let mut done = 0;
    let mut buffer = [0u8; 256];
    while done < len {
        let now = buffer.len().min(len - done);
        fill_random(&mut buffer[..now]);
        // SAFETY: the buffer has `now` bytes.
        let copied = unsafe { user::copy_to_user(address + done as u64, buffer.as_ptr(), now) };
        match copied {
            Ok(()) => done += now,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        if crate::task::current().signal_pending() {
            break;
        }
    }
    Ok(done)
}

/// reboot(2): any way of going down ends the machine; Ctrl-Alt-Del settings are taken and ignored.
pub fn sys_reboot(magic1: u64, magic2: u64, command: u64) -> Result<usize> {
    const MAGIC1: u32 = 0xfee1_dead;
    const MAGIC2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
    const CAD_ON: u32 = 0x89ab_cdef;
    const CAD_OFF: u32 = 0;
    if magic1 as u32 != MAGIC1 || !MAGIC2.contains(&(magic2 as u32)) {
        return Err(Errno::EINVAL);
    }
    match command as u32 {
        CAD_ON | CAD_OFF => Ok(0),
        // LINUX_REBOOT_CMD_RESTART, HALT, POWER_OFF, RESTART2
        0x0123_4567 | 0xcdef_0123 | 0x4321_fedc | 0xa1b2_c3d4 => crate::machine::power::shutdown(0),
        _ => Err(Errno::EINVAL),
    }
}

/// syslog(2): the log goes to the host, there is nothing to read here.
pub fn sys_syslog(kind: u64) -> Result<usize> {
    match kind {
        // Open, close, console off, on, level.
        0 | 1 | 6..=8 => Ok(0),
        // Read, unread size, buffer size: empty.
        2..=5 | 9 | 10 => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}
