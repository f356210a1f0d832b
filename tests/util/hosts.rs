//! Two hosts and a wire between them, in network namespaces that the test makes itself:
//! what loopback does not have is delay, loss, and packets that vanish.
//!
//! The test starts its own binary again, under `unshare`, with user, network and mount
//! namespaces of its own; that is *this host*. The *other host* is a thread with one more
//! network namespace. All of it is gone when the process is.
//!
//! It needs `unshare`, `ip`, `mount`, `tc` with netem or else /dev/net/tun, and a kernel that
//! permits them. Where one is not to be had the test passes, and says so in one line that
//! begins with `SKIPPED`.

#![allow(
    unreachable_pub,
    reason = "public towards the test file that includes it"
)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::util::{PATIENCE, Rng, eventually};

/// What this host's end of the wire is called by.
pub const HERE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
/// What the other host's end of the wire is called by.
pub const THERE: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
/// Addresses behind the other host, which swallows whatever is sent to them.
pub const SWALLOWED: [&str; 2] = ["198.51.100.1", "2001:db8:dead::1"];

/// The networks of [`HERE`] and [`THERE`].
const WIRE_PREFIXES: [&str; 2] = ["24", "64"];
const SWALLOWED_NETWORKS: [&str; 2] = ["198.51.100.0/24", "2001:db8:dead::/48"];

/// Both ends of the wire, each in its own namespace.
const WIRE: &str = "wire";

/// A port that nobody listens on.
const NOBODY: u16 = 9;

/// Set in the process that runs inside the namespaces.
const INSIDE: &str = "WINDLASS_TEST_INSIDE_NAMESPACES";

/// How a line begins that says what could not be tested, and why.
const SKIPPED: &str = "SKIPPED: ";

/// How a line begins that says what was measured.
const MEASURED: &str = "MEASURED: ";

/// Longer than one of these tests takes on a loaded machine.
const LIFE: Duration = Duration::from_secs(40);

/// What is not permitted or not there.
#[derive(Debug)]
pub struct Missing(String);

impl Missing {
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// Runs `body` in namespaces of its own. `name` is the test's own.
#[track_caller]
pub fn inside(name: &str, body: impl FnOnce() -> Result<(), Missing>) {
    let outcome = if std::env::var_os(INSIDE).is_some() {
        body()
    } else {
        run_inside(name)
    };
    if let Err(Missing(what)) = outcome {
        eprintln!("{SKIPPED}{name}: {what}");
    }
}

/// A number for whoever looks, with `--nocapture`.
pub fn measured(what: impl std::fmt::Display) {
    eprintln!("{MEASURED}{what}");
}

fn run_inside(name: &str) -> Result<(), Missing> {
    // First without the test, so that a failure of `unshare` cannot pass for the test's.
    run("unshare", &["-rnm", "true"]).map_err(Missing)?;
    let mut child = Command::new("unshare")
        .arg("-rnm")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if !eventually(LIFE, || child.try_wait().unwrap().is_some()) {
        let _ = child.kill();
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{name} in namespaces: {}\n{said}\n{complained}",
        output.status
    );
    for line in complained.lines() {
        if line.starts_with(SKIPPED) || line.starts_with(MEASURED) {
            eprintln!("{line}");
        }
    }
    Ok(())
}

/// What the wire does to packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wire {
    /// One way.
    pub delay: Duration,
    /// Packets lost of a hundred.
    pub loss: u64,
    /// Packets that arrive twice of a hundred.
    pub duplicate: u64,
    /// Packets that overtake those before them, which a wire without delay cannot do.
    pub reorder: u64,
}

impl Wire {
    /// Each packet arrives at once, and once.
    pub const GOOD: Self = Self {
        delay: Duration::ZERO,
        loss: 0,
        duplicate: 0,
        reorder: 0,
    };
}

