//! [`Sampler`]: fetches batches from all shards in advance, and sends new priorities back to the shards.
//!
//! A *draw* is one batch in preparation. Its B items are distributed over the shards at random. An item comes from
//! shard s with probability q_s = M_s / ΣM, where M_s is the newest mass that the shard has reported. The numbers of
//! items per shard are therefore multinomial. Each shard gets one request, even if its number of items is 0, so that
//! the limiter of every shard accounts for its share. When the parts from all shards have arrived, they are combined.
//! The importance weight of an item with priority p_i depends on the probability that was really used, q_s · p_i / M_s.
//! A shard that does not answer is left out of new draws until it answers again. Draws that wait for such a shard are
//! dropped.

use crate::batch::{BatchPart, Columns, ReadyBatch, importance_weights};
use crate::counts::Counts;
use crate::exchange::{Exchange, Priorities};
use crate::metrics::SamplerMetrics;
use crate::offline::OfflineSource;
use common::config::Config;
use common::runtime::clock::Clock;
use common::spec::EnvSpec;
use common::telemetry::log_limit::LogLimit;
use common::transport::Message;
use common::wire::handshake::{ClientRole, Hello, new_life};
use common::wire::link::{HELLO_EVERY, Link, Rejected};
use common::wire::message::{Reply, Request, ShardState};
use common::wire::refusal::Refusal;
use common::wire::{encode, rows};
use rand::Rng;
use rand_distr::{Binomial, Distribution};
use rand_pcg::Pcg64;
use std::collections::VecDeque;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// Longest time for which the limiter of a shard may delay a sample. After this time, the shard answers `NotSampled`,
/// and the request is repeated. The time is below `link::DOWN_AFTER`, so that a server that delays samples is not
/// considered stopped.
const HOLD: Duration = Duration::from_millis(1_000);

/// Fetches batches from all replay servers.
#[derive(Debug)]
pub struct Sampler {
    links: Vec<Link>,
    shards: Vec<Shard>,
    shards_per_server: usize,
    hello: Hello,
    batch_size: usize,
    /// Exponent of the importance weights. It may change during training.
    beta: watch::Receiver<f64>,
    in_flight_max: usize,
    columns: Columns,
    /// Source of the recorded items, if batches contain any. `batch_size` counts only the items from the shards.
    recorded: Option<OfflineSource>,
    /// Counts that receive the number of rows that entered the tables. `None` if this number is not needed.
    counts: Option<Counts>,
    draws: VecDeque<Draw>,
    next_request: u64,
    log: LogLimit<usize>,
    rng: Pcg64,
    clock: Clock,
    metrics: SamplerMetrics,
}

#[derive(Debug, Clone, Copy, Default)]
struct Shard {
    state: ShardState,
    up: bool,
}

#[derive(Debug)]
struct Draw {
    request: u64,
    /// Probability q_s of each shard. 0 for a shard that is left out.
    chances: Vec<f64>,
    /// For each shard, the number of items in its unanswered request. `None` if the shard has no unanswered request.
    missing: Vec<Option<usize>>,
    share: f64,
    asked_at: Duration,
    parts: Vec<BatchPart>,
}

impl Sampler {
    /// Creates a sampler over new links. There is one link per entry of `endpoints.replay`, in the same order.
    pub fn new(
        links: Vec<Link>,
        config: &Config,
        spec: &EnvSpec,
        beta: watch::Receiver<f64>,
        rng: Pcg64,
        clock: Clock,
        metrics: SamplerMetrics,
    ) -> Self {
        let shards = vec![Shard::default(); config.shards_total()];
        let layout = config.item_layout(spec);
        Self {
            links,
            shards,
            shards_per_server: config.replay.shards,
            hello: Hello::new(
                ClientRole::learner(config, new_life(&clock, 0)),
                &config.cluster,
                &layout,
            ),
            batch_size: config.training.batch_size,
            beta,
            in_flight_max: config.learner.prefetch_batches,
            columns: Columns::new(&layout),
            recorded: None,
            counts: None,
            draws: VecDeque::new(),
            next_request: 0,
            log: LogLimit::default(),
            rng,
            clock,
            metrics,
        }
    }

    /// Fills a fixed share of each batch with recorded items, if `recorded` is given.
    #[must_use]
    pub fn with_recorded(mut self, recorded: Option<OfflineSource>) -> Self {
        self.batch_size -= recorded.as_ref().map_or(0, OfflineSource::items);
        self.recorded = recorded;
        self
    }

