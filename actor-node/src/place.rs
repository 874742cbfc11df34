//! [`Place`]: which actor of the run this process is, and which of its lives. Scaled actors have no number of their own
//! (`actor.id = "auto"`): each draws one and claims it at the replay servers, which know who is there.

use crate::service::{NodeError, Peers};
use common::ids::{ActorId, Incarnation};
use common::limits::ACTOR_IDS_DRAWN;
use common::process::Process;
use common::runtime::clock::Clock;
use common::transport::Transport;
use common::wire::handshake::{Hello, Role, new_life};
use common::wire::link::{HELLO_EVERY, Link, Rejected};
use common::wire::message::Reply;
use common::wire::refusal::Refusal;
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::{info, warn};

/// How long the other servers are waited for once one has said that a number is free. Each knows all actors that have
/// reached it: one that is down for longer knows nobody that matters, or says so when it is back.
const OTHERS_PATIENCE: Duration = Duration::from_secs(2);

/// An actor's place in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its number.
    pub id: u32,
    /// This life of it.
    pub life: Incarnation,
}

impl Place {
    /// The place of an actor whose number is known, in a new life.
    pub fn given(id: u32, clock: &Clock) -> Self {
        Self { id, life: new_life(clock, id) }
    }

    /// Draws numbers until the replay servers know no living actor of that number; waits for the first server for as long
    /// as it takes. `None` where the process is asked to stop first.
    ///
    /// # Errors
    /// There is no number to draw, or a replay server will not have us, whatever our number.
    pub async fn claim(
        process: &Process,
        transport: &dyn Transport,
        peers: &Peers,
        mut draw: impl FnMut() -> Result<u32, NodeError>,
    ) -> Result<Option<Self>, NodeError> {
        loop {
            let place = Self::given(draw()?, &process.clock);
            let claimed = tokio::select! {
                claimed = place.is_free(process, transport, peers) => claimed?,
                () = process.shutdown.cancelled() => return Ok(None),
            };
            match claimed {
                Ok(()) => {
                    info!(id = place.id, "this actor has drawn its number");
                    return Ok(Some(place));
                }
                Err(refusal) => {
                    warn!(id = place.id, %refusal, "number taken, another one is drawn");
                }
            }
        }
    }

    /// Greets every server; the inner error is that of one that knows another living actor of this number.
    async fn is_free(
        self,
        process: &Process,
        transport: &dyn Transport,
        peers: &Peers,
    ) -> Result<Result<(), Refusal>, NodeError> {
        let config = &process.resolved.config;
        let role = Role::actor(config, ActorId(self.id), self.life);
        let layout = config.item_layout(&process.resolved.env_spec()?);
        let hello = Hello::new(role, &config.cluster, &layout);
        let mut asked = JoinSet::new();
        for endpoint in &peers.replay {
            let link = Link::new(transport.connect_dealer(endpoint)?, endpoint.clone());
            asked.spawn(ask(link, hello.clone(), process.clock.clone()));
        }
        let mut patience = None;
        loop {
            let others = async {
                match patience {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                joined = asked.join_next() => match joined {
                    None => return Ok(Ok(())),
                    Some(answer) => match answer.map_err(|_| NodeError::Panicked("greeting"))?? {
                        Some(taken) => return Ok(Err(taken)),
                        None => {
                            patience.get_or_insert(tokio::time::Instant::now() + OTHERS_PATIENCE);
                        }
                    },
                },
                () = others => return Ok(Ok(())),
            }
        }
    }
}

/// Greets one server until it answers: `None` is a welcome.
async fn ask(mut link: Link, hello: Hello, clock: Clock) -> Result<Option<Refusal>, Rejected> {
    let mut tick = tokio::time::interval(HELLO_EVERY / 2);
    loop {
        tokio::select! {
            _ = tick.tick() => link.greet(&hello, clock.now()),
            message = link.recv() => {
                // A transport that has stopped knows nobody.
                let Some(message) = message else { return Ok(None) };
                match link.read(&message, clock.now())? {
                    Some((Reply::Welcome { .. }, _)) => return Ok(None),
                    Some((Reply::Refused(taken @ Refusal::InUse { .. }), _)) => {
                        return Ok(Some(taken));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// A number out of those that nobody gives, by the operating system's randomness: actors that start at the same moment on
/// machines that are alike draw different ones.
///
/// # Errors
/// The operating system has no randomness.
pub fn drawn() -> Result<u32, NodeError> {
    let width = ACTOR_IDS_DRAWN.end - ACTOR_IDS_DRAWN.start;
    let random = getrandom::u32().map_err(|error| NodeError::Randomness(error.to_string()))?;
    Ok(ACTOR_IDS_DRAWN.start + random % width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_numbers_differ_and_are_none_that_settings_take() {
        let mut ids: Vec<u32> = (0..16).map(|_| drawn().unwrap()).collect();
        assert!(ids.iter().all(|id| ACTOR_IDS_DRAWN.contains(id)), "{ids:?}");
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 16);
    }
}
