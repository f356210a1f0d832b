//! Options of an open datagram socket: groups, how far datagrams go, where they leave, and
//! whether they come merged.
//!
//! Owns the one interface that the systems have least in common in: naming another interface
//! by its number for IPv4. And whether datagrams come merged, which one system alone does.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;

use socket2::{SockRef, Socket};

use super::packets::Family;
use super::{errno, set_option};
#[cfg(target_os = "linux")]
use super::{option, set_flag};
use crate::kernel::{Errno, Fd, PacketOption};

/// Most routers that a datagram can be allowed: the field has eight bits.
const LONGEST_WAY: u32 = 255;

pub(super) fn set(fd: Fd, family: Family, option: PacketOption) -> Result<(), Errno> {
    let socket = &*SockRef::from(&fd);
    let outcome = match option {
        PacketOption::Join(group, interface) => join(socket, group, interface),
        PacketOption::Leave(group, interface) => leave(socket, group, interface),
        PacketOption::MulticastLoop(on) => of_family(
            family,
            || socket.set_multicast_loop_v4(on),
            || socket.set_multicast_loop_v6(on),
        ),
        PacketOption::MulticastTtl(hops) => of_family(
            family,
            || socket.set_multicast_ttl_v4(way(hops)?),
            || socket.set_multicast_hops_v6(way(hops)?),
        ),
        PacketOption::MulticastInterface(interface) => of_family(
            family,
            || leave_by(socket, interface),
            || socket.set_multicast_if_v6(interface),
        ),
        PacketOption::Ttl(hops) => of_family(
            family,
            || socket.set_ttl_v4(way(hops)?),
            || socket.set_unicast_hops_v6(way(hops)?),
        ),
        PacketOption::Broadcast(on) => socket.set_broadcast(on),
        PacketOption::Merge => merge(socket, family),
    };
    outcome.map_err(errno)
}

/// On a dual-stack socket an option holds for IPv4 only if it is set for IPv4 too; no system
/// but Linux lets it be.
fn of_family(
    family: Family,
    v4: impl FnOnce() -> io::Result<()>,
    v6: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    match family {
        Family::V4 => v4(),
        Family::V6 => v6(),
        Family::DualStack if cfg!(target_os = "linux") => v6().and_then(|()| v4()),
        Family::DualStack => v6(),
        Family::Unix => Err(refusal(libc::EOPNOTSUPP)),
    }
}

/// Checked here, because -1 stands for the default and must not be reached by a large number.
fn way(hops: u32) -> io::Result<u32> {
    if hops > LONGEST_WAY {
        return Err(refusal(libc::EINVAL));
    }
    Ok(hops)
}

fn refusal(errno: libc::c_int) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

// Merging.

/// Has the kernel hand out in one piece what it got in one piece, or has put together itself.
#[cfg(target_os = "linux")]
fn merge(socket: &Socket, family: Family) -> io::Result<()> {
    match family {
        // Its own word would be another one.
        Family::Unix => Err(refusal(libc::ENOPROTOOPT)),
        _ => set_flag(socket, libc::SOL_UDP, libc::UDP_GRO),
    }
}

#[cfg(not(target_os = "linux"))]
fn merge(_socket: &Socket, _family: Family) -> io::Result<()> {
    Err(refusal(libc::ENOPROTOOPT))
}

/// Whether it does so. A system that does not know of it (Linux before 5.0) does not.
#[cfg(target_os = "linux")]
pub(super) fn merges(socket: &Socket) -> bool {
    let fd = Fd(socket.as_raw_fd());
    // SAFETY: any bits are an int.
    let on = unsafe { option::<libc::c_int>(fd, libc::SOL_UDP, libc::UDP_GRO) };
    on.is_ok_and(|on| on != 0)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn merges(_socket: &Socket) -> bool {
    false
}

/// From the next datagram on; what has come stays as it is.
#[cfg(target_os = "linux")]
pub(super) fn merge_no_more(fd: Fd) {
    const OFF: libc::c_int = 0;
    // SAFETY: the option is an int. If it fails, the socket is gone, which is just as well.
    let _ = unsafe { set_option(&SockRef::from(&fd), libc::SOL_UDP, libc::UDP_GRO, &OFF) };
}

#[cfg(not(target_os = "linux"))]
pub(super) fn merge_no_more(_fd: Fd) {}

// Groups.

/// The family is the group's: a dual-stack socket of Linux may join groups of both.
fn join(socket: &Socket, group: IpAddr, interface: u32) -> io::Result<()> {
    match group.to_canonical() {
        IpAddr::V4(group) => change_membership(socket, libc::IP_ADD_MEMBERSHIP, group, interface),
        IpAddr::V6(group) => socket.join_multicast_v6(&group, interface),
    }
}

fn leave(socket: &Socket, group: IpAddr, interface: u32) -> io::Result<()> {
    match group.to_canonical() {
        IpAddr::V4(group) => change_membership(socket, libc::IP_DROP_MEMBERSHIP, group, interface),
        IpAddr::V6(group) => socket.leave_multicast_v6(&group, interface),
    }
}

#[cfg(not(target_os = "netbsd"))]
fn change_membership(
    socket: &Socket,
    change: libc::c_int,
    group: Ipv4Addr,
    interface: u32,
) -> io::Result<()> {
    let request = request(group, interface)?;
    // SAFETY: the option takes a structure of this type.
    unsafe { set_option(socket, libc::IPPROTO_IP, change, &request) }
}

#[cfg(not(target_os = "netbsd"))]
fn leave_by(socket: &Socket, interface: u32) -> io::Result<()> {
    let request = request(Ipv4Addr::UNSPECIFIED, interface)?;
    // SAFETY: the option takes a structure of this type, besides shorter ones.
    unsafe { set_option(socket, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &request) }
}

#[cfg(not(target_os = "netbsd"))]
fn request(group: Ipv4Addr, interface: u32) -> io::Result<libc::ip_mreqn> {
    Ok(libc::ip_mreqn {
        imr_multiaddr: in_addr(group),
        imr_address: in_addr(Ipv4Addr::UNSPECIFIED),
        imr_ifindex: i32::try_from(interface).map_err(|_| refusal(libc::ENXIO))?,
    })
}

#[cfg(target_os = "netbsd")]
fn change_membership(
    socket: &Socket,
    change: libc::c_int,
    group: Ipv4Addr,
    interface: u32,
) -> io::Result<()> {
    let request = libc::ip_mreq {
        imr_multiaddr: in_addr(group),
        imr_interface: in_addr(number_as_address(interface)?),
    };
    // SAFETY: the option takes a structure of this type.
    unsafe { set_option(socket, libc::IPPROTO_IP, change, &request) }
}

#[cfg(target_os = "netbsd")]
fn leave_by(socket: &Socket, interface: u32) -> io::Result<()> {
    let interface = in_addr(number_as_address(interface)?);
    // SAFETY: the option takes a structure of this type.
    unsafe { set_option(socket, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &interface) }
}

/// NetBSD takes 0.x.y.z for the number of an interface (RFC 1724, section 3.3).
#[cfg(target_os = "netbsd")]
fn number_as_address(interface: u32) -> io::Result<Ipv4Addr> {
    /// The three bytes that are left of an address.
    const LARGEST: u32 = 0x00ff_ffff;
    if interface > LARGEST {
        return Err(refusal(libc::ENXIO));
    }
    Ok(Ipv4Addr::from_bits(interface))
}

fn in_addr(ip: Ipv4Addr) -> libc::in_addr {
    libc::in_addr {
        s_addr: u32::from_ne_bytes(ip.octets()),
    }
}
