use super::*;

#[test]
fn neighboring_words_are_spread_over_the_lists() {
    for (space, step) in [(0x7000_1234_0000u64, 4), (0x7000_1234_0000, 64), (0x7000_1234_0000, 4096), (9, 8)] {
        let mut counts = [0; 64];
        for n in 0..6400 {
            counts[Key { space, place: 0x5555_0000_0000 + n * step }.hash(64)] += 1;
        }
        assert!(counts.iter().all(|&count| (20..400).contains(&count)), "steps of {step}: {counts:?}");
    }
}

#[test]
fn the_three_kinds_of_a_word_are_three_names() {
    let [private, own, object] = [0, IN_OWN_MEMORY, IN_OBJECT].map(|kind| Key { space: 1, place: 0x1000 | kind });
    assert!(private != own && private != object && own != object);
    assert_eq!((IN_OWN_MEMORY | IN_OBJECT) & !3, 0, "words are aligned to four");
}
