use super::*;

#[test]
fn there_are_41_capabilities() {
    // include/uapi/linux/capability.h, 6.1: CAP_LAST_CAP is CAP_CHECKPOINT_RESTORE, 40.
    assert_eq!((single(40), single(41), single(64)), (Ok(1 << 40), Err(Errno::EINVAL), Err(Errno::EINVAL)));
    assert_eq!(single(0), Ok(1));
}
