//! Wirings: the synapses of a wired network. There are two rules, Velora's (docs/algorithms/liquid.md §2.1) and
//! `AutoNCP`'s (docs/algorithms/liquid.md §2.2).
//!
//! A wiring is drawn once, for new parameters. From then on it is stored with the weights, as buffers of zeros and
//! ones: see [`Body::push_buffers`]. The originals also draw a polarity for each synapse, and synapses between command
//! neurons. This module draws neither, because they have no effect in the layers of the originals: these layers use
//! |mask|, and a cell always sees its complete state.

use super::body::Body;
use super::layout::TensorLayout;
use rand::RngExt as _;
use rand_pcg::Pcg64;

/// Fraction of the possible synapses that is drawn for a layer. Afterwards, neurons without a synapse get additional
/// synapses.
const DENSITY: f64 = 0.5;

/// Source of the random numbers of a wiring.
pub trait Draws {
    /// Returns `count` numbers in `0..below`, drawn independently, so that numbers may repeat.
    fn with_replacement(&mut self, count: usize, below: usize) -> Vec<usize>;

    /// Returns `count` different numbers in `0..below`.
    fn distinct(&mut self, count: usize, below: usize) -> Vec<usize>;
}

impl Draws for Pcg64 {
    fn with_replacement(&mut self, count: usize, below: usize) -> Vec<usize> {
        (0..count).map(|_| self.random_range(0..below)).collect()
    }

    fn distinct(&mut self, count: usize, below: usize) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..below).collect();
        for i in 0..count {
            let other = self.random_range(i..below);
            numbers.swap(i, other);
        }
        numbers.truncate(count);
        numbers
    }
}

/// The synapses of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synapses {
    sources: usize,
    destinations: usize,
    /// Whether each synapse exists, shape (destinations, sources), like the mask of a weight.
    present: Vec<bool>,
}

impl Synapses {
    fn none(sources: usize, destinations: usize) -> Self {
        Self { sources, destinations, present: vec![false; destinations * sources] }
    }

    fn add(&mut self, source: usize, destination: usize) {
        self.present[destination * self.sources + source] = true;
    }

    /// Returns whether there is a synapse from `source` to `destination`.
    ///
    /// # Panics
    /// If the layer has no such neurons.
    pub fn has(&self, source: usize, destination: usize) -> bool {
        assert!(source < self.sources, "source {source} of {}", self.sources);
        self.present[destination * self.sources + source]
    }

    /// Returns the number of source neurons.
    pub fn sources(&self) -> usize {
        self.sources
    }

    /// Returns the number of destination neurons.
    pub fn destinations(&self) -> usize {
        self.destinations
    }

    /// Returns the number of synapses that reach a destination.
    pub fn fan_in(&self, destination: usize) -> usize {
        (0..self.sources).filter(|&source| self.has(source, destination)).count()
    }
}

/// Draws Velora's wiring of `[input, inter, command, outputs]` neurons, layer by layer. For every source neuron of a
/// layer, draws as many destinations as [`velora_fan_outs`] says. The same destination may be drawn twice, so a source
/// may have fewer synapses than draws. Then every destination without a synapse gets one.
pub fn velora(widths: [usize; 4], density: f64, draws: &mut impl Draws) -> [Synapses; 3] {
    let fan_outs = velora_fan_outs(widths, density);
    std::array::from_fn(|layer| {
        let (sources, destinations) = (widths[layer], widths[layer + 1]);
        let mut synapses = Synapses::none(sources, destinations);
        let fan_out = fan_outs[layer];
        let drawn = draws.with_replacement(sources * fan_out, destinations);
        for (i, destination) in drawn.into_iter().enumerate() {
            synapses.add(i / fan_out, destination);
        }
        let forgotten = unreached(&synapses);
        let from = draws.with_replacement(forgotten.len(), sources);
        for (source, destination) in from.into_iter().zip(forgotten) {
            synapses.add(source, destination);
        }
        synapses
    })
}

/// Returns how many synapses are drawn for each input neuron, for each inter neuron and for each command neuron. If d
/// is `density`, these numbers are `inter d`, `command d` and `2 command d`. Each is rounded down, but is at least 1.
pub fn velora_fan_outs([_, inter, command, _]: [usize; 4], density: f64) -> [usize; 3] {
    [share(inter, density), share(command, density), share(2 * command, density)]
}

