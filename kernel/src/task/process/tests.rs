use linux_raw_sys::general::RLIMIT_NOFILE;

use super::*;

#[test]
fn a_child_has_its_parents_limits_and_they_part() {
    let parent = Process::new(77, None, None);
    parent.limit_soft(RLIMIT_NOFILE, 100);
    let child = Process::new(78, Some(&parent), None);
    assert_eq!(child.rlimit(RLIMIT_NOFILE).0, 100);
    child.limit_soft(RLIMIT_NOFILE, 50);
    child.limit_soft(RLIMIT_NOFILE, 70);
    assert_eq!((child.rlimit(RLIMIT_NOFILE).0, parent.rlimit(RLIMIT_NOFILE).0), (50, 100));
}
