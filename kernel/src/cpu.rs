//! One processor: its per-CPU area (which starts with the library's part), identity and inter-processor interrupts.
