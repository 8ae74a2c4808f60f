//! Grace periods: `synchronize` waits until every CPU has been in user mode, idle, or through the scheduler.
