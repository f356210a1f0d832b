//! What the system allows: the length of accept queues, the number of descriptors.

use super::check;
use crate::kernel::Errno;

/// `SOMAXCONN` of old, the backlog limit where the system doesn't name one.
pub(super) const FALLBACK_BACKLOG: u32 = 128;

/// Descriptors assumed if the limit can't be asked: the least default of any supported system.
pub(super) const FALLBACK_DESCRIPTORS: u64 = 128;

/// `OPEN_MAX`: the most that macOS lets a soft limit be while the hard one is infinite.
#[cfg(target_os = "macos")]
const OPEN_MAX: libc::rlim_t = 10_240;

#[cfg(target_os = "linux")]
pub(super) fn system_backlog() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?;
    parse_backlog(&text)
}

/// The first field. A number too large for the type is a large limit, not an unknown one.
#[cfg(target_os = "linux")]
pub(super) fn parse_backlog(text: &str) -> Option<u32> {
    let limit: u64 = text.split_whitespace().next()?.parse().ok()?;
    Some(u32::try_from(limit).unwrap_or(u32::MAX))
}

#[cfg(target_os = "freebsd")]
pub(super) fn system_backlog() -> Option<u32> {
    sysctl_int(c"kern.ipc.soacceptqueue")
}

#[cfg(target_os = "macos")]
pub(super) fn system_backlog() -> Option<u32> {
    sysctl_int(c"kern.ipc.somaxconn")
}

/// NetBSD clamps to a constant that it doesn't publish.
#[cfg(not(any(target_os = "linux", target_os = "freebsd", target_os = "macos")))]
pub(super) fn system_backlog() -> Option<u32> {
    None
}

#[cfg(any(target_os = "freebsd", target_os = "macos"))]
fn sysctl_int(name: &std::ffi::CStr) -> Option<u32> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>();
    // SAFETY: `name` ends with a nul, `value` is `length` bytes that may be written, and
    // a null new value changes nothing.
    let answer = unsafe {
        libc::sysctlbyname(
            name.as_ptr(),
            (&raw mut value).cast(),
            &raw mut length,
            std::ptr::null_mut(),
            0,
        )
    };
    check(answer).ok()?;
    u32::try_from(value).ok()
}

pub(super) fn descriptor_limits() -> Result<libc::rlimit, Errno> {
    let mut limits = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a live `rlimit`, which the call fills.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits) })?;
    Ok(limits)
}

/// macOS refuses a soft limit above OPEN_MAX although it says that the hard one is infinite.
#[cfg(target_os = "macos")]
pub(super) fn highest_soft_limit(hard: libc::rlim_t) -> libc::rlim_t {
    if hard == libc::RLIM_INFINITY {
        OPEN_MAX
    } else {
        hard
    }
}

#[cfg(not(target_os = "macos"))]
pub(super) fn highest_soft_limit(hard: libc::rlim_t) -> libc::rlim_t {
    hard
}

#[allow(clippy::unnecessary_cast, reason = "`rlim_t` is signed on FreeBSD")]
pub(super) fn count(limit: libc::rlim_t) -> u64 {
    if limit == libc::RLIM_INFINITY {
        u64::MAX
    } else {
        limit as u64
    }
}
