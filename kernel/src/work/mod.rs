//! What the gate's hooks do. What they keep for each task is in [`task::hooks`](crate::task::hooks).
//!
//! | you want to … | look in |
//! | --- | --- |
//! | see where a signal frame is built | [`signal_delivery`], then [`signal_frame64`] or [`signal_frame32`]; the FPU's part [`fpstate`](crate::signal::fpstate) |
//! | judge a call by filters | [`seccomp`] |
//! | turn a call into a signal | [`user_dispatch`] |
//! | record calls | [`audit`], [`trace_points`] |
//! | restart a sequence of instructions | [`rseq`] |
//! | let a task go on for a moment when its slice is over | [`slice_extension`] |
//! | stop at an instruction of a file | [`uprobe`] |
//! | queue work for a task, change its code, hear of returns to user mode | [`task_work`], [`live_patch`], [`return_notifier`] |
//! | know in which state a hook is called | [`hooks`], which checks it with debug assertions |
//! | know what becomes of all this at clone, exec, exit and a switch | [`lifecycle`] |
//! | end the task from a hook | [`exit`] |

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
pub mod slice_extension;
pub mod task_work;
pub mod trace_points;
pub mod uprobe;
pub mod user_dispatch;
