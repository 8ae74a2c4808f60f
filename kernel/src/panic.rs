//! What the kernel prints when it cannot go on.
