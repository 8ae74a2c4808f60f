use crate::task::pid::numbers::*;

/// A namespace with these numbers, each with its id.
fn namespace(parent: Namespace, ids: &[(Pid, Pid)]) -> Namespace {
    let namespace = PidNamespace::nested(&parent, None).expect("not too deep");
    for &(number, id) in ids {
        namespace.as_ref().expect("not the first").add(id, Some(number), |_| true).expect("free");
    }
    namespace
}

#[test]
fn a_process_sees_the_numbers_of_its_namespace() {
    let outer = namespace(None, &[(1, 500), (2, 501), (3, 502)]);
    let inner = namespace(outer.clone(), &[(1, 501), (2, 502)]);
    let process = Process::new(501, None, inner.clone());
    assert_eq!([500, 501, 502].map(|id| seen_by(&process, id)), [0, 1, 2], "0 for who is not of it");
    assert_eq!(numbers(&process, 502), [502, 3, 2], "the first namespace's first");
    let mut line = String::new();
    write_numbers(&mut line, "NSpid", &process, 501, &None);
    // proc(5), NSpid: from the reading process's namespace inwards.
    assert_eq!(line, "NSpid:\t501\t2\t1\n");
    assert_eq!(seen_by(&Process::new(7, None, None), 7), 7);
}

#[test]
fn a_process_is_of_the_namespaces_around_its_own() {
    let outer = namespace(None, &[]);
    let inner = namespace(outer.clone(), &[]);
    let process = Process::new(5, None, inner.clone());
    let [outer, inner, other] = [outer, inner, namespace(None, &[])].map(|namespace| namespace.expect("not the first"));
    assert!(is_in(&process, &inner) && is_in(&process, &outer) && !is_in(&process, &other));
    assert!(!is_in(&Process::new(6, None, Some(outer)), &inner));
}
