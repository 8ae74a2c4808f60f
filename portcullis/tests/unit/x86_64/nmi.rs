use super::*;

/// Of NMIs that come `during` a run of the handler, however many, one more run is made, and none inside another.
#[test]
fn what_comes_meanwhile_runs_the_handler_once_more_and_never_inside_itself() {
    for during in [0, 1, 5] {
        let state = AtomicU8::new(NONE);
        let (mut runs, mut inside) = (0, false);
        once_at_a_time(
            || &state,
            || {
                runs += 1;
                for _ in 0..if runs == 1 { during } else { 0 } {
                    once_at_a_time(|| &state, || inside = true);
                }
            },
        );
        assert_eq!((runs, inside), (1 + during.min(1), false), "{during} meanwhile");
        assert_eq!(state.load(Relaxed), NONE);
    }
}
