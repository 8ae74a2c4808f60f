//! Tasks, processes, the scheduler.
