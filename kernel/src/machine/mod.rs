//! The machine: CPUs, locks, interrupt controllers, clocks, the log, panics. Knows no task.
//!
//! | you want to … | look in |
//! | --- | --- |
//! | find the CPU that you run on | [`cpu`] |
//! | take a lock, turn interrupts off | [`sync`] |
//! | know the time | [`time`]; to run something later [`sched::timer`](crate::sched::timer) |
//! | know how fast the counters run | [`calibration`] |
//! | know what the firmware says of the machine | [`acpi`] |
//! | send an inter-processor interrupt | [`ipi`]; the registers are [`apic`]'s |
//! | turn the machine off | [`power`] |
//! | write to the log, see what a panic prints | [`log`], [`mod@panic`] |
//! | decode an instruction | [`instruction`] |

pub mod acpi;
pub mod apic;
pub mod calibration;
pub mod cpu;
pub mod descriptor;
pub mod direct_map;
pub mod gate;
pub mod image;
pub mod instruction;
pub mod ipi;
pub mod loader;
pub mod log;
pub mod nospec;
pub mod panic;
pub mod power;
pub mod rtc;
pub mod segments;
pub mod sync;
pub mod time;
