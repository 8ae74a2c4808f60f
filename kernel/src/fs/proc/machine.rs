//! The texts about the machine: `/proc/meminfo` and so on.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use raw_cpuid::CpuId;
use spin::Once;

use crate::errno::{Errno, Result};
use crate::fs::proc::entry::{Entry, Kind, text};
use crate::machine::{cpu, time};
use crate::memory::frames;
use crate::sched::scheduler;
use crate::task;
use crate::task::credentials::user_namespace;
use crate::task::personality;
use crate::task::pid::namespace::Namespace;
use crate::task::pid::numbers;
use crate::task::system_info;
use crate::vfs::mount::MAX_MOUNTS;

const SECOND: u64 = 1_000_000_000;
/// Nanoseconds per tick of `clock_t`.
const TICK: u64 = SECOND / 100;

pub(super) static ENTRIES: &[Entry] = &[
    Entry { name: "cmdline", kind: Kind::Machine(command_line) },
    Entry { name: "cpuinfo", kind: Kind::Machine(cpu_info) },
    Entry { name: "filesystems", kind: Kind::Machine(file_systems) },
    Entry { name: "loadavg", kind: Kind::Machine(load_average) },
    Entry { name: "meminfo", kind: Kind::Machine(memory_info) },
    Entry { name: "mounts", kind: Kind::Link(|_| Some(b"self/mounts".to_vec())) },
    Entry { name: "self", kind: Kind::Link(own_process) },
    Entry { name: "stat", kind: Kind::Machine(statistics) },
    Entry { name: "swaps", kind: Kind::Machine(|| b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_vec()) },
    Entry { name: "sys", kind: Kind::Directory(SYS) },
    Entry { name: "thread-self", kind: Kind::Link(own_thread) },
    Entry { name: "uptime", kind: Kind::Machine(uptime) },
    Entry { name: "version", kind: Kind::Machine(version) },
];

static SYS: &[Entry] = &[
    Entry { name: "fs", kind: Kind::Directory(SYS_FS) },
    Entry { name: "kernel", kind: Kind::Directory(SYS_KERNEL) },
    Entry { name: "vm", kind: Kind::Directory(SYS_VM) },
];

static SYS_FS: &[Entry] = &[
    Entry { name: "file-max", kind: Kind::Machine(|| b"9223372036854775807\n".to_vec()) },
    Entry { name: "mount-max", kind: Kind::Machine(|| text(format!("{MAX_MOUNTS}\n"))) },
    Entry { name: "nr_open", kind: Kind::Machine(|| b"1048576\n".to_vec()) },
    Entry { name: "pipe-max-size", kind: Kind::Machine(|| text(format!("{}\n", crate::fs::pipe::CAPACITY))) },
];

static SYS_KERNEL: &[Entry] = &[
    Entry { name: "cap_last_cap", kind: Kind::Machine(|| b"40\n".to_vec()) },
    Entry { name: "hostname", kind: Kind::Setting(host_name, set_host_name) },
    Entry { name: "ngroups_max", kind: Kind::Machine(|| b"65536\n".to_vec()) },
    Entry { name: "osrelease", kind: Kind::Machine(|| text(format!("{}\n", system_info::RELEASE))) },
    Entry { name: "ostype", kind: Kind::Machine(|| b"Linux\n".to_vec()) },
    // Of users and groups that a user namespace does not have.
    Entry { name: "overflowgid", kind: Kind::Machine(overflow_id) },
    Entry { name: "overflowuid", kind: Kind::Machine(overflow_id) },
    Entry { name: "pid_max", kind: Kind::Machine(|| b"32768\n".to_vec()) },
    Entry { name: "random", kind: Kind::Directory(SYS_KERNEL_RANDOM) },
    Entry { name: "randomize_va_space", kind: Kind::Setting(randomize, set_randomize) },
    Entry { name: "version", kind: Kind::Machine(|| text(format!("{}\n", system_info::VERSION))) },
];

static SYS_KERNEL_RANDOM: &[Entry] = &[
    Entry { name: "boot_id", kind: Kind::Machine(boot_id) },
    Entry { name: "uuid", kind: Kind::Machine(|| uuid(random_number())) },
];

static SYS_VM: &[Entry] = &[
    Entry { name: "max_map_count", kind: Kind::Machine(|| b"65530\n".to_vec()) },
    Entry { name: "overcommit_memory", kind: Kind::Machine(|| b"1\n".to_vec()) },
];

