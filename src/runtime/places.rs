//! Places for connections, given out so that nobody can take them all: when none is free, the peer that holds most loses
//! its oldest connection to the one that comes. A crowd of idle connections then crowds out itself, and neither the API
//! server nor the kubelet's probes.

use axum_server::accept::Accept;
use std::{
    collections::{HashMap, VecDeque},
    future::{Ready, ready},
    io,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
};

/// The places of one server.
#[derive(Clone, Debug)]
pub(super) struct Places {
    number: usize,
    taken: Arc<Mutex<Taken>>,
}

/// Who holds how many places, in the order in which they were taken.
#[derive(Debug, Default)]
struct Taken {
    last: u64,
    total: usize,
    by_peer: HashMap<IpAddr, VecDeque<Place>>,
}

#[derive(Debug)]
struct Place {
    id: u64,
    /// Dropped when the place goes to another.
    _held: oneshot::Sender<()>,
}

impl Taken {
    fn take(&mut self, peer: IpAddr, number: usize) -> (u64, oneshot::Receiver<()>) {
        while self.total >= number && self.evict() {}
        let (held, lost) = oneshot::channel();
        self.last += 1;
        self.total += 1;
        self.by_peer.entry(peer).or_default().push_back(Place { id: self.last, _held: held });
        (self.last, lost)
    }

    /// Whether there was one to evict.
    fn evict(&mut self) -> bool {
        let most = self.by_peer.iter().max_by_key(|(_, places)| places.len()).map(|(peer, _)| *peer);
        let oldest = most.and_then(|peer| Some((peer, self.by_peer.get(&peer)?.front()?.id)));
        oldest.is_some_and(|(peer, id)| self.free(peer, id))
    }

    /// Whether it was taken still.
    fn free(&mut self, peer: IpAddr, id: u64) -> bool {
        let Some(places) = self.by_peer.get_mut(&peer) else { return false };
        let Some(at) = places.iter().position(|place| place.id == id) else { return false };
        places.remove(at);
        if places.is_empty() {
            self.by_peer.remove(&peer);
        }
        self.total -= 1;
        true
    }
}

impl Places {
    /// `number` places.
    pub(super) fn new(number: usize) -> Self {
        Self { number, taken: Arc::default() }
    }
}

impl<S> Accept<TcpStream, S> for Places {
    type Stream = Placed;
    type Service = S;
    type Future = Ready<io::Result<(Placed, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        // One whose peer is gone already counts as nobody's in particular.
        let peer = stream.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
        let (id, lost) = self.taken.lock().unwrap_or_else(PoisonError::into_inner).take(peer, self.number);
        let placed = Placed { stream, lost, peer, id, taken: Arc::clone(&self.taken) };
        // Answers are small and whole: nothing is won by waiting for more to send.
        ready(placed.stream.set_nodelay(true).map(|()| (placed, service)))
    }
}

/// A connection with its place, which it may lose.
#[derive(Debug)]
pub(super) struct Placed {
    stream: TcpStream,
    lost: oneshot::Receiver<()>,
    peer: IpAddr,
    id: u64,
    taken: Arc<Mutex<Taken>>,
}

impl Drop for Placed {
    fn drop(&mut self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).free(self.peer, self.id);
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if Pin::new(&mut self.lost).poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::other("the place was given to another connection")));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const CROWD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const KUBELET: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn a_crowd_crowds_out_itself() {
        let mut taken = Taken::default();
        let mut probe = taken.take(KUBELET, 4).1;
        let mut crowd: Vec<_> = (0..9).map(|_| taken.take(CROWD, 4).1).collect();
        assert_eq!((taken.total, taken.by_peer[&CROWD].len()), (4, 3));
        assert!(probe.try_recv().is_err_and(|e| e == oneshot::error::TryRecvError::Empty), "the probe stays");
        let lost =
            |place: &mut oneshot::Receiver<()>| place.try_recv() == Err(oneshot::error::TryRecvError::Closed);
        assert_eq!(
            crowd.iter_mut().map(lost).collect::<Vec<_>>(),
            [[true; 6].as_slice(), &[false; 3]].concat()
        );
        // Whoever comes next finds a place too.
        taken.take(KUBELET, 4);
        assert_eq!((taken.total, taken.by_peer[&KUBELET].len()), (4, 2));
    }

    #[test]
    fn a_place_is_freed_once() {
        let mut taken = Taken::default();
        let (id, _) = taken.take(CROWD, 1);
        let (next, _) = taken.take(CROWD, 1);
        assert!(!taken.free(CROWD, id), "it was lost to the next");
        assert!(taken.free(CROWD, next));
        assert_eq!((taken.total, taken.by_peer), (0, HashMap::new()));
    }

    impl PartialEq for Place {
        fn eq(&self, other: &Self) -> bool {
            self.id == other.id
        }
    }
}
