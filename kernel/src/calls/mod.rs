//! System calls: the 64-bit table ([`table64`]), the 32-bit one ([`compat`]), and what they call.
//!
//! A call that belongs to one room stands there (`life::fork`, `fs::pipe`); here are those that belong to none, or only check
//! arguments.

pub mod compat;
pub mod fs;
pub mod gate_device;
pub mod hook_devices;
pub mod kcmp;
pub mod memory;
pub mod prctl;
pub mod signal;
pub mod table64;

use crate::fs::devices::{self, Device};

/// The devices that tests look into the kernel by.
static DEVICES: [Device; 5] = [
    Device { name: "gate", number: gate_device::NUMBER, ops: gate_device::ops },
    Device { name: "user-table", number: gate_device::USER_TABLE, ops: gate_device::user_table_ops },
    Device { name: "audit", number: hook_devices::AUDIT, ops: hook_devices::audit },
    Device { name: "trace", number: hook_devices::TRACE, ops: hook_devices::trace },
    Device { name: "hooks", number: hook_devices::HOOKS, ops: hook_devices::hooks },
];

/// Makes the devices known. At boot, before the file systems are up.
pub fn register_devices() {
    devices::register(&DEVICES);
}
