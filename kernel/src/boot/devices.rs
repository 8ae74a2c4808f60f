//! The devices that tests look into the kernel by.

use crate::calls::hook_devices;
use crate::fs::devices::{self, Device};
use crate::gate::device;

static DEVICES: [Device; 5] = [
    Device { name: "gate", number: device::NUMBER, ops: device::ops },
    Device { name: "user-table", number: device::USER_TABLE, ops: device::user_table_ops },
    Device { name: "audit", number: hook_devices::AUDIT, ops: hook_devices::audit },
    Device { name: "trace", number: hook_devices::TRACE, ops: hook_devices::trace },
    Device { name: "hooks", number: hook_devices::HOOKS, ops: hook_devices::hooks },
];

/// Makes them known. At boot, before the file systems are up.
pub fn register() {
    devices::register(&DEVICES);
}
