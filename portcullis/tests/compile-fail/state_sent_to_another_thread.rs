//! A state belongs to the CPU, or the task, that is in it.
include!("kernel.rs.in");

/// What std's threads ask of what they are given. (Their own error quotes the standard library, where its source is installed.)
struct Thread<T>(T);

impl<T: Send + 'static> Thread<T> {
    fn spawn(self) {
        drop(self.0);
    }
}

fn handler(at: InKernel<'static, K>) {
    Thread(at).spawn();
}

fn main() {
    Thread(1).spawn();
}
