//! A network of hosts inside the process, for clusters: delay, connections that break, partitions in one direction or
//! both, hosts that stand still, are killed or lose power. All of it follows from a seed and from calls of the test.
//!
//! Streams behave like TCP: bytes arrive in order or not at all, what a partition holds back arrives after it, and who
//! is silently gone is found out by nobody. Deliberately absent: datagrams, names and sockets in a file system.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::SeededEntropy;
use crate::BoxFuture;
use crate::clock::Clock;
use crate::net::{Datagrams, Listener, Net, Stream};
use crate::signal::Signal;

/// Bytes on their way in one direction, beyond which a writer waits.
const WINDOW_BYTES: usize = 64 * 1024;
/// Connections that nobody has accepted yet, beyond which more are refused.
const BACKLOG: usize = 128;

/// What the way between two hosts is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// The shortest time that a byte takes.
    pub delay_min: Duration,
    /// The longest.
    pub delay_max: Duration,
    /// Of a million writes, how many break the connection.
    pub breaks_per_million: u32,
    /// Of a million attempts to connect, how many fail.
    pub refusals_per_million: u32,
}

/// What is on its way to one end of a connection.
enum Item {
    Bytes(Vec<u8>, usize),
    /// The other end writes no more.
    End,
    /// The other end is gone, and said so.
    Reset,
}

