//! A queue between a source of news and a reader that may be slow. A newer message replaces an older one that waits.

use super::{Message, TransportStats};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Creates a queue whose reader always gets the newest message, preceded by at most one older one. The writer waits
/// only for the task between the two ends, never for the reader. The task ends when the reader is dropped, and then the
/// writer finds the queue closed.
pub(super) fn newest_wins_queue(
    stats: Arc<TransportStats>,
) -> (mpsc::Sender<Message>, mpsc::Receiver<Message>) {
    // Both channels have capacity 1. One message waits for the reader, and the task holds another one. Only the message
    // in the task is replaced by newer ones.
    let (sender, from_source) = mpsc::channel(1);
    let (to_reader, receiver) = mpsc::channel(1);
    tokio::spawn(replace_while_waiting(from_source, to_reader, stats));
    (sender, receiver)
}

async fn replace_while_waiting(
    mut from_source: mpsc::Receiver<Message>,
    to_reader: mpsc::Sender<Message>,
    stats: Arc<TransportStats>,
) {
    loop {
        let received = tokio::select! {
            biased;
            received = from_source.recv() => received,
            () = to_reader.closed() => return,
        };
        let Some(mut in_hand) = received else { return };
        loop {
            tokio::select! {
                biased;
                place = to_reader.reserve() => match place {
                    Ok(place) => break place.send(in_hand),
                    Err(_reader_gone) => return,
                },
                Some(newer) = from_source.recv() => {
                    in_hand = newer;
                    stats.dropped_outdated.increment();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[tokio::test]
    async fn a_slow_reader_gets_one_old_message_and_then_the_newest() {
        let stats = Arc::new(TransportStats::default());
        let (sender, mut receiver) = newest_wins_queue(stats.clone());
        for number in 0..100_u8 {
            sender.send(Message::new(vec![Bytes::from(vec![number])])).await.unwrap();
        }
        while stats.dropped_outdated.get() < 98 {
            tokio::task::yield_now().await;
        }
        drop(sender);
        let mut seen = Vec::new();
        while let Some(message) = receiver.recv().await {
            seen.push(message.frames[0][0]);
        }
        assert_eq!(seen, [0, 99]);
    }
}