fn overflow_id() -> Vec<u8> {
    text(format!("{}\n", user_namespace::OVERFLOW))
}

fn command_line() -> Vec<u8> {
    let words: Vec<&str> = crate::machine::loader::words().collect();
    text(words.join(" ") + "\n")
}

fn own_process(namespace: &Namespace) -> Option<Vec<u8>> {
    let process = numbers::seen_in(namespace, task::current().process.pid);
    (process != 0).then(|| text(format!("{process}")))
}

fn own_thread(namespace: &Namespace) -> Option<Vec<u8>> {
    let thread = numbers::seen_in(namespace, task::current().tid());
    Some([own_process(namespace)?, text(format!("/task/{thread}"))].concat())
}

fn file_systems() -> Vec<u8> {
    b"nodev\ttmpfs\nnodev\tproc\nnodev\tsysfs\nnodev\tdevtmpfs\nnodev\tpipefs\nnodev\tramfs\nnodev\tdevpts\n".to_vec()
}

fn host_name() -> Vec<u8> {
    let mut name = system_info::host_name();
    name.push(b'\n');
    name
}

fn set_host_name(name: &[u8]) -> Result<()> {
    if name.len() > 64 {
        return Err(Errno::EINVAL);
    }
    system_info::set_host_name(name);
    Ok(())
}

fn randomize() -> Vec<u8> {
    text(format!("{}\n", personality::randomize_va_space()))
}

fn set_randomize(level: &[u8]) -> Result<()> {
    let level = core::str::from_utf8(level).ok().and_then(|level| level.parse().ok()).ok_or(Errno::EINVAL)?;
    personality::set_randomize_va_space(level);
    Ok(())
}

fn random_number() -> u128 {
    let mut bytes = [0; 16];
    system_info::fill_random(&mut bytes);
    u128::from_ne_bytes(bytes)
}

/// A random (version 4) UUID.
fn uuid(number: u128) -> Vec<u8> {
    let number = number & !(0xf000 << 64 | 0xc000 << 48) | 0x4000 << 64 | 0x8000 << 48;
    let digits = format!("{number:032x}");
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    text(parts.join("-") + "\n")
}

fn boot_id() -> Vec<u8> {
    static ID: Once<u128> = Once::new();
    uuid(*ID.call_once(random_number))
}

fn version() -> Vec<u8> {
    text(format!("Linux version {} (portcullis) {}\n", system_info::RELEASE, system_info::VERSION))
}

