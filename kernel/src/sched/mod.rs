//! What the CPU switches between, and when: the scheduler, the switch, what a switch saves, waiting.
//!
//! | you want to … | look in |
//! | --- | --- |
//! | sleep and wake | [`wait`] (queues, poll), [`scheduler`] (states, the protocol) |
//! | change what a switch saves | [`switch`], [`fpu`], [`segments`] |
//! | let others access the registers of a task that waits | [`lent`] |
//! | wait until no reader is left | [`rcu`] |

pub mod callbacks;
pub mod fpu;
pub mod fsave;
pub mod lent;
pub mod policy;
pub mod rcu;
pub mod scheduler;
pub mod segments;
pub mod slot;
pub mod switch;
pub mod thread;
pub mod timer;
pub mod usage;
pub mod wait;
