//! The tables of `restart`.

use portcullis_linux_abi::restart::*;

#[test]
fn every_interruption_and_delivery() {
    use {Delivery::*, Interruption::*};
    let plain = Handler { restart: false };
    let restarting = Handler { restart: true };
    for (interruption, none, handler, sa_restart) in [
        (Sys, Restart::Again, Restart::Eintr, Restart::Again),
        (NoIntr, Restart::Again, Restart::Again, Restart::Again),
        (NoHand, Restart::Again, Restart::Eintr, Restart::Eintr),
        (RestartBlock, Restart::Block, Restart::Eintr, Restart::Eintr),
    ] {
        assert_eq!(decide(interruption, None), none);
        assert_eq!(decide(interruption, plain), handler);
        assert_eq!(decide(interruption, restarting), sa_restart);
    }
}

#[test]
fn only_the_four_codes_interrupt() {
    let codes: [i64; 4] = [512, 513, 514, 516];
    for value in -600..600 {
        assert_eq!(interruption(value).is_some(), value < 0 && codes.contains(&-value), "{value}");
    }
}