/// One end of a connection.
struct End {
    host: IpAddr,
    inbox: VecDeque<(Duration, Item)>,
    inbox_bytes: usize,
    /// Writes no more.
    shut: bool,
    /// Its process has dropped it, or is gone.
    closed: bool,
    /// What its process is told at the next call.
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl End {
    fn new(host: IpAddr) -> Self {
        Self {
            host,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            shut: false,
            closed: false,
            broken: false,
            reader: None,
            writer: None,
        }
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    /// Comes after everything that is on its way already.
    fn expect(&mut self, due: Duration, item: Item) {
        let due = self.inbox.back().map_or(due, |(last, _)| due.max(*last));
        self.inbox.push_back((due, item));
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

struct Listening {
    generation: u64,
    backlog: VecDeque<(FabricStream, SocketAddr)>,
}

#[derive(Default)]
struct Host {
    /// Counts the processes that were killed here.
    generation: u64,
    paused: bool,
    powerless: bool,
}

struct State {
    hosts: BTreeMap<IpAddr, Host>,
    listeners: BTreeMap<SocketAddr, Listening>,
    connections: BTreeMap<u64, [End; 2]>,
    cuts: BTreeSet<(IpAddr, IpAddr)>,
    weather: Weather,
    ways: BTreeMap<(IpAddr, IpAddr), Weather>,
    next_connection: u64,
    next_port: u16,
}

impl State {
    fn passes(&self, from: IpAddr, to: IpAddr) -> bool {
        from == to || !self.cuts.contains(&(from, to)) && !self.powerless(from) && !self.powerless(to)
    }

    fn powerless(&self, host: IpAddr) -> bool {
        self.hosts.get(&host).is_some_and(|host| host.powerless)
    }

    fn paused(&self, host: IpAddr) -> bool {
        self.hosts.get(&host).is_some_and(|host| host.paused)
    }

    fn weather(&self, from: IpAddr, to: IpAddr) -> Weather {
        self.ways.get(&(from, to)).copied().unwrap_or(self.weather)
    }

    /// Ends what the process of a host has here; `told` says whether the other ends hear of it. What nobody had accepted
    /// is to be dropped when the state is not held any more.
    fn end_process(&mut self, address: IpAddr, told: bool, now: Duration) -> Vec<Listening> {
        self.hosts.entry(address).or_default().generation += 1;
        for ends in self.connections.values_mut() {
            for side in [0, 1] {
                let (near, far) = sides(ends, side);
                if near.host == address && !near.closed {
                    (near.closed, near.broken) = (true, true);
                    if told {
                        far.expect(now, Item::Reset);
                    }
                }
            }
        }
        let gone: Vec<SocketAddr> = self.listeners.keys().filter(|one| one.ip() == address).copied().collect();
        gone.iter().filter_map(|address| self.listeners.remove(address)).collect()
    }
}

struct Shared {
    clock: Arc<dyn Clock>,
    chance: SeededEntropy,
    state: Mutex<State>,
    /// Counts changes that somebody may wait for who is not at a stream.
    changed: Signal<u64>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn happens(&self, per_million: u32) -> bool {
        per_million > 0 && self.chance.next() % 1_000_000 < u64::from(per_million)
    }

    fn delay(&self, weather: Weather) -> Duration {
        let spread = weather.delay_max.saturating_sub(weather.delay_min);
        let spread = u64::try_from(spread.as_nanos()).unwrap_or(u64::MAX);
        let drawn = if spread == 0 { 0 } else { self.chance.next() % spread.saturating_add(1).max(1) };
        weather.delay_min + Duration::from_nanos(drawn)
    }
}

/// The network; each host has a door of its own to it ([`Fabric::host`]).
pub struct Fabric(Arc<Shared>);

impl Fabric {
    /// A network without hosts, delay or mishaps.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, seed: u64) -> Self {
        let state = State {
            hosts: BTreeMap::new(),
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            cuts: BTreeSet::new(),
            weather: Weather::default(),
            ways: BTreeMap::new(),
            next_connection: 0,
            next_port: 40_000,
        };
        let chance = SeededEntropy::new(seed);
        Self(Arc::new(Shared { clock, chance, state: Mutex::new(state), changed: Signal::new(0) }))
    }

    /// The door of the process that runs on a host now; it is of no use to the ones after it.
    #[must_use]
    pub fn host(&self, address: IpAddr) -> Arc<dyn Net> {
        let generation = self.0.state().hosts.entry(address).or_default().generation;
        Arc::new(HostNet { shared: Arc::clone(&self.0), address, generation })
    }

    /// Changes something, and has everybody look again.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) {
        let mut state = self.0.state();
        let left = change(&mut state);
        state.connections.values_mut().flatten().for_each(End::wake);
        drop(state);
        drop(left);
        self.0.changed.update(|changed| *changed += 1);
    }

    /// What every way is like that has no weather of its own.
    pub fn set_weather(&self, weather: Weather) {
        self.change(|state| state.weather = weather);
    }

    /// What the way from one host to another is like; `None` is like everywhere.
    pub fn set_way(&self, from: IpAddr, to: IpAddr, weather: Option<Weather>) {
        self.change(|state| match weather {
            Some(weather) => drop(state.ways.insert((from, to), weather)),
            None => drop(state.ways.remove(&(from, to))),
        });
    }

    /// From now on nothing gets from one host to another; the way back is as it was.
    pub fn cut(&self, from: IpAddr, to: IpAddr) {
        self.change(|state| state.cuts.insert((from, to)));
    }

    /// Parts two groups of hosts, in both directions.
    pub fn part(&self, here: &[IpAddr], there: &[IpAddr]) {
        self.change(|state| {
            for (a, b) in here.iter().flat_map(|a| there.iter().map(move |b| (*a, *b))) {
                state.cuts.extend([(a, b), (b, a)]);
            }
        });
    }

    /// Ends every cut; what was held back arrives.
    pub fn heal(&self) {
        self.change(|state| state.cuts.clear());
    }

    /// Stops a host where it stands: its kernel still takes connections and bytes, its process sees nothing and says
    /// nothing.
    pub fn pause(&self, host: IpAddr) {
        self.change(|state| state.hosts.entry(host).or_default().paused = true);
    }

    /// Lets a host go on.
    pub fn resume(&self, host: IpAddr) {
        self.change(|state| state.hosts.entry(host).or_default().paused = false);
    }

    /// Breaks every connection between two hosts; both ends learn of it.
    pub fn break_between(&self, a: IpAddr, b: IpAddr) {
        self.change(|state| {
            for ends in state.connections.values_mut() {
                let [near, far] = ends;
                if [(near.host, far.host), (far.host, near.host)].contains(&(a, b)) {
                    (near.broken, far.broken) = (true, true);
                }
            }
        });
    }

    /// Kills the process on a host: its listeners go, and the kernel resets its connections.
    pub fn kill(&self, host: IpAddr) {
        let now = self.0.clock.monotonic();
        self.change(|state| state.end_process(host, true, now));
    }

    /// A host loses its power: the other ends of its connections hear nothing, and attempts to connect to it hang.
    pub fn lose_power(&self, host: IpAddr) {
        let now = self.0.clock.monotonic();
        self.change(|state| {
            let left = state.end_process(host, false, now);
            state.hosts.entry(host).or_default().powerless = true;
            left
        });
    }

    /// A host is back; it knows nothing of the connections from before, and says so.
    pub fn restore_power(&self, host: IpAddr) {
        let now = self.0.clock.monotonic();
        self.change(|state| {
            state.hosts.entry(host).or_default().powerless = false;
            for ends in state.connections.values_mut() {
                for side in [0, 1] {
                    let (near, far) = sides(ends, side);
                    if near.host == host && near.closed {
                        far.expect(now, Item::Reset);
                    }
                }
            }
        });
    }

    /// How many connections there are whose two ends are open, between any hosts.
    #[must_use]
    pub fn connections(&self) -> usize {
        let state = self.0.state();
        state.connections.values().filter(|ends| ends.iter().all(|end| !end.closed && !end.broken)).count()
    }
}

struct HostNet {
    shared: Arc<Shared>,
    address: IpAddr,
    generation: u64,
}

impl HostNet {
    /// Whether the process that has this door is gone.
    fn is_stale(&self, state: &State) -> bool {
        state.hosts.get(&self.address).is_none_or(|host| host.generation != self.generation)
    }

    async fn connect_to(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let (here, there) = (self.address, address.ip());
        let shared = &self.shared;
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let reached = || {
            let state = shared.state();
            if self.is_stale(&state) {
                return Some(Err(io::Error::from(io::ErrorKind::NotConnected)));
            }
            let open = state.passes(here, there) && state.passes(there, here) && !state.paused(here);
            open.then(|| Ok((state.weather(here, there), state.weather(there, here))))
        };
        let (there_weather, back_weather) = shared.changed.wait_until(reached).await?;
        let way = shared.delay(there_weather) + shared.delay(back_weather);
        if !way.is_zero() {
            shared.clock.sleep(way).await;
            // What was cut meanwhile holds the last of the handshake.
            shared.changed.wait_until(reached).await?;
        }
        if shared.happens(there_weather.refusals_per_million) {
            return Err(refused());
        }
        let mut state = shared.state();
        if state.listeners.get(&address).is_none_or(|listening| listening.backlog.len() >= BACKLOG) {
            return Err(refused());
        }
        let id = state.next_connection;
        state.next_connection += 1;
        state.next_port = state.next_port.checked_add(1).unwrap_or(40_000);
        let peer = SocketAddr::new(here, state.next_port);
        state.connections.insert(id, [End::new(here), End::new(there)]);
        let end = |side| FabricStream { shared: Arc::clone(shared), id, side, timer: None };
        if let Some(listening) = state.listeners.get_mut(&address) {
            listening.backlog.push_back((end(1), peer));
        }
        drop(state);
        shared.changed.update(|changed| *changed += 1);
        Ok(Box::new(end(0)) as Box<dyn Stream>)
    }
}

impl Net for HostNet {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let mut state = self.shared.state();
            if self.is_stale(&state) {
                return Err(io::ErrorKind::NotConnected.into());
            }
            let mut address = address;
            if address.ip().is_unspecified() {
                address.set_ip(self.address);
            }
            if address.ip() != self.address {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            if address.port() == 0 {
                state.next_port = state.next_port.checked_add(1).unwrap_or(40_000);
                address.set_port(state.next_port);
            }
            if state.listeners.contains_key(&address) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let listening = Listening { generation: self.generation, backlog: VecDeque::new() };
            state.listeners.insert(address, listening);
            let listener = FabricListener { shared: Arc::clone(&self.shared), address, generation: self.generation };
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(self.connect_to(address))
    }

    /// This network has no names.
    fn resolve<'a>(&'a self, host_and_port: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let address = host_and_port.parse().map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
            Ok(vec![address])
        })
    }

    fn connect_local<'a>(&'a self, _path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn datagrams_to(&self, _address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Datagrams>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

struct FabricListener {
    shared: Arc<Shared>,
    address: SocketAddr,
    generation: u64,
}

impl Drop for FabricListener {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let own = state.listeners.get(&self.address).is_some_and(|one| one.generation == self.generation);
        let removed = if own { state.listeners.remove(&self.address) } else { None };
        drop(state);
        // Outside the lock, which dropping a stream takes.
        drop(removed);
    }
}

