//! Puts the C library into the program, where it can: each of 10,000 processes then has half as many memory maps, and two
//! or three pages of page tables less. The program stays position-independent. Cargo has no such setting for one program.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// The libraries that the Rust compiler names on every Linux, those with a shared form.
const SHARED_LIBRARIES: [&str; 3] = ["gcc_s", "c", "m"];
/// What the linker takes for each of them: a script that names all that is in them.
const STATIC_LIBRARIES: &str = "GROUP(libgcc_eh.a libgcc.a libc.a libm.a)\n";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(static_libc)");
    let cfg = |name: &str| env::var(format!("CARGO_CFG_{name}")).unwrap_or_default();
    // With `-C target-feature=+crt-static` the compiler does it, for all programs. A sanitizer needs the shared library.
    let is_settled = cfg("TARGET_FEATURE").contains("crt-static") || !cfg("SANITIZE").is_empty();
    if cfg("TARGET_OS") != "linux" || cfg("TARGET_ENV") != "gnu" || is_settled {
        return;
    }
    if !has_static_libc() {
        println!(
            "cargo::warning=10,000 processes take 150 MB more: there is no libc.a (Fedora: dnf install glibc-static)"
        );
        return;
    }
    let folder = env::var("OUT_DIR").expect("cargo sets it");
    for library in SHARED_LIBRARIES {
        let path = Path::new(&folder).join(format!("lib{library}.so"));
        fs::write(path, STATIC_LIBRARIES).expect("OUT_DIR can be written to");
    }
    println!("cargo::rustc-cfg=static_libc");
    println!("cargo::rustc-link-arg-bins=-static-pie");
    println!("cargo::rustc-link-arg-bins=-L{folder}");
}

/// A C compiler that drives the linker finds the library: it prints the bare name of a file that it does not find.
fn has_static_libc() -> bool {
    let linker = env::var("RUSTC_LINKER").unwrap_or_else(|_| "cc".to_owned());
    let found = Command::new(linker).arg("-print-file-name=libc.a").output();
    found.is_ok_and(|found| found.stdout.contains(&b'/'))
}
