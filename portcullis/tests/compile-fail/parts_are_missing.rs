//! What is missing is said.
use portcullis::Gate;

struct Empty;

fn gate<K: Gate>() {}

fn main() {
    gate::<Empty>();
}