/// The other host, and the wire to it.
#[derive(Debug)]
pub struct Hosts {
    jobs: Sender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Hosts {
    /// Both hosts, joined by a wire, with addresses and routes. To be called once.
    pub fn joined(wire: Wire) -> Result<Self, Missing> {
        run("ip", &["-V"]).map_err(Missing)?;
        if !Path::new("/proc/net/if_inet6").exists() {
            return Err(Missing::new("the kernel has no IPv6"));
        }
        let (hosts, other) = Self::start()?;
        let relay = hosts.lay(wire, &other)?;
        hosts.number();
        if let Some((here, there)) = relay {
            carry(&here, &there, wire, Rng::new(1));
            carry(&there, &here, wire, Rng::new(2));
        }
        await_answers();
        Ok(hosts)
    }

    /// The thread that is the other host, and its id for the kernel.
    fn start() -> Result<(Self, String), Missing> {
        let (jobs, work) = mpsc::channel::<Job>();
        let (say, born) = mpsc::channel();
        thread::spawn(move || {
            say.send(enter_new_network()).unwrap();
            work.iter().for_each(|job| job());
        });
        match born.recv_timeout(PATIENCE).unwrap() {
            Ok(id) => Ok((Self { jobs }, id)),
            Err(error) => Err(Missing(format!("a second network namespace: {error}"))),
        }
    }

    /// Does something on the other host. Sockets that are made there stay there, whichever
    /// thread uses them, and threads that are started there stay there, too.
    #[track_caller]
    pub fn there<R: Send + 'static>(&self, act: impl FnOnce() -> R + Send + 'static) -> R {
        let (say, answer) = mpsc::channel();
        let job = move || {
            let _ = say.send(act());
        };
        self.jobs.send(Box::new(job)).expect("the other host lives");
        answer.recv_timeout(PATIENCE).expect("it answers in time")
    }

    /// A wire on which the kernel delays and loses packets. If it cannot, two devices
    /// between which threads have to carry them.
    fn lay(&self, wire: Wire, other: &str) -> Result<Option<(File, File)>, Missing> {
        #[rustfmt::skip]
        let veth = ["link", "add", WIRE, "type", "veth", "peer", "name", WIRE, "netns", other];
        run("ip", &veth).map_err(Missing)?;
        let Err(no_netem) = self.spoil(wire) else {
            return Ok(None);
        };
        ip(&format!("link del {WIRE}"));
        let relay = tun_device().and_then(|here| Ok((here, self.there(tun_device)?)));
        relay.map(Some).map_err(|error| {
            let instead = format!("there is no tun device to do it instead: {error}");
            Missing(format!("{no_netem}; {instead}"))
        })
    }

    /// Has both hosts' kernels delay what they send, and lose, repeat and mix it.
    fn spoil(&self, wire: Wire) -> Result<(), String> {
        if wire == Wire::GOOD {
            return Ok(());
        }
        let (delay, loss) = (wire.delay.as_millis(), wire.loss);
        let mut netem = format!("qdisc add dev {WIRE} root netem delay {delay}ms loss {loss}%");
        if wire.duplicate > 0 {
            netem += &format!(" duplicate {}%", wire.duplicate);
        }
        if wire.reorder > 0 {
            netem += &format!(" reorder {}%", wire.reorder);
        }
        let spoil = move || -> Result<(), String> {
            // Packets are lost one by one, not in trains of up to 64 KiB.
            ip(&format!("link set {WIRE} gso_max_segs 1"));
            let args: Vec<_> = netem.split(' ').collect();
            run("tc", &args)
        };
        spoil.clone()()?;
        self.there(spoil)
    }

    fn number(&self) {
        let own = |ends: [&str; 2]| {
            ip("link set lo up");
            for (end, prefix) in ends.iter().zip(WIRE_PREFIXES) {
                add_address(&format!("{end}/{prefix}"), WIRE);
            }
            ip(&format!("link set {WIRE} up"));
        };
        own(HERE);
        self.there(move || own(THERE));
        for (network, via) in SWALLOWED_NETWORKS.iter().zip(THERE) {
            ip(&format!("route add {network} via {via}"));
        }
        self.there(|| {
            for network in SWALLOWED_NETWORKS {
                ip(&format!("route add blackhole {network}"));
            }
        });
    }
}

/// Both families' first packets may be lost while the kernel still brings the wire up.
fn await_answers() {
    for host in THERE {
        let addr = SocketAddr::new(host.parse().unwrap(), NOBODY);
        let answered = || match TcpStream::connect_timeout(&addr, PATIENCE) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        };
        assert!(eventually(PATIENCE, answered), "{host} does not answer");
    }
}

