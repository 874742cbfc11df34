//! [`ActorPlace`]: an actor's number in the run and its incarnation. Actors of a scaled deployment have no configured
//! number (`actor.id = "auto"`). Each of these actors draws a number and claims it at the replay servers, which know
//! all connected actors.

use super::error::NodeError;
use super::parts::Peers;
use common::ids::{ActorId, Incarnation};
use common::limits::ACTOR_IDS_DRAWN;
use common::process::Process;
use common::runtime::clock::Clock;
use common::transport::Transport;
use common::wire::handshake::{ClientRole, Hello, new_life};
use common::wire::link::{HELLO_EVERY, Link, Rejected};
use common::wire::message::Reply;
use common::wire::refusal::Refusal;
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::{info, warn};

/// Time to wait for the replies of the other servers after one server has reported that a number is free. The wait can
/// be short. A server that is up answers soon, and it knows every actor that has reached it. A server that stays down
/// for longer cannot confirm the number now; if another living actor has this number, the server reports the conflict
/// when it returns.
const OTHERS_PATIENCE: Duration = Duration::from_secs(2);

/// Place of an actor in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActorPlace {
    /// Actor number.
    pub id: u32,
    /// Incarnation of the actor.
    pub life: Incarnation,
}

impl ActorPlace {
    /// Returns the place of an actor with a known number and a new incarnation.
    pub fn given(id: u32, clock: &Clock) -> Self {
        Self { id, life: new_life(clock, id) }
    }

    /// Draws numbers until no replay server knows another living actor with the drawn number. Waits for the first
    /// server without a time limit. Returns `None` if the process is asked to stop first.
    ///
    /// # Errors
    /// Returns an error if `draw` fails, or if a replay server rejects this process for another reason than its number.
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

    /// Asks every server whether the number is free. The inner `Err` is the refusal of a server that knows another
    /// living actor with this number.
    async fn is_free(
        self,
        process: &Process,
        transport: &dyn Transport,
        peers: &Peers,
    ) -> Result<Result<(), Refusal>, NodeError> {
        let config = &process.resolved.config;
        let role = ClientRole::actor(config, ActorId(self.id), self.life);
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

/// Sends greetings to one server until it answers. Returns `None` if the server welcomes this actor, or if the
/// transport has stopped.
async fn ask(mut link: Link, hello: Hello, clock: Clock) -> Result<Option<Refusal>, Rejected> {
    let mut tick = tokio::time::interval(HELLO_EVERY / 2);
    loop {
        tokio::select! {
            _ = tick.tick() => link.greet(&hello, clock.now()),
            message = link.recv() => {
                // A stopped transport counts as a welcome.
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

/// Draws an actor number from the range that is reserved for drawn numbers, with the operating system's randomness.
/// Actors that start at the same moment on identical machines therefore draw different numbers.
///
/// # Errors
/// Returns an error if the operating system cannot provide a random number.
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
