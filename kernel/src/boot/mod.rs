//! From the PVH entry point to the first program.