/// Segments that the host of the calling thread has sent again.
pub fn retransmissions() -> u64 {
    let counters = fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut tcp = counters.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (tcp.next().unwrap(), tcp.next().unwrap());
    let mut fields = names.split(' ').zip(values.split(' '));
    let (_, value) = fields.find(|(name, _)| *name == "RetransSegs").unwrap();
    value.parse().unwrap()
}

/// Puts a file with this text in the place of another one, for this process only.
pub fn replace(path: &str, text: &str) -> Result<(), Missing> {
    let name = format!("windlass-{}{}", std::process::id(), path.replace('/', "-"));
    let ours = std::env::temp_dir().join(name);
    let written = File::create_new(&ours).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Missing(format!("{}: {error}", ours.display())))?;
    let mounted = run("mount", &["--bind", ours.to_str().unwrap(), path]);
    // What is mounted stays when its name is gone.
    fs::remove_file(&ours).unwrap();
    mounted.map_err(Missing)
}

/// Gives the host of the calling thread one more address.
pub fn add_address(address: &str, device: &str) {
    // Nobody else is there, so nobody need be asked whether the address is free.
    let free = if address.contains(':') { " nodad" } else { "" };
    ip(&format!("address add {address} dev {device}{free}"));
}

/// Runs `ip` on the host of the calling thread.
#[track_caller]
pub fn ip(command: &str) {
    let args: Vec<_> = command.split(' ').collect();
    if let Err(error) = run("ip", &args) {
        panic!("{error}");
    }
}

/// Runs a program on the host of the calling thread; an error names it and says what it said.
fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let command = format!("{program} {}", args.join(" "));
    match Command::new(program).args(args).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("`{command}` says: {}", said.trim()))
        }
        Err(error) => Err(format!("`{command}` does not run: {error}")),
    }
}

/// Gives the calling thread a network of its own, and answers the thread's id.
#[allow(unsafe_code, reason = "the standard library knows no namespaces")]
fn enter_new_network() -> io::Result<String> {
    // SAFETY: the call takes a number, and changes nothing but the calling thread's network.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let own = fs::read_link("/proc/thread-self")?;
    let id = own.file_name().unwrap_or_default();
    Ok(id.to_string_lossy().into_owned())
}

/// A network device on the calling thread's host: what the host sends through it is read
/// from the file, one packet at a time, and what is written to the file the host receives.
#[allow(unsafe_code, reason = "a tun device is made by an ioctl")]
fn tun_device() -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: it consists of numbers and bytes, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(WIRE.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the descriptor is open, and `request` is what this ioctl reads and writes.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

/// One direction of a wire: each packet is lost, or arrives when its time has come, or at
/// once, or twice.
fn carry(from: &File, to: &File, wire: Wire, luck: Rng) {
    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let overtaking = to.try_clone().unwrap();
    let (send, under_way) = mpsc::channel();
    thread::spawn(move || take_packets(from, overtaking, wire, luck, &send));
    thread::spawn(move || deliver_packets(to, &under_way));
}

type Packet = (Instant, Vec<u8>);

fn take_packets(
    mut from: File,
    mut overtaking: File,
    wire: Wire,
    mut luck: Rng,
    send: &Sender<Packet>,
) {
    let mut buffer = vec![0; 0x1_0000];
    while let Ok(len) = from.read(&mut buffer) {
        let mut of_a_hundred = |some: u64| luck.next() % 100 < some;
        let packet = &buffer[..len];
        let copies = match (of_a_hundred(wire.loss), of_a_hundred(wire.duplicate)) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        };
        for _ in 0..copies {
            if of_a_hundred(wire.reorder) {
                let _ = overtaking.write(packet);
            } else if send
                .send((Instant::now() + wire.delay, packet.to_vec()))
                .is_err()
            {
                return;
            }
        }
    }
}

fn deliver_packets(mut to: File, under_way: &Receiver<Packet>) {
    for (due, packet) in under_way {
        // The wire is as slow as it was asked to be; nobody waits for an event here.
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // A packet that the host does not want is lost like any other.
        let _ = to.write(&packet);
    }
}
