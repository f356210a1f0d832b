//! What the benchmarks measure with: processor time, on a processor of one's own.

#![allow(
    unsafe_code,
    reason = "thread clocks and pinning have no safe wrapper among the dependencies"
)]

/// Best effort: with one processor everything shares it.
pub(crate) fn pin(processor: usize) {
    // SAFETY: cpu_set_t is plain bits, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is live, and the processor's number is below its size.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: 0 is the calling thread, and the set lives across the call.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
}

/// Lets another process of one thread run where the calling thread does.
#[allow(dead_code, reason = "not every benchmark has a load of its own")]
pub(crate) fn share_processors_with(process: u32) {
    // SAFETY: cpu_set_t is plain bits, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: 0 is the calling thread, and the set lives across the call.
    unsafe { libc::sched_getaffinity(0, size, &raw mut set) };
    // SAFETY: the set lives across the call.
    unsafe { libc::sched_setaffinity(process as libc::pid_t, size, &raw const set) };
}

pub(crate) fn thread_clock() -> libc::clockid_t {
    let mut clock = 0;
    // SAFETY: pthread_self names the calling thread, and the clock lives across the call.
    unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
    clock
}

pub(crate) fn seconds(clock: libc::clockid_t) -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the time lives across the call.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
