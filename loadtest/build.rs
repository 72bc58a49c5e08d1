//! Passes on how the program was built: the optimisation level, so that it can warn about debug builds, and the profile,
//! so that it builds the servers in the same one.

fn main() {
    let level = std::env::var("OPT_LEVEL").unwrap_or_default();
    println!("cargo::rustc-env=OPT_LEVEL={level}");
    // Cargo says `debug` for the profile that its command line calls `dev`.
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    println!("cargo::rustc-env=CARGO_PROFILE={}", if is_release { "release" } else { "dev" });
    println!("cargo::rerun-if-changed=build.rs");
}
