use crate::task::pid::namespace::*;

fn namespace(parent: Namespace, ids: &[(Pid, Pid)]) -> Namespace {
    Some(Arc::new(PidNamespace {
        ino: 1,
        parent,
        owner: None,
        numbers: SpinLock::new(Numbers { pids: ids.iter().copied().collect(), last: 0, ended: false }),
        changed: WaitQueue::new(),
    }))
}

#[test]
fn a_number_is_free_when_its_id_is_removed() {
    let place = namespace(None, &[(1, 500), (2, 501)]).expect("not the first");
    assert_eq!((place.id(2), place.number(501)), (Some(501), Some(2)));
    place.remove(501);
    assert_eq!((place.id(2), place.number(501)), (None, None));
}
