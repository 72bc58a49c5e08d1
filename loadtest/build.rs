//! Tells the program how it was built: how well it was optimised, so that it can say when its figures are of a debug build, and
//! in which profile, so that it builds the servers in the same.

fn main() {
    let level = std::env::var("OPT_LEVEL").unwrap_or_default();
    println!("cargo::rustc-env=OPT_LEVEL={level}");
    // Cargo says `debug` for the profile that its command line calls `dev`.
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    println!("cargo::rustc-env=CARGO_PROFILE={}", if is_release { "release" } else { "dev" });
    println!("cargo::rerun-if-changed=build.rs");
}