    /// Reports the number of rows that entered the tables to `counts`.
    #[must_use]
    pub fn counted_by(mut self, counts: Counts) -> Self {
        self.counts = Some(counts);
        self
    }

    /// Fetches batches until the training loop closes `exchange.batches`.
    ///
    /// # Errors
    /// Returns an error if a server refuses this process permanently.
    pub async fn run(mut self, mut exchange: Exchange) -> Result<(), Rejected> {
        let mut tick = tokio::time::interval(HELLO_EVERY / 2);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut ready: VecDeque<ReadyBatch> = VecDeque::new();
        loop {
            self.attend();
            while self.draws.len() + ready.len() < self.in_flight_max && self.draw() {}
            let has_ready = !ready.is_empty();
            tokio::select! {
                biased;
                permit = exchange.batches.reserve(), if has_ready => match permit {
                    Ok(permit) => permit.send(ready.pop_front().expect("has_ready")),
                    Err(_) => return Ok(()),
                },
                Some(priorities) = exchange.priorities.recv() => self.send_priorities(priorities),
                (server, message) = receive(&mut self.links) => {
                    let Some(message) = message else { return Ok(()) };
                    self.receive(server, &message)?;
                    ready.extend(self.completed());
                }
                _ = tick.tick() => {
                    if exchange.batches.is_closed() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Sends greetings that are due, marks the shards of silent servers as down, and repeats requests whose replies
    /// were lost.
    fn attend(&mut self) {
        let now = self.clock.now();
        self.ask_again(now);
        for server in 0..self.links.len() {
            let link = &mut self.links[server];
            let up = link.is_up(now);
            if !up || link.is_quiet(now) {
                link.greet(&self.hello, now);
            }
            let shards = self.shards_of(server);
            if self.shards[shards.start].up && !up {
                warn!(server = %self.links[server].endpoint(), "replay server does not answer, sampling from the others");
                self.shards[shards.clone()].iter_mut().for_each(|shard| shard.up = false);
                self.draws.retain(|draw| draw.missing[shards.clone()].iter().all(Option::is_none));
            }
        }
    }

    /// Repeats requests whose replies were lost. A shard answers within [`HOLD`]. Therefore a part is considered lost
    /// if it has not arrived after twice that time.
    fn ask_again(&mut self, now: Duration) {
        let mut lost = Vec::new();
        for draw in
            self.draws.iter_mut().filter(|draw| now.saturating_sub(draw.asked_at) >= 2 * HOLD)
        {
            draw.asked_at = now;
            let missing = draw.missing.iter().enumerate();
            lost.extend(
                missing.filter_map(|(shard, count)| {
                    Some((draw.request, shard, (*count)?, draw.share))
                }),
            );
        }
        for (request, shard, count, share) in lost {
            self.ask(request, shard, count, share);
        }
    }

    fn shards_of(&self, server: usize) -> std::ops::Range<usize> {
        server * self.shards_per_server..(server + 1) * self.shards_per_server
    }

    /// Starts a draw. Returns `false` if no shard is up, or if the transport did not accept one of the requests.
    fn draw(&mut self) -> bool {
        let mass: f64 =
            self.shards.iter().filter(|shard| shard.up).map(|shard| shard.state.mass).sum();
        let up = self.shards.iter().filter(|shard| shard.up).count();
        if up == 0 {
            return false;
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 1024 shards")]
        let shards_up = up as f64;
        let chances: Vec<f64> = self
            .shards
            .iter()
            .map(|shard| match (shard.up, mass > 0.0) {
                (false, _) => 0.0,
                (true, true) => shard.state.mass / mass,
                (true, false) => 1.0 / shards_up,
            })
            .collect();
        let counts = multinomial(self.batch_size, &chances, &mut self.rng);
        #[expect(clippy::cast_precision_loss, reason = "at most SAMPLE_ITEMS_MAX items")]
        let share = self.batch_size as f64 / shards_up;
        let request = self.next_request;
        self.next_request += 1;
        let missing: Vec<_> = counts
            .into_iter()
            .zip(&self.shards)
            .map(|(count, shard)| shard.up.then_some(count))
            .collect();
        let asked: Vec<(usize, usize)> = missing
            .iter()
            .enumerate()
            .filter_map(|(shard, count)| Some((shard, (*count)?)))
            .collect();
        let asked_at = self.clock.now();
        self.draws.push_back(Draw {
            request,
            chances,
            missing,
            share,
            asked_at,
            parts: Vec::new(),
        });
        // Send all requests, even if the transport does not accept one of them. `ask_again` repeats such a request
        // later.
        asked
            .into_iter()
            .fold(true, |handed, (shard, count)| self.ask(request, shard, count, share) && handed)
    }

    fn ask(&mut self, request: u64, shard: usize, count: usize, share: f64) -> bool {
        let now = self.clock.now();
        let server = shard / self.shards_per_server;
        let local =
            u16::try_from(shard % self.shards_per_server).expect("at most 256 shards per server");
        let count = u32::try_from(count).expect("bounded by SAMPLE_ITEMS_MAX");
        let timeout_ms = u32::try_from(HOLD.as_millis()).expect("a second");
        let sample = Request::Sample { request, shard: local, count, share, timeout_ms };
        self.links[server].ask(encode(&sample, []), now)
    }

    fn receive(&mut self, server: usize, message: &Message) -> Result<(), Rejected> {
        let now = self.clock.now();
        let Some((reply, data)) = self.links[server].read(message, now)? else { return Ok(()) };
        let shards = self.shards_of(server);
        let global = |local: u16| {
            Some(shards.start + usize::from(local)).filter(|shard| shards.contains(shard))
        };
        match reply {
            Reply::Welcome { shards: states, .. } => {
                if states.len() != self.shards_per_server {
                    let (got, expected) = (states.len(), self.shards_per_server);
                    let differences =
                        vec![format!("replay.shards is {got} on the server and {expected} here")];
                    let refusal = Refusal::Settings { differences };
                    let endpoint = self.links[server].endpoint().clone();
                    return Err(Rejected { endpoint, refusal });
                }
                if !self.shards[shards.start].up {
                    info!(server = %self.links[server].endpoint(), "sampling from replay server");
                }
                for (shard, state) in shards.zip(states) {
                    self.see(shard, state);
                    self.shards[shard].up = true;
                }
            }
            Reply::Sampled { request, shard, count, state } => {
                let Some(shard) = global(shard) else { return Ok(()) };
                self.see(shard, state);
                match self.part(shard, count as usize, data) {
                    Ok(part) => self.fill(request, part),
                    Err(error) => {
                        if let Some(left_out) = self.log.admit(shard, "sample", now) {
                            warn!(shard, %error, left_out, "sample dropped: malformed");
                        }
                    }
                }
            }
            Reply::NotSampled { request, shard, inserts_missing, state } => {
                let Some(shard) = global(shard) else { return Ok(()) };
                self.see(shard, state);
                debug!(shard, inserts_missing, "the rate limiter holds samples back");
                self.metrics.held_back();
                // Repeat the request immediately if at least half of `HOLD` has passed since it was sent. If the shard
                // answered earlier, `ask_again` repeats the request later.
                if let Some(draw) = self.draws.iter_mut().find(|draw| draw.request == request)
                    && let Some(count) = draw.missing[shard]
                    && now.saturating_sub(draw.asked_at) >= HOLD / 2
                {
                    draw.asked_at = now;
                    let share = draw.share;
                    self.ask(request, shard, count, share);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Stores the newest state of a shard, and reports its number of inserts.
    fn see(&mut self, shard: usize, state: ShardState) {
        self.shards[shard].state = state;
        if let Some(counts) = &self.counts {
            counts.shard_holds(shard, state.inserts);
        }
    }

    fn part(
        &self,
        shard: usize,
        count: usize,
        data: &[bytes::Bytes],
    ) -> Result<BatchPart, common::wire::WireError> {
        rows::expect_frames(data, 4)?;
        let keys = rows::read("keys", &data[0], count)?;
        let probabilities = rows::read("probabilities", &data[1], count)?;
        rows::expect_bytes("rows", &data[2], count * self.columns.row_bytes())?;
        let actors = rows::read("actors", &data[3], count)?;
        Ok(BatchPart { shard, keys, probabilities, rows: data[2].clone(), actors })
    }

    /// Adds a part to its draw. Ignores the part if no draw waits for it. This is the case for a duplicate, for a part
    /// of a dropped draw, and for a part whose number of items differs from the request.
    fn fill(&mut self, request: u64, part: BatchPart) {
        let Some(draw) = self.draws.iter_mut().find(|draw| draw.request == request) else { return };
        if draw.missing[part.shard] == Some(part.keys.len()) {
            draw.missing[part.shard] = None;
            draw.parts.push(part);
        }
    }

    /// Returns a batch for each draw whose parts have all arrived. Sorts the parts by shard, so that the batch does not
    /// depend on the order of the replies.
    fn completed(&mut self) -> Vec<ReadyBatch> {
        let mut batches = Vec::new();
        while let Some(at) =
            self.draws.iter().position(|draw| draw.missing.iter().all(Option::is_none))
        {
            let Some(mut draw) = self.draws.remove(at) else { break };
            draw.parts.sort_by_key(|part| part.shard);
            let chances = &draw.chances;
            let used = draw
                .parts
                .iter()
                .flat_map(|part| part.probabilities.iter().map(|p| chances[part.shard] * p));
            let mut weights = importance_weights(used, *self.beta.borrow());
            let mut recorded = Vec::new();
            if let Some(source) = &mut self.recorded {
                recorded = source.draw();
                weights.extend(std::iter::repeat_n(1.0, source.items()));
            }
            batches.push(ReadyBatch::new(&self.columns, draw.parts, &recorded, &weights));
        }
        batches
    }

    fn send_priorities(&self, priorities: Priorities) {
        let mut td_abs = priorities.td_abs.as_slice();
        for (shard, keys) in priorities.origins {
            let (mine, rest) = td_abs.split_at(keys.len());
            td_abs = rest;
            let local = u16::try_from(shard % self.shards_per_server)
                .expect("at most 256 shards per server");
            let count = u32::try_from(keys.len()).expect("bounded by SAMPLE_ITEMS_MAX");
            let header = Request::UpdatePriorities { shard: local, count };
            let message = encode(&header, [rows::frame(&keys), rows::frame(mine)]);
            if !self.links[shard / self.shards_per_server].tell(message) {
                self.metrics.priorities_dropped(keys.len());
            }
        }
    }
}

/// Returns the next message from any link, and the index of the link's server.
async fn receive(links: &mut [Link]) -> (usize, Option<Message>) {
    std::future::poll_fn(|context| {
        for (server, link) in links.iter_mut().enumerate() {
            if let Poll::Ready(message) = link.poll_recv(context) {
                return Poll::Ready((server, message));
            }
        }
        Poll::Pending
    })
    .await
}

/// Distributes `n` items at random over categories. `chances` has the probability of each category, and the
/// probabilities sum to 1. Returns the number of items per category. Each number is drawn from a binomial distribution,
/// given the numbers before it.
fn multinomial(n: usize, chances: &[f64], rng: &mut Pcg64) -> Vec<usize> {
    let (mut left, mut chance_left) = (n as u64, 1.0);
    let last = chances.iter().rposition(|chance| *chance > 0.0);
    chances
        .iter()
        .enumerate()
        .map(|(i, &chance)| {
            let count = if Some(i) == last {
                left
            } else {
                let p =
                    if chance_left > 0.0 { (chance / chance_left).clamp(0.0, 1.0) } else { 0.0 };
                draw_binomial(left, p, rng)
            };
            left -= count;
            chance_left -= chance;
            usize::try_from(count).expect("at most n")
        })
        .collect()
}

fn draw_binomial(n: u64, p: f64, rng: &mut impl Rng) -> u64 {
    Binomial::new(n, p).expect("p is clamped to [0, 1]").sample(rng)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multinomial_counts_add_up_and_follow_the_chances() {
        let mut rng = Pcg64::new(7, 1);
        let chances = [0.5, 0.0, 0.2, 0.3];
        let mut sums = [0_usize; 4];
        for _ in 0..2_000 {
            let counts = multinomial(100, &chances, &mut rng);
            assert_eq!(counts.iter().sum::<usize>(), 100);
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        assert_eq!(sums[1], 0);
        // With 200,000 draws, the standard error of each share is below 0.0012. The test allows five standard errors.
        for (sum, chance) in sums.iter().zip(chances) {
            let share = *sum as f64 / 200_000.0;
            assert!((share - chance).abs() < 0.006, "share {share}, expected {chance}");
        }
    }
}
