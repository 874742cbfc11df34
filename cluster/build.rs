//! With libtorch or MuJoCo below: links `sapex` the way the binaries of the learner and of actors are linked (their
//! build.rs say why).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for below in ["DEP_LEARNER_LINK_ARGS", "DEP_ACTOR_NODE_LINK_ARGS"] {
        for arg in std::env::var(below).unwrap_or_default().split(' ') {
            if !arg.is_empty() {
                println!("cargo::rustc-link-arg={arg}");
            }
        }
    }
}
