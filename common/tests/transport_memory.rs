//! Features that only the memory transport has: faults that follow from a seed, partitions, and virtual time.

use bytes::Bytes;
use common::runtime::seed::SeedTree;
use common::transport::memory::{FaultPlan, MemoryTransport};
use common::transport::{Dealer, Endpoint, Message, Router, Transport};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

const MS: Duration = Duration::from_millis(1);
/// Longer than everything below; under paused time it costs nothing.
const QUIET: Duration = Duration::from_secs(10);

fn replay() -> Endpoint {
    "mem://replay".parse().unwrap()
}

fn rough(seed: u64) -> FaultPlan {
    FaultPlan { seeds: SeedTree::new(seed), delay: MS..=50 * MS, loss: 0.25, duplication: 0.1 }
}

fn numbered(number: u32) -> Message {
    Message::new(vec![Bytes::copy_from_slice(&number.to_le_bytes())])
}

fn number(message: &Message) -> u32 {
    u32::from_le_bytes(message.frames[0].as_ref().try_into().unwrap())
}

async fn pair(transport: &MemoryTransport) -> (Router, Dealer) {
    let router = transport.bind_router(&replay()).await.unwrap();
    let dealer = transport.connect_dealer(&replay()).unwrap();
    (router, dealer)
}

async fn all<T>(incoming: &mut mpsc::Receiver<T>) -> Vec<T> {
    let mut seen = Vec::new();
    while let Ok(Some(message)) = timeout(QUIET, incoming.recv()).await {
        seen.push(message);
    }
    seen
}

/// Sends `count` requests. Returns which of them arrive, and after how long.
async fn fate(seed: u64, count: u32) -> Vec<(u32, Duration)> {
    let transport = MemoryTransport::new(rough(seed));
    let (mut router, dealer) = pair(&transport).await;
    let start = Instant::now();
    tokio::spawn(async move {
        for n in 0..count {
            dealer.outgoing.send(numbered(n)).await.unwrap();
        }
        // Keep the dealer: dropping it would end its link, and the last messages could arrive too late.
        let _dealer = dealer;
        std::future::pending::<()>().await;
    });
    let mut seen = Vec::new();
    while let Ok(Some((_, message))) = timeout(QUIET, router.incoming.recv()).await {
        seen.push((number(&message), start.elapsed()));
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn a_seed_decides_every_message_s_fate() {
    let first = fate(7, 500).await;
    assert_eq!(first, fate(7, 500).await, "seed 7 repeats itself");
    assert_ne!(first, fate(8, 500).await, "seed 8 does not repeat seed 7");
}

#[tokio::test(start_paused = true)]
async fn losses_and_duplicates_have_the_planned_share_and_order_is_kept() {
    let count = 8_000;
    let seen = fate(3, count).await;
    let numbers: Vec<u32> = seen.iter().map(|(n, _)| *n).collect();
    assert!(numbers.is_sorted(), "order is kept, duplicates beside each other");
    let mut distinct = numbers.clone();
    distinct.dedup();
    // Tolerances are five standard deviations of a binomial share over 8,000 and over 6,000 draws.
    let arrived = distinct.len() as f64 / f64::from(count);
    assert!((arrived - 0.75).abs() < 0.025, "seed 3: {arrived} arrived");
    let doubled = (numbers.len() - distinct.len()) as f64 / distinct.len() as f64;
    assert!((doubled - 0.1).abs() < 0.02, "seed 3: {doubled} came twice");
}

#[tokio::test(start_paused = true)]
async fn a_message_takes_as_long_as_planned_and_delays_overlap() {
    let delay = 20 * MS..=30 * MS;
    let transport = MemoryTransport::new(FaultPlan { delay, ..FaultPlan::none() });
    let (mut router, dealer) = pair(&transport).await;
    let start = Instant::now();
    for n in 0..50 {
        dealer.outgoing.send(numbered(n)).await.unwrap();
    }
    for n in 0..50 {
        let (_, message) = router.incoming.recv().await.unwrap();
        assert_eq!(number(&message), n);
        let took = start.elapsed();
        // The timer has a resolution of a millisecond and never fires early.
        assert!((20 * MS..=32 * MS).contains(&took), "message {n} took {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_cuts_one_name_and_heals() {
    let transport = MemoryTransport::new(FaultPlan::none());
    let (mut router, mut dealer) = pair(&transport).await;
    let other_at = "mem://other".parse().unwrap();
    let mut other_router = transport.bind_router(&other_at).await.unwrap();
    let other = transport.connect_dealer(&other_at).unwrap();
    dealer.outgoing.send(numbered(0)).await.unwrap();
    let (before, _) = router.incoming.recv().await.unwrap();

    transport.partition("replay", true);
    tokio::time::sleep(MS).await;
    for n in 1..=3 {
        dealer.outgoing.send(numbered(n)).await.unwrap();
    }
    router.outgoing.send((before.clone(), numbered(9))).await.unwrap();
    assert!(timeout(QUIET, router.incoming.recv()).await.is_err(), "nothing passes");
    assert!(timeout(QUIET, dealer.incoming.recv()).await.is_err(), "nothing passes back");
    assert_eq!(transport.stats().dropped_no_peer.get(), 1, "the router has no such peer now");
    other.outgoing.send(numbered(5)).await.unwrap();
    assert!(other_router.incoming.recv().await.is_some(), "other links work");

    transport.partition("replay", false);
    let arrived = all(&mut router.incoming).await;
    let numbers: Vec<u32> = arrived.iter().map(|(_, message)| number(message)).collect();
    assert_eq!(numbers, [1, 2, 3], "what waited arrives, once");
    let after = arrived[0].0.clone();
    assert_ne!(before, after, "after a break it is a new peer");
    router.outgoing.send((after, numbered(4))).await.unwrap();
    assert_eq!(dealer.incoming.recv().await.map(|message| number(&message)), Some(4));
    assert_eq!(transport.stats().reconnects.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_when_a_link_is_cut_is_lost() {
    let delay = 20 * MS..=20 * MS;
    let transport = MemoryTransport::new(FaultPlan { delay, ..FaultPlan::none() });
    let (mut router, dealer) = pair(&transport).await;
    dealer.outgoing.send(numbered(1)).await.unwrap();
    tokio::time::sleep(10 * MS).await;
    transport.partition("replay", true);
    tokio::time::sleep(MS).await;
    transport.partition("replay", false);
    dealer.outgoing.send(numbered(2)).await.unwrap();
    let arrived = all(&mut router.incoming).await;
    let numbers: Vec<u32> = arrived.iter().map(|(_, message)| number(message)).collect();
    assert_eq!(numbers, [2]);
}

#[tokio::test(start_paused = true)]
async fn a_name_can_be_cut_before_anybody_binds_it() {
    let transport = MemoryTransport::new(FaultPlan::none());
    transport.partition("replay", true);
    let (mut router, dealer) = pair(&transport).await;
    dealer.outgoing.send(numbered(1)).await.unwrap();
    assert!(timeout(QUIET, router.incoming.recv()).await.is_err());
    transport.partition("replay", false);
    assert!(router.incoming.recv().await.is_some());
}
