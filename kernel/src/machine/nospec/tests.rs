use proptest::prelude::*;

use super::*;

#[test]
fn an_empty_table_has_no_entry() {
    assert_eq!(get::<u8>(&[], 0), None);
    assert_eq!(get::<u8>(&[], u32::MAX), None);
}

proptest! {
    #[test]
    fn bounds_are_those_of_the_table(len in 1usize..20, number in prop_oneof![0u32..25, any::<u32>()]) {
        let elements: Vec<usize> = (0..len).collect();
        prop_assert_eq!(get(&elements, number), elements.get(number as usize));
        let table = [10, 11, 12, 13];
        prop_assert_eq!(entry_or_last(&table, number), table[(number as usize).min(3)]);
    }

    #[test]
    fn addresses_end_where_they_are_told(end: u64, address: u64) {
        prop_assert_eq!(address_up_to(end, address), address.min(end));
    }
}
