//! What the firmware's ACPI tables say of the machine: its processors (MADT) and its power-management timer (FADT).
//!
//! The tables are read once, at boot. The names and layouts are those of the ACPI specification, chapter 5. The DSDT, which is
//! a program, is not read.

use alloc::vec::Vec;
use core::ops::Range;
use core::ptr::NonNull;

use acpi::address::AddressSpace;
use acpi::fadt::Fadt;
use acpi::madt::{Madt, MadtEntry};
use acpi::{AcpiHandler, AcpiTables, PhysicalMapping};

use crate::machine::direct_map::phys_to_virt;
use crate::machine::loader;

/// What the kernel uses of the tables.
#[derive(Default)]
pub struct Firmware {
    /// The local APIC ids of the processors that can be started, in the order of the MADT. The boot processor is among them.
    /// Empty without a MADT.
    pub apic_ids: Vec<u32>,
    /// The I/O port of the power-management timer.
    pub pm_timer: Option<u16>,
}

/// Adds a physical range to the direct map.
type Map = fn(Range<u64>);

/// How the crate `acpi` reads physical memory: through the direct map.
#[derive(Clone, Copy)]
struct Reader(Map);

impl AcpiHandler for Reader {
    unsafe fn map_physical_region<T>(&self, address: usize, size: usize) -> PhysicalMapping<Self, T> {
        let start = address as u64;
        (self.0)(start..start.saturating_add(size as u64));
        let virt = NonNull::new(phys_to_virt(start).cast()).expect("an address of the direct map");
        // SAFETY: the whole range has just been mapped, for good.
        unsafe { PhysicalMapping::new(address, virt, size, size, *self) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

/// Reads the tables. `map` is called for each part of them; with the heap up, on the boot processor.
pub fn read(map: Map) -> Firmware {
    let reader = Reader(map);
    let tables = match loader::info().rsdp {
        // SAFETY: a machine whose loader names no RSDP started with a BIOS, or has ordinary memory where one would be.
        0 => unsafe { AcpiTables::search_for_rsdp_bios(reader) },
        // SAFETY: the loader says that it is one; the crate checks its signature and its checksum.
        rsdp => unsafe { AcpiTables::from_rsdp(reader, rsdp as usize) },
    };
    match tables {
        Ok(tables) => Firmware { apic_ids: processors(&tables), pm_timer: pm_timer(&tables) },
        Err(error) => {
            log::warn!("no ACPI tables ({error:?}): one CPU");
            Firmware::default()
        }
    }
}

/// The enabled processors of the MADT. Those with an x2APIC id (255 and above) cannot be addressed in xAPIC mode and are left out.
fn processors(tables: &AcpiTables<Reader>) -> Vec<u32> {
    const ENABLED: u32 = 1;
    /// As a destination it means all processors.
    const BROADCAST: u8 = 0xff;
    let madt = match tables.find_table::<Madt>() {
        Ok(madt) => madt,
        Err(error) => {
            log::warn!("no MADT ({error:?}): one CPU");
            return Vec::new();
        }
    };
    let apic_id = |entry| match entry {
        MadtEntry::LocalApic(local) if local.flags & ENABLED != 0 => Some(local.apic_id),
        _ => None,
    };
    madt.get().entries().filter_map(apic_id).filter(|&id| id != BROADCAST).map(u32::from).collect()
}

/// The PM timer, where there is one (a hardware-reduced machine such as QEMU's microvm has none) and it is in I/O space.
fn pm_timer(tables: &AcpiTables<Reader>) -> Option<u16> {
    let block = tables.find_table::<Fadt>().ok()?.pm_timer_block().ok()??;
    (block.address_space == AddressSpace::SystemIo).then(|| u16::try_from(block.address).ok())?
}
