//! The library's public API is the one in `public-api.txt`, so that a change of it shows in review.
//!
//! `PUBLIC_API=overwrite cargo test -p portcullis-gate --test public_api` writes the file anew.
#![cfg(not(loom))]

mod cargo;

use std::path::PathBuf;
use std::{env, fs};

/// The version of rustdoc's JSON that `public-api` reads.
const FORMAT: u64 = 57;

#[test]
fn the_public_api_is_the_one_on_record() {
    let target = cargo::cargo(&["rustdoc", "--lib"], "public-api", &["-Zunstable-options", "--output-format=json"]);
    let json = target.join("doc/portcullis.json");
    let text = fs::read_to_string(&json).expect("rustdoc's output");
    let format = serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["format_version"].as_u64();
    if format != Some(FORMAT) {
        println!("skipped: this rustdoc writes version {format:?} of its JSON; `public-api` reads {FORMAT}");
        return;
    }
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .expect("rustdoc's JSON");
    let now: String = api.items().map(|item| format!("{item}\n")).collect();

    let record = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests")).join("public-api.txt");
    if env::var_os("PUBLIC_API").is_some_and(|value| value == "overwrite") {
        fs::write(&record, &now).expect("the record can be written");
    }
    let before = fs::read_to_string(&record).unwrap_or_default();
    let lines = |text: &'static str| text.lines().collect::<std::collections::BTreeSet<_>>();
    let (now, before) = (lines(now.leak()), lines(before.leak()));
    let gone: Vec<_> = before.difference(&now).collect();
    let new: Vec<_> = now.difference(&before).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "the public API has changed.\ngone: {gone:#?}\nnew: {new:#?}\nIf that is meant: PUBLIC_API=overwrite cargo test -p portcullis-gate --test public_api"
    );
}
