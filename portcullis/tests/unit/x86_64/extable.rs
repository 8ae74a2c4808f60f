use super::*;

#[test]
fn every_entry_is_found_and_nothing_else() {
    // As the assembler leaves them: each offset from its own place. Instructions lie before and after the table.
    let wanted = [(700, 10), (-300, 20), (5, -40), (i32::MIN, 0), (90, 91)];
    let mut entries: Vec<Entry> = (0..)
        .step_by(size_of::<Entry>())
        .zip(wanted)
        .map(|(place, (instruction, fixup)): (i32, _)| Entry {
            instruction: i32::wrapping_sub(instruction, place),
            fixup: fixup - place - 4,
        })
        .collect();
    sort_entries(&mut entries);
    for (instruction, fixup) in wanted {
        let instruction = i64::from(instruction);
        assert_eq!(find(&entries, instruction), Some(fixup));
        assert_eq!(find(&entries, instruction + 1), None);
    }
    assert_eq!((find(&entries, i64::MAX), find(&[], 5)), (None, None));
}
