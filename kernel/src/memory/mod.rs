//! Frames, page tables, address spaces and user-memory access.
