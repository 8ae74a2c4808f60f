//! A kernel says how many levels its page tables have, and not how many bits SYSRET may take (CVE-2012-0217).
include!("kernel.rs.in");

struct Other;
impl Doors for Other {
    const USER_ADDRESS_BITS: u32 = 63;
}

fn main() {
    let _ = K::PAGING;
}
