//! With libtorch below: links `sapex` the way the learner's own binaries are linked (learner/build.rs says why).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for arg in std::env::var("DEP_LEARNER_LINK_ARGS").unwrap_or_default().split(' ') {
        if !arg.is_empty() {
            println!("cargo::rustc-link-arg={arg}");
        }
    }
}
