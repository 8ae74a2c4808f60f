//! How fast the time-stamp counter and the local APIC's timer run: measured at boot against a timer of known rate.
//!
//! That is ACPI's power-management timer; on a machine without it (QEMU's microvm), channel 0 of the PIT; on one without either
//! (microvm with `pit=off`), the local APIC's timer itself, which QEMU and KVM run at [`ASSUMED_HZ`]. The HPET is not used: it needs
//! a page of registers mapped, and QEMU's PCs have a PM timer beside it.

use core::fmt;

use x86_64::instructions::port::Port;

use crate::machine::apic;

/// The local APIC timer's rate in QEMU and KVM: one tick per nanosecond.
const ASSUMED_HZ: u64 = 1_000_000_000;

const SECOND: u64 = 1_000_000_000;
/// How long one of the two measurements takes that are compared, in nanoseconds.
const SPAN: u64 = 1_000_000;
/// Two measurements agree if they differ by no more than one part in this many. One over which the reference has wrapped unseen is
/// wrong by a factor.
const TOLERANCE: u128 = 64;
/// How often it is tried to get two measurements that agree.
const ATTEMPTS: usize = 8;
/// How many ticks of the reference are looked at for one reading.
const EDGES: usize = 32;
/// How many reads of the local APIC's timer are made for one reading.
const APIC_READS: usize = 8;
/// A counter that stands still for this many reads is none.
const PATIENCE: usize = 1000;

/// A counter of known rate that counts up and wraps.
#[derive(Clone, Copy)]
enum Reference {
    /// ACPI's power-management timer at this I/O port. The specification lets it have 24 or 32 bits; 24 are used.
    PmTimer(u16),
    /// Channel 0 of the PIT (8254), whose interrupt line is masked. It needs no gate, unlike channel 2.
    Pit,
    /// The local APIC's timer.
    LocalApic,
}

impl Reference {
    fn start(self) {
        /// Channel 0, low byte and high byte, mode 0 (counts on after it has reached 0), binary.
        const COMMAND: u8 = 0b0011_0000;
        if let Reference::Pit = self {
            // SAFETY: nothing else uses the PIT; where there is none, nobody listens.
            unsafe {
                Port::<u8>::new(0x43).write(COMMAND);
                Port::<u8>::new(0x40).write(0xff);
                Port::<u8>::new(0x40).write(0xff);
            }
        }
    }

    fn hz(self) -> u64 {
        match self {
            Reference::PmTimer(_) => 3_579_545,
            Reference::Pit => 1_193_182,
            Reference::LocalApic => ASSUMED_HZ,
        }
    }

    /// The bits that count.
    fn mask(self) -> u32 {
        match self {
            Reference::PmTimer(_) => 0xff_ffff,
            Reference::Pit => 0xffff,
            Reference::LocalApic => u32::MAX,
        }
    }

    #[inline]
    fn count(self) -> u32 {
        /// Keeps channel 0's counter for the next two reads.
        const LATCH: u8 = 0;
        let count = match self {
            // SAFETY: reading the timer has no side effect.
            Reference::PmTimer(port) => unsafe { Port::<u32>::new(port).read() },
            // SAFETY: as in `start`.
            Reference::Pit => unsafe {
                Port::<u8>::new(0x43).write(LATCH);
                let mut data = Port::<u8>::new(0x40);
                !u32::from(u16::from_le_bytes([data.read(), data.read()]))
            },
            Reference::LocalApic => !apic::timer_left(),
        };
        count & self.mask()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reference::PmTimer(_) => "the ACPI PM timer",
            Reference::Pit => "the PIT",
            Reference::LocalApic => "a local APIC timer of 1 GHz",
        })
    }
}

/// What was measured.
pub struct Rates {
    /// A recent value of the time-stamp counter.
    pub base: u64,
    /// Nanoseconds per tick of the time-stamp counter, times 2^32.
    pub tsc: u64,
    /// Ticks of the local APIC's timer per nanosecond, times 2^31; less than 2^32.
    pub apic: u64,
}

