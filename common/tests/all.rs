//! The tests of `common`, in one program because each program is linked anew. Two have programs of their own:
//! `policy_allocation` counts allocations, `telemetry_logs` replaces the panic hook.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod admin;
mod certs;
mod config;
mod config_actor_id;
mod config_change;
mod config_contradictions;
mod config_endpoints;
mod config_resume;
mod config_shapes;
mod golden;
mod golden_names;
mod golden_policy;
mod guard_gate;
mod guard_port;
mod log_page;
mod policy_bodies;
mod policy_closed_form_goldens;
mod policy_kernels;
mod policy_liquid_goldens;
mod policy_perceptron_goldens;
mod policy_recurrent_goldens;
mod policy_snapshot;
mod policy_squash;
mod policy_wiring;
mod run_dir;
mod runtime_clock_and_backoff;
mod runtime_seed;
mod runtime_shutdown;
mod telemetry_metrics;
mod tls_rotation;
mod transport_addresses;
mod transport_churn;
mod transport_contract;
mod transport_liveness;
mod transport_memory;
mod transport_pyzmq;
mod transport_rogue;
mod transport_tls;
mod wire_cluster;
mod wire_golden;
mod wire_link;