impl Listener for FabricListener {
    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(self.shared.changed.wait_until(|| {
            let mut state = self.shared.state();
            let paused = state.paused(self.address.ip());
            let own = state.listeners.get_mut(&self.address).filter(|one| one.generation == self.generation);
            let Some(listening) = own else { return Some(Err(io::ErrorKind::BrokenPipe.into())) };
            if paused {
                return None;
            }
            let (stream, peer) = listening.backlog.pop_front()?;
            Some(Ok((Box::new(stream) as Box<dyn Stream>, peer)))
        }))
    }
}

/// One end, in the hands of a process.
struct FabricStream {
    shared: Arc<Shared>,
    id: u64,
    side: usize,
    /// Waits for what is on its way.
    timer: Option<BoxFuture<'static, ()>>,
}

/// The end at `side`, and the other one.
fn sides(ends: &mut [End; 2], side: usize) -> (&mut End, &mut End) {
    let [first, second] = ends;
    if side == 0 { (first, second) } else { (second, first) }
}

fn reset<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
}

impl AsyncRead for FabricStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let wait = {
                let mut guard = this.shared.state();
                let state = &mut *guard;
                let Some(ends) = state.connections.get(&this.id) else { return reset() };
                let (here, there) = (ends.get(this.side), ends.get(1 - this.side));
                let (Some(here), Some(there)) = (here.map(|end| end.host), there.map(|end| end.host)) else {
                    return reset();
                };
                let still = state.paused(here) || !state.passes(there, here);
                let Some(ends) = state.connections.get_mut(&this.id) else { return reset() };
                let (near, far) = sides(ends, this.side);
                if near.broken {
                    return reset();
                }
                near.reader = Some(context.waker().clone());
                if still {
                    return Poll::Pending;
                }
                let now = this.shared.clock.monotonic();
                match near.inbox.front_mut() {
                    None => return Poll::Pending,
                    Some((due, _)) if *due > now => due.saturating_sub(now),
                    Some((_, Item::End)) => return Poll::Ready(Ok(())),
                    Some((_, Item::Reset)) => {
                        near.broken = true;
                        return reset();
                    }
                    Some((_, Item::Bytes(bytes, read))) => {
                        let left = bytes.get(*read..).unwrap_or_default();
                        let taken = left.len().min(out.remaining());
                        out.put_slice(left.get(..taken).unwrap_or_default());
                        *read += taken;
                        if *read == bytes.len() {
                            near.inbox.pop_front();
                        }
                        near.inbox_bytes -= taken;
                        if let Some(writer) = far.writer.take() {
                            writer.wake();
                        }
                        return Poll::Ready(Ok(()));
                    }
                }
            };
            let timer = this.timer.get_or_insert_with(|| this.shared.clock.sleep(wait));
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            this.timer = None;
        }
    }
}

