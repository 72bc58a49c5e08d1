//! Passes on the optimisation level, so that the program can warn if it is a debug build.

fn main() {
    let level = std::env::var("OPT_LEVEL").unwrap_or_default();
    println!("cargo::rustc-env=OPT_LEVEL={level}");
    println!("cargo::rerun-if-changed=build.rs");
}
