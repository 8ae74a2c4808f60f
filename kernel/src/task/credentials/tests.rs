use crate::errno::Errno;
use crate::task::credentials::user_namespace::{Writer, write_map};
use crate::task::credentials::*;

/// A namespace that this user made.
fn namespace(parent: &Namespace, owner: u32) -> Namespace {
    Some(UserNamespace::nested(parent, owner, 0).expect("not too deep"))
}

/// Gives a namespace its users and groups, in the name of its parent's administrator.
fn map_ids(namespace: &Namespace, parent: &Namespace, line: &str) {
    let writer = Writer { namespace: parent.clone(), user: 0, group: 0, is_admin: true };
    for kind in [USER, GROUP] {
        write_map(namespace, kind, line.as_bytes(), &writer).expect("the first map");
    }
}

#[test]
fn who_made_a_namespace_has_all_rights_in_it_and_others_only_from_above() {
    let outer = namespace(&None, 1000);
    map_ids(&outer, &None, "0 0 4294967295");
    let inner = namespace(&outer, 2000);
    let of = |namespace: &Namespace, user: u32, capable: bool| {
        let mut credentials = Credentials { namespace: namespace.clone(), ..Credentials::default() };
        credentials.user.effective = user;
        if !capable {
            let ids = |id| Ids { real: id, effective: id, saved: id, file_system: id };
            credentials.capabilities.follow(ids(0), ids(1), Some(0));
        }
        credentials
    };
    let kill = Capability::Kill;
    assert!(of(&None, 0, true).grants(&inner, kill), "the administrator of all");
    assert!(!of(&None, 0, false).grants(&inner, kill));
    assert!(of(&None, 1000, false).grants(&outer, kill), "its owner");
    assert!(of(&None, 1000, false).grants(&inner, kill), "and of what is nested in it");
    assert!(!of(&None, 2000, false).grants(&inner, kill), "the id counts in the namespace around it only");
    assert!(of(&outer, 2000, false).grants(&inner, kill));
    assert!(!of(&inner, 0, true).grants(&outer, kill), "no rights outside");
    assert!(!of(&inner, 0, true).grants(&None, kill));
}

#[test]
fn namespaces_are_nested_33_deep_and_made_by_somebody() {
    let mut credentials = Credentials::default();
    // user_namespaces(7): up to 32 nested levels.
    for _ in 0..32 {
        let parent = credentials.namespace.clone();
        assert_eq!(credentials.enter_new_namespace(), Ok(()));
        // Root of the one around, so that its maker is somebody here.
        map_ids(&credentials.namespace, &parent, "0 0 1");
    }
    assert_eq!(credentials.enter_new_namespace(), Err(Errno::ENOSPC));
    let mut nobody = Credentials { namespace: namespace(&None, 0), ..Credentials::default() };
    assert_eq!(nobody.enter_new_namespace(), Err(Errno::EPERM));
}
