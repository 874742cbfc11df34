//! Wirings: the rule applied to given draws, and properties that hold for every seed.

use crate::golden::Case;
use common::policy::arch::{Body, CfcMode};
use common::policy::body::NcpNeurons;
use common::policy::layout::TensorLayout;
use common::policy::wiring::{self, Draws, Synapses};
use rand_pcg::Pcg64;
use std::collections::VecDeque;

/// The draws that a file recorded, in order.
struct Recorded(VecDeque<Vec<usize>>);

impl Draws for Recorded {
    fn with_replacement(&mut self, count: usize, below: usize) -> Vec<usize> {
        if count == 0 {
            return Vec::new();
        }
        let drawn = self.0.pop_front().expect("the file has as many draws as the rule takes");
        assert_eq!(drawn.len(), count, "numbers drawn at once");
        assert!(drawn.iter().all(|&number| number < below), "{drawn:?} below {below}");
        drawn
    }

    fn distinct(&mut self, _: usize, _: usize) -> Vec<usize> {
        panic!("the rule draws with replacement")
    }
}

fn indices(case: &Case, pointer: &str) -> Vec<usize> {
    let data = case.at(pointer)["data"].as_array().unwrap();
    data.iter().map(|number| usize::try_from(number.as_u64().unwrap()).unwrap()).collect()
}

#[test]
fn recorded_draws_give_the_original_masks() {
    for case in crate::golden::cases("velora_wiring") {
        for i in 0..case.at("/outputs/wirings").as_array().unwrap().len() {
            let at = |rest: &str| format!("/outputs/wirings/{i}/{rest}");
            let size = |rest: &str| case.size(&at(rest));
            let NcpNeurons { inter, command } = NcpNeurons::velora(size("config/n_neurons"));
            let widths = [size("config/in_features"), inter, command, size("config/out_features")];
            assert_eq!(
                widths,
                ["sensory", "inter", "command", "motor"]
                    .map(|layer| { size(&format!("counts/{layer}")) })
            );
            let density = 1.0 - case.number(&at("config/sparsity_level"));
            let fan_outs = wiring::velora_fan_outs(widths, density);
            assert_eq!(
                fan_outs,
                ["sensory", "inter", "command"].map(|layer| { size(&format!("synapses/{layer}")) }),
                "{}: wiring {i}",
                case.name
            );

            let mut recorded = VecDeque::new();
            for layer in ["inter", "command", "motor"] {
                recorded.push_back(indices(&case, &at(&format!("draws/{layer}/columns"))));
                let missing = at(&format!("draws/{layer}/missing_rows"));
                if case.json.pointer(&missing).is_some() {
                    recorded.push_back(indices(&case, &missing));
                }
            }
            let mut draws = Recorded(recorded);
            let layers = wiring::velora(widths, density, &mut draws);
            assert!(draws.0.is_empty(), "{}: draws are left over", case.name);
            for (layer, name) in layers.iter().zip(["inter", "command", "motor"]) {
                let mask = case.tensor(&at(&format!("masks/{name}")));
                for (j, signed) in mask.into_iter().enumerate() {
                    let (source, destination) =
                        (j / layer.destinations(), j % layer.destinations());
                    let what =
                        format!("{}: wiring {i}, {name}[{source}, {destination}]", case.name);
                    assert_eq!(layer.has(source, destination), signed != 0.0, "{what}");
                    case.compared();
                }
            }
        }
    }
}

/// Returns the number of synapses that leave a source.
fn fan_out(layer: &Synapses, source: usize) -> usize {
    (0..layer.destinations()).filter(|&destination| layer.has(source, destination)).count()
}

/// Asserts that every neuron has an incoming and an outgoing synapse.
fn assert_connected(layers: &[Synapses; 3], what: &str) {
    for (l, layer) in layers.iter().enumerate() {
        for source in 0..layer.sources() {
            assert!(fan_out(layer, source) > 0, "{what}, layer {l}: source {source} leads nowhere");
        }
        for destination in 0..layer.destinations() {
            assert!(
                layer.fan_in(destination) > 0,
                "{what}, layer {l}: nothing reaches {destination}"
            );
        }
    }
}

const WIDTHS: [[usize; 4]; 6] =
    [[1, 1, 1, 1], [3, 6, 4, 2], [17, 12, 8, 6], [2, 40, 20, 1], [60, 5, 3, 30], [1, 2, 1, 9]];

#[test]
fn every_neuron_of_either_wiring_is_reached_and_leads_on() {
    for widths in WIDTHS {
        for seed in 0..50 {
            let what = format!("{widths:?}, seed {seed}");
            let layers = wiring::velora(widths, 0.5, &mut Pcg64::new(seed, 0));
            assert_connected(&layers, &format!("velora {what}"));
            let layers = wiring::auto_ncp(widths, 0.5, &mut Pcg64::new(seed, 0));
            assert_connected(&layers, &format!("auto_ncp {what}"));
        }
    }
}

