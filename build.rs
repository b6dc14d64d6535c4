//! Links the programs that Lambda runs at a fixed address, as Go links its own: no relocations
//! are to be worked through at a start, and the program is a twentieth smaller
//! (docs/deploy.md has the figures). Heap, stack and libraries still lie where chance puts them.

#[expect(clippy::disallowed_methods, reason = "what Cargo tells a build script, and no setting")]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo::rustc-link-arg-bin=bootstrap=-no-pie");
        println!("cargo::rustc-link-arg-examples=-no-pie");
        // Rust's own linker, which it uses there, keeps one copy of functions that are equal.
        if target("ARCH") == "x86_64" {
            println!("cargo::rustc-link-arg-bin=bootstrap=-Wl,--icf=all,-O2");
        }
    }
}
