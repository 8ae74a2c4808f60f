//! What the gate's hooks do: signal delivery, filters, audit, probes, restartable sequences.
//!
//! [`hooks`] holds what they keep for each task, and checks with debug assertions the state that each hook promises.
//!
//! | you want to … | look in |
//! | --- | --- |
//! | see where a signal frame is built | [`signal_delivery`], then [`signal_frame64`] or [`signal_frame32`]; the FPU's part [`signal_fpstate`](crate::signal::fpstate) |
//! | queue work for a task | [`task_work`] |

pub mod audit;
pub mod exit;
pub mod hooks;
pub mod lifecycle;
pub mod live_patch;
pub mod return_notifier;
pub mod rseq;
pub mod seccomp;
pub mod signal_delivery;
pub mod signal_frame32;
pub mod signal_frame64;
pub mod task_work;
pub mod trace_points;
pub mod uprobe;
pub mod user_dispatch;