impl AsyncWrite for FabricStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let shared = &self.shared;
        let mut guard = shared.state();
        let state = &mut *guard;
        let Some([first, second]) = state.connections.get(&self.id) else { return reset() };
        let (here, there) = if self.side == 0 { (first.host, second.host) } else { (second.host, first.host) };
        let still = state.paused(here);
        let told = state.passes(here, there) && state.passes(there, here);
        let weather = state.weather(here, there);
        let Some(ends) = state.connections.get_mut(&self.id) else { return reset() };
        let (near, far) = sides(ends, self.side);
        if near.broken {
            return reset();
        }
        if near.shut || far.closed && told {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = WINDOW_BYTES.saturating_sub(far.inbox_bytes).min(bytes.len());
        if still || room == 0 && !bytes.is_empty() {
            near.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        if shared.happens(weather.breaks_per_million) {
            (near.broken, far.broken) = (true, true);
            near.wake();
            far.wake();
            return reset();
        }
        let due = shared.clock.monotonic() + shared.delay(weather);
        far.inbox_bytes += room;
        far.expect(due, Item::Bytes(bytes.get(..room).unwrap_or_default().to_vec(), 0));
        Poll::Ready(Ok(room))
    }

    /// As sockets do: TLS says its last words with the same call as what is still waiting to be sent.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut written = 0;
        for part in parts.iter().filter(|part| !part.is_empty()) {
            match self.as_mut().poll_write(context, part) {
                Poll::Ready(Ok(more)) => written += more,
                Poll::Ready(Err(_)) | Poll::Pending if written > 0 => break,
                other => return other,
            }
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = self.shared.clock.monotonic();
        let mut state = self.shared.state();
        if let Some(ends) = state.connections.get_mut(&self.id) {
            let (near, far) = sides(ends, self.side);
            if !near.shut {
                near.shut = true;
                far.expect(now, Item::End);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for FabricStream {
    fn drop(&mut self) {
        let now = self.shared.clock.monotonic();
        let mut state = self.shared.state();
        let Some(ends) = state.connections.get_mut(&self.id) else { return };
        let (near, far) = sides(ends, self.side);
        // A process that is gone said what it had to say, or could not.
        if !near.closed {
            near.closed = true;
            if !near.shut {
                near.shut = true;
                far.expect(now, Item::End);
            }
            if let Some(writer) = far.writer.take() {
                writer.wake();
            }
        }
        if ends.iter().all(|end| end.closed) {
            state.connections.remove(&self.id);
        }
    }
}