fn memory_info() -> Vec<u8> {
    let (total, free) = (frames::total_bytes() / 1024, frames::free_bytes() / 1024);
    let mut out = String::new();
    for (name, kilobytes) in [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", 0),
        ("Inactive", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("Shmem", 0),
        ("Slab", 0),
    ] {
        let _ = writeln!(out, "{:<15} {kilobytes:>8} kB", format!("{name}:"));
    }
    text(out)
}

fn uptime() -> Vec<u8> {
    let now = time::now();
    let idle = scheduler::idle_time() / TICK;
    let up = now / TICK;
    text(format!("{}.{:02} {}.{:02}\n", up / 100, up % 100, idle / 100, idle % 100))
}

fn load_average() -> Vec<u8> {
    let runnable = scheduler::runnable();
    let all = task::tree::all();
    let threads: usize = all.iter().map(|process| process.threads().len()).sum();
    let last = all.iter().map(|process| process.pid).max().unwrap_or(0);
    text(format!("{0}.00 {0}.00 {0}.00 {0}/{threads} {last}\n", runnable))
}

fn statistics() -> Vec<u8> {
    // User mode and the kernel by the timer's ticks, idle by the clock: none is ever less than before.
    let [user, system] = scheduler::sampled_times().map(|time| time / TICK);
    let idle = scheduler::idle_time() / TICK;
    let count = cpu::count() as u64;
    let mut out = format!("cpu  {user} 0 {system} {idle} 0 0 0 0 0 0\n");
    for number in 0..count {
        let (user, system, idle) = (user / count, system / count, idle / count);
        let _ = writeln!(out, "cpu{number} {user} 0 {system} {idle} 0 0 0 0 0 0");
    }
    let all = task::tree::all();
    let boot_time = (time::realtime() - time::now()) / SECOND;
    let last = all.iter().map(|process| process.pid).max().unwrap_or(0);
    let _ = write!(
        out,
        "intr 0\nctxt 0\nbtime {boot_time}\nprocesses {last}\nprocs_running {}\nprocs_blocked 0\n",
        scheduler::runnable()
    );
    text(out)
}

fn cpu_info() -> Vec<u8> {
    let id = CpuId::new();
    let vendor = id.get_vendor_info();
    let brand = id.get_processor_brand_string();
    let features = id.get_feature_info();
    let extended = id.get_extended_feature_info();
    let mut out = String::new();
    for number in 0..cpu::count() {
        let _ = writeln!(out, "processor\t: {number}");
        let _ = writeln!(out, "vendor_id\t: {}", vendor.as_ref().map_or("unknown", |vendor| vendor.as_str()));
        if let Some(info) = &features {
            // Family, model and stepping as the manuals combine them, which `raw-cpuid` does.
            let _ = writeln!(out, "cpu family\t: {}", info.family_id());
            let _ = writeln!(out, "model\t\t: {}", info.model_id());
        }
        let name = brand.as_ref().map_or("unknown", |brand| brand.as_str());
        let _ = writeln!(out, "model name\t: {}", name.trim());
        if let Some(info) = &features {
            let _ = writeln!(out, "stepping\t: {}", info.stepping_id());
            let _ = writeln!(out, "flags\t\t: {}", flags(info, extended.as_ref()));
        }
        let _ = writeln!(out, "bogomips\t: 2000.00\nclflush size\t: 64\n");
    }
    text(out)
}

fn flags(info: &raw_cpuid::FeatureInfo, extended: Option<&raw_cpuid::ExtendedFeatures>) -> String {
    let mut names: Vec<&str> = [
        ("fpu", info.has_fpu()),
        ("tsc", info.has_tsc()),
        ("msr", info.has_msr()),
        ("pae", info.has_pae()),
        ("cx8", info.has_cmpxchg8b()),
        ("apic", info.has_apic()),
        ("cmov", info.has_cmov()),
        ("mmx", info.has_mmx()),
        ("fxsr", info.has_fxsave_fxstor()),
        ("sse", info.has_sse()),
        ("sse2", info.has_sse2()),
        ("pni", info.has_sse3()),
        ("ssse3", info.has_ssse3()),
        ("cx16", info.has_cmpxchg16b()),
        ("sse4_1", info.has_sse41()),
        ("sse4_2", info.has_sse42()),
        ("popcnt", info.has_popcnt()),
        ("aes", info.has_aesni()),
        ("xsave", info.has_xsave()),
        ("avx", info.has_avx()),
        ("rdrand", info.has_rdrand()),
        ("hypervisor", info.has_hypervisor()),
    ]
    .into_iter()
    .filter_map(|(name, has)| has.then_some(name))
    .collect();
    if let Some(extended) = extended {
        let more = [
            ("fsgsbase", extended.has_fsgsbase()),
            ("bmi1", extended.has_bmi1()),
            ("avx2", extended.has_avx2()),
            ("smep", extended.has_smep()),
            ("bmi2", extended.has_bmi2()),
            ("erms", extended.has_rep_movsb_stosb()),
            ("smap", extended.has_smap()),
            ("umip", extended.has_umip()),
        ];
        names.extend(more.into_iter().filter_map(|(name, has)| has.then_some(name)));
    }
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_uuid_says_so() {
        // RFC 9562: version 4, variant 10.
        for number in [0, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            let uuid = String::from_utf8(uuid(number)).expect("ASCII");
            let parts: Vec<_> = uuid.trim_end().split('-').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{uuid}");
            assert!(parts[2].starts_with('4') && "89ab".contains(&parts[3][..1]), "{uuid}");
        }
    }

    #[test]
    fn memory_is_told_in_kilobytes() {
        crate::host::memory();
        let text = String::from_utf8(memory_info()).expect("ASCII");
        let of = |name: &str| -> u64 {
            let line = text.lines().find(|line| line.starts_with(name)).expect("a line");
            let mut words = line.split_whitespace().skip(1);
            let number = words.next().and_then(|word| word.parse().ok()).expect("a number");
            assert_eq!(words.next(), Some("kB"));
            number
        };
        assert!(of("MemTotal:") <= 256 << 10 && of("MemTotal:") > 250 << 10, "{text}");
        assert!(of("MemFree:") <= of("MemTotal:"));
    }
}
