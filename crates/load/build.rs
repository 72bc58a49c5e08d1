//! Passes on the optimisation level, so that a debug build can be told from one that measures.

fn main() {
    let level = std::env::var("OPT_LEVEL").unwrap_or_default();
    println!("cargo::rustc-env=OPT_LEVEL={level}");
    println!("cargo::rerun-if-changed=build.rs");
}