/// Draws `AutoNCP`'s wiring of `[input, inter, command, outputs]` neurons, layer by layer. For every input neuron,
/// draws distinct inter neurons as destinations. For every inter neuron, draws distinct command neurons as
/// destinations. For every motor neuron, draws distinct command neurons as sources. The number of draws is the fraction
/// `density` of all candidates. Then every candidate without a synapse gets as many synapses as the candidates have on
/// average, rounded down, but at least one.
pub fn auto_ncp(widths: [usize; 4], density: f64, draws: &mut impl Draws) -> [Synapses; 3] {
    let [input, inter, command, outputs] = widths;
    let first = by_source(input, inter, density, draws);
    let second = by_source(inter, command, density, draws);
    // The motor layer follows the same rule, with sources and destinations exchanged.
    let motor = by_source(outputs, command, density, draws);
    let mut last = Synapses::none(command, outputs);
    for source in 0..command {
        for destination in (0..outputs).filter(|&output| motor.has(output, source)) {
            last.add(source, destination);
        }
    }
    [first, second, last]
}

fn by_source(
    sources: usize,
    destinations: usize,
    density: f64,
    draws: &mut impl Draws,
) -> Synapses {
    let mut synapses = Synapses::none(sources, destinations);
    let fan_out = share(destinations, density);
    for source in 0..sources {
        for destination in draws.distinct(fan_out, destinations) {
            synapses.add(source, destination);
        }
    }
    let mean_fan_in = (sources * fan_out / destinations).clamp(1, sources);
    for destination in unreached(&synapses) {
        for source in draws.distinct(mean_fan_in, sources) {
            synapses.add(source, destination);
        }
    }
    synapses
}

fn unreached(synapses: &Synapses) -> Vec<usize> {
    (0..synapses.destinations).filter(|&destination| synapses.fan_in(destination) == 0).collect()
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounds a share of a few thousand neurons down"
)]
fn share(neurons: usize, density: f64) -> usize {
    ((neurons as f64 * density) as usize).max(1)
}

/// Writes every `*.mask` buffer of a network into its flat weights. Does nothing if the body is not wired.
///
/// The wiring depends on the body's `wiring_seed` and on `network`, a number that distinguishes networks with the same
/// body. Equal numbers give equal masks. Twin critics must be wired differently and therefore have different numbers.
///
/// # Panics
/// If `layout` does not belong to `body`, or if `weights` is shorter than the layout.
pub fn fill(body: &Body, layout: &TensorLayout, network: u64, weights: &mut [f32]) {
    let (names, seed) = match *body {
        Body::Liquid { wiring_seed, .. } | Body::Ncp { wiring_seed, .. } => {
            (["inter.mask", "command.mask", "motor.mask"], wiring_seed)
        }
        Body::WiredCfc { wiring_seed, .. } => {
            (["layer.0.mask", "layer.1.mask", "layer.2.mask"], wiring_seed)
        }
        _ => return,
    };
    let masks = names.map(|name| layout.entry(name).expect("a wired body has its masks"));
    let [first, inter, command, outputs] =
        [masks[0].shape[1], masks[0].shape[0], masks[1].shape[0], masks[2].shape[0]];
    let mut draws = Pcg64::new(seed.into(), network.into());
    let layers = if let Body::WiredCfc { .. } = body {
        auto_ncp([first - inter, inter, command, outputs], DENSITY, &mut draws)
    } else {
        velora([first, inter, command, outputs], DENSITY, &mut draws)
    };
    for (mask, synapses) in masks.into_iter().zip(layers) {
        // The columns after those of the sources belong to the cell's own state. They stay 1, because the cell uses its
        // complete state.
        let rows = weights[mask.range()].chunks_exact_mut(mask.shape[1]);
        for (destination, row) in rows.enumerate() {
            row.fill(1.0);
            for (source, value) in row.iter_mut().take(synapses.sources).enumerate() {
                *value = if synapses.has(source, destination) { 1.0 } else { 0.0 };
            }
        }
    }
}
