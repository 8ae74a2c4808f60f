use proptest::prelude::*;

use crate::task::credentials::capabilities::*;

const ROOT: Option<u32> = Some(0);

fn ids(real: u32, effective: u32, saved: u32) -> Ids {
    Ids { real, effective, saved, file_system: effective }
}

#[test]
fn the_first_process_has_all_41_capabilities() {
    // include/uapi/linux/capability.h, 6.1: CAP_LAST_CAP is CAP_CHECKPOINT_RESTORE, 40.
    let all = Capabilities::default();
    assert_eq!(
        all.sets().map(|(name, set)| (name, set.count_ones())),
        [("CapInh", 0), ("CapPrm", 41), ("CapEff", 41), ("CapBnd", 41), ("CapAmb", 0)]
    );
}

#[test]
fn leaving_all_ids_of_root_loses_all_and_ambient_ones() {
    let mut capabilities = Capabilities { inheritable: 2, ambient: 2, ..Capabilities::default() };
    capabilities.follow(ids(0, 0, 0), ids(1000, 1000, 1000), ROOT);
    assert_eq!((capabilities.permitted, capabilities.effective, capabilities.ambient), (0, 0, 0));
    assert_eq!(capabilities.inheritable, 2);
}

#[test]
fn a_way_back_keeps_what_is_permitted() {
    let mut capabilities = Capabilities::default();
    capabilities.follow(ids(0, 0, 0), ids(1000, 1000, 0), ROOT);
    assert_eq!((capabilities.permitted, capabilities.effective), (ALL, 0));
    capabilities.follow(ids(1000, 1000, 0), ids(1000, 0, 0), ROOT);
    assert_eq!(capabilities.effective, ALL);
}

#[test]
fn kept_capabilities_stay_permitted_and_do_not_act() {
    // PR_SET_KEEPCAPS.
    let mut capabilities = Capabilities { secure_bits: SecureBits::KEEP_CAPS, ..Capabilities::default() };
    capabilities.follow(ids(0, 0, 0), ids(1000, 1000, 1000), ROOT);
    assert_eq!((capabilities.permitted, capabilities.effective), (ALL, 0));
}

#[test]
fn without_a_root_or_without_the_fixup_ids_do_not_count() {
    for (bits, root) in [(SecureBits::NO_SETUID_FIXUP, ROOT), (SecureBits::empty(), None)] {
        let mut capabilities = Capabilities { secure_bits: bits, ..Capabilities::default() };
        capabilities.follow(ids(0, 0, 0), ids(1000, 1000, 1000), root);
        assert_eq!((capabilities.permitted, capabilities.effective), (ALL, ALL));
    }
}

#[test]
fn exec_gives_root_what_is_bounded_and_inheritable() {
    let capabilities = Capabilities { bounding: 0b0110, inheritable: 0b1000, permitted: 0, ..Capabilities::default() };
    // capabilities(7), "Capabilities and execution of programs by root".
    let given = |real, effective| {
        let given = capabilities.of_root(real, effective);
        (given.permitted, given.is_effective)
    };
    assert_eq!(given(true, true), (0b1110, true));
    assert_eq!(given(true, false), (0b1110, false));
    assert_eq!(given(false, true), (0b1110, true));
    assert_eq!(given(false, false), (0, false));
    let no_root = Capabilities { secure_bits: SecureBits::NO_ROOT, ..capabilities };
    assert_eq!(no_root.of_root(true, true).permitted, 0);
}

#[test]
fn a_program_gets_what_is_given_and_ambient() {
    let with_ambient = |permitted, is_effective, changes_ids| {
        let mut capabilities =
            Capabilities { ambient: 1, secure_bits: SecureBits::KEEP_CAPS, ..Capabilities::default() };
        let more = capabilities.become_program(Given { permitted, is_effective }, changes_ids);
        assert!(!capabilities.secure_bits.contains(SecureBits::KEEP_CAPS), "exec clears it");
        (capabilities.permitted, capabilities.effective, capabilities.ambient, more)
    };
    assert_eq!(with_ambient(0, false, false), (1, 1, 1, false));
    assert_eq!(with_ambient(2, true, false), (3, 3, 1, true));
    assert_eq!(with_ambient(2, false, false), (3, 1, 1, true));
    assert_eq!(with_ambient(2, true, true), (2, 2, 0, true));
    assert_eq!(with_ambient(0, true, true), (0, 0, 0, false));
}

proptest! {
    /// Against the four rules of capabilities(7), "Effect of user ID changes on capabilities".
    #[test]
    fn capabilities_follow_the_ids(
        old in (0u32..2, 0u32..2, 0u32..2), new in (0u32..2, 0u32..2, 0u32..2), permitted in 0..=ALL, effective: u64, ambient: u64
    ) {
        let (effective, ambient) = (effective & permitted, ambient & permitted);
        let mut capabilities = Capabilities { permitted, effective, ambient, ..Capabilities::default() };
        capabilities.follow(ids(old.0, old.1, old.2), ids(new.0, new.1, new.2), ROOT);
        let had_zero = old.0 == 0 || old.1 == 0 || old.2 == 0;
        let has_zero = new.0 == 0 || new.1 == 0 || new.2 == 0;
        let all_gone = had_zero && !has_zero;
        let expected = if all_gone {
            (0, 0, 0)
        } else if old.1 == 0 && new.1 != 0 {
            (permitted, 0, ambient)
        } else if old.1 != 0 && new.1 == 0 {
            (permitted, permitted, ambient)
        } else {
            (permitted, effective, ambient)
        };
        prop_assert_eq!((capabilities.permitted, capabilities.effective, capabilities.ambient), expected);
    }

    #[test]
    fn having_more_is_a_superset(mine in 0..=ALL, theirs in 0..=ALL, effective in 0..=ALL) {
        let of = |permitted, effective| Capabilities { permitted, effective, ..Capabilities::default() };
        let (mine, theirs) = (of(mine, effective), of(theirs, 0));
        let all_in = |set: u64| (0..41).all(|n| theirs.permitted >> n & 1 == 0 || set >> n & 1 == 1);
        prop_assert_eq!(mine.permit_all_of(&theirs), all_in(mine.permitted));
        prop_assert_eq!(mine.have_all_of(&theirs), all_in(mine.effective));
        prop_assert_eq!(mine.gain(theirs.permitted), !all_in(mine.permitted));
        prop_assert!(!mine.gain(mine.limit(theirs.permitted)));
    }
}
