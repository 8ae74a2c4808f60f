use super::*;

#[test]
fn there_are_sixteen_limits() {
    let process = Process::new(77, None, None);
    assert!(exchange(&process, 15, None).is_ok());
    assert_eq!(exchange(&process, 16, None).err(), Some(Errno::EINVAL));
}
