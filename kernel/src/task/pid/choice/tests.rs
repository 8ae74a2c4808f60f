use crate::task::pid::choice::*;

/// A namespace with these numbers, each with its id.
fn namespace(parent: Namespace, ids: &[(Pid, Pid)]) -> Namespace {
    let namespace = PidNamespace::nested(&parent, None).expect("not too deep");
    for &(number, id) in ids {
        namespace.as_ref().expect("not the first").add(id, Some(number), |_| true).expect("free");
    }
    namespace
}

#[test]
fn init_is_number_one_until_it_ends() {
    let place = namespace(None, &[(1, 500), (2, 501)]).expect("not the first");
    assert_eq!(place.init(), Some(500));
    let process = Process::new(500, None, Some(place.clone()));
    assert!(close(&Process::new(501, None, Some(place.clone()))).is_none(), "it is not init");
    assert!(close(&process).is_some());
    assert_eq!(place.init(), None);
    // pid_namespaces(7): fork fails with ENOMEM then.
    assert_eq!(place.add(502, None, |_| true), Err(Errno::ENOMEM));
}
