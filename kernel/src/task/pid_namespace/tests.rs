use super::*;

fn namespace(parent: Namespace, ids: &[(Pid, Pid)]) -> Namespace {
    Some(Arc::new(PidNamespace {
        parent,
        owner: None,
        numbers: SpinLock::new(Numbers { ids: ids.iter().copied().collect(), last: 0, ended: false }),
        changed: WaitQueue::new(),
    }))
}

#[test]
fn a_process_sees_the_numbers_of_its_namespace() {
    let outer = namespace(None, &[(1, 500), (2, 501), (3, 502)]);
    let inner = namespace(outer.clone(), &[(1, 501), (2, 502)]);
    let process = Process::new(501, None, inner.clone());
    assert_eq!([500, 501, 502].map(|id| seen_by(&process, id)), [0, 1, 2], "0 for who is not of it");
    assert_eq!(numbers(&process, 502), [502, 3, 2], "the first namespace's first");
    let mut line = String::new();
    write_numbers(&mut line, "NSpid", &process, 501);
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

#[test]
fn init_is_number_one_until_it_ends() {
    let place = namespace(None, &[(1, 500), (2, 501)]).expect("not the first");
    assert_eq!(place.init(), Some(500));
    let process = Process::new(500, None, Some(place.clone()));
    assert!(close(&Process::new(501, None, Some(place.clone()))).is_none(), "it is not init");
    assert!(close(&process).is_some());
    assert_eq!(place.init(), None);
    // pid_namespaces(7): fork fails with ENOMEM then.
    assert_eq!(place.add(&tree(), 502, None), Err(Errno::ENOMEM));
}

#[test]
fn a_number_is_free_when_its_id_is_removed() {
    let place = namespace(None, &[(1, 500), (2, 501)]).expect("not the first");
    assert_eq!((place.id(2), place.number(501)), (Some(501), Some(2)));
    place.remove(501);
    assert_eq!((place.id(2), place.number(501)), (None, None));
}
