//! What is asked of the system: where threads run, how many descriptors there are, and how
//! much memory a process has.

#![allow(
    unsafe_code,
    reason = "scheduling and limits have no safe wrapper among the dependencies"
)]

use std::io;

/// Keeps this thread, and the processes that it starts, on the processor where it is. Best
/// effort: elsewhere turns are less full, and the figures say so.
pub(crate) fn stay_here() {
    // SAFETY: it takes nothing and touches nothing of ours.
    let here = unsafe { libc::sched_getcpu() };
    // SAFETY: cpu_set_t is plain bits, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is live, and the kernel's own number of a processor is below its size.
    unsafe { libc::CPU_SET(here.max(0) as usize, &mut set) };
    // SAFETY: 0 is the calling thread, and the set lives across the call.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
}

/// Waking this thread, and those that it starts, does not interrupt whoever wakes it: the
/// load sends all that it has before the server looks.
pub(crate) fn step_back() {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and the parameter lives across the call.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const param) };
}

/// SIGTERM ends this process well, and it comes when the parent has ended. A thread that waits
/// for something else would not do: with a second thread the C library's calls cost more.
pub(crate) fn end_when_told() {
    extern "C" fn end(_: libc::c_int) {
        // SAFETY: it may be called in a signal handler.
        unsafe { libc::_exit(0) }
    }
    let end: extern "C" fn(libc::c_int) = end;
    // SAFETY: the handler does nothing but what is allowed in one.
    unsafe { libc::signal(libc::SIGTERM, end as libc::sighandler_t) };
    // SAFETY: it takes a number, no pointer.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
}

/// Tells a process to end.
pub(crate) fn end(process: i32) -> io::Result<()> {
    // SAFETY: it takes numbers, no pointers.
    match unsafe { libc::kill(process, libc::SIGTERM) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Raises the limit of descriptors as far as this process may, and tells it. Processes that
/// are started later have the same.
pub(crate) fn descriptors() -> io::Result<usize> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit lives across the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(limit.rlim_max).unwrap_or(usize::MAX))
}

/// Bytes of a process that are in memory, as the kernel counts them.
pub(crate) fn resident(process: i32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|word| word.parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::other("no VmRSS in /proc"))
}