/// The time-stamp counter.
#[inline]
pub fn ticks() -> u64 {
    // SAFETY: RDTSC is available on every x86-64 CPU.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The counters at one moment.
struct Reading {
    /// The reference has just counted to this value …
    reference: u32,
    /// … when the time-stamp counter was this.
    tsc: u64,
    /// What was left of the local APIC's timer …
    apic: u32,
    /// … when the time-stamp counter was this.
    apic_tsc: u64,
}

impl Reading {
    fn take(reference: Reference) -> Option<Reading> {
        let ((_, tsc), count) = (0..EDGES).map_while(|_| edge(reference)).min()?;
        let (_, apic_tsc, apic) = (0..APIC_READS)
            .map(|_| {
                let before = ticks();
                let left = apic::timer_left();
                let after = ticks();
                (after - before, before + (after - before) / 2, left)
            })
            .min()?;
        Some(Reading { reference: count, tsc, apic, apic_tsc })
    }
}

/// Waits for the next tick of the reference. How many ticks of the time-stamp counter the moment is known to, the middle of these, and
/// what the reference has counted to. None if it stands still.
fn edge(reference: Reference) -> Option<((u64, u64), u32)> {
    let mut before = ticks();
    let first = reference.count();
    (0..PATIENCE).find_map(|_| {
        let between = ticks();
        let count = reference.count();
        let after = ticks();
        let start = core::mem::replace(&mut before, between);
        (count != first).then(|| ((after - start, start + (after - start) / 2), count))
    })
}

/// What the counters did between two readings.
#[derive(Clone, Copy)]
struct Elapsed {
    reference: u64,
    tsc: u64,
    apic: u64,
    /// Ticks of the time-stamp counter that `apic` took.
    apic_tsc: u64,
}

impl Elapsed {
    fn between(reference: Reference, from: &Reading, to: &Reading) -> Elapsed {
        Elapsed {
            reference: u64::from(to.reference.wrapping_sub(from.reference) & reference.mask()),
            tsc: to.tsc - from.tsc,
            apic: u64::from(from.apic.saturating_sub(to.apic)),
            apic_tsc: to.apic_tsc - from.apic_tsc,
        }
    }

    fn plus(self, other: Elapsed) -> Elapsed {
        Elapsed {
            reference: self.reference + other.reference,
            tsc: self.tsc + other.tsc,
            apic: self.apic + other.apic,
            apic_tsc: self.apic_tsc + other.apic_tsc,
        }
    }

    fn agrees_with(self, other: Elapsed) -> bool {
        let same = |a: (u64, u64), b: (u64, u64)| {
            let (left, right) = (u128::from(a.0) * u128::from(b.1), u128::from(b.0) * u128::from(a.1));
            left != 0 && left.abs_diff(right) <= left / TOLERANCE
        };
        same((self.tsc, self.reference), (other.tsc, other.reference))
            && same((self.apic, self.apic_tsc), (other.apic, other.apic_tsc))
    }

    fn rates(self, reference: Reference, base: u64) -> Rates {
        let nanoseconds = ((u128::from(self.reference) * u128::from(SECOND)) << 32) / u128::from(reference.hz());
        let tsc = (nanoseconds / u128::from(self.tsc)) as u64;
        let apic_nanoseconds = (u128::from(self.apic_tsc) * u128::from(tsc)) >> 32;
        let apic = (u128::from(self.apic) << 31) / apic_nanoseconds.max(1);
        Rates { base, tsc, apic: apic.min(u128::from(u32::MAX)) as u64 }
    }
}

/// Measures twice, one measurement after the other. None if they do not agree: the host may have taken the processor away for longer
/// than a counter takes to wrap.
fn attempt(reference: Reference) -> Option<Rates> {
    let span = (SPAN * reference.hz() / SECOND) as u32;
    apic::set_timer(u32::MAX);
    let next = |from: &Reading| {
        while (reference.count().wrapping_sub(from.reference) & reference.mask()) < span {
            core::hint::spin_loop();
        }
        Reading::take(reference)
    };
    let first = Reading::take(reference)?;
    let second = next(&first)?;
    let third = next(&second)?;
    let early = Elapsed::between(reference, &first, &second);
    let late = Elapsed::between(reference, &second, &third);
    early.agrees_with(late).then(|| early.plus(late).rates(reference, first.tsc))
}

/// Measures. On the boot processor, with its local APIC on and its timer unused, interrupts off.
pub fn measure(pm_timer: Option<u16>) -> Rates {
    let references = pm_timer.map(Reference::PmTimer).into_iter().chain([Reference::Pit, Reference::LocalApic]);
    for reference in references {
        reference.start();
        apic::set_timer(u32::MAX);
        if edge(reference).is_none() {
            continue;
        }
        if let Some(rates) = (0..ATTEMPTS).find_map(|_| attempt(reference)) {
            apic::set_timer(0);
            let khz = |rate: u64, one: u64| rate * (SECOND / 1000) / one;
            log::info!(
                "time-stamp counter: {} kHz, local APIC timer: {} kHz, by {reference}",
                ((SECOND / 1000) << 32) / rates.tsc.max(1),
                khz(rates.apic, 1 << 31),
            );
            return rates;
        }
    }
    panic!("no timer of known rate: no two measurements agree");
}
