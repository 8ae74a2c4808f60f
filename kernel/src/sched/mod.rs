//! What the CPU switches between, and when: the scheduler, the switch, what a switch saves, waiting.
//!
//! | you want to … | look in |
//! | --- | --- |
//! | see what a thread is | [`thread`], its states [`state`] |
//! | sleep and wake | [`wait`] (queues, poll), [`scheduler`] (the protocol) |
//! | run something later | [`timer`] |
//! | see where a tick ends a slice | [`tick`], then [`scheduler::tick`]; a longer one [`slice_timer`] |
//! | have something done above at a switch or a tick | [`callbacks`] |
//! | change what a switch saves | [`switch`], [`fpu`], [`segments`] |
//! | let others access the registers of a task that waits | [`lent`] |
//! | wait until no reader is left | [`rcu`] |

pub mod callbacks;
pub mod clock_watchers;
pub mod fpu;
pub mod fsave;
pub mod lent;
pub mod policy;
pub mod rcu;
pub mod scheduler;
pub mod segments;
pub mod slice_timer;
pub mod slot;
pub mod state;
pub mod switch;
pub mod thread;
pub mod tick;
pub mod timer;
pub mod usage;
pub mod wait;
