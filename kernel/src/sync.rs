//! The kernel's lock: a spin lock that keeps interrupts off while it is held.