#[test]
fn fan_outs_are_bounded_by_the_draws_and_for_auto_ncp_equal_to_them() {
    // With wide inputs and many motor neurons every neuron is reached by the draws, so that no repair adds synapses.
    let widths = [200, 12, 8, 100];
    for seed in 0..20 {
        let layers = wiring::velora(widths, 0.5, &mut Pcg64::new(seed, 0));
        let most = wiring::velora_fan_outs(widths, 0.5);
        assert_eq!(most, [6, 4, 8]);
        for source in 0..200 {
            assert!(fan_out(&layers[0], source) <= most[0], "seed {seed}");
        }
        let [first, _, last] = wiring::auto_ncp(widths, 0.5, &mut Pcg64::new(seed, 0));
        assert!((0..200).all(|source| fan_out(&first, source) == 6), "seed {seed}: half of 12");
        assert!((0..100).all(|motor| last.fan_in(motor) == 4), "seed {seed}: half of 8");
    }
}

#[test]
fn a_forgotten_neuron_of_auto_ncp_gets_the_mean_fan_in() {
    // The input reaches 10 of 20 inter neurons by its draws; the other 10 get max(1 * 10 / 20, 1) = 1 synapse each.
    let [first, ..] = wiring::auto_ncp([1, 20, 8, 2], 0.5, &mut Pcg64::new(3, 0));
    assert_eq!(fan_out(&first, 0), 20);
    // Each of the two motor neurons draws 20 of 40 command neurons; one that is not drawn gets 2 * 20 / 40 = 1 synapse.
    let [.., last] = wiring::auto_ncp([1, 60, 40, 2], 0.5, &mut Pcg64::new(3, 0));
    let total: usize = (0..40).map(|command| fan_out(&last, command)).sum();
    let forgotten = total - 2 * 20;
    assert!((1..=20).contains(&forgotten), "{forgotten}");
    // Each of 80 motor neurons draws one of 2 command neurons; one that is never drawn gets the mean, 40.
    let mut draws = AlwaysFirst;
    let [.., last] = wiring::auto_ncp([1, 3, 2, 80], 0.5, &mut draws);
    assert_eq!([fan_out(&last, 0), fan_out(&last, 1)], [80, 40]);
}

/// Always draws the smallest numbers.
struct AlwaysFirst;

impl Draws for AlwaysFirst {
    fn with_replacement(&mut self, count: usize, _: usize) -> Vec<usize> {
        vec![0; count]
    }

    fn distinct(&mut self, count: usize, _: usize) -> Vec<usize> {
        (0..count).collect()
    }
}

fn filled(body: &Body, network: u64) -> (TensorLayout, Vec<f32>) {
    let mut layout = TensorLayout::default();
    body.push_tensors(&mut layout, 5, 2);
    body.push_buffers(&mut layout, 5, 2);
    let mut weights = vec![9.0; layout.parameters];
    wiring::fill(body, &layout, network, &mut weights);
    (layout, weights)
}

#[test]
fn filling_writes_masks_of_zeros_and_ones_and_nothing_else() {
    let wired = Body::WiredCfc { units: 16, mode: CfcMode::Default, wiring_seed: 7 };
    let liquid = Body::Liquid { neurons: 16, wiring_seed: 7 };
    let ncp = Body::Ncp { neurons: 16, wiring_seed: 7 };
    for body in [wired, liquid, ncp] {
        let (layout, weights) = filled(&body, 0);
        let mut masks = 0;
        for entry in &layout.entries {
            let values = &weights[entry.range()];
            if entry.trainable {
                assert!(values.iter().all(|&value| value == 9.0), "{body:?}: {}", entry.name);
                continue;
            }
            masks += 1;
            assert!(values.iter().all(|&m| m == 0.0 || m == 1.0), "{body:?}: {}", entry.name);
            // With only two motor neurons, nearly every command neuron may lead to both, so their mask may be dense.
            let sparse = entry.name == "motor.mask" || values.contains(&0.0);
            assert!(sparse, "{body:?}: {} is dense", entry.name);
            let recurrent = match body {
                Body::WiredCfc { .. } => entry.shape[0],
                Body::Liquid { .. } if entry.name == "command.mask" => entry.shape[0],
                _ => 0,
            };
            for row in values.chunks_exact(entry.shape[1]) {
                let (synapses, state) = row.split_at(entry.shape[1] - recurrent);
                assert!(state.iter().all(|&m| m == 1.0), "{body:?}: {}", entry.name);
                assert!(synapses.contains(&1.0), "{body:?}: {} has a neuron apart", entry.name);
            }
        }
        assert_eq!(masks, 3, "{body:?}");
    }
}

#[test]
fn the_same_seed_and_network_give_the_same_masks_and_others_others() {
    let body = |wiring_seed| Body::Liquid { neurons: 40, wiring_seed };
    let masks = |seed, network| filled(&body(seed), network).1;
    assert_eq!(masks(7, 0), masks(7, 0));
    assert_ne!(masks(7, 0), masks(8, 0));
    assert_ne!(masks(7, 0), masks(7, 1), "twins are wired differently");
}
