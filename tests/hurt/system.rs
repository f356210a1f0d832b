//! What is asked of the system about processes: signals, tracing, descriptors, time.

#![allow(
    unsafe_code,
    reason = "signals and tracing have no safe wrapper among the dependencies"
)]

use std::fs;
use std::io;
use std::time::Duration;

/// They mean nothing to a server, and interrupt whatever call it is in.
pub(crate) const HARMLESS: [i32; 4] = [libc::SIGWINCH, libc::SIGCHLD, libc::SIGURG, libc::SIGCONT];

pub(crate) fn signal(process: u32, signal: i32) -> io::Result<()> {
    let process = i32::try_from(process).map_err(io::Error::other)?;
    // SAFETY: it takes numbers, no pointers.
    match unsafe { libc::kill(process, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets a tracer attach that is no ancestor of this process, where only those may otherwise.
pub(crate) fn let_anybody_trace() {
    // SAFETY: it takes numbers, no pointers. Kernels without the restriction refuse it.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY) };
}

/// Has the harmless signals interrupt calls: by default they are ignored, and then do not.
pub(crate) fn be_interrupted() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: sigaction is numbers and pointers, for which zero is a value: no flags, so
    // calls are not begun anew, and no further signal is blocked.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let nothing: extern "C" fn(libc::c_int) = nothing;
    action.sa_sigaction = nothing as libc::sighandler_t;
    for signal in HARMLESS {
        // SAFETY: the action lives across the call, and its function does nothing.
        if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Descriptors that a process has open.
pub(crate) fn descriptors(process: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{process}/fd"))?.count())
}

/// Processor time that a process has used, in ticks of 10 ms.
pub(crate) fn processor_time(process: u32) -> io::Result<Duration> {
    const TICK: Duration = Duration::from_millis(10);
    let stat = status(process)?;
    // Word 11 is that in user mode.
    let ticks = stat.split_whitespace().skip(11).take(2);
    let ticks: u32 = ticks.filter_map(|word| word.parse::<u32>().ok()).sum();
    Ok(TICK * ticks)
}

/// Whether its first thread waits in a call, and is not stopped by a tracer.
pub(crate) fn sleeps(process: u32) -> io::Result<bool> {
    Ok(status(process)?.trim_start().starts_with('S'))
}

/// What the kernel says of a process, behind its name, which may contain anything.
fn status(process: u32) -> io::Result<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, words) = stat.rsplit_once(')').ok_or(io::ErrorKind::InvalidData)?;
    Ok(words.to_owned())
}
